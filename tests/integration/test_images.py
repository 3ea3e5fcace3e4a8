"""The images as they were built: what is in them, who runs, what may be written, how soon a server answers."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from academy import images
from academy.images import Images, image_tag

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("images")]

KINDS = {
    "student": {"ACADEMY_API_URL": "http://192.0.2.1", "ACADEMY_LANGUAGE": "ko"},
    "staff": {"ACADEMY_API_URL": "http://192.0.2.1", "ACADEMY_LANGUAGE": "en", "ACADEMY_COURSE": "foundations"},
    "sandbox": {"ACADEMY_LANGUAGE": "ko"},
}
START_SECONDS = 30.0  # generous: other tests share the machine
# Of a start. It takes about a third; a slow core that others share needs nearly twice as much for the same work, and stock
# servers take 2.8 and more on a quick one.
CPU_SECONDS = {"student": 2.4, "staff": 4.8, "sandbox": 2.4}
NBGRADER = ("formgrader", "course-list", "create-assignment", "assignment-list", "validate-assignment", "menu")
SHOWN = {
    "student": {"assignment-list", "validate-assignment", "menu"},
    "staff": {*NBGRADER} - {"course-list"},
    "sandbox": set(),
}


def docker(*command: str) -> str:
    return subprocess.run(["docker", *command], check=True, capture_output=True, text=True, timeout=120).stdout


def inside(name: str, *command: str, flags: tuple[str, ...] = ()) -> str:
    """What a command says in a container locked down as ours are."""
    lock = ("--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges")
    done = subprocess.run(
        ["docker", "run", "--rm", *lock, *flags, image_tag(name), *command], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(name: str, code: str, *flags: str) -> Any:
    return json.loads(inside(name, "python", "-W", "error", "-c", code, flags=flags).splitlines()[-1])


@pytest.fixture(params=images.NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_packages_are_those_that_are_pinned(name: str) -> None:
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    installed = {package.lower().replace("_", "-"): version for package, version in python(name, code).items()}
    pins = dict(line.split("==") for line in (images.CHECKOUT / images.CONSTRAINTS).read_text().split() if "==" in line)
    found = {package: version.partition("+")[0] for package, version in installed.items() if package in pins}
    assert {"torch", "numpy", "matplotlib", "nbclient", "ipykernel", "nbformat", "pip"} <= found.keys()
    assert found == {package: pins[package] for package in found}
    assert "rfc3987-syntax" not in installed
    assert ("jupyterhub" in installed, "nbgrader" in installed) == (name == "notebook", name == "notebook")


def test_imports(name: str) -> None:
    ours = ["grading.checks", "grading.warm"]
    if name == "notebook":
        ours = ["grading.checks", "jupyterhub.singleuser", "nbgrader.api", "grading.exchange.plugin"]
    code = f"import numpy, torch, matplotlib, nbclient, ipykernel, {', '.join(ours)}; print(int(torch.ones(3).sum()))"
    assert inside(name, "python", "-c", code).split() == ["3"]


def test_everything_of_ours_is_compiled(name: str) -> None:
    """A server whose root cannot be written compiles what is not, at every start."""
    code = """
import importlib.util, json, pathlib
root = pathlib.Path('/opt/venv/lib/python3.11/site-packages')
bare = [str(p) for p in root.rglob('*.py') if not pathlib.Path(importlib.util.cache_from_source(p)).exists()]
print(json.dumps([len(bare), bare[:5]]))"""
    count, examples = python(name, code)
    assert count < 20, examples  # templates that are no Python, and the like


def test_the_person_is_jovyan(name: str) -> None:
    """nbgrader believes the hub's name of a person only where the operating system's is jovyan."""
    said = inside(name, "sh", "-c", "id; pwd; touch ~/mine").split()
    assert said == ["uid=1000(jovyan)", "gid=100(users)", "groups=100(users)", "/home/jovyan"]
    assert docker("image", "inspect", "--format", "{{.Config.User}}", image_tag(name)).strip() == "jovyan"


def test_nothing_of_the_system_can_be_written_or_gives_more_rights(name: str) -> None:
    places = ("/home", "/tmp", "/proc", "/sys", "/dev")
    prune = " -o ".join(f"-path {place}" for place in places)
    assert (
        inside(name, "sh", "-c", f"find / \\( {prune} \\) -prune -o -writable ! -type l -print 2>/dev/null || true").split()
        == []
    )
    assert inside(name, "sh", "-c", "find / -xdev -type f -perm /6000 2>/dev/null || true").split() == []


def test_no_secrets(name: str) -> None:
    config = json.loads(docker("image", "inspect", "--format", "{{json .Config.Env}}", image_tag(name)))
    secret = re.compile(r"TOKEN|SECRET|PASSWORD|KEY|PROXY|PIP_|INDEX", re.IGNORECASE)
    assert [variable for variable in config if secret.search(variable)] == []
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image_tag(name))
    assert not re.search(r"://[^/\s]*@|password|token", history, re.IGNORECASE)
    configs = "/etc/pip.conf /home/jovyan/.config /home/jovyan/.netrc /home/jovyan/.ssh"
    assert inside(name, "sh", "-c", f"ls -d {configs} 2>/dev/null || true").split() == []
    root = ("--user=0", "--workdir=/")
    look = "find /root /wheels /context /extra-ca -path /root/.cache/uv -prune -o -type f -print"  # where the build mounts
    assert {*inside(name, "sh", "-c", look, flags=root).split()} <= {"/root/.bashrc", "/root/.profile"}
    keys = "grep -rlI -e '-----BEGIN.*PRIVATE KEY-----' --include=*.pem --include=*.key --include=*.crt /etc /usr /opt || true"
    found = inside(name, "sh", "-c", keys, flags=root).split()
    assert [path for path in found if "/tornado/test/" not in path] == []  # its own tests' published key
    assert "@" not in inside(name, "cat", "/etc/apt/sources.list")


def test_hangul_is_drawn(name: str) -> None:
    """Every syllable has a glyph (matplotlib would warn), and so has the minus sign."""
    code = """
import io, json, matplotlib, matplotlib.font_manager as fonts
matplotlib.use('agg')
import matplotlib.pyplot as plt
plt.title('학습 곡선: 손실과 정확도')
plt.plot([-2, -1], [-3, -4], label='걸린 시간')
plt.legend()
plt.savefig(io.BytesIO())
print(json.dumps(fonts.findfont('NanumGothic')))"""
    assert python(name, code).endswith("NanumGothic.ttf")


def test_own_packages_go_home_and_cannot_break_the_server() -> None:
    said = inside("notebook", "bash", "-c", "pip install --no-index nothing-of-this-name 2>&1 || true")
    assert "Defaulting to user installation" in said
    mine = 'home=$(python -m site --user-site) && mkdir -p "$home" && cd "$home" && echo "x = 1" > mine.py'
    breaks = "python -c 'import mine' && echo 'raise SystemExit(9)' > usercustomize.py && ! python -c pass"
    said = inside("notebook", "bash", "-c", f"{mine}; {breaks} && ACADEMY_LANGUAGE=ko start jupyterhub-singleuser --version")
    assert said.startswith("6.")


def test_a_grading_server_shares_what_it_writes() -> None:
    assert (
        inside("notebook", "sh", "-c", "umask", flags=("--env=ACADEMY_LANGUAGE=en", "--env=ACADEMY_COURSE=foundations")).strip()
        == "0002"
    )
    assert inside("notebook", "sh", "-c", "umask").strip() == "0022"


@dataclass
class Server:
    kind: str
    container: str
    url: str
    seconds: float
    cpu_seconds: float

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        request = urllib.request.Request(f"{self.url}/{path}", headers={"Authorization": "token secret"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def page_config(self) -> dict[str, Any]:
        found = re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', self.get("lab")[1], re.DOTALL)
        assert found
        return dict(json.loads(found[1]))


def start(kind: str, *flags_before: str, before: str = "") -> Server:
    flags = [f"--env={key}={value}" for key, value in KINDS[kind].items()] + ["--cap-drop=ALL", "--init"]
    flags += [*flags_before, *(["--tmpfs=/srv/course:uid=1000"] if kind == "staff" else [])]
    command = ["jupyter-lab", "--ip=0.0.0.0", "--port=8888", "--IdentityProvider.token=secret"]
    if before:
        command = ["sh", "-c", f'{before}; exec "$@"', "-", *command]
    container = docker("create", *flags, image_tag("notebook"), *command).strip()
    began = time.monotonic()
    docker("start", container)
    url = "http://" + docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", container).strip() + ":8888"
    server = Server(kind, container, url, 0, 0)
    while time.monotonic() - began < 90:
        try:
            if server.get("api")[0] == 200:
                server.seconds = time.monotonic() - began
                server.cpu_seconds = cpu_seconds(container)
                return server
        except OSError:
            time.sleep(0.02)
    log = subprocess.run(["docker", "logs", container], capture_output=True, text=True).stderr
    docker("rm", "--force", container)
    pytest.fail(f"{kind} did not start:\n{log}")


def cpu_seconds(container: str) -> float:
    for pattern, unit in (
        (f"cpuacct/docker/{container}/cpuacct.usage", 1e9),
        (f"system.slice/docker-{container}.scope/cpu.stat", 1e6),
    ):
        path = Path("/sys/fs/cgroup") / pattern
        if path.exists():
            return int(re.findall(r"\d+", path.read_text())[0]) / unit
    return 0.0


@pytest.fixture(scope="module")
def server(images: None) -> Iterator[Callable[[str], Server]]:
    """``server(kind)``: a running server of that kind, one a module."""
    running: dict[str, Server] = {}

    def get(kind: str) -> Server:
        if kind not in running:
            running[kind] = start(kind)
        return running[kind]

    yield get
    for one in running.values():
        docker("rm", "--force", one.container)


@pytest.mark.parametrize("kind", KINDS)
def test_start_up_time(server: Callable[[str], Server], kind: str) -> None:
    found = server(kind)
    assert found.seconds < START_SECONDS
    assert found.cpu_seconds < CPU_SECONDS[kind]


def test_a_full_home_starts_and_can_be_tidied(images: None) -> None:
    """Not a byte is left; kernels and terminals start all the same, and what is deleted makes room."""
    used = "python -m IPython -c 1"  # a home in which servers have run before
    fill = f"{used}; cat /dev/zero > /home/jovyan/data.bin"
    one = start("student", "--tmpfs=/home/jovyan:uid=1000,gid=100,size=2m", before=fill)
    try:
        assert "error" in docker("exec", one.container, "sh", "-c", "(echo x > /home/jovyan/y) 2>&1; true")
        assert one.get("api/terminals", "POST")[0] == 200
        status, kernel = one.get("api/kernels", "POST")
        assert status == 201, kernel
        connect = "from jupyter_client import BlockingKernelClient as C; c = C(connection_file=sys.argv[1]); "
        run = "c.load_connection_file(); c.start_channels(); c.wait_for_ready(60); c.execute_interactive('print(6 * 7)')"
        file = f"/tmp/jupyter-runtime/kernel-{json.loads(kernel)['id']}.json"
        assert docker("exec", one.container, "python", "-c", f"import sys; {connect}{run}", file) == "42\n"
        assert one.get("api/contents/data.bin", "DELETE")[0] == 204
        docker("exec", one.container, "sh", "-c", "echo x > /home/jovyan/y")
    finally:
        docker("rm", "--force", one.container)


@pytest.mark.parametrize("kind", KINDS)
def test_extensions_that_a_kind_of_server_shows(server: Callable[[str], Server], kind: str) -> None:
    config = server(kind).page_config()
    hidden = set(config["disabledExtensions"])
    assert {name for name in NBGRADER if f"@jupyter/nbgrader:{name}" not in hidden} == SHOWN[kind]
    assert {"@jupyterlab/apputils-extension:announcements", "@jupyterlab/extensionmanager-extension"} <= hidden
    assert {"@jupyter/nbgrader", "@jupyter-widgets/jupyterlab-manager"} <= {e["name"] for e in config["federated_extensions"]}


@pytest.mark.parametrize(
    ("kind", "formgrader", "assignments", "validate"),
    [("student", 404, 200, 405), ("staff", 200, 200, 405), ("sandbox", 404, 404, 404)],
)
def test_what_a_kind_of_server_answers(
    server: Callable[[str], Server], kind: str, formgrader: int, assignments: int, validate: int
) -> None:
    """A hidden button is not enough: the server itself has no such address."""
    one = server(kind)
    assert one.get("formgrader")[0] == formgrader
    assert one.get("courses")[0] == assignments
    assert one.get("assignments/validate")[0] == validate  # 405: POST only
    assert one.get("formgraders")[0] == 404
    assert one.get("lsp/status")[0] == 404
    assert one.get("api/terminals")[0] == 200


@pytest.mark.parametrize(("kind", "locale"), [("student", "ko_KR"), ("staff", "default")])
def test_the_language_is_the_one_that_the_hub_says(server: Callable[[str], Server], kind: str, locale: str) -> None:
    settings = json.loads(server(kind).get("lab/api/settings/@jupyterlab/translation-extension:plugin")[1])
    assert settings["schema"]["properties"]["locale"]["default"] == locale
    if locale == "ko_KR":
        texts = json.loads(server(kind).get("lab/api/translations/ko_KR")[1])["data"]
        assert "노트북" in json.dumps(texts, ensure_ascii=False)


def test_formgrader_can_open_what_lies_in_the_course_folder(server: Callable[[str], Server]) -> None:
    one = server("staff")
    docker("exec", one.container, "sh", "-c", "echo '{}' > /srv/course/notes.json")
    assert json.loads(one.get("api/contents/course/notes.json?content=0")[1])["name"] == "notes.json"
    assert "not a subdirectory" not in subprocess.run(["docker", "logs", one.container], capture_output=True, text=True).stderr


def test_authorities_reach_the_trust_store(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "institute.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Testauthority"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    (tmp_path / "ca").mkdir()
    certificate.rename(tmp_path / "ca" / "institute.crt")
    options = Images(authorities=tmp_path / "ca")
    tag = f"academyhub-test-authorities:{time.time_ns()}"
    try:
        with images._authorities_image(options) as authorities:
            images._build(
                "base", tag, DEBIAN=images._debian(Images(), print), PACKAGES=" ".join(images.PACKAGES), CA_IMAGE=authorities
            )
        found = docker(
            "run",
            "--rm",
            "--network=none",
            tag,
            "python3",
            "-c",
            "import ssl; print(ssl.create_default_context().get_ca_certs())",
        )
        assert "Testauthority" in found
        assert "PRIVATE KEY" not in docker("run", "--rm", tag, "sh", "-c", "cat /usr/local/share/ca-certificates/*")
    finally:
        docker("image", "rm", tag)


def test_a_build_with_nothing_to_do_is_fast() -> None:
    from academy.settings import load

    said: list[str] = []
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        images.build(load(), report=said.append)
        seconds.append(time.monotonic() - began)
    assert said == []
    assert statistics.median(seconds) < 20  # it asks the engine three times; the least build takes minutes


def test_a_registry_that_does_not_answer_costs_little() -> None:
    began = time.monotonic()
    assert not images._pull("registry.invalid/debian:none")
    assert time.monotonic() - began < images.REGISTRY_SECONDS + 10
