"""The images in ``images/``: their names, what goes into them, and how they are built.

The build of an image needs no network: Debian comes from a base image (pulled, or made with debootstrap where no registry
answers) and Python packages from a wheelhouse that this machine's own pip fills, with its own configuration.

    wheels (every Python package)     debian (pulled, or debootstrap)
        |                                 |
        |                               base (Python, Hangul font, authorities, jovyan)
        +------------ python (torch) -----+
                        |      |
                 notebook      sandbox
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import academy
from academy.settings import CHECKOUT, Images, Settings, load

IMAGES = CHECKOUT / "images"
WHEELS = CHECKOUT / "build" / "wheels"
LOCK = CHECKOUT / "build" / "locks" / "building-images"
CONSTRAINTS = "images/python/constraints.txt"
REQUIREMENTS = ["images/python/requirements.txt", "images/notebook/requirements.txt"]
DEBIAN = "bookworm"
PACKAGES = ["ca-certificates", "fonts-nanum", "libgomp1", "python3"]
COMPILER = ["gcc", "libc6-dev", "libpython3-dev"]  # with which Triton and torch.compile make what starts their kernels
# what Debian 12's Python and C library take
PYTHON = "3.11"
PLATFORMS = [f"manylinux_2_{minor}" for minor in range(36, 16, -1)] + ["manylinux2014", "linux"]
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
MIRROR = re.compile(r"^(?:URIs:|deb\s+(?:\[.*\]\s)?)\s*(https?://\S+)", re.MULTILINE)
REGISTRY_SECONDS = 20.0  # until a registry that says nothing counts as unreachable
WASTE = ["usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "var/lib/apt/lists", "var/log"]

_PYTHON_INPUTS = [
    "images/base",
    "images/python",
    *(f"academy_lm/{n}.py" for n in ("__init__", "files", "model", "text", "train")),
]
_CHECKS = tuple(f"grading/{name}.py" for name in ("__init__", "border", "checks", "timing", "wire"))
INPUTS = {
    "base": ["images/base"],
    "python": _PYTHON_INPUTS,
    "notebook": [
        *_PYTHON_INPUTS,
        "images/notebook",
        *_CHECKS,
        *(f"grading/exchange/{name}.py" for name in ("__init__", "archive", "client", "lab", "plugin")),
    ],
    "sandbox": [*_PYTHON_INPUTS, "images/sandbox", *_CHECKS, "grading/warm.py"],
}
NAMES = ("notebook", "sandbox")
Report = Callable[[str], None]


class ImageError(Exception):
    """An image cannot be built; the message says why and what to do."""


def image_tag(name: str, settings: Settings | None = None) -> str:
    """The name of an image as built from this checkout: the version and a digest of everything that goes into it."""
    return _tag(name, (settings or load()).images)


@cache
def _tag(name: str, options: Images) -> str:
    digest = hashlib.sha256(f"{DEBIAN} {PYTHON} {_packages(options)} {options.torch} {options.base}".encode())
    for path in _input_files(name):
        digest.update(f"\0{path.relative_to(CHECKOUT)}\0".encode() + path.read_bytes())
    for path in _authorities(options):
        digest.update(path.read_bytes())
    return f"academyhub-{name}:{academy.__version__}-{digest.hexdigest()[:12]}"


def _packages(options: Images) -> list[str]:
    """What Debian gives to the images."""
    return [*PACKAGES, *(COMPILER if options.torch == "cuda" else [])]


def _input_files(name: str) -> Iterator[Path]:
    for entry in INPUTS[name]:
        path = CHECKOUT / entry
        if not path.exists():
            raise ImageError(f"{path} is missing; the {name} image needs it.")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts and not file.name.startswith("test_"):
                yield file


def _authorities(options: Images) -> list[Path]:
    if not options.authorities:
        return []
    files = sorted(options.authorities.glob("*.crt"))
    if not files:
        raise ImageError(f"{options.authorities} holds no certificate authority: files in PEM format named *.crt.")
    for file in files:
        text = file.read_text(errors="replace")
        if "-----BEGIN CERTIFICATE-----" not in text or "PRIVATE KEY" in text:
            raise ImageError(f"{file} must hold certificates in PEM format and no private key.")
    return files


def exists(tag: str) -> bool:
    """Whether the Docker Engine has this image."""
    return _docker("image", "inspect", "--format", "{{.Id}}", tag, check=False).returncode == 0


def build(settings: Settings, names: Sequence[str] = NAMES, report: Report = print, *, force: bool = False) -> dict[str, str]:
    """Build what is missing of ``names``, as the settings' section ``images`` says; returns name -> tag.

    Raises:
        ImageError: no Docker Engine, no way to a base image, a package that cannot be had, a failed step.
    """
    tags = {name: image_tag(name, settings) for name in names}
    _need_docker()
    if not force and all(exists(tag) for tag in tags.values()):
        return tags
    with _one_at_a_time(report):
        missing = [name for name in names if force or not exists(tags[name])]
        if missing:
            wheels = _wheels(settings.images, report)
            python = _python(settings, wheels, report, force)
        for name in missing:
            report(f"Building the {name} image")
            _build(name, tags[name], PYTHON=python, WHEELS=wheels)
            report(f"{tags[name]}: {_size(tags[name]) / 1e6:,.0f} MB")
    return tags


def _need_docker() -> None:
    if not shutil.which("docker"):
        raise ImageError("The docker command is missing. Install it: apt-get install docker.io")
    done = _docker("version", "--format", "{{.Server.Version}}", check=False)
    if done.returncode:
        raise ImageError(f"No Docker Engine answers: {_tail(done.stderr)}\nStart it: systemctl start docker")


@contextmanager
def _one_at_a_time(report: Report) -> Iterator[None]:
    """Two builds at once would do everything twice."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("Waiting for another build of the images")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _python(settings: Settings, wheels: str, report: Report, force: bool) -> str:
    tag, base = image_tag("python", settings), image_tag("base", settings)
    if not force and exists(tag):
        return tag
    if force or not exists(base):
        debian = _debian(settings.images, report)
        with _authorities_image(settings.images) as authorities:
            report("Building the base: Debian 12 with Python and a Hangul font")
            _build("base", base, DEBIAN=debian, PACKAGES=" ".join(_packages(settings.images)), CA_IMAGE=authorities)
    report("Building the Python layers: numpy, torch, matplotlib")
    _build("python", tag, BASE=base, WHEELS=wheels)
    return tag


def _build(name: str, tag: str, **arguments: str) -> None:
    flags = [f"--build-arg={key}={value}" for key, value in arguments.items()]
    dockerfile = IMAGES / name / "Dockerfile"
    with tempfile.TemporaryDirectory(prefix="academyhub-build-") as context:
        for file in _input_files(name):  # the inputs and nothing else of the checkout
            target = Path(context) / file.relative_to(CHECKOUT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            target.chmod(0o755 if os.access(file, os.X_OK) else 0o644)
        command = [_builder(), "build", "--progress=plain", "--tag", tag, "--file", str(dockerfile), *flags, context]
        done = _run(command, DOCKER_BUILDKIT="1")
    if done.returncode:
        raise ImageError(f"Building {tag} failed:\n{_tail(done.stdout + done.stderr)}")


@cache
def _builder() -> str:
    """A docker command that can build with BuildKit: one with the plugin buildx, or one before 23, which needs none."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for client in dict.fromkeys(filter(None, (shutil.which("docker", path=folder) for folder in folders))):
        version = _run([client, "version", "--format", "{{.Client.Version}}"]).stdout
        if _run([client, "buildx", "version"]).returncode == 0 or int(version.partition(".")[0] or 99) < 23:
            return client
    raise ImageError("The docker command cannot build images without its plugin buildx: apt-get install docker-buildx")


def _wheels(options: Images, report: Report) -> str:
    """An image that holds all wheels, filled by this machine's pip."""
    digest = hashlib.sha256(f"{PYTHON} {options.torch} {options.torch_index} {options.wheels} {_architecture()}".encode())
    for path in [*REQUIREMENTS, CONSTRAINTS]:
        digest.update((CHECKOUT / path).read_bytes())
    key = digest.hexdigest()[:12]
    tag = f"academyhub-wheels:{key}"
    if exists(tag):
        return tag
    report("Fetching Python packages")
    folder = WHEELS / key
    _download(options, folder, [*REQUIREMENTS, CONSTRAINTS])
    _check_torch(options, folder, report)
    _import(folder, tag)
    return tag


def _download(options: Images, folder: Path, requirements: list[str]) -> None:
    """Fill a folder with wheels for Debian 12, whatever Python and Linux this machine has."""
    folder.mkdir(parents=True, exist_ok=True)
    architecture = _architecture()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"]
    command += [f"--platform={platform}_{architecture}" for platform in PLATFORMS]
    command += [f"--find-links={options.wheels}"] if options.wheels else []
    if options.torch_index:
        command += ["--extra-index-url" if "://" in options.torch_index else "--find-links", options.torch_index]
    # the constraints are requirements too: which packages a package asks for can depend on the Python that asks
    command += [f"--requirement={CHECKOUT / path}" for path in requirements]
    done = _run([*command, "uv"])
    if done.returncode:
        raise ImageError(
            f"pip could not fetch the packages of the images:\n{_tail(done.stderr)}\n"
            "Check pip's configuration (pip config list), or name a folder of wheels with --wheels."
        )


def _check_torch(options: Images, folder: Path, report: Report) -> None:
    cuda = any(folder.glob("nvidia_*.whl"))
    if options.torch == "cuda" and not cuda:
        raise ImageError("pip found torch for the CPU only. Name an index or a folder of CUDA builds with --torch-index.")
    if options.torch == "cpu" and cuda:
        report(
            "pip found torch with CUDA only; the images work, but are some GB larger. "
            "For less, name an index or a folder of CPU builds with --torch-index."
        )


@cache
def _architecture() -> str:
    name = _docker("version", "--format", "{{.Server.Arch}}").stdout.strip()
    if name not in ARCHITECTURES:
        raise ImageError(f"The images can be built for {', '.join(ARCHITECTURES)}; this Docker Engine runs on {name}.")
    return ARCHITECTURES[name]


def freeze(settings: Settings) -> Path:
    """Resolve the requirements anew and write the versions that the images then pin."""
    _need_docker()
    with tempfile.TemporaryDirectory(prefix="academyhub-freeze-") as folder:
        _download(settings.images, Path(folder), REQUIREMENTS)
        pins = sorted(_pin(wheel.name) for wheel in Path(folder).glob("*.whl"))
    path = CHECKOUT / CONSTRAINTS
    kept = [pin for pin in pins if not re.match(r"nvidia-|cuda-|triton==", pin)]  # torch itself pins what CUDA needs
    path.write_text(
        "# Written by `academy images freeze` from the requirements.txt files of the images.\n" + "\n".join(kept) + "\n"
    )
    return path


def _pin(wheel: str) -> str:
    name, version = wheel.split("-")[:2]
    return f"{name.lower().replace('_', '-')}=={version.partition('+')[0]}"


@contextmanager
def _authorities_image(options: Images) -> Iterator[str]:
    files = _authorities(options)
    if not files:
        yield "scratch"
        return
    tag = f"academyhub-authorities:{hashlib.sha256(b''.join(file.read_bytes() for file in files)).hexdigest()[:12]}"
    with tempfile.TemporaryDirectory(prefix="academyhub-authorities-") as folder:
        for file in files:
            shutil.copyfile(file, Path(folder) / file.name)
        _import(Path(folder), tag)
    try:
        yield tag
    finally:
        _docker("image", "rm", tag, check=False)


def _debian(options: Images, report: Report) -> str:
    """A Debian 12 image: the one that was named, one that is here, one from a registry, or one made with debootstrap."""
    packages = _packages(options)
    made = f"academyhub-debian:{DEBIAN}-{hashlib.sha256(f'{packages} {WASTE}'.encode()).hexdigest()[:12]}"
    registered = f"debian:{DEBIAN}-slim"
    if options.base:
        if not exists(options.base) and not _pull(options.base):
            raise ImageError(f"The base image {options.base} is not here and cannot be pulled.")
        return options.base
    for tag in (made, registered):
        if exists(tag):
            return tag
    report("Pulling Debian 12")
    if _pull(registered):
        return registered
    debootstrap = shutil.which("debootstrap", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not debootstrap or os.geteuid() != 0:
        why = "debootstrap is not installed (apt-get install debootstrap)" if not debootstrap else "debootstrap needs root"
        raise ImageError(
            f"There is no Debian base image: no container registry answers, and {why}. "
            "Mend either, or name a Debian 12 image that this Docker Engine has with --base."
        )
    report("Making Debian 12 with debootstrap, since no registry answers")
    _debootstrap(debootstrap, made, packages)
    return made


def _pull(tag: str) -> bool:
    """Pull an image; give up soon where no registry answers, and never while one sends."""
    with subprocess.Popen(["docker", "pull", tag], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as pull:
        assert pull.stdout
        answered, _, _ = select.select([pull.stdout], [], [], REGISTRY_SECONDS)  # the first line comes with the manifest
        if not answered:
            pull.kill()
        pull.communicate()
    return pull.returncode == 0


def _debootstrap(debootstrap: str, tag: str, packages: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="academyhub-debian-") as folder:
        root = Path(folder) / "root"
        command = [debootstrap, "--variant=minbase", f"--include={','.join(packages)}", DEBIAN, str(root)]
        mirror = _mirror()
        done = _run([*command, *([mirror] if mirror else [])])
        if done.returncode:
            raise ImageError(f"debootstrap failed:\n{_tail(done.stdout + done.stderr)}")
        for waste in WASTE:
            shutil.rmtree(root / waste, ignore_errors=True)
            (root / waste).mkdir(parents=True)
        for file in (*(root / "var/cache/apt").rglob("*.*"), *(root / "usr/share/fonts/truetype/nanum").glob("*.ttf")):
            if file.name not in ("NanumGothic.ttf", "NanumGothicBold.ttf"):
                file.unlink()
        # nothing of this machine goes along: its resolver, its name, a password for its mirror
        for name in ("etc/resolv.conf", "etc/hostname"):
            (root / name).write_text("")
        sources = root / "etc/apt/sources.list"
        sources.write_text(re.sub(r"//[^/@\s]*@", "//", sources.read_text()))
        _import(root, tag)


def _mirror() -> str | None:
    """The Debian mirror that this machine uses itself; None: debootstrap's own."""
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("debian*"))]:
        text = path.read_text() if path.is_file() else ""
        if found := MIRROR.search(text):
            return found[1]
    return None


def _import(folder: Path, tag: str) -> None:
    archive = ["tar", "--directory", str(folder), "--create", "."]
    with subprocess.Popen(archive, stdout=subprocess.PIPE) as tar:
        done = subprocess.run(["docker", "import", "-", tag], stdin=tar.stdout, capture_output=True, text=True, check=False)
    if done.returncode or tar.returncode:
        raise ImageError(f"docker import of {tag} failed:\n{_tail(done.stderr)}")


def _size(tag: str) -> int:
    return int(_docker("image", "inspect", "--format", "{{.Size}}", tag).stdout)


def _docker(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = _run(["docker", *command])
    if check and done.returncode:
        raise ImageError(f"docker {command[0]} failed: {_tail(done.stderr)}")
    return done


def _run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-15:])
