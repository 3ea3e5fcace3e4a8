"""Settings: where values come from, what stops a start, what the command prints."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from academy import settings as module
from academy.cli import app
from academy.settings import CHECKOUT, Profile, Settings, SettingsError, Text, load


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write an academy.toml and point the settings at it."""
    for name in [name for name in os.environ if name.startswith("ACADEMY_")]:
        monkeypatch.delenv(name)

    def write(text: str) -> Path:
        path = tmp_path / "academy.toml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("ACADEMY_CONFIG", str(path))
        return path

    return write


def refused(**overrides: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load(**overrides)
    return str(caught.value)


def test_an_empty_file_means_the_trial(toml: Any) -> None:
    toml("")
    settings = load()
    assert settings.public_url == "http://127.0.0.1:8000"
    assert settings.database_url == f"sqlite:///{CHECKOUT}/data/academy.sqlite"
    assert settings.signin.provider == "demo"
    assert {profile.kind for profile in settings.profiles.values()} == {"coursework", "sandbox", "grading"}


def test_the_environment_comes_before_the_file(toml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    toml('[hub]\nport = 9000\naddress = "0.0.0.0"\n')
    monkeypatch.setenv("ACADEMY_HUB__PORT", "9100")
    assert (load().hub.port, load().hub.address) == (9100, "0.0.0.0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[hub]\nporte = 9000\n", ["hub.porte", "no such key", "port, "]),
        ("[hubb]\nport = 9000\n", ["hubb", "no such key", "exchange", "spawner"]),
        ("[hub]\nport = 90000\n", ["hub.port", "90000", "65535"]),
        ('[academy]\nlanguage = "jp"\n', ["academy.language", "'jp'", "'ko' or 'en'"]),
        ('[academy]\nname = "My Academy"\n', ["academy.name", "'My Academy'", "^[a-z]"]),
        ('[profiles.big]\ncpus = 8\n[profiles.big.title]\nko = "큰"\n', ["profiles.big.title.en", "required"]),
        ('[signin]\nprovider = "kakao"\n', ["signin", "client_id and client_secret_file"]),
        ('[signin]\nprovider = "oidc"\nclient_id = "a"\nclient_secret_file = "/b"\n', ["signin", "needs url"]),
        ("[hub\n", ["academy.toml is not valid TOML", "line 1"]),
    ],
)
def test_a_bad_setting_is_named_with_what_is_allowed(toml: Any, text: str, said: list[str]) -> None:
    toml(text)
    message = refused()
    assert all(part in message for part in said), message


def test_every_problem_is_named_at_once(toml: Any) -> None:
    toml("[hub]\nport = 0\nporte = 1\n[grading]\ncpus = -1\n")
    message = refused()
    assert all(key in message for key in ("hub.port = 0", "hub.porte", "grading.cpus = -1"))


def test_a_file_that_is_named_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACADEMY_CONFIG", str(tmp_path / "none.toml"))
    assert "there is no such file" in refused()


@pytest.mark.parametrize("command", [["settings"], ["run"], ["hub"], ["pages"], ["worker"], ["people", "list"]])
def test_every_start_with_bad_settings_prints_the_message_alone(toml: Any, command: list[str]) -> None:
    toml("[hub]\nporte = 1\n")
    if command != ["run"]:  # one command in a process of its own, as people start it
        result = CliRunner().invoke(app, command)
        assert isinstance(result.exception, SettingsError)
        return
    done = subprocess.run([sys.executable, "-m", "academy", *command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "hub.porte: no such key" in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def sections() -> list[type[BaseModel]]:
    parts = [field.annotation for name, field in Settings.model_fields.items() if name != "profiles"]
    return [part for part in parts if isinstance(part, type)] + [Profile]


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_every_key_says_what_it_is_for(section: type[BaseModel]) -> None:
    assert issubclass(section, BaseModel)
    assert section is not Text
    assert [key for key, field in section.model_fields.items() if not field.description] == []


def test_what_the_command_prints_can_be_used_as_the_file(toml: Any, tmp_path: Path) -> None:
    gpus = '[gpus]\ndevices = [{uuid = "GPU-1"}, {uuid = "GPU-2"}]\n'
    toml(f'[academy]\nname = "mine"\ndata = "{tmp_path}/data"\n{gpus}')
    before = load()
    for options in ([], ["--describe"]):
        printed = CliRunner().invoke(app, ["settings", *options]).stdout
        assert tomllib.loads(printed)["academy"]["name"] == "mine"
        toml(printed)
        assert load().model_dump() == before.model_dump()
    assert "# Port of the public proxy. (default: 8000)\n  port = 8000" in printed
    assert "What people choose it by. (required)" in printed


def test_the_command_shows_no_database_password(toml: Any) -> None:
    toml('[database]\nurl = "postgresql://academy:hunter2@db:5432/academy"\n')
    printed = CliRunner().invoke(app, ["settings"]).stdout
    assert "postgresql://academy:***@db:5432/academy" in printed
    assert "hunter2" not in printed


def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path, toml: Any) -> None:
    toml(f'[academy]\ndata = "{tmp_path}/data"\n')
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: load().secret("proxy-token"), range(16)))
    assert len(made) == 1
    assert len(made.pop()) == 64
    assert load().secret("cookie-secret") != load().secret("proxy-token")
    path = tmp_path / "data" / "secrets" / "proxy-token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The socket at which Docker is looked for; the answer is forgotten before and after."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    module.docker_answers.cache_clear()
    yield tmp_path / "docker.sock"
    module.docker_answers.cache_clear()


def test_an_engine_that_is_there_and_says_nothing_is_not_done_without(
    toml: Any, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml("")
    monkeypatch.setattr(module, "DOCKER_WAIT", 0.2)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(engine))
        silent.listen()
        for key in ("docker", "grading_docker"):
            with pytest.raises(SettingsError, match=r"backend = 'auto': .* for 0\.2 seconds.*systemctl status docker"):
                getattr(load(), key)
        assert load(spawner={"backend": "local"}).docker is False


@pytest.mark.parametrize("left", [False, True])
def test_where_no_engine_listens_there_is_none(toml: Any, engine: Path, left: bool) -> None:
    toml("")
    if left:  # the socket of one that was ended
        with socket.socket(socket.AF_UNIX) as ended:
            ended.bind(str(engine))
    assert load().docker is False


def test_auto_means_docker_where_an_engine_answers(toml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    toml("")
    for answers in (True, False):
        monkeypatch.setattr(module, "docker_answers", lambda answers=answers: answers)
        assert load().docker is answers
        assert load(spawner={"backend": "local"}).docker is False
        assert load(grading={"backend": "docker"}).grading_docker is True
