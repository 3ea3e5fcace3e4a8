"""Stand-ins for GPUs where there is none: the driver's library (``nvml.c``) and an OCI runtime (``runtime.py``).

They show which devices the academy sees, whose processes it takes for busy, and which device a container was given. They say
nothing about CUDA, real drivers' figures and delays, MIG's partitions or the memory of one share: tests marked ``gpu`` do.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent


def library(folder: Path) -> Path:
    """Compile ``libnvidia-ml.so.1`` into a folder, which is to be in LD_LIBRARY_PATH."""
    path = folder / "libnvidia-ml.so.1"
    command = ["cc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{path.name}", "-o", str(path)]
    subprocess.run([*command, str(HERE / "nvml.c")], check=True)
    return path


class Driver:
    """What the library says, as lines; ``nvml.c`` has their words."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def says(self, *lines: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        os.replace(new, self.path)


def gpus(uuids: Iterable[str], percent: int = 0) -> list[str]:
    """Lines of as many H100s."""
    return [f"gpu {uuid} H100 81920 512 {percent}" for uuid in uuids]


@contextmanager
def engine(uuids: Iterable[str], archive: Path) -> Iterator[str]:
    """A Docker Engine of its own whose runtime ``nvidia`` gives out stand-ins of GPUs; the value is for DOCKER_HOST.

    Beside the machine's own, so that nobody's settings change. It leaves the firewall to that one, takes addresses that the
    other does not give out, and leaves no network behind.

    Args:
        archive: the images that it has.
    """
    folder = Path(tempfile.mkdtemp(prefix="academy-engine-"))  # short: paths of sockets lie in it
    shutil.copy(HERE / "runtime.py", folder / "nvidia")
    (folder / "gpus").write_text("\n".join(uuids))
    host = f"unix://{folder}/socket"
    paths = [f"--{name}={folder}/{name}" for name in ("data-root", "exec-root", "pidfile")]
    bridge = f"st{secrets.token_hex(4)}"  # its own: without one an engine deletes docker0, which is the other's
    made = ["--opt", f"com.docker.network.bridge.name={bridge}", "--subnet", "10.212.0.0/24", bridge]
    subprocess.run(["docker", "network", "create", *made], check=True, capture_output=True)
    apart = [
        f"--bridge={bridge}",
        "--iptables=false",
        "--ip-masq=false",
        "--containerd-namespace=x",
        "--containerd-plugins-namespace=y",
        "--default-address-pool=base=10.213.0.0/16,size=24",
    ]
    with (folder / "log").open("wb") as log:
        command = ["dockerd", "--host", host, *paths, *apart, f"--add-runtime=nvidia={folder}/nvidia"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    environment = {**os.environ, "DOCKER_HOST": host}
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(["docker", "info"], env=environment, capture_output=True).returncode:
            assert process.poll() is None, (folder / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, (folder / "log").read_text()[-3000:]
            time.sleep(0.2)
        subprocess.run(["docker", "load", "--quiet", "--input", archive], env=environment, check=True, capture_output=True)
        yield host
    finally:
        for kind in ("container", "network"):  # a bridge outlives its engine
            listed = ["docker", kind, "ls", "--quiet", *(["--all"] if kind == "container" else ["--filter=type=custom"])]
            found = subprocess.run(listed, env=environment, capture_output=True, text=True).stdout.split()
            if found:
                subprocess.run(["docker", kind, "rm", *(["--force"] if kind == "container" else []), *found], env=environment)
        process.terminate()
        process.wait(60)
        subprocess.run(["docker", "network", "rm", bridge], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
