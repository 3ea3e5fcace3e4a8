"""Runs a notebook's folder in a throwaway sandbox and takes nothing back but outputs, as plain data.

The supervisor (this module) packs the folder, starts the sandbox, owns the clock, and reads a capped stream of JSON lines. What
comes back is hostile: of every line only the outputs of a cell that was sent are kept, clamped in type, size and depth, so that
source, metadata and order of the notebook are always the supervisor's own. With a Docker Engine a run is a container of its
own, without network, token or writable system; without one it is a child process with resource limits, which isolates nothing.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import nbformat
from nbformat import NotebookNode

from academy.messages import AcademyError, message
from academy.settings import Settings
from grading.exchange.archive import pack_bytes

Outcome = Literal["ok", "timeout", "killed", "memory", "crashed", "output-capped"]

RUNNER = Path(__file__).with_name("run_notebook.py")
HOME = "/home/jovyan"
UID = 1000  # jovyan's in our images; Docker gives a file system in memory the mode of the folder that it covers
MIMETYPES = {"text/plain", "text/html", "text/markdown", "text/latex", "image/png", "image/jpeg", "image/svg+xml"}
MAX_OUTPUTS = 1000  # of one cell
_open_boxes: list[_Box] = []


@dataclass(frozen=True)
class Result:
    """What came out of a run: the notebook that went in, with outputs."""

    outcome: Outcome
    notebook: bytes
    seconds: float
    detail: str = ""  # for staff
    cut: bool = False  # some output was left out


@dataclass
class _Answers:
    """What the sandbox sent: outputs by the index of their cell."""

    outputs: dict[int, list[NotebookNode]] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    end: str = ""
    cut: bool = False


class _Box(Protocol):
    """A sandbox that takes a request and gives lines."""

    @property
    def fileno(self) -> int: ...
    @property
    def log(self) -> bytes: ...  # the last that the runner had to say, for staff

    def send(self, data: bytes) -> None: ...
    def receive(self) -> bytes | None: ...  # some bytes (none of them for us: b""), or None at the end
    def finish(self) -> str: ...  # waits for the end, if it is near: "memory", "" or why it ended
    def close(self) -> None: ...


def run(settings: Settings, folder: Path, notebook: str, language: str = "", timeout: float | None = None) -> Result:
    """Execute ``folder/notebook``, every cell, errors or not. ``folder`` itself is not changed.

    Raises:
        AcademyError: the sandbox cannot be started (image missing, Docker down).
    """
    language = language or settings.academy.language
    limits = settings.grading
    timeout = timeout or limits.timeout
    sent = nbformat.read(folder / notebook, as_version=4)
    archive = pack_bytes(folder)
    cell_text = str(message("grading-cell-timeout", language, seconds=f"{limits.cell_timeout:g}"))
    request: dict[str, Any] = {
        "size": len(archive),
        "notebook": notebook,
        "cell_timeout": max(1, math.ceil(limits.cell_timeout)),
        "timeout_text": cell_text,
        "output_bytes": limits.output_kb * 1024,
        "limits": {} if settings.grading_docker else _resource_limits(settings),
    }
    started = time.monotonic()
    lines: list[bytes] = []
    with _open(settings, timeout, language) as box:
        reason = _talk(box, request, archive, lines, started + timeout, 4 * limits.output_kb * 1024 + (1 << 20))
        if not reason and not (lines and _ends(lines[-1])):
            reason = box.finish()
        log = box.log[-2000:]
    seconds = time.monotonic() - started
    answers = _read(lines, sent, limits.output_kb * 1024)
    outcome = _outcome(reason, answers)
    detail = reason or answers.end or log.decode("utf-8", "replace").strip()
    values = {"seconds": f"{timeout:g}", "megabytes": limits.memory_mb}
    why = "killed" if outcome == "ok" else outcome  # "ok" and a cell without an answer: the answers were forged
    text = cell_text if answers.end == "stuck" else str(message(f"grading-{why}", language, **values))
    _merge(sent, answers, outcome, text, str(message("grading-output-cut", language, kilobytes=limits.output_kb)))
    return Result(outcome, nbformat.writes(sent).encode(), seconds, detail, answers.cut)


def sweep(settings: Settings) -> int:
    """Remove sandboxes that no living worker of this machine owns any more, or whose time is over. Returns how many."""
    if not settings.grading_docker:
        return 0
    import docker

    removed = 0
    client = docker.from_env()
    with contextlib.closing(client):
        labels = [f"academyhub.deployment={settings.academy.name}", "academyhub.kind=sandbox"]
        for container in client.containers.list(all=True, filters={"label": labels}):
            host, _, pid = container.labels.get("academyhub.owner", "").rpartition(":")
            expired = time.time() > float(container.labels.get("academyhub.expires", "0"))
            if expired or (host == socket.gethostname() and not Path(f"/proc/{pid}").exists()):
                with contextlib.suppress(docker.errors.APIError):
                    container.remove(force=True, v=True)
                    removed += 1
    return removed


def _talk(box: _Box, request: dict[str, Any], archive: bytes, lines: list[bytes], deadline: float, most: int) -> str:
    """Send the request, collect the lines that come back. Returns why it was broken off, or ""."""
    try:
        box.send(json.dumps(request).encode() + b"\n" + archive)
    except OSError:
        return ""  # it ended before it began; finish() knows why
    rest, total = b"", 0
    with selectors.DefaultSelector() as selector:
        selector.register(box.fileno, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                continue
            data = box.receive()
            if data is None:
                return ""
            total += len(data)
            if total > most:
                return "output-capped"
            *complete, rest = (rest + data).split(b"\n")
            lines += complete
            if complete and _ends(complete[-1]):
                return ""
    return "timeout"


def _ends(line: bytes) -> bool:
    return line.startswith(b'{"end": "done"')


def _outcome(reason: str, answers: _Answers) -> Outcome:
    if reason == "timeout" or answers.end == "stuck":
        return "timeout"
    if reason == "output-capped":
        return "output-capped"
    if answers.end == "done":
        return "ok"
    if reason == "memory":
        return "memory"
    return "crashed" if answers.end == "died" else "killed"


def _read(lines: list[bytes], sent: NotebookNode, left: int) -> _Answers:
    """Take the outputs of cells that were sent, the first answer of each; everything else is dropped."""
    answers = _Answers()
    for line in lines:
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(answer, dict):
            continue
        if answer.get("end") in ("done", "stuck", "died"):
            answers.end, answers.cut = answer["end"], answers.cut or answer.get("cut") is True
            break
        index, outputs = answer.get("cell"), answer.get("outputs")
        if not (type(index) is int and 0 <= index < len(sent.cells) and isinstance(outputs, list)):
            continue
        if sent.cells[index].cell_type != "code" or index in answers.outputs:
            continue
        clean: list[NotebookNode] = []
        for output in outputs[:MAX_OUTPUTS]:
            size = len(json.dumps(output, default=str))
            kept = _clean(output, small=size > left)
            if kept is None:
                answers.cut = True
            else:
                left -= min(size, left)
                clean.append(kept)
        answers.outputs[index] = clean
        count = answer.get("count")
        if type(count) is int and 0 <= count < 1_000_000:
            answers.counts[index] = count
    return answers


def _clean(output: Any, small: bool) -> NotebookNode | None:
    """One output in the form that nbformat wants, of the types we know. ``small``: only what decides about points."""
    if not isinstance(output, dict):
        return None
    kind = output.get("output_type")
    most = 2000 if small else 10_000_000
    if kind == "error":
        lines = output.get("traceback")
        traceback = [str(line)[:most] for line in lines[:200]] if isinstance(lines, list) and not small else []
        return nbformat.v4.new_output(
            "error", ename=str(output.get("ename"))[:200], evalue=str(output.get("evalue"))[:most], traceback=traceback
        )
    if kind == "stream" and not small:
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return nbformat.v4.new_output("stream", name=name, text=_text(output.get("text")))
    if kind in ("display_data", "execute_result") and (kind == "execute_result" or not small):
        data = output.get("data")
        data = data if isinstance(data, dict) else {}
        kept = {key: _text(value)[:most] for key, value in data.items() if key in MIMETYPES}
        if small:
            kept = {"text/plain": kept.get("text/plain", "")}
        return nbformat.v4.new_output(kind, data=kept)
    return None


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) else ""


def _merge(sent: NotebookNode, answers: _Answers, outcome: Outcome, text: str, cut: str) -> None:
    """Put the outputs into the notebook that was sent. A cell without an answer gets the reason as its error."""
    last = max(answers.outputs, default=-1)
    told = False
    for index, cell in enumerate(sent.cells):
        if cell.cell_type != "code":
            continue
        cell.outputs = answers.outputs.get(index, [])
        cell.execution_count = answers.counts.get(index)
        graded = bool(cell.metadata.get("nbgrader", {}).get("grade"))
        if index not in answers.outputs and cell.source.strip() and (graded or not told):
            told = True
            ename = {"ok": "Killed", "timeout": "Timeout", "memory": "OutOfMemory"}.get(outcome, outcome.title())
            cell.outputs = [nbformat.v4.new_output("error", ename=ename, evalue=text, traceback=[f"{ename}: {text}"])]
        if answers.cut and index == last:
            cell.outputs.append(nbformat.v4.new_output("stream", name="stdout", text=f"\n{cut}\n"))
        if graded and not cell.metadata.nbgrader.get("solution"):
            _make_scorable(cell)


def _make_scorable(cell: NotebookNode) -> None:
    """Nbgrader reads a test cell's score from its outputs; leave nothing there that it misreads.

    It takes any stderr for a failure, and a result that is negative, not a number or over the maximum for an error or for full
    points.
    """
    points = float(cell.metadata.nbgrader.get("points") or 0)
    for output in cell.outputs:
        if output.output_type == "stream":
            output.name = "stdout"
        elif output.output_type == "execute_result":
            text = output.data.get("text/plain", "")
            if not text:
                output.output_type = "display_data"
                output.pop("execution_count", None)
                continue
            with contextlib.suppress(ValueError):
                value = float(text)
                clamped = 0.0 if math.isnan(value) else min(max(value, 0.0), points)
                if clamped != value:
                    output.data = NotebookNode({"text/plain": repr(clamped)})


@contextlib.contextmanager
def _open(settings: Settings, timeout: float, language: str) -> Iterator[_Box]:
    box: _Box = _Container(settings, timeout, language) if settings.grading_docker else _Process(settings, language)
    _open_boxes.append(box)
    try:
        yield box
    finally:
        _open_boxes.remove(box)
        box.close()


def close_all() -> None:
    """End every sandbox that this process has open."""
    for box in list(_open_boxes):
        box.close()


def _environment(settings: Settings, language: str) -> dict[str, str]:
    threads = str(max(1, math.ceil(settings.grading.cpus)))
    return {
        "ACADEMY_LANGUAGE": language,  # of the checks' messages
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "NVIDIA_VISIBLE_DEVICES": "void",
    }


def _resource_limits(settings: Settings) -> dict[str, int]:
    limits = settings.grading
    return {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": math.ceil(limits.timeout * max(1.0, limits.cpus)) + 1,
        "RLIMIT_DATA": limits.memory_mb << 20,  # not AS: torch reserves far more addresses than it uses
        "RLIMIT_FSIZE": settings.exchange.max_submission_mb << 20,
    }


class _Container:
    """A container of the sandbox image: nothing in it can be written but two small file systems in memory."""

    def __init__(self, settings: Settings, timeout: float, language: str) -> None:
        import docker

        from academy import images

        limits, disk = settings.grading, settings.exchange.max_submission_mb * 2
        self.docker = docker
        self.client = docker.APIClient(timeout=60) if "DOCKER_HOST" not in os.environ else docker.from_env(timeout=60).api
        self.id = ""
        try:
            self.id = self.client.create_container(
                images.image_tag("sandbox", settings),
                name=f"{settings.academy.name}-run-{secrets.token_hex(6)}",
                command=["python", "-m", "grading.run_notebook"],
                user="jovyan",
                working_dir=HOME,
                environment={"HOME": HOME, **_environment(settings, language)},
                stdin_open=True,
                network_disabled=True,
                labels={
                    "academyhub.deployment": settings.academy.name,
                    "academyhub.kind": "sandbox",
                    "academyhub.owner": f"{socket.gethostname()}:{os.getpid()}",
                    "academyhub.expires": str(int(time.time() + timeout + 60)),
                },
                host_config=self.client.create_host_config(
                    network_mode="none",
                    read_only=True,
                    tmpfs={
                        HOME: f"rw,exec,nosuid,nodev,size={disk}m,uid={UID}",
                        "/tmp": "rw,exec,nosuid,nodev,size=256m,mode=1777",  # noqa: S108
                    },
                    cap_drop=["ALL"],
                    security_opt=["no-new-privileges"],
                    pids_limit=limits.processes,
                    mem_limit=f"{limits.memory_mb}m",
                    memswap_limit=f"{limits.memory_mb}m",
                    nano_cpus=int(limits.cpus * 1e9),
                    init=True,
                    ipc_mode="private",
                    log_config={"type": "none"},
                ),
            )["Id"]
            stream = self.client.attach_socket(self.id, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            self.stream, self.socket = stream, getattr(stream, "_sock", stream)
            self.client.start(self.id)
        except docker.errors.ImageNotFound as error:
            self.close()
            raise AcademyError("grading-image-missing", 503) from error
        except (docker.errors.DockerException, OSError) as error:
            self.close()
            raise AcademyError("grading-docker-down", 503, reason=str(error)[:300]) from error
        self.socket.settimeout(timeout)
        self.fileno: int = self.socket.fileno()
        self.pending = self.log = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> bytes | None:
        """Docker's stream: frames of eight bytes (kind, 0, 0, 0, size) and as many bytes as the header says."""
        data = self.socket.recv(65536)
        if not data:
            return None
        self.pending += data
        out = b""
        while len(self.pending) >= 8:
            size = int.from_bytes(self.pending[4:8], "big")
            if len(self.pending) < 8 + size:
                break
            if self.pending[0] == 1:
                out += self.pending[8 : 8 + size]
            else:
                self.log = (self.log + self.pending[8 : 8 + size])[-2000:]
            self.pending = self.pending[8 + size :]
        return out

    def finish(self) -> str:
        for _ in range(20):
            state = self.client.inspect_container(self.id)["State"]
            if state["OOMKilled"]:
                return "memory"
            if not state["Running"]:
                break
            time.sleep(0.05)
        return ""

    def close(self) -> None:
        if self.id:
            with contextlib.suppress(self.docker.errors.APIError):
                self.client.remove_container(self.id, force=True, v=True)
        self.client.close()


class _Process:
    """A child process with resource limits, for a trial on one machine."""

    def __init__(self, settings: Settings, language: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="academy-run-"))
        self.errors = open(self.home / "errors", "w+b")  # noqa: SIM115  closed in close()
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.home), **_environment(settings, language)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUNNER.read_text(encoding="utf-8")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            cwd=self.home,
            env=environment,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.fileno = self.process.stdin, self.process.stdout.fileno()

    def send(self, data: bytes) -> None:
        self.stdin.write(data)
        self.stdin.flush()

    def receive(self) -> bytes | None:
        return os.read(self.fileno, 65536) or None

    def finish(self) -> str:
        return ""

    @property
    def log(self) -> bytes:
        self.errors.seek(0)
        return self.errors.read(100_000)[-2000:]

    def close(self) -> None:
        import psutil

        family = []
        with contextlib.suppress(psutil.Error):
            family = psutil.Process(self.process.pid).children(recursive=True)
        for process in [*family, self.process]:
            with contextlib.suppress(psutil.Error, OSError):
                process.kill()
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, 9)
        self.process.wait()
        with contextlib.suppress(OSError):
            self.stdin.close()
        assert self.process.stdout
        self.process.stdout.close()
        self.errors.close()
        shutil.rmtree(self.home, ignore_errors=True)
