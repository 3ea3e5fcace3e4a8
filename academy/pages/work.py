"""A student's own graded work: how far the grader is, asking for a regrade, the leaderboard."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session as Read

from academy.database import now
from academy.messages import AcademyError
from academy.pages import path, views
from academy.pages.hubapi import PREFIX
from academy.pages.render import done
from academy.pages.visit import Visit, poll, visit
from grading import mastery, operations
from grading.courses import catalogue
from grading.records import Nickname, Regrade, Submission

router = APIRouter()

WAIT = 2000  # milliseconds between two looks while the grader works on something of theirs


def courses_of(visit: Visit, db: Read) -> tuple[list[views.StudentCourse], path.Path]:
    """The courses that somebody takes, and their path through all courses."""
    settings, login, language = visit.settings, visit.session.login, visit.language
    way = path.draw(catalogue.courses(settings), mastery.of(db, settings, login), language)
    taken = [e.course for e in visit.person.enrollments if e.role == "student"]
    return [views.student_course(db, settings, c, login, language, now(), way.closed) for c in taken], way


def wait(courses: list[views.StudentCourse]) -> int:
    return WAIT if any(row.phase not in ("", "failed") for course in courses for row in course.units) else 0


@router.get("/work.json")
async def work(visit: Visit = Depends(poll)) -> Response:
    """The home page's courses as they are now."""
    courses, way = await visit.read(lambda db: courses_of(visit, db))
    return visit.live("home_live.html", wait(courses), courses=courses, path=way)


@router.get("/submissions/{submission_id}/regrade")
async def regrade(submission_id: str, visit: Visit = Depends(visit)) -> HTMLResponse:
    return await _regrade_page(visit, submission_id)


async def _regrade_page(visit: Visit, submission_id: str, status: int = 200, text: str = "", problem: str = "") -> HTMLResponse:
    submission, result, regrades = await visit.read(lambda db: _about(db, visit, submission_id))
    course = views.named_course(visit.settings, submission.course, visit.language)
    units = views.named_units(visit.settings, submission.course, visit.language)
    return visit.page(
        "regrade.html",
        status,
        submission=submission,
        course=course,
        unit=units.get(submission.unit, views.Named(submission.unit, submission.unit)),
        result=result,
        regrades=regrades,
        may_ask=not any(regrade.state == "open" for regrade in regrades),
        text=text,
        problem=problem,
        text_length=operations.REGRADE_TEXT[1],
    )


def _about(db: Read, visit: Visit, submission_id: str) -> tuple[Submission, views.Result, list[Regrade]]:
    """A submission of the reader's own whose score they may see; any other does not exist."""
    submission = db.get(Submission, submission_id)
    if submission is None or submission.login != visit.session.login:
        raise AcademyError("page-missing", status=404)
    result = views.result(db, views.rules_of(visit.settings, submission.course), submission, visit.language)
    if result is None:
        raise AcademyError("page-missing", status=404)
    return submission, result, views.regrades_of(db, submission)


@router.post("/submissions/{submission_id}/regrade")
async def ask_regrade(submission_id: str, visit: Visit = Depends(visit)) -> Response:
    text = views.plain((await visit.form()).get("text"))

    def run(db: Read) -> None:
        submission, _, _ = _about(db, visit, submission_id)
        operations.ask_regrade(db, submission, text, visit.session.login)

    try:
        await visit.write(run)
    except AcademyError as error:
        if error.status == 404:
            raise
        return await _regrade_page(visit, submission_id, 422, text, str(error.message(visit.language)))
    said = done("Your request is sent. The answer will stand here.")
    return visit.back(f"{PREFIX}/submissions/{submission_id}/regrade", said)


@router.get("/courses/{course}/units/{unit}/leaderboard")
async def leaderboard(course: str, unit: str, visit: Visit = Depends(visit)) -> HTMLResponse:
    return await _leaderboard_page(visit, course, unit)


async def _leaderboard_page(
    visit: Visit, course: str, unit: str, status: int = 200, nickname: str = "", problem: str = ""
) -> HTMLResponse:
    gate, login = _gate(visit, course, unit), visit.session.login
    ranks = await visit.read(lambda db: operations.leaderboard(db, course, unit, gate))
    joined = await visit.read(lambda db: db.get(Nickname, (course, login)))
    return visit.page(
        "leaderboard.html",
        status,
        course=views.named_course(visit.settings, course, visit.language),
        unit=views.named_units(visit.settings, course, visit.language)[unit],
        gate=gate,
        ranks=ranks,
        me=login,
        joined=joined is not None,
        nickname=nickname or (joined.nickname if joined else ""),
        problem=problem,
        nickname_length=operations.NICKNAME_LENGTH,
        student=visit.person.role_in(course) == "student",
    )


def _gate(visit: Visit, course: str, unit: str) -> str:
    """The gate that a unit's students compare themselves by; for those who are not in the course there is none."""
    gate = views.rules_of(visit.settings, course).leaderboard(unit)
    if not gate or visit.person.role_in(course) is None:
        raise AcademyError("page-missing", status=404)
    return gate


@router.post("/courses/{course}/units/{unit}/leaderboard")
async def join_leaderboard(course: str, unit: str, visit: Visit = Depends(visit)) -> Response:
    """A student of the course takes a nickname, changes it, or leaves."""
    form, login = await visit.form(), visit.session.login
    _gate(visit, course, unit)
    if visit.person.role_in(course) != "student":
        raise AcademyError("page-missing", status=404)
    back, nickname = f"{PREFIX}/courses/{course}/units/{unit}/leaderboard", views.plain(form.get("nickname"))
    if form.get("join") == "0":
        await visit.write(lambda db: operations.leave_leaderboard(db, course, login))
        return visit.back(back, done("You left the leaderboard."))
    try:
        await visit.write(lambda db: operations.join_leaderboard(db, course, login, nickname))
    except AcademyError as error:
        return await _leaderboard_page(visit, course, unit, 422, nickname[:100], str(error.message(visit.language)))
    return visit.back(back, done("You stand on the leaderboard under this nickname."))
