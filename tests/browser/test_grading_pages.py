"""The pages of grading in a real browser: sixty submissions watched, decided about, and the student who waits for one."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from academy.database import Database, now
from academy.messages import AcademyError
from academy.people import import_roster, parse_roster
from academy.settings import Settings
from grading.exchange.store import Store
from grading.records import Extension, Grade, Job, Measurement, Regrade, Release, Submission
from tests.browser.test_pages import HOME, Running, serve, shot

pytestmark = pytest.mark.browser

FAMILY, GIVEN = "김이박최정강조윤장임", ("민아", "준", "서연", "하늘", "도윤", "지우")
STUDENTS = [(f"s{i:02}", FAMILY[i % 10] + GIVEN[i // 10]) for i in range(60)]
UNIT = f"{HOME}courses/inference/units/arrays"
COURSE_TOML = """
title = { ko = "추론 최적화", en = "Inference optimisation" }
late = { grace_minutes = 15, per_day = 0.1, most_days = 5 }

[[units]]
id = "arrays"
number = "1.1"
hours = 2
on_submit = true
leaderboard = "거리 계산"
title = { ko = "배열과 반복문의 값", en = "Arrays and the price of loops" }
"""
PHASES = {"queued": 4.1, "started": 0.3, "student cells": 1.4, "tests": 0.9, "recorded": 0.1}


@pytest.fixture(scope="module")
def academy(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serve(browser, tmp_path_factory.mktemp("grading-pages"), _fill) as running:
        yield running


def _fill(settings: Settings, database: Database) -> None:
    unit = settings.academy.courses / "inference" / "arrays"
    unit.mkdir(parents=True)
    (unit / "arrays.py").write_text("# %%\n")
    (unit.parent / "course.toml").write_text(COURSE_TOML, encoding="utf-8")
    roster = ["name,login,role", "박교수,prof,instructor", *(f"{name},{login},student" for login, name in STUDENTS)]
    with database.write() as session:
        import_roster(session, parse_roster("\n".join(roster), "inference"), "inference")
        due_at = now() - timedelta(hours=30)
        session.add(Release(course="inference", unit="arrays", blobs={"ko": "0" * 64}, due_at=due_at, released_by="prof"))
        for number, (login, _) in enumerate(STUDENTS):
            late = number % 12 == 5
            about = {"course": "inference", "unit": "arrays", "login": login, "sha256": f"{number:02x}" * 32, "size": 10}
            received = due_at + timedelta(hours=26) if late else due_at - timedelta(hours=2, minutes=number)
            session.add(Submission(**about, late=late, received_at=received))


def share_code(academy: Running) -> None:
    """Two students hand in the same function, but for its names."""
    step = "    gap = points[:, {i}, None] - centres[None, :, {i}]  # <b>gap</b>\n    total = total + weight * gap ** 2\n"
    steps = "".join(step.format(i=i) for i in range(9))
    for login, names in (("s58", {}), ("s59", {"gap =": "d =", "total": "acc", "* gap": "* d"})):
        code = f"def distance(points, centres, weight):\n    total = 0\n{steps}    return total ** 0.5\n"
        for name, other in names.items():
            code = code.replace(name, other)
        buffer = io.BytesIO()
        data = nbformat.writes(new_notebook(cells=[new_code_cell(code)])).encode()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            info = tarfile.TarInfo("arrays.ipynb")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        sha256 = Store(academy.settings).put(buffer.getvalue())
        with academy.database.write() as session:
            session.add(Submission(course="inference", unit="arrays", login=login, sha256=sha256, size=10, late=True))


def job_of(session: Any, login: str) -> Job:
    """A student's newest grading job."""
    query = session.query(Job).join(Submission, Job.submission_id == Submission.id).filter(Submission.login == login)
    found: Job = query.order_by(Job.id.desc()).first()
    return found


def told(page: Any, selector: str) -> None:
    """Wait for the page that says this, and until the whole of it is there."""
    page.wait_for_selector(selector)
    page.wait_for_load_state()


def work_off(
    database: Database, logins: list[str], penalty: float = 0.0, measured: Iterable[Measurement] = (), **changes: Any
) -> None:
    """What a worker leaves behind for each, all at once: a page that has the score asks no more."""
    with database.write() as session:
        for number, login in enumerate(logins):
            job = job_of(session, login)
            job.state, job.phases, job.phase, job.error = "done", PHASES, "recorded", None
            job.finished_at = now() - timedelta(seconds=len(logins) - number)
            for name, value in changes.items():
                setattr(job, name, value)
            if job.state == "done":
                points = {"score": 12.5, "max_score": 15, "penalty": penalty}
                session.merge(Grade(submission_id=job.submission_id, needs_manual=number % 9 == 4, **points))
        session.add_all(measured)


def test_sixty_submissions_are_watched_cancelled_and_graded_again(academy: Running) -> None:
    page = academy.visit("prof", "ko")
    page.goto(UNIT)
    page.click("text=모두 자동 채점")
    told(page, "text=제출물 60건의 채점을 요청했어요.")
    page.evaluate("window.kept = true")
    text, rows = page.locator("[data-part=text-grade]"), page.locator("tbody tr[id^=row-]")
    assert "60건 중 완료 0건, 진행 중 0건, 대기 60건" in text.inner_text()
    assert rows.count() == 60
    logins = [login for login, _ in STUDENTS]
    work_off(academy.database, logins[:22])
    work_off(academy.database, logins[22:24], state="failed", error=str(AcademyError("grading-attempts", attempts=3)))
    work_off(academy.database, ["s04"], notes=[{"kind": "flag", "text": "probe: a test that must fail passed"}])
    work_off(academy.database, ["s07"], notes=[{"kind": "repair", "text": "‘거리’ 셀이 지워져 있어서 다시 넣었어요."}])
    with academy.database.write() as session:
        for login, phase in (("s24", "student cells"), ("s25", "tests")):
            job = job_of(session, login)
            job.state, job.phase, job.phase_at = "running", phase, now() - timedelta(seconds=3)
    text.filter(has_text="완료 22건, 진행 중 2건, 대기 34건, 실패 2건").wait_for()
    assert page.locator("[data-part=bar-grade]").evaluate("bar => bar.value / bar.max") == pytest.approx(24 / 60)
    assert "남음" in page.locator("[data-part=pace]").inner_text()
    assert "테스트 실행 중" in page.locator("[data-part=state-s25]").inner_text()
    reason = AcademyError("grading-attempts", attempts=3).message("ko").text
    assert reason in page.locator("[data-part=failures] li").inner_text()
    page.locator("[data-part=flagged] >> text=s04").wait_for()
    shot(page, "queue-ko")
    page.locator("[data-part=state-s00] summary").click()
    before = page.locator("[data-part=state-s25]").inner_text()
    page.wait_for_function("text => document.querySelector('[data-part=state-s25]').innerText !== text", arg=before)
    assert page.locator("[data-part=state-s00] details").evaluate("box => box.open")  # what a reader opened stays open
    assert page.evaluate("window.kept")  # never reloaded

    cancel = page.locator("[data-part=act-s30] button")
    cancel.focus()
    page.keyboard.press("Enter")
    told(page, "text=1건의 채점을 취소했어요.")
    assert "취소됨" in page.locator("[data-part=state-s30]").inner_text()
    page.click("text=모두 취소…")
    page.wait_for_selector("text=제출물 35건을 대기열에서 빼요")
    shot(page, "cancel-ko")
    page.click("button:has-text('채점 취소하기')")
    told(page, "text=35건의 채점을 취소했어요.")
    assert page.locator("[data-part=text-grade]").inner_text() == "24건 중 완료 22건, 진행 중 0건, 대기 0건, 실패 2건"
    page.click("text=실패한 2건 다시 채점")
    page.wait_for_selector("text=제출물 2건의 채점을 요청했어요.")
    work_off(academy.database, logins[22:24])
    page.locator("[data-part=text-grade]").filter(has_text="24건 중 완료 24건, 진행 중 0건, 대기 0건, 실패 0건").wait_for()
    page.goto(f"{HOME}courses/inference/history")
    lines = page.locator("tr:has-text('채점을 취소함')").all_text_contents()
    assert all(login in "".join(lines) for login in ("s24", "s30", "s59"))
    assert len(lines) <= 4  # what one person did within two seconds is one line, not thirty-five
    shot(page, "history-ko")
    page.context.close()


def test_one_student_gets_more_time(academy: Running) -> None:
    page = academy.visit("prof", "ko")
    page.goto(UNIT)
    assert "마감 뒤 15분까지는" in page.locator("section:has(#release)").inner_text()
    page.click("text=한 사람의 마감 연장하기")
    page.select_option("#extend-login", "s05")
    page.fill("#extend-until", (now() + timedelta(days=9)).strftime("%Y-%m-%dT18:00"))
    page.fill("#extend-reason", "예비군 훈련 <script>")
    shot(page, "extend-ko")
    page.click("button:text-is('연장하기')")
    told(page, "[role=status]:has-text('s05 님의 마감을 연장했어요.')")
    listed = page.locator("section:has(#extensions) li")
    assert "예비군 훈련 <script>" in listed.inner_text()
    assert "prof" in listed.inner_text()
    with academy.database.read() as session:
        assert session.get(Extension, ("inference", "arrays", "s05"))
    student = academy.visit("s05", "ko")
    student.locator("[data-part=due-inference-arrays] >> text=마감 연장됨").wait_for()
    student.context.close()
    listed.locator("button").click()
    page.wait_for_selector("text=s05 님의 연장을 취소했어요.")
    page.context.close()


KOREAN = (
    *("채점을 기다리는 중", "테스트 실행", "늦어서 1.5점 감점", "채점 내용", "재채점 요청하기"),
    *("답을 기다리는 중", "받아들임"),
)
ENGLISH = (
    *("Waiting to be graded", "running the tests", "−1.5 for being late", "What the grader found", "Ask for a regrade"),
    *("Waiting for an answer", "Accepted"),
)


@pytest.mark.parametrize(("login", "language", "words"), [("s40", "ko", KOREAN), ("s41", "en", ENGLISH)])
def test_a_student_sees_the_score_arrive_and_asks_for_a_regrade(
    academy: Running, login: str, language: str, words: tuple[str, ...]
) -> None:
    with academy.database.write() as session:
        about = {"course": "inference", "unit": "arrays"}
        submission = Submission(**about, login=login, sha256="cd" * 32, size=10, late=True)
        session.add(submission)
        session.flush()
        session.add(Job(kind="grade", **about, submission_id=submission.id, requested_by=login, priority=10))
        key = submission.id
    page = academy.visit(login, language, 390 if language == "en" else 1100)
    state, score = page.locator("[data-part=state-inference-arrays]"), page.locator("[data-part=score-inference-arrays]")
    state.filter(has_text=words[0]).wait_for()
    page.evaluate("window.kept = true")
    with academy.database.write() as session:
        job = job_of(session, login)
        job.state, job.phase, job.phase_at = "running", "tests", now()
    state.filter(has_text=words[1]).wait_for()
    shot(page, f"waiting-{language}")
    repairs = {"ko": "‘거리’ 셀이 지워져 있어서 다시 넣었어요.", "en": "The cell “distance” was missing and put back."}
    figure = {"ratio": 32.1 if language == "ko" else 8.7, "low": 7.9, "high": 36.4, "at_least": 10.0}
    speed = Measurement(submission_id=key, name="거리 계산", passed=language == "ko", **figure)
    work_off(academy.database, [login], 1.5, [speed], notes=[{"kind": "repair", "text": repairs[language]}])
    score.filter(has_text="12.5 / 15").wait_for()
    assert page.evaluate("window.kept")
    more = page.locator("[data-part=more-inference-arrays]")
    assert words[2] in more.inner_text()
    more.locator(f"summary:has-text('{words[3]}')").click()
    assert repairs[language] in more.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    shot(page, f"score-{language}")

    more.locator(f"a:has-text('{words[4]}')").click()
    page.fill("#text", "3번 문제를 다시 봐 주세요. <img src=x onerror=alert(1)>")
    page.click(f"button:has-text('{words[4]}')")
    page.locator(f".tag:has-text('{words[5]}')").wait_for()
    staff = academy.visit("prof", language)
    staff.goto(UNIT)
    staff.click("section:has(#regrades) summary")
    assert "<img src=x onerror=alert(1)>" in staff.locator("section:has(#regrades) blockquote").inner_text()
    shot(staff, f"regrade-{language}")
    staff.fill("section:has(#regrades) textarea", "다시 보니 맞아요.")
    staff.click("section:has(#regrades) button[value='1']")
    told(staff, f"[role=status]:has-text('{login}')")
    assert staff.locator("section:has(#regrades)").count() == 0
    staff.context.close()
    page.reload()
    page.locator(f".tag:has-text('{words[6]}')").wait_for()
    assert "다시 보니 맞아요." in page.content()
    shot(page, f"answered-{language}")
    with academy.database.read() as session:
        assert session.query(Regrade).filter_by(login=login, state="accepted").count() == 1
    page.context.close()


def test_a_student_joins_the_leaderboard(academy: Running) -> None:
    page = academy.visit("s40", "ko", 390, "dark")
    page.goto(f"{UNIT}/leaderboard")
    page.fill("#nickname", "빠른 거북이 <b>")
    page.click("button:has-text('참여하기')")
    row = page.locator("tr.mine")
    told(page, "tr.mine")
    assert "빠른 거북이 <b>" in row.inner_text()
    assert "32.1×" in row.inner_text()
    shot(page, "leaderboard-ko")
    page.click("text=순위표에서 빠지기")
    page.wait_for_selector("text=아직 아무도 없어요.")
    page.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1100, "light")])
def test_the_pages_of_grading_fit(academy: Running, width: int, scheme: str) -> None:
    share_code(academy)
    page = academy.visit("prof", "ko", width, scheme)
    for name in ("", "/similarity", "/leaderboard", "/cancel"):
        page.goto(UNIT + name)
        assert page.locator("h1").count() == 1, name
        for box in page.locator("main details").all() if name == "/similarity" else []:
            box.locator("summary").click()
            assert "<b>gap</b>" in box.inner_text()
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
        assert page.evaluate("[...document.querySelectorAll('button, a')].filter(i => !i.textContent.trim()).length") == 0
        shot(page, f"unit{name.replace('/', '-')}-{width}-{scheme}")
    page.context.close()
