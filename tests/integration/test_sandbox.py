"""The sandbox with real containers and processes: what student code tries, and what comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from academy.images import image_tag
from academy.messages import AcademyError
from academy.settings import Settings, docker_answers
from grading import sandbox, supervisor

LIMITS = {"timeout": 60, "cell_timeout": 30, "memory_mb": 400, "processes": 64, "output_kb": 64}
Run = Callable[..., tuple[supervisor.Result, list[Any]]]


@pytest.fixture(params=[pytest.param("docker", marks=pytest.mark.docker), "local"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(config: Callable[..., Settings], tmp_path: Path) -> Iterator[Run]:
    """``run(backend, cell, ...)`` runs a notebook of these cells; no container may be left."""
    names = []

    def start(backend: str, *cells: str, tags: tuple[str, ...] = (), **limits: Any) -> tuple[supervisor.Result, list[Any]]:
        settings = config(grading={**LIMITS, "backend": backend, **limits})
        names.append(settings.academy.name)
        folder = tmp_path / "unit"
        folder.mkdir()
        (folder / "data.txt").write_text("seven")
        notebook = new_notebook(cells=[new_code_cell(cell, metadata={"tags": list(tags)}) for cell in cells])
        (folder / "unit.ipynb").write_text(nbformat.writes(notebook))
        result = supervisor.run(settings, folder, "unit.ipynb", "en")
        after = nbformat.reads(result.notebook.decode(), as_version=4)
        assert [cell.source for cell in after.cells] == list(cells)
        return result, [cell.outputs for cell in after.cells]

    yield start
    sandbox.close_all()
    if names and docker_answers():
        client = docker.from_env()
        for name in names:
            assert client.api.containers(all=True, filters={"label": f"academyhub.deployment={name}"}) == []
        client.close()


def text(outputs: list[Any]) -> str:
    return "".join(str(o.get("text") or o.get("data", {}).get("text/plain") or o.get("evalue", "")) for o in outputs)


def test_cells_run_in_order_with_their_files_and_errors_do_not_stop_them(run: Run, backend: str, sandbox_image: None) -> None:
    result, outputs = run(backend, "x = 20", "print(open('data.txt').read(), x)", "1 / 0", "x + 1", tags=("skip-execution",))
    assert result.outcome == "ok"
    assert text(outputs[1]) == "seven 20\n"
    assert outputs[2][0].ename == "ZeroDivisionError"
    assert text(outputs[3]) == "21"


def test_a_cell_that_never_ends_is_stopped_and_the_next_ones_run(
    run: Run, backend: str, sandbox_image: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STUCK_SECONDS", 40.0)  # a run is nice: on a busy machine it ends slowly
    result, outputs = run(backend, "while True: pass", "1 + 1", cell_timeout=2)
    assert result.outcome == "ok"
    assert "did not finish within 2 seconds" in text(outputs[0])
    assert text(outputs[1]) == "2"


def test_a_run_that_never_ends_is_ended_and_says_so(run: Run, backend: str, sandbox_image: None) -> None:
    result, outputs = run(backend, "1 + 1", "import time\ntime.sleep(600)", "3", timeout=6, cell_timeout=60)
    assert result.outcome == "timeout"
    assert result.seconds < 90  # of 600; the sandbox's own start counts here, and that takes long on a busy machine
    assert text(outputs[0]) == "2"
    assert "more than 6 seconds" in text(outputs[1])


def test_python_that_ends_itself_is_a_clear_result(run: Run, backend: str, sandbox_image: None) -> None:
    result, outputs = run(backend, "import os\nos._exit(0)", "3")
    assert result.outcome == "crashed"
    assert "Python ended" in text(outputs[0])


def test_too_much_output_is_cut_but_errors_and_results_stay(run: Run, backend: str, sandbox_image: None) -> None:
    flood = "for _ in range(200_000): print('x' * 100)"
    result, outputs = run(backend, flood, "assert False, 'still counted'", "0.5", timeout=150, cell_timeout=120)
    assert result.cut
    assert len(result.notebook) < 400_000
    assert outputs[1][-1].evalue == "still counted"
    assert text(outputs[2]).startswith("0.5")


@pytest.mark.docker
def test_memory_is_limited(run: Run, sandbox_image: None) -> None:
    result, outputs = run("docker", "1", "x = []\nwhile True: x.append(bytearray(10**7))", "3")
    assert result.outcome == "memory"
    assert "400 MB" in text(outputs[1])


def test_memory_is_limited_without_docker(run: Run) -> None:
    _, outputs = run("local", "x = bytearray(3 << 30)", "3")
    assert outputs[0][0].ename == "MemoryError"
    assert text(outputs[1]) == "3"


@pytest.mark.docker
def test_a_fork_bomb_stays_in_its_container(run: Run, sandbox_image: None) -> None:
    result, outputs = run("docker", "import os\nwhile True:\n    os.fork()", timeout=10, cell_timeout=5)
    assert result.seconds < 90  # with the start of the sandbox
    assert outputs[0][0].output_type == "error"


@pytest.mark.docker
def test_the_runner_cannot_be_ended_and_whoever_ends_himself_gets_no_result(run: Run, sandbox_image: None) -> None:
    result, outputs = run("docker", "import os\nos.kill(os.getppid(), 9)", "os.kill(os.getpid(), 9)", "3")
    assert result.outcome == "killed"
    assert outputs[0][0].ename == "PermissionError"
    assert outputs[1][0].output_type == "error"


PROBE = """
import json, os, pathlib, socket
def tried(what):
    try:
        return repr(what())
    except Exception as error:
        return type(error).__name__
found = {
    "uid": os.getuid(),
    "network": tried(lambda: socket.create_connection(("1.1.1.1", 53), 2)),
    "names": tried(lambda: socket.getaddrinfo("example.org", 80)),
    "interfaces": sorted(os.listdir("/sys/class/net")),
    "root": tried(lambda: open("/probe", "w")),
    "etc": tried(lambda: open("/etc/probe", "w")),
    "venv": tried(lambda: open(json.__file__, "a")),
    "docker": os.path.exists("/var/run/docker.sock"),
    "environment": dict(os.environ),
    "capabilities": [l.split()[1] for l in open("/proc/self/status") if l.startswith("CapEff")][0],
    "new_privileges": [l.split()[1] for l in open("/proc/self/status") if l.startswith("NoNewPrivs")][0],
    "disk": tried(lambda: open("/tmp/big", "wb").write(bytes(300 << 20))),
    "notebooks": [str(p) for p in pathlib.Path("/").glob("**/*.db") if "gradebook" in p.name],
}
print(json.dumps(found))
"""


@pytest.mark.docker
def test_the_container_gives_nothing_away(run: Run, sandbox_image: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "the-token")
    _, outputs = run("docker", PROBE, memory_mb=1024)
    found = json.loads(text(outputs[0]))
    assert found["uid"] != 0
    assert found["network"] == "OSError"
    assert found["names"] == "gaierror"
    assert found["interfaces"] == ["lo"]
    assert {found["root"], found["etc"], found["venv"]} <= {"OSError", "PermissionError"}
    assert not found["docker"]
    assert int(found["capabilities"], 16) == 0
    assert found["new_privileges"] == "1"
    assert found["disk"] == "OSError"
    assert found["notebooks"] == []
    assert "the-token" not in json.dumps(found)
    told = {key for key in found["environment"] if "TOKEN" in key or "ACADEMY" in key or "PASSWORD" in key}
    assert told == {"ACADEMY_LANGUAGE"}


def test_the_local_process_has_no_token_either(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "the-token")
    monkeypatch.setenv("ACADEMY_DATABASE__URL", "sqlite:////nowhere/secret.sqlite")
    _, outputs = run("local", "import os\nprint(dict(os.environ))")
    assert "the-token" not in text(outputs[0])
    assert "secret" not in text(outputs[0])


def test_local_processes_end_with_the_run(run: Run) -> None:
    mark = f"{os.getpid()}{os.urandom(3).hex()}"
    code = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)', '{mark}'])"
    run("local", code, "import time\ntime.sleep(60)", timeout=5)
    deadline = time.monotonic() + 20  # killed, but a busy machine takes a moment to end it
    while found := subprocess.run(["pgrep", "-f", mark], capture_output=True).stdout:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def test_a_folder_that_a_dead_worker_left_is_swept(
    config: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = config(grading={"backend": "local"})
    code = "import os; from grading import sandbox; from academy.settings import load; sandbox.warm_up(load()); os._exit(9)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    assert len(list(tmp_path.glob("academy-run-*"))) == 2
    box = sandbox._Process(settings, "")
    try:
        sandbox.sweep(settings)
        assert list(tmp_path.glob("academy-run-*")) == [box.home]  # its owner lives
    finally:
        box.close()


@pytest.mark.docker
def test_what_a_dead_worker_left_is_swept(config: Callable[..., Settings], sandbox_image: None) -> None:
    settings = config(grading={"backend": "docker"})
    box = sandbox._Container(settings, 0)
    client = docker.from_env()
    try:
        assert sandbox.sweep(settings) == 0  # its owner lives
        box.client.stop(box.id, timeout=0)
        labels = box.client.inspect_container(box.id)["Config"]["Labels"]
        labels["academyhub.owner"] = f"{os.uname().nodename}:999999999"
        client.containers.create(image_tag("sandbox", settings), labels=labels)
        assert sandbox.sweep(settings) == 1
        assert sandbox.sweep(settings) == 0
    finally:
        box.close()
        client.close()


@pytest.mark.docker
def test_a_missing_image_says_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("academy.images.image_tag", lambda name, settings: "academyhub-nowhere:0")
    with pytest.raises(AcademyError, match="academy images build"):
        run("docker", "1")
