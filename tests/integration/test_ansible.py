"""The playbook against a fresh Debian server: a container with systemd as its first process, reached by SSH."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from academy.settings import CHECKOUT
from tests.conftest import machine_lock

pytestmark = [pytest.mark.docker, pytest.mark.root]

# What a freshly installed server has: systemd, Python, SSH. Nothing of the academy's.
SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-apt,ca-certificates,iproute2,openssh-server"
ENTRYPOINT = """#!/bin/sh
# Docker mounts the control groups read-only; systemd and the inner Docker Engine make groups of their own.
mount -o remount,rw /sys/fs/cgroup
for hierarchy in /sys/fs/cgroup/*; do mountpoint -q "$hierarchy" && mount -o remount,rw "$hierarchy"; done
exec /sbin/init
"""


def docker(*arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], check=check, capture_output=True, text=True, timeout=timeout)


def debian_server_image() -> str:
    """Build the image once a machine; its tag says what is in it."""
    tag = hashlib.sha256((SUITE + PACKAGES + ENTRYPOINT).encode()).hexdigest()[:12]
    name = f"academyhub-test-server:{tag}"
    with machine_lock("test-server"):
        if docker("image", "inspect", name, check=False).returncode == 0:
            return name
        root = CHECKOUT / "build" / f"test-server-{secrets.token_hex(4)}"
        try:
            root.parent.mkdir(exist_ok=True)
            subprocess.run(
                ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)],
                check=True,
                stdout=subprocess.DEVNULL,
                timeout=600,
            )
            (root / "entrypoint").write_text(ENTRYPOINT)
            (root / "entrypoint").chmod(0o755)
            copy_apt_configuration(root)
            with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
                subprocess.run(
                    ["docker", "import", "-c", 'ENTRYPOINT ["/entrypoint"]', "-", name],
                    stdin=tar.stdout,
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
        finally:
            shutil.rmtree(root, ignore_errors=True)
    return name


def copy_apt_configuration(root: Path) -> None:
    """This machine's own package sources and how it reaches them, so that the server installs from the same place."""
    for source in [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").iterdir()]:
        if source.suffix in (".list", ".sources") and source.exists():
            shutil.copy(source, root / source.relative_to("/"))
    dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
    lines = [line for line in dump.splitlines() if re.match(r"Acquire::(?!IndexTargets)", line)]
    (root / "etc/apt/apt.conf.d/99acquire").write_text("\n".join(lines) + "\n")


def pip_environment() -> tuple[dict[str, str], list[str]]:
    """This machine's package indexes as variables, and the local folders they name (to mount)."""
    settings = json.loads(
        subprocess.run([CHECKOUT / ".venv/bin/python", "-c", _PIP_SETTINGS], check=True, capture_output=True, text=True).stdout
    )
    variables: dict[str, str] = {}
    folders: set[str] = set()
    for key in ("index-url", "extra-index-url", "find-links", "trusted-host"):
        if value := settings.get(key):
            variables[f"PIP_{key.upper().replace('-', '_')}"] = value
            paths = [Path(part.removeprefix("file://")) for part in value.split() if part.startswith(("/", "file://"))]
            folders |= {str(_whole(path)) for path in paths if path.is_dir()}
    npm = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True).stdout.strip()
    if npm.startswith("http"):
        variables["NPM_CONFIG_REGISTRY"] = npm
    return variables, sorted(folders)


# Files win over nothing, variables over files; pip's own reader knows all of their places.
_PIP_SETTINGS = """
import json
from pip._internal.configuration import Configuration
configuration = Configuration(isolated=False)
configuration.load()
print(json.dumps({key.partition(".")[2]: " ".join(value.split()) for key, value in configuration.items()}))
"""


def _whole(path: Path) -> Path:
    """A local index (``.../simple``) points to files beside it: mount the folder that holds both."""
    return path.parent if path.name == "simple" else path


@dataclass
class Server:
    """A running container, its address, and the key that opens its SSH."""

    name: str
    address: str
    folder: Path

    def run(self, *command: str, timeout: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        return docker("exec", self.name, *command, timeout=timeout, check=check)

    def playbook(self, **variables: object) -> dict[str, int]:
        """Run site.yml over SSH as an operator does; returns the recap's counts."""
        (self.folder / "variables.json").write_text(json.dumps(variables))
        inventory = self.folder / "inventory.ini"
        inventory.write_text(
            f"[academy]\nacademy.test ansible_host={self.address} ansible_user=root "
            f"ansible_ssh_private_key_file={self.folder}/key "
            "ansible_ssh_common_args='-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null'\n"
        )
        done = subprocess.run(
            [
                str(CHECKOUT / ".venv/bin/ansible-playbook"),
                "-i",
                str(inventory),
                "-e",
                f"@{self.folder}/variables.json",
                "site.yml",
            ],
            cwd=CHECKOUT / "ansible",
            env={**os.environ, "ANSIBLE_HOME": str(self.folder / "ansible"), "ANSIBLE_FORCE_COLOR": "0", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        (CHECKOUT / "build" / "ansible.log").write_text(done.stdout + done.stderr)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        recap = done.stdout.rpartition("PLAY RECAP")[2]
        return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", recap)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    name = f"academyhub-test-{secrets.token_hex(4)}"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
    mounts = [part for path in pip_environment()[1] for part in ("--volume", f"{path}:{path}:ro")]
    try:
        docker(
            *("run", "--detach", "--name", name, "--hostname", "academy", "--stop-signal", "SIGRTMIN+3"),
            # all that systemd and an inner Docker Engine want; --privileged is refused where SYS_RESOURCE is not to be had
            *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--cgroupns", "private"),
            *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
            *("--security-opt", "systempaths=unconfined", "--device-cgroup-rule", "a *:* rwm"),
            *("--tmpfs", "/run:exec", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec"),
            *("--volume", f"{name}:/var/lib/docker", *mounts, debian_server_image()),
        )
        address = docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name).stdout.strip()
        machine = Server(name, address, folder)
        machine.run("mkdir", "-p", "-m", "700", "/root/.ssh")
        docker("cp", str(folder / "key.pub"), f"{name}:/root/.ssh/authorized_keys")
        machine.run("chown", "root:root", "/root/.ssh/authorized_keys")
        deadline = time.monotonic() + 60
        while machine.run("systemctl", "is-active", "ssh", check=False).returncode:
            assert time.monotonic() < deadline, machine.run("systemctl", "--failed", check=False).stdout
            time.sleep(0.2)
        yield machine
    finally:
        docker("rm", "--force", "--volumes", name, check=False)
        docker("volume", "rm", "--force", name, check=False)
