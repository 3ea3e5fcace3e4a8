"""The pages in a real browser, in front of a real hub, proxy, spawner and database."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from academy import settings as settings_module
from academy.database import Database
from academy.people import Person, import_roster, parse_roster
from academy.settings import CHECKOUT, Settings
from academy.signin import demo_password
from grading.exchange.store import Store
from grading.records import Feedback, Release, Submission
from tests.conftest import write_config

pytestmark = pytest.mark.browser

HOME = "/services/academy/"
SHOTS = CHECKOUT / "build" / "screenshots"
ROSTER = "name,login,role\n김미나,mina,student\n이준,jun,student\n박교수,prof,instructor\n"


@dataclass
class Running:
    """An academy that runs for these tests."""

    settings: Settings
    database: Database
    browser: Any

    def visit(self, login: str = "", language: str = "en", width: int = 1100, scheme: str = "light") -> Any:
        """A page of a new browser profile, signed in as somebody."""
        context = self.browser.new_context(
            base_url=self.settings.public_url, viewport={"width": width, "height": 800}, color_scheme=scheme
        )
        for name, value in (("academy_language", language), ("academy_language_chosen", "1")):
            context.add_cookies([{"name": name, "value": value, "url": self.settings.public_url}])
        page = context.new_page()
        page.set_default_timeout(60_000)
        if login:
            page.goto(HOME)
            self.sign_in(page, login)
            page.wait_for_url(f"**{HOME}")
        return page

    def sign_in(self, page: Any, login: str, password: str = "") -> None:
        page.fill("#username_input", login)
        page.fill("#password_input", password or demo_password(self.settings))
        page.click("#login_submit")


@pytest.fixture(scope="module")
def academy(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serve(browser, tmp_path_factory.mktemp("pages"), _fill) as running:
        yield running


@contextmanager
def serve(browser: Any, folder: Path, fill: Callable[[Settings, Database], None]) -> Iterator[Running]:
    """A hub and the pages of a new academy that ``fill`` furnishes."""
    config = write_config(folder, academy={"courses": str(folder / "courses")}, spawner={"backend": "local"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACADEMY_CONFIG", str(config))
        settings = settings_module.load()
        database = Database(settings.database_url)
        database.upgrade()
        fill(settings, database)
        with (folder / "log").open("wb") as log:
            command = [str(Path(sys.executable).parent / "academy")]
            parts = [
                subprocess.Popen([*command, part], stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
                for part in ("pages", "hub")
            ]
            try:
                _wait(settings, folder / "log")
                yield Running(settings, database, browser)
            finally:
                for part in parts:
                    os.killpg(part.pid, signal.SIGTERM)
                    try:
                        part.wait(30)
                    except subprocess.TimeoutExpired:
                        os.killpg(part.pid, signal.SIGKILL)
                        part.wait()
                database.close()


def _fill(settings: Settings, database: Database) -> None:
    unit = settings.academy.courses / "inference" / "arrays"
    unit.mkdir(parents=True)
    (unit / "arrays.py").write_text("# %%\n")
    (unit.parent / "course.toml").write_text(
        'title = { ko = "추론 최적화", en = "Inference optimisation" }\n[[units]]\nid = "arrays"\nnumber = "1.1"\nhours = 2\n'
        'title = { ko = "배열과 반복문의 값", en = "Arrays and the price of loops" }\n',
        encoding="utf-8",
    )
    with database.write() as session:
        import_roster(session, parse_roster(ROSTER, "inference"), "inference")
        session.add(Person(login="ceo", name="최대표", role="founder"))
        session.add(Release(course="inference", unit="arrays", blobs={"ko": "0" * 64}, released_by="prof"))
        for login in ("mina", "jun"):
            session.add(Submission(course="inference", unit="arrays", login=login, sha256="ab" * 32, size=10))


def _wait(settings: Settings, log: Path) -> None:
    for _ in range(480):
        try:
            answers = [httpx.get(settings.public_url + path).status_code for path in ("/hub/health", HOME + "health")]
            if answers == [200, 200]:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.25)
    pytest.fail(log.read_text(errors="replace")[-4000:])


def shot(page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"pages-{name}.png", full_page=True)


def test_signing_in_choosing_a_language_and_signing_out(academy: Running) -> None:
    page = academy.visit(language="ko")
    page.goto(HOME)
    assert page.locator("h1").inner_text() == "로그인"
    assert page.locator("html").get_attribute("lang") == "ko"
    academy.sign_in(page, "mina", "wrong")
    assert "로그인하지 못했어요" in page.locator("[role=alert]").inner_text()
    shot(page, "login-ko")
    page.click("text=English")
    page.wait_for_selector("h1:text-is('Sign in')")
    academy.sign_in(page, "mina")
    page.wait_for_selector("h1:has-text('Hello')")
    shot(page, "home-en")
    with academy.database.read() as session:
        person = session.get(Person, "mina")
        assert person
        assert person.language == "en"
    page.click("text=Sign out")
    page.wait_for_selector("#username_input")
    page.goto(HOME)
    page.wait_for_selector("#username_input")


def test_leaving_at_the_hub_leaves_here(academy: Running) -> None:
    page = academy.visit("jun")
    page.wait_for_selector("h1:has-text('Hello')")
    page.goto("/hub/logout")
    page.goto(HOME)
    page.wait_for_selector("#username_input")


def test_a_server_is_started_with_progress_shown_and_stopped(academy: Running) -> None:
    page = academy.visit("mina", "ko")
    page.click("section:has-text('내 서버') >> text=시작")
    page.wait_for_url("**/hub/spawn-pending/mina**")
    shown = "document.querySelector('#progress-bar')?.value >= 30"  # both at once: a server that is ready replaces the page
    page.wait_for_function(f"{shown} && document.querySelector('#progress-message').innerText.includes('노트북')")
    shot(page, "pending-ko")
    page.wait_for_url("**/user/mina/**", timeout=90_000)
    page.goto(HOME)
    page.wait_for_selector("text=실행 중")
    page.click("section:has-text('내 서버') >> text=중지")
    page.wait_for_selector("[role=status]:has-text('멈추고')")
    page.wait_for_selector("section:has-text('내 서버') >> text=꺼짐")  # the page follows by itself


def test_a_start_is_stopped_from_the_pending_page(academy: Running) -> None:
    page = academy.visit("ceo")
    page.fill("#sandbox-name", "demo-1")
    page.click("text=Create and start")
    page.click("#stop-server-btn")
    page.wait_for_url(f"**{HOME}")
    page.wait_for_selector("text=demo-1")
    assert page.locator("text=Running").count() == 0


def test_a_failed_start_says_why_and_what_to_do(academy: Running) -> None:
    page = academy.visit("mina", "ko")
    page.goto("/hub/spawn/mina/grade-nothing")
    said = page.locator("[role=alert], .note.error").first.inner_text()
    assert "nothing" in said
    assert "Unhandled" not in page.content()
    shot(page, "failed-ko")


def test_a_roster_with_mistakes_is_reported_by_line(academy: Running, tmp_path: Path) -> None:
    page = academy.visit("prof")
    page.goto(f"{HOME}courses/inference/people")
    roster = tmp_path / "roster.csv"
    roster.write_text("name,login,role\n새 학생,new-1,student\nX,x,king\n", encoding="utf-8")
    page.set_input_files("#roster", roster)
    page.click("button:has-text('Import the roster')")
    assert "Line 3" in page.locator("[role=alert]").inner_text()
    shot(page, "roster-en")
    roster.write_text("name,login,role\n새 학생,new-1,student\n", encoding="utf-8")
    page.set_input_files("#roster", roster)
    page.click("button:has-text('Import the roster')")
    page.wait_for_selector("text=1 added")
    page.locator("td:has-text('new-1')").wait_for()  # one, and no more


def test_feedback_runs_nothing_that_a_student_wrote(academy: Running) -> None:
    html = b"<p id=proof>clean</p><script>proof.textContent = 'ran'; parent.document.title = 'ran'</script>"
    html += b"<img src=x onerror=\"proof.textContent = 'ran'\">"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("arrays.html")
        info.size = len(html)
        archive.addfile(info, io.BytesIO(html))
    sha256 = Store(academy.settings).put(buffer.getvalue())
    with academy.database.write() as session:
        submission = session.query(Submission).filter_by(login="mina").first()
        assert submission
        session.merge(Feedback(submission_id=submission.id, sha256=sha256, score=3, max_score=4, released_by="prof"))
    page = academy.visit("mina")
    page.click("text=Feedback")
    frame = page.frame_locator("iframe")
    assert frame.locator("#proof").inner_text() == "clean"
    assert "ran" not in page.title()
    shot(page, "feedback-en")
    page.goto(f"{HOME}submissions/{submission.id}/feedback/0")
    assert page.locator("#proof").inner_text() == "clean"


def test_a_script_on_the_same_origin_reads_no_page(academy: Running) -> None:
    page = academy.visit("prof")
    page.wait_for_selector("h1")
    address = f"{HOME}courses/inference"
    page.goto("/hub/token")  # any page of the origin that lets us run a script
    assert page.evaluate("address => fetch(address).then(reply => reply.status)", address) == 403


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1100, "light")])
def test_pages_fit_and_are_usable_by_keyboard(academy: Running, width: int, scheme: str) -> None:
    unit = f"{HOME}courses/inference/units/arrays"
    for login, paths in (("", ["/hub/login", "/hub/nothing"]), ("ceo", [HOME]), ("prof", [f"{HOME}courses/inference", unit])):
        page = academy.visit(login, "ko", width, scheme)
        for path in paths:
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
            unlabelled = "input:not([type=hidden]):not([aria-label])"
            assert page.evaluate(f"[...document.querySelectorAll('{unlabelled}')].filter(i => !i.labels.length).length") == 0
            assert "isolates nothing" in page.content() or "격리하지" in page.content()
            shot(page, f"{path.strip('/').replace('/', '-').removeprefix('services-academy')}-{width}-{scheme}")
        page.goto(paths[-1])
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "a-skip"
        page.context.close()
