"""Stand-ins for GPUs where there is none: the driver's library (``nvml.c``) and an OCI runtime (``runtime.py``).

They show which devices the academy sees, whose processes it takes for busy, and which device a container was given. They say
nothing about CUDA, real drivers' figures and delays, MIG's partitions or the memory of one share: tests marked ``gpu`` do.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
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
