"""The images in ``images/``: their names, what goes into them, and how they are built.

The build of an image needs no network: Debian comes from a base image (pulled, or made with debootstrap where no registry
answers) and Python packages from a wheelhouse that this machine's own pip fills, with its own configuration.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import academy
from academy.settings import CHECKOUT, Settings

IMAGES = CHECKOUT / "images"
WHEELS = CHECKOUT / "build" / "wheels"
DEBIAN = "bookworm"
PYTHON_VERSION = "3.11.2"  # of Debian 12
PACKAGES = ["ca-certificates", "fonts-nanum", "libgomp1", "python3"]
GRADING = ["__init__.py", "checks.py"]
INPUTS = {
    "python": ["images/python"],
    "notebook": [
        "images/python",
        "images/notebook",
        *(f"grading/{name}" for name in GRADING),
        *(f"grading/exchange/{name}" for name in ["__init__.py", "archive.py", "plugin.py", "client.py"]),
    ],
    "sandbox": ["images/python", "images/sandbox", *(f"grading/{name}" for name in [*GRADING, "run_notebook.py"])],
}
NAMES = ("notebook", "sandbox")
Report = Callable[[str], None]


class ImageError(Exception):
    """An image cannot be built; the message says why and what to do."""


def image_tag(name: str, settings: Settings | None = None) -> str:
    """The name of an image as built from this checkout: its version and a digest of everything that goes into it."""
    return _tag(name)


@cache
def _tag(name: str) -> str:
    digest = hashlib.sha256(f"{DEBIAN} {PYTHON_VERSION} {PACKAGES}".encode())
    for path in _input_files(name):
        digest.update(f"{path.relative_to(CHECKOUT)}\0".encode())
        digest.update(path.read_bytes())
    return f"academyhub-{name}:{academy.__version__}-{digest.hexdigest()[:12]}"


def _input_files(name: str) -> Iterator[Path]:
    for entry in INPUTS[name]:
        path = CHECKOUT / entry
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts and not file.name.startswith("test_"):
                yield file


def exists(tag: str) -> bool:
    """Whether the Docker Engine has this image."""
    return _docker("image", "inspect", "--format", "{{.Id}}", tag, check=False).returncode == 0


def build(
    settings: Settings,
    names: tuple[str, ...] = NAMES,
    report: Report = print,
    *,
    base: str = "",
    wheels: Path | None = None,
    force: bool = False,
) -> dict[str, str]:
    """Build what is missing of ``names``; returns name -> tag.

    Args:
        base: a Debian 12 image to build on; empty: pulled, or made with debootstrap.
        wheels: a folder of wheels that is searched beside what pip is configured with.

    Raises:
        ImageError: no Docker Engine, no way to a base image, a package that cannot be had, a failed step.
    """
    tags = {name: image_tag(name) for name in names}
    missing = [name for name in names if force or not exists(tags[name])]
    if not missing:
        return tags
    if not shutil.which("docker"):
        raise ImageError("The docker command is missing. Install it: apt-get install docker.io")
    wheelhouse = _wheelhouse(report, wheels)
    python = image_tag("python")
    if force or not exists(python):
        base = base or _base(report)
        report("Building the Python layers (numpy, torch, matplotlib)")
        _build(IMAGES / "python", IMAGES / "python" / "Dockerfile", python, BASE=base, WHEELS=wheelhouse)
    for name in missing:
        report(f"Building the {name} image")
        with _context(name) as context:
            _build(context, IMAGES / name / "Dockerfile", tags[name], PYTHON=python, WHEELS=wheelhouse)
        report(f"  {tags[name]}: {_size(tags[name]) / 1e6:,.0f} MB")
    _docker("image", "prune", "--force", "--filter", "label=academyhub.stage=build", check=False)
    return tags


class _context(tempfile.TemporaryDirectory[str]):
    """A build context that holds an image's inputs and nothing else of the checkout."""

    def __init__(self, name: str) -> None:
        super().__init__(prefix="academyhub-build-")
        for file in _input_files(name):
            target = Path(self.name) / file.relative_to(CHECKOUT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)


def _build(context: Path | str, dockerfile: Path, tag: str, **arguments: str) -> None:
    flags = [f"--build-arg={key}={value}" for key, value in arguments.items()]
    # The legacy builder: BuildKit needs the buildx plugin, which many engines lack.
    done = _docker(
        "build", "--tag", tag, "--file", str(dockerfile), *flags, str(context), check=False, DOCKER_BUILDKIT="0"
    )
    if done.returncode:
        raise ImageError(f"Building {tag} failed:\n{_tail(done.stdout + done.stderr)}")


def _wheelhouse(report: Report, extra: Path | None) -> str:
    """An image that holds all wheels, filled by this machine's pip; one a set of requirements."""
    requirements = [IMAGES / folder / "requirements.txt" for folder in ("python", "notebook")]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in requirements) + PYTHON_VERSION.encode()).hexdigest()
    tag = f"academyhub-wheels:{digest[:12]}"
    if exists(tag):
        return tag
    report("Fetching Python packages")
    folder = WHEELS / digest[:12]
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    command += ["--only-binary=:all:", "--python-version", PYTHON_VERSION]
    command += ["--find-links", str(extra)] if extra else []
    command += [f"--requirement={path}" for path in requirements]
    done = subprocess.run([*command, "uv"], capture_output=True, text=True)
    if done.returncode:
        raise ImageError(f"pip could not fetch the packages of the images:\n{_tail(done.stderr)}")
    _import(["tar", "--directory", str(folder), "--create", "."], tag)
    return tag


def _base(report: Report) -> str:
    """A Debian with Python: pulled and completed where a registry answers, else made with debootstrap."""
    digest = hashlib.sha256(f"{DEBIAN}{PACKAGES}".encode()).hexdigest()
    tag = f"academyhub-base:{DEBIAN}-{digest[:12]}"
    if exists(tag):
        return tag
    debootstrap = shutil.which("debootstrap", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if debootstrap and os.geteuid() == 0:
        report("Making a Debian base with debootstrap")
        _debootstrap(debootstrap, tag)
        return tag
    report("Pulling a Debian base")
    if _docker("pull", "--quiet", f"debian:{DEBIAN}-slim", check=False, timeout=600).returncode:
        raise ImageError(
            "There is no Debian base image: no container registry answers, and debootstrap needs root. "
            "Run as root with debootstrap installed (apt-get install debootstrap), or name an image with --base."
        )
    with tempfile.TemporaryDirectory() as folder:
        dockerfile = Path(folder) / "Dockerfile"
        dockerfile.write_text(
            f"FROM debian:{DEBIAN}-slim\nRUN apt-get update && DEBIAN_FRONTEND=noninteractive "
            f"apt-get install -y --no-install-recommends {' '.join(PACKAGES)} && rm -rf /var/lib/apt/lists/*\n"
        )
        _build(folder, dockerfile, tag)
    return tag


def _debootstrap(debootstrap: str, tag: str) -> None:
    with tempfile.TemporaryDirectory(prefix="academyhub-base-") as folder:
        root = Path(folder) / "root"
        command = [debootstrap, "--variant=minbase", f"--include={','.join(PACKAGES)}", DEBIAN, str(root)]
        mirror = _mirror()
        done = subprocess.run([*command, *([mirror] if mirror else [])], capture_output=True, text=True)
        if done.returncode:
            raise ImageError(f"debootstrap failed:\n{_tail(done.stdout + done.stderr)}")
        for waste in ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "var/lib/apt/lists", "var/log"):
            shutil.rmtree(root / waste, ignore_errors=True)
            (root / waste).mkdir(parents=True)
        for archive in (root / "var/cache/apt").rglob("*.*"):
            archive.unlink()
        # nothing of this machine goes along: its resolver, its name
        for name in ("etc/resolv.conf", "etc/hostname"):
            (root / name).write_text("")
        _import(["tar", "--directory", str(root), "--create", "."], tag)


def _mirror() -> str | None:
    """The Debian mirror that this machine uses itself; None: debootstrap's own."""
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("debian*"))]:
        if not path.is_file():
            continue
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == "URIs:":
                return words[1]
            if len(words) >= 3 and words[0] == "deb":
                return next((word for word in words if word.startswith("http")), None)
    return None


def _import(archive: list[str], tag: str) -> None:
    with subprocess.Popen(archive, stdout=subprocess.PIPE) as tar:
        done = subprocess.run(["docker", "import", "-", tag], stdin=tar.stdout, capture_output=True, text=True)
    if done.returncode or tar.returncode:
        raise ImageError(f"docker import of {tag} failed:\n{_tail(done.stderr)}")


def _size(tag: str) -> int:
    return int(_docker("image", "inspect", "--format", "{{.Size}}", tag).stdout)


def _docker(*command: str, check: bool = True, timeout: float = 3600, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["docker", *command], capture_output=True, text=True, timeout=timeout, env={**os.environ, **environment}
    )
    if check and done.returncode:
        raise ImageError(f"docker {command[0]} failed: {_tail(done.stderr)}")
    return done


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-15:])
