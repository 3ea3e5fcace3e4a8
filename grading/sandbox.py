"""Sandboxes: where a student's code and the tests run, each in a container of its own that stays warm between runs.

A box is a container without network, token or writable system (or, without a Docker Engine, a child process, which isolates
nothing). ``grading.warm`` inside it forks for every run; the supervisor talks to it over a Unix socket and passes it the
sockets of the run. A box in which a run may have left something is thrown away.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from academy.messages import AcademyError
from academy.settings import CHECKOUT, Settings
from grading import warm

Side = Literal["student", "tests"]

START_SECONDS = 90.0  # from a container's start until everything is imported
ANSWER_SECONDS = 30.0  # until the process inside answers an order
EXPIRES_SECONDS = 24 * 3600  # a box is not used for longer
MOST_RUNS = 500  # in one box
HOME = "academy-run-"  # then the worker's process id: a process's folder among the temporary files
_boxes: dict[tuple[Side, int], Box] = {}  # this process's, by side and slot
_made: list[Box] = []  # those that are still starting, too


class BoxLost(Exception):
    """The process inside does not answer any more."""


@contextlib.contextmanager
def box(settings: Settings, side: Side, slot: int = 0, gpu: str = "") -> Iterator[Box]:
    """A warm box for one run; it is kept for the next one unless something may be left in it.

    Args:
        slot: which of the supervisors of this worker asks; each has boxes, and where there are enough a CPU, of its own.
        gpu: UUID of a device for this run; the box that has it ends with the run.

    Raises:
        AcademyError: it cannot be started (image missing, Docker down).
    """
    found = _boxes.get((side, slot))
    if found is None or found.deployment != settings.academy.name or found.worn or gpu:
        drop(side, slot)
        made = _Container(settings, slot, gpu) if settings.grading_docker else _Process(settings, gpu)
        found = _boxes[side, slot] = made
    clean = False
    try:
        yield found
        clean = found.clean and not gpu and settings.grading.isolation == "shared"
    finally:
        if not clean:
            drop(side, slot)


def warm_up(settings: Settings, slot: int = 0) -> None:
    """Start both boxes of a slot, so that the first run need not wait."""
    for side in ("student", "tests"):
        with box(settings, side, slot):
            pass


def drop(side: Side, slot: int) -> None:
    if found := _boxes.pop((side, slot), None):
        found.close()


def close_all() -> None:
    """End every box that this process has, or is about to have."""
    _boxes.clear()
    for found in list(_made):
        found.close()


class Box:
    """A place for runs, one at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.deployment = settings.academy.name
        self.expires = time.time() + EXPIRES_SECONDS
        self.runs = 0
        self.clean = True
        self.sock: socket.socket
        _made.append(self)

    @property
    def worn(self) -> bool:
        return self.runs >= MOST_RUNS or time.time() > self.expires - 4 * self.settings.grading.timeout

    def order(self, op: str, descriptors: tuple[int, ...] = (), **more: Any) -> dict[str, Any]:
        """Tell the process inside to do something; its answer.

        Raises:
            BoxLost: it did not answer.
        """
        try:
            warm.send(self.sock, {"op": op, **more}, descriptors)
            return warm.receive(self.sock)[0]
        except (OSError, EOFError, ValueError) as error:
            self.clean = False
            raise BoxLost(str(error)) from error

    def start(self, side: Side, sockets: list[socket.socket], language: str) -> None:
        """Begin a run, which gets the sockets; ours are closed."""
        self.runs += 1
        self.clean = False
        try:
            self.order(
                "start",
                tuple(sock.fileno() for sock in sockets),
                side=side,
                output_bytes=self.settings.grading.output_kb * 1024,
                limits=self.limits(),
                environment={"ACADEMY_LANGUAGE": language, "NBGRADER_EXECUTION": "autograde"},
            )
        finally:
            for sock in sockets:
                sock.close()

    def finish(self, ended: bool = False) -> dict[str, Any]:
        """End the run, wipe its traces; how it ended. ``ended``: it seems to have ended by itself."""
        said = self.order("finish", ended=ended)
        self.clean = said["clean"] is True
        return said

    def limits(self) -> dict[str, int]:
        raise NotImplementedError

    def close(self) -> None:
        """End whatever runs in it; may be called again."""
        if self in _made:
            _made.remove(self)
        if hasattr(self, "sock"):
            self.sock.close()

    def _take(self, sock: socket.socket) -> None:
        """Wait until everything is imported."""
        self.sock = sock
        sock.settimeout(START_SECONDS)
        try:
            ready = warm.receive(sock)[0].get("ready")
        except (OSError, EOFError, ValueError):
            ready = None
        if ready is not True:
            raise AcademyError("grading-docker-down", 503, reason=f"the sandbox did not start: {self.last_words()}")
        sock.settimeout(ANSWER_SECONDS)

    def last_words(self) -> str:
        return ""


def _environment(settings: Settings, gpu: str) -> dict[str, str]:
    threads = str(max(1, math.ceil(settings.grading.cpus)))
    return {
        "LANG": "C.UTF-8",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "NVIDIA_VISIBLE_DEVICES": gpu or "void",
    }


class _Container(Box):
    """A container of the sandbox image: nothing in it can be written but small file systems in memory."""

    def __init__(self, settings: Settings, slot: int, gpu: str = "") -> None:
        import docker

        from academy import images
        from academy.gpus import inventory

        super().__init__(settings)
        limits, disk = settings.grading, settings.exchange.max_submission_mb * 2
        self.docker, self.id = docker, ""
        self.client = docker.APIClient(timeout=60) if "DOCKER_HOST" not in os.environ else docker.from_env(timeout=60).api
        self.folder = settings.data / "boxes" / secrets.token_hex(8)
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o711)  # root inside has no power over others' files
        listener = _listen(self.folder)
        cores = os.cpu_count() or 1
        try:
            self.id = self.client.create_container(
                images.image_tag("sandbox", settings),
                name=f"{settings.academy.name}-run-{secrets.token_hex(6)}",
                command=["python", "-m", "grading.warm", "/run/box/s"],
                user="root",
                working_dir="/",
                environment={"HOME": "/work", "MPLCONFIGDIR": "/work", **_environment(settings, gpu)},
                network_disabled=True,
                labels={
                    "academyhub.deployment": settings.academy.name,
                    "academyhub.kind": "sandbox",
                    "academyhub.owner": f"{socket.gethostname()}:{os.getpid()}",
                    "academyhub.expires": str(int(self.expires)),
                },
                host_config=self.client.create_host_config(
                    network_mode="none",
                    read_only=True,
                    binds={str(self.folder): {"bind": "/run/box", "mode": "ro"}},
                    tmpfs={
                        "/work": f"rw,exec,nosuid,nodev,size={disk}m,mode=1777",
                        "/tmp": "rw,exec,nosuid,nodev,size=256m,mode=1777",  # noqa: S108
                    },
                    cap_drop=["ALL"],
                    cap_add=["SETUID", "SETGID"],  # kept by the parent inside alone: a user id of its own for every run
                    security_opt=["no-new-privileges"],
                    pids_limit=limits.processes + 32,
                    mem_limit=f"{limits.memory_mb + 512}m",  # what the parent has imported is shared, and counted once
                    memswap_limit=f"{limits.memory_mb + 512}m",
                    nano_cpus=int(limits.cpus * 1e9),
                    cpuset_cpus=str(slot % cores) if limits.cpus <= 1 and limits.workers <= cores else None,
                    init=True,
                    ipc_mode="private",
                    log_config={"type": "json-file", "config": {"max-size": "1m"}},
                    **(inventory.asked(self.client.info(), gpu) if gpu else {}),
                ),
            )["Id"]
            self.client.start(self.id)
            sock = _accept(listener, self._gone)
        except docker.errors.ImageNotFound as error:
            self.close()
            raise AcademyError("grading-image-missing", 503) from error
        except (docker.errors.DockerException, OSError) as error:
            reason = f"{error} {self.last_words()}"[:300]
            self.close()
            raise AcademyError("grading-docker-down", 503, reason=reason) from error
        finally:
            listener.close()
            shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self._take(sock)
        except AcademyError:
            self.close()
            raise

    def limits(self) -> dict[str, int]:
        processes, file = self.settings.grading.processes, self.settings.exchange.max_submission_mb << 20
        return {"RLIMIT_CORE": 0, "RLIMIT_NPROC": processes, "RLIMIT_FSIZE": file}

    def _gone(self) -> bool:
        return not self.client.inspect_container(self.id)["State"]["Running"]

    def last_words(self) -> str:
        with contextlib.suppress(self.docker.errors.DockerException):
            return str(self.client.logs(self.id, tail=20).decode("utf-8", "replace"))[-500:] if self.id else ""
        return ""

    def close(self) -> None:
        if self.id:
            with contextlib.suppress(self.docker.errors.APIError):
                self.client.remove_container(self.id, force=True, v=True)
        self.client.close()
        super().close()


def _listen(folder: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        path = f"/proc/self/fd/{descriptor}/s"  # a socket's whole path may have 107 bytes
        listener.bind(path)
        os.chmod(path, 0o666)  # noqa: S103  root inside is nobody outside; the folder lets in who knows its name
    finally:
        os.close(descriptor)
    listener.listen(1)
    listener.settimeout(0.5)
    return listener


def _accept(listener: socket.socket, gone: Any) -> socket.socket:
    """The one connection; nobody's code runs inside before it is there."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            return listener.accept()[0]
        if gone():
            break
    raise OSError("the sandbox did not start")


class _Process(Box):
    """A child process with resource limits, for a trial on one machine."""

    def __init__(self, settings: Settings, gpu: str) -> None:
        super().__init__(settings)
        self.home = Path(tempfile.mkdtemp(prefix=f"{HOME}{os.getpid()}-"))
        self.errors = open(self.home / "errors", "w+b")  # noqa: SIM115  closed in close()
        ours, theirs = socket.socketpair()
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.home),
            "MPLCONFIGDIR": str(self.home),
            "MATPLOTLIBRC": str(CHECKOUT / "images" / "python" / "matplotlibrc"),  # Hangul in plots
            **_environment(settings, gpu),
            "CUDA_VISIBLE_DEVICES": gpu,
        }
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "grading.warm", str(theirs.fileno()), str(self.home)],
                stdin=subprocess.DEVNULL,
                stdout=self.errors,
                stderr=self.errors,
                cwd=Path(__file__).parent.parent,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        try:
            self._take(ours)
        except AcademyError:
            self.close()
            raise

    def limits(self) -> dict[str, int]:
        limits = self.settings.grading
        return {
            "RLIMIT_CORE": 0,
            "RLIMIT_CPU": math.ceil(limits.timeout * max(1.0, limits.cpus)) + 1,
            "RLIMIT_DATA": limits.memory_mb << 20,  # not AS: torch reserves far more addresses than it uses
            "RLIMIT_FSIZE": self.settings.exchange.max_submission_mb << 20,
        }

    def last_words(self) -> str:
        self.errors.seek(0)
        return self.errors.read(100_000)[-500:].decode("utf-8", "replace")

    def close(self) -> None:
        for pid in [*warm.descendants(self.process.pid), self.process.pid]:
            with contextlib.suppress(OSError):
                os.killpg(pid, 9)
            with contextlib.suppress(OSError):
                os.kill(pid, 9)
        self.process.wait()
        super().close()
        self.errors.close()
        shutil.rmtree(self.home, ignore_errors=True)


def sweep(settings: Settings) -> int:
    """Remove sandboxes that no living worker of this machine owns any more, or whose time is over.

    Returns: how many containers that were.
    """
    for home in Path(tempfile.gettempdir()).glob(f"{HOME}*-*"):
        if not Path("/proc", home.name.removeprefix(HOME).partition("-")[0]).exists():
            shutil.rmtree(home, ignore_errors=True)
    if not settings.grading_docker:
        return 0
    import docker

    removed = 0
    client = docker.from_env()
    with contextlib.closing(client):
        labels = [f"academyhub.deployment={settings.academy.name}", "academyhub.kind=sandbox"]
        for container in client.containers.list(all=True, filters={"label": labels}, ignore_removed=True):
            host, _, pid = container.labels.get("academyhub.owner", "").rpartition(":")
            expired = time.time() > float(container.labels.get("academyhub.expires", "0"))
            if expired or (host == socket.gethostname() and not Path(f"/proc/{pid}").exists()):
                with contextlib.suppress(docker.errors.APIError):
                    container.remove(force=True, v=True)
                    removed += 1
    return removed
