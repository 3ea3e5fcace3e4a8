"""Signing in through a real OpenID Connect provider, and the roster that says who gets in and as what."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from academy.network import free_port
from tests.integration.trial import Trial

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

PROVIDER_SECONDS = 90
ACCOUNTS = {  # at the provider: subject -> what it calls the person; the roster knows them by that
    "s-1": "operator",
    "s-2": "teacher",
    "s-3": "MinJi",
    "s-4": "홍길동",
    "s-5": "leaver",
    "s-6": "stranger",
    "s-7": "",
}
ROSTER = """name,login,role
김운영,operator,operator
이선생,teacher,instructor
김민지,minji,student
홍길동,홍길동,student
박떠남,leaver,student
"""
HEADING = {"ko": "이 페이지를 볼 권한이 없어요", "en": "You may not see this page"}
NOT_ON_ROSTER = {
    "ko": "stranger 님은 명단에 없어요. 강사에게 명단에 넣어 달라고 하거나, 로그아웃한 뒤 다른 계정으로 로그인해 주세요.",
    "en": "stranger is not on the roster. Ask an instructor to add you, or sign out and use another account.",
}
NO_LOGIN = {"ko": "로그인 서비스가 누구인지 알려 주지 않았어요.", "en": "The sign-in service did not say who you are."}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an OpenID Connect provider that knows ``ACCOUNTS`` and serves registered clients alone."""
    url, log = f"http://127.0.0.1:{(port := free_port())}", tmp_path_factory.mktemp("provider") / "log"
    command = [sys.executable, "-m", "oidc_provider_mock", f"--port={port}", "--require-registration"]
    for subject, login in ACCOUNTS.items():
        command.append(f"--user-claims={json.dumps({'sub': subject, 'name': subject, 'preferred_username': login})}")
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + PROVIDER_SECONDS
        while True:
            try:
                httpx.get(f"{url}/.well-known/openid-configuration").raise_for_status()
                break
            except httpx.TransportError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def academy_of(provider: str, folder: Path, **signin: Any) -> Iterator[Trial]:
    """A running academy that is a client of the provider, with ``[signin]`` as given."""
    port = free_port()
    callback = f"http://127.0.0.1:{port}/hub/oauth_callback"
    client = httpx.post(f"{provider}/oauth2/clients", json={"redirect_uris": [callback]}).raise_for_status().json()
    secret = folder / "client-secret"
    secret.write_text(client["client_secret"] + "\n")
    signin = {"provider": "oidc", "url": provider, "client_id": client["client_id"], **signin}
    trial = Trial(folder, hub={"port": port}, signin={**signin, "client_secret_file": str(secret)})
    try:
        trial.start()
        yield trial
    finally:
        trial.end()


@pytest.fixture(scope="module")
def academy(provider: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """An academy with a course that lets in whom its roster names."""
    folder = tmp_path_factory.mktemp("closed")
    roster = folder / "roster.csv"
    roster.write_text(ROSTER, encoding="utf-8")
    with academy_of(provider, folder) as trial:
        course = trial.courses / "practice" / "course.toml"
        course.parent.mkdir()
        course.write_text('title = { ko = "연습", en = "Practice" }\n', encoding="utf-8")
        imported = trial.command("people", "import", str(roster), "--course", "practice")
        assert imported.returncode == 0, imported.stderr
        yield trial


class Guest:
    """Somebody with a browser of their own and an account at the provider."""

    def __init__(self, browser: Any, academy: Trial, language: str = "ko") -> None:
        self.url = academy.url
        self.context = browser.new_context()
        self.context.add_cookies([{"name": "academy_language", "value": language, "url": self.url}])
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)

    def sign_in(self, login: str) -> None:
        """From the academy's address by its button to the provider, which asks who it is, and back."""
        subject = next(subject for subject, name in ACCOUNTS.items() if name == login)
        self.page.goto(self.url)
        self.page.click("main a.button:has-text('OpenID Connect')")
        self.page.click(f"button[name=sub][value={subject}]")
        self.page.wait_for_url(f"{self.url}/**")

    @property
    def path(self) -> str:
        return str(self.page.url).removeprefix(self.url)

    @property
    def text(self) -> str:
        """What is to be seen of the page's own part."""
        return str(self.page.inner_text("main"))

    def get(self, path: str) -> Any:
        """A request with the browser's cookies and the hub's token against forgery."""
        tokens = [c["value"] for c in self.context.cookies() if (c["name"], c["path"]) == ("_xsrf", "/hub/")]
        return self.context.request.get(f"{self.url}{path}", headers={"X-XSRFToken": tokens[0]})


def hub_log(academy: Trial) -> str:
    return (academy.data / "logs" / "hub.log").read_text(encoding="utf-8", errors="replace")


@contextmanager
def guest(browser: Any, academy: Trial, language: str = "ko") -> Iterator[Guest]:
    somebody = Guest(browser, academy, language)
    yield somebody
    somebody.context.close()


@pytest.mark.parametrize(("account", "name"), [("MinJi", "김민지"), ("홍길동", "홍길동")])
def test_a_person_on_the_roster_gets_in(browser: Any, academy: Trial, account: str, name: str) -> None:
    with guest(browser, academy) as student:
        student.sign_in(account)
        assert student.path == "/services/academy/"
        assert name in student.page.inner_text("h1")
        assert "연습" in student.text
        me = student.get("/hub/api/user").json()
        assert (me["name"], me["groups"], me["admin"]) == (account.lower(), ["nbgrader-practice"], False)
    assert "auth_state_groups_key" not in hub_log(academy), "each sign-in is an error for who reads the log"


@pytest.mark.parametrize("language", ["ko", "en"])
def test_a_person_off_the_roster_is_refused_and_told_what_to_do(browser: Any, academy: Trial, language: str) -> None:
    """In both languages at once: this page cannot be loaded again in the other one."""
    with guest(browser, academy, language) as stranger:
        stranger.sign_in("stranger")
        assert stranger.path.startswith("/hub/oauth_callback")
        assert stranger.page.inner_text("h1") == HEADING[language]
        for text in NOT_ON_ROSTER.values():
            assert text in stranger.text
        stranger.page.goto(f"{stranger.url}/services/academy/")
        assert stranger.path.startswith("/hub/login"), "signed in all the same"
    assert "stranger" not in academy.command("people", "list").stdout


def test_an_account_without_a_login_is_refused(browser: Any, academy: Trial) -> None:
    with guest(browser, academy) as nobody:
        nobody.sign_in("")
        for text in NO_LOGIN.values():
            assert text in nobody.text


def test_only_the_operator_of_the_roster_is_admin(browser: Any, academy: Trial) -> None:
    with guest(browser, academy) as operator:
        operator.sign_in("operator")
        assert operator.get("/hub/api/user").json()["admin"] is True
        assert "operator" in [user["name"] for user in operator.get("/hub/api/users").json()]
        assert operator.page.goto(f"{operator.url}/hub/admin").status == 200
    for login, group in {"teacher": "formgrade-practice", "MinJi": "nbgrader-practice"}.items():
        with guest(browser, academy) as other:
            other.sign_in(login)
            me = other.get("/hub/api/user").json()
            assert (me["admin"], me["groups"]) == (False, [group])
            assert other.get("/hub/api/users").status == 403
            assert other.get("/hub/api/users/operator").status in (403, 404)
            assert other.page.goto(f"{other.url}/hub/admin").status == 403


def test_a_removed_person_no_longer_gets_in(browser: Any, academy: Trial) -> None:
    """Neither by a new sign-in nor by the session that is still open."""
    with guest(browser, academy) as before, guest(browser, academy) as after:
        before.sign_in("leaver")
        assert before.path == "/services/academy/"
        removed = academy.command("people", "remove", "leaver", "--yes")
        assert removed.returncode == 0, removed.stderr
        assert before.page.goto(f"{before.url}/services/academy/").status == 403
        assert "leaver 님은 명단에 없어요." in before.text
        assert before.page.goto(f"{before.url}/hub/spawn/leaver").status == 403
        assert "명단에 있는 사람만" in before.text
        after.sign_in("leaver")
        assert after.path.startswith("/hub/oauth_callback")
        assert "leaver 님은 명단에 없어요." in after.text
    assert "Traceback" not in hub_log(academy)


def test_with_the_open_door_an_unknown_person_gets_in(browser: Any, provider: str, tmp_path: Path) -> None:
    """As a student of no course; the login becomes part of the roster."""
    with academy_of(provider, tmp_path, open=True) as academy, guest(browser, academy, "en") as stranger:
        stranger.sign_in("stranger")
        assert stranger.path == "/services/academy/"
        assert "You are in no course yet." in stranger.text
        me = stranger.get("/hub/api/user").json()
        assert (me["name"], me["groups"], me["admin"]) == ("stranger", [], False)
        assert stranger.get("/hub/api/users").status == 403
        assert "stranger" in academy.command("people", "list").stdout


def test_a_provider_that_does_not_answer_is_said_before_anything_starts(tmp_path: Path) -> None:
    secret, url = tmp_path / "client-secret", f"http://127.0.0.1:{free_port()}"
    secret.write_text("secret\n")
    signin = {"provider": "oidc", "url": url, "client_id": "academy", "client_secret_file": str(secret)}
    refused = Trial(tmp_path, signin=signin).command("run")
    assert refused.returncode == 2, refused.stderr
    assert f"signin.url = '{url}'" in refused.stderr
    assert "Traceback" not in refused.stderr
