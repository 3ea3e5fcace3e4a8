"""Names of the images, what changes them, and what is refused before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from academy import images
from academy.images import ImageError, image_tag
from academy.settings import Images, Settings

Config = Callable[..., Settings]


@pytest.fixture(autouse=True)
def _no_memory() -> Iterator[None]:
    images._tag.cache_clear()
    yield
    images._tag.cache_clear()


def test_a_tag_says_the_version_and_what_went_in(config: Config) -> None:
    settings = config()
    tag = image_tag("notebook", settings)
    assert tag.startswith("academyhub-notebook:0.")
    assert len(tag.rpartition("-")[2]) == 12
    assert tag == image_tag("notebook", settings)
    assert tag.partition(":")[2] != image_tag("sandbox", settings).partition(":")[2]


@pytest.mark.parametrize("options", [{"torch": "cuda"}, {"base": "debian:mine"}])
def test_another_content_is_another_tag(config: Config, options: dict[str, str]) -> None:
    assert image_tag("notebook", config(images=options)) != image_tag("notebook", config())


def test_images_for_gpus_have_the_compiler_that_triton_wants() -> None:
    assert "gcc" in images._packages(Images(torch="cuda"))
    assert images._packages(Images()) == images.PACKAGES


def test_a_changed_input_changes_the_images_that_have_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(images, "CHECKOUT", tmp_path)
    monkeypatch.setattr(images, "INPUTS", {"notebook": ["common", "plugin.py"], "sandbox": ["common"]})
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "install").write_text("one")
    (tmp_path / "plugin.py").write_text("one")

    def tags() -> tuple[str, ...]:
        images._tag.cache_clear()
        return tuple(images._tag(name, Images()) for name in images.NAMES)

    before = tags()
    (tmp_path / "plugin.py").write_text("two")
    assert (tags()[0] != before[0], tags()[1] != before[1]) == (True, False)
    (tmp_path / "common" / "test_install.py").write_text("a test is no input")
    assert tags()[1] == before[1]
    (tmp_path / "common" / "install").write_text("two")
    assert tags()[1] != before[1]


def test_a_missing_input_is_named(monkeypatch: pytest.MonkeyPatch, config: Config) -> None:
    monkeypatch.setattr(images, "INPUTS", {"sandbox": ["grading/nowhere.py"]})
    with pytest.raises(ImageError, match=r"grading/nowhere\.py is missing"):
        image_tag("sandbox", config())


def test_authorities_are_certificates_only(config: Config, tmp_path: Path) -> None:
    settings = config(images={"authorities": str(tmp_path)})
    with pytest.raises(ImageError, match="holds no certificate authority"):
        image_tag("notebook", settings)
    certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    (tmp_path / "institute.crt").write_text(certificate)
    with_authority = image_tag("notebook", settings)
    assert with_authority != image_tag("notebook", config())
    images._tag.cache_clear()
    (tmp_path / "institute.crt").write_text(certificate + "-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(ImageError, match="no private key"):
        image_tag("notebook", settings)


def test_the_build_of_torch_is_checked(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(ImageError, match="--torch-index"):
        images._check_torch(Images(torch="cuda"), tmp_path, said.append)
    images._check_torch(Images(torch="cpu"), tmp_path, said.append)
    assert said == []
    (tmp_path / "nvidia_cublas-13.0-py3-none-manylinux_2_27_x86_64.whl").touch()
    images._check_torch(Images(torch="cuda"), tmp_path, said.append)
    images._check_torch(Images(torch="cpu"), tmp_path, said.append)
    assert len(said) == 1
    assert "--torch-index" in said[0]


@pytest.mark.parametrize(
    ("wheel", "pin"),
    [
        ("torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", "torch==2.13.0"),
        ("jupyterlab_language_pack_ko_kr-4.5.post3-py2.py3-none-any.whl", "jupyterlab-language-pack-ko-kr==4.5.post3"),
    ],
)
def test_pins_fit_every_build_of_a_version(wheel: str, pin: str) -> None:
    assert images._pin(wheel) == pin


def test_every_requirement_is_pinned() -> None:
    pins = (images.CHECKOUT / images.CONSTRAINTS).read_text().split()
    for path in images.REQUIREMENTS:
        for line in (images.CHECKOUT / path).read_text().splitlines():
            if line and not line.startswith("#"):
                name = line.split(">")[0].split("=")[0].lower()
                assert any(pin.startswith(f"{name}==") for pin in pins), name


@pytest.mark.parametrize(
    "text",
    [
        "deb http://mirror.example/debian bookworm main\n",
        "deb [signed-by=/usr/share/keyrings/a.gpg] http://mirror.example/debian bookworm main\n",
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n",
    ],
)
def test_the_mirror_of_this_machine_is_found(text: str) -> None:
    found = images.MIRROR.search(text)
    assert found
    assert found[1] == "http://mirror.example/debian"


def test_without_a_docker_command_the_build_says_so(config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = config()
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(ImageError, match="apt-get install docker"):
            images.build(settings)


def test_a_docker_command_without_its_plugin_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Debian 12's own docker command needs no plugin; a newer one that stands before it on PATH may lack it."""
    for folder, version in {"new": "28.2.2", "old": "20.10.24"}.items():
        (tmp_path / folder).mkdir()
        program = tmp_path / folder / "docker"
        program.write_text(f'#!/bin/sh\n[ "$1" = version ] && echo {version}\n')
        program.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}/new:{tmp_path}/old")
        images._builder.cache_clear()
        assert images._builder() == f"{tmp_path}/old/docker"
        patch.setenv("PATH", f"{tmp_path}/new")
        images._builder.cache_clear()
        with pytest.raises(ImageError, match="buildx"):
            images._builder()
    images._builder.cache_clear()


def test_an_engine_that_is_down_is_named(config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not images.shutil.which("docker"):
        pytest.skip("no docker command")
    settings = config()
    with monkeypatch.context() as patch:
        patch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
        with pytest.raises(ImageError, match="No Docker Engine answers"):
            images.build(settings)


def test_no_registry_and_no_debootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(images, "exists", lambda tag: False)
        patch.setattr(images, "_pull", lambda tag: False)
        patch.setattr(images.shutil, "which", lambda *args, **kwargs: None)
        with pytest.raises(ImageError, match=r"no container registry answers.*--base"):
            images._debian(Images(), print)
        with pytest.raises(ImageError, match="mine:1 is not here"):
            images._debian(Images(base="mine:1"), print)
