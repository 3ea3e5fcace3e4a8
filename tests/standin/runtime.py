#!/usr/bin/env python3
"""A stand-in for NVIDIA's OCI runtime: before ``runc`` creates a container, add the device that NVIDIA_VISIBLE_DEVICES names.

Character devices 195:N as /dev/nvidiaN, and their cgroup rule; N is the line of the UUID in the file ``gpus`` beside this one.
No driver is behind them: opening one says ENXIO where it may be opened.
"""

import json
import os
import sys
from pathlib import Path


def add_devices(config: Path) -> None:
    spec = json.loads(config.read_text())
    environment = dict(one.split("=", 1) for one in spec["process"].get("env", []) if "=" in one)
    known = (Path(__file__).parent / "gpus").read_text().split()
    for uuid in environment.get("NVIDIA_VISIBLE_DEVICES", "").split(","):
        for minor in range(len(known)) if uuid == "all" else [known.index(uuid)] if uuid in known else []:
            node = {
                "path": f"/dev/nvidia{minor}",
                "type": "c",
                "major": 195,
                "minor": minor,
                "fileMode": 0o666,
                "uid": 0,
                "gid": 0,
            }
            spec["linux"].setdefault("devices", []).append(node)
            rules = spec["linux"].setdefault("resources", {}).setdefault("devices", [])
            rules.append({"allow": True, "type": "c", "major": 195, "minor": minor, "access": "rw"})
    config.write_text(json.dumps(spec))


arguments = sys.argv[1:]
if "create" in arguments and "--bundle" in arguments:
    add_devices(Path(arguments[arguments.index("--bundle") + 1]) / "config.json")
os.execvp("runc", ["runc", *arguments])
