"""The playbook against a fresh Debian server: a container with systemd as its first process, reached by SSH."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from academy.settings import CHECKOUT
from tests.conftest import images_archive, machine_lock

pytestmark = [pytest.mark.docker, pytest.mark.root, pytest.mark.timeout(1500)]

# What a freshly installed server has: systemd, Python, SSH. Nothing of the academy's.
SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-apt,ca-certificates,iproute2,openssh-server"
ENTRYPOINT = """#!/bin/sh
# Docker mounts the control groups read-only; systemd and the inner Docker Engine make groups of their own.
for folder in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [ -L "$folder" ] || ! mountpoint -q "$folder" || mount -o remount,bind,rw "$folder"
done
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
                timeout=900,
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
    (root / "etc/dpkg/dpkg.cfg.d/quick").write_text("force-unsafe-io\n")  # nobody misses this machine after a power cut


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


def working_tree_commit() -> str:
    """A commit of the files as they lie here, on no branch: the test is about them, not about what was committed last."""
    with tempfile.TemporaryDirectory() as folder:
        git = ["git", "-C", str(CHECKOUT), "-c", "user.name=test", "-c", "user.email=test@localhost"]
        env = {**os.environ, "GIT_INDEX_FILE": f"{folder}/index"}

        def run(*command: str) -> str:
            return subprocess.run([*git, *command], env=env, check=True, capture_output=True, text=True).stdout.strip()

        run("read-tree", "HEAD")
        run("add", "--all")
        return run("commit-tree", run("write-tree"), "-p", "HEAD", "-m", "the working tree")


@dataclass
class Server:
    """A running container, its address, and the key that opens its SSH."""

    name: str
    address: str
    folder: Path
    variables: dict[str, object] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)  # the recap of the first run

    def run(self, *command: str, timeout: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        return docker("exec", self.name, *command, timeout=timeout, check=check)

    def playbook(self) -> dict[str, int]:
        """Run site.yml over SSH as an operator does; returns the recap's counts."""
        (self.folder / "variables.json").write_text(json.dumps(self.variables))
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
            timeout=900,
        )
        with (CHECKOUT / "build" / "ansible.log").open("a") as log:
            log.write(done.stdout + done.stderr)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        recap = done.stdout.rpartition("PLAY RECAP")[2]
        return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", recap)}


@pytest.fixture
def server(tmp_path: Path, images: None) -> Iterator[Server]:
    folder = tmp_path
    name = f"academyhub-test-{secrets.token_hex(4)}"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
    local = [*pip_environment()[1], str(images_archive().parent)]
    mounts = [part for path in local for part in ("--volume", f"{path}:{path}:ro")]
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
        deadline = time.monotonic() + 120
        while machine.run("systemctl", "is-active", "ssh", check=False).returncode:
            assert time.monotonic() < deadline, machine.run("systemctl", "--failed", check=False).stdout
            time.sleep(0.2)
        machine.variables = {
            "academy_version": working_tree_commit(),
            "academy_images_archive": str(images_archive()),
            "academy_ca_folder": "/usr/local/share/ca-certificates",
            "academy_install_environment": pip_environment()[0],
        }
        machine.first = machine.playbook()
        yield machine
    finally:
        docker("rm", "--force", "--volumes", name, check=False)
        docker("volume", "rm", "--force", name, check=False)


def test_the_playbook(server: Server) -> None:
    """One test, since a server of one's own for each would take minutes."""
    a_fresh_server_becomes_an_academy(server)
    the_second_run_changes_nothing(server)
    health_inside(server)
    services_are_unprivileged(server)
    only_ssh_and_caddy_are_reached_from_outside(server)
    browsers_get_tls_and_security_headers(server)
    the_nightly_backup_can_be_put_back(server)


def a_fresh_server_becomes_an_academy(server: Server) -> None:
    assert server.first["failed"] == server.first["unreachable"] == 0
    assert server.first["changed"] > 10
    failed = server.run("systemctl", "--failed", "--no-legend").stdout
    assert not failed, failed


def the_second_run_changes_nothing(server: Server) -> None:
    recap = server.playbook()
    assert (recap["changed"], recap["failed"]) == (0, 0), (CHECKOUT / "build" / "ansible.log").read_text()[-8000:]


def health_inside(server: Server) -> None:
    done = server.run("academy", "health", "--json", timeout=300, check=False)
    checks = json.loads(done.stdout)
    assert done.returncode == 0, [check for check in checks if not check["ok"]]
    assert {"run a notebook", "fetch and submit", "grade"} <= {check["name"] for check in checks}


def services_are_unprivileged(server: Server) -> None:
    docker_group = server.run("getent", "group", "docker").stdout.split(":")[2]
    for name, may_use_docker in {"hub": True, "pages": False, "worker": True, "pool": True}.items():
        pid = server.run("systemctl", "show", "-p", "MainPID", "--value", f"academy-{name}").stdout.strip()
        status = server.run("cat", f"/proc/{pid}/status").stdout
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split()[0] == server.run("id", "-u", "academy").stdout.strip()
        assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
        assert fields["NoNewPrivs"] == "1"
        assert (docker_group in fields["Groups"].split()) == may_use_docker, name
    assert server.run("stat", "-c", "%U %a", "/var/lib/academy").stdout.split() == ["academy", "700"]
    assert server.run("find", "/var/lib/academy/data/secrets", "-type", "f", "-perm", "/077").stdout == ""


def only_ssh_and_caddy_are_reached_from_outside(server: Server) -> None:
    """Loopback and the containers' bridges are inside; everything else that listens is public."""
    listening = [line.split()[3].rsplit(":", 1) for line in server.run("ss", "-Hltn").stdout.splitlines()]
    public = {int(port) for address, port in listening if address in ("0.0.0.0", "*", "[::]", server.address)}
    assert public == {22, 80, 443}


def browsers_get_tls_and_security_headers(server: Server) -> None:
    curl = [
        "curl",
        "--silent",
        "--show-error",
        "--resolve",
        "academy.test:443:127.0.0.1",
        "--resolve",
        "academy.test:80:127.0.0.1",
    ]
    root = "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt"
    done = server.run(*curl, "--cacert", root, "--include", "--max-time", "30", "https://academy.test/hub/login")
    head, _, body = done.stdout.partition("\n\n")
    headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in head.splitlines()[1:]}
    assert head.split()[1] == "200", head
    assert "_xsrf" in body
    assert headers["strict-transport-security"].startswith("max-age=")
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers
    plain = server.run(*curl, "--head", "http://academy.test/").stdout
    assert re.search(r"(?im)^location: https://academy.test/", plain), plain


def the_nightly_backup_can_be_put_back(server: Server) -> None:
    assert "academy-backup.timer" in server.run("systemctl", "list-timers", "--no-legend").stdout
    server.run("academy", "people", "add", "before", "--role", "founder")
    server.run("systemctl", "start", "academy-backup.service", timeout=300)
    archives = server.run("find", "/var/backups/academy", "-name", "*.tar").stdout.split()
    archive = max(archives)  # by its time; at half past three in the night there is the timer's own, too
    assert server.run("stat", "-c", "%U %a", archive).stdout.split() == ["academy", "600"]
    server.run("academy", "people", "add", "after", "--role", "founder")
    running = server.run("academy", "restore", archive, "--yes", check=False)
    assert running.returncode != 0
    assert "Stop it first" in running.stderr
    services = ["academy-hub", "academy-pages", "academy-worker", "academy-pool"]
    server.run("systemctl", "stop", *services)
    server.run("academy", "restore", archive, "--yes", timeout=300)
    server.run("systemctl", "start", *services)
    people = server.run("academy", "people", "list").stdout
    assert "before" in people
    assert "after" not in people
    server.run("curl", "-fsS", "--retry", "90", "--retry-delay", "1", "--retry-all-errors", "http://127.0.0.1:8000/hub/health")
