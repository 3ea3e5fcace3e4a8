"""The exchange: units out, submissions in, feedback out, over HTTP; author and time are always the server's.

A submission is acknowledged when its content is on disk and its row and its line of history are committed together. Whatever
goes wrong before that is an error in the caller's language.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import httpx
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from academy.database import Database, now
from academy.messages import AcademyError
from academy.settings import Settings
from grading import mastery
from grading.courses import catalogue
from grading.exchange import archive
from grading.exchange.callers import Caller, Callers
from grading.exchange.store import Blob, Store, Writer
from grading.operations import due_for, grade_at_once
from grading.penalties import is_late
from grading.records import Feedback, History, Job, Release, Submission, record

log = logging.getLogger(__name__)

GZIP = "application/gzip"
UPLOADS_AT_ONCE = 4  # of one person
SUBMISSIONS_PER_HOUR = 60  # of one person and unit
SILENCE_SECONDS = 60.0  # after which an upload that sends nothing is ended
DRAIN_SECONDS = 30.0
POLL_SECONDS = 0.2
QUEUE_SECONDS = 3600.0  # longest wait for a worker
EXECUTE_PRIORITY = 10  # somebody waits for it in formgrader

Id = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
LanguageTag = Literal["", "ko", "en"]


class Error(BaseModel):
    """What went wrong and what to do, in the caller's language."""

    error: str
    message: str


class Receipt(BaseModel):
    """The proof that a submission arrived; score and feedback once they are released."""

    id: str
    course: str
    unit: str
    login: str
    sha256: str
    size: int
    received_at: datetime
    late: bool
    language: str
    score: float | None = None
    max_score: float | None = None
    feedback: bool = False
    feedback_at: datetime | None = None


class UnitRelease(BaseModel):
    """A unit that can be fetched now, with the caller's own receipts, oldest first."""

    course: str
    unit: str
    due_at: datetime | None
    languages: list[str]
    released_at: datetime
    submissions: list[Receipt]


class Membership(BaseModel):
    course: str
    role: str
    title: str


class Me(BaseModel):
    """Who the caller is."""

    login: str
    name: str
    language: str
    courses: list[Membership]


class Service:
    """What one running exchange is made of."""

    def __init__(self, settings: Settings, database: Database, hub_transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.settings = settings
        self.database = database
        self.store = Store(settings)
        self.callers = Callers(settings, database, hub_transport)
        self._uploads: Counter[str] = Counter()
        # SQLite has one writer; waiting here is first-come, waiting inside SQLite is by polling
        self._writing: contextlib.AbstractContextManager[Any] = (
            threading.Lock() if database.sqlite else contextlib.nullcontext()
        )

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        with self._writing, self.database.write() as session:
            yield session

    @contextlib.contextmanager
    def upload_of(self, login: str) -> Iterator[None]:
        """Count a person's uploads; called on the event loop alone."""
        if self._uploads[login] >= UPLOADS_AT_ONCE:
            raise AcademyError("exchange-busy", 429, count=UPLOADS_AT_ONCE)
        self._uploads[login] += 1
        try:
            yield
        finally:
            self._uploads[login] -= 1
            if not self._uploads[login]:
                del self._uploads[login]


class _Route(APIRoute):
    """A call whose every failure is JSON with a key and a sentence."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:
                failure = _explain(error)
                if failure.status >= 500:
                    log.error("%s %s: %s", request.method, request.url.path, failure, exc_info=error)
                language = getattr(request.state, "language", None)
                if language is None:
                    service: Service = request.state.exchange
                    language = service.callers.language(None, request.headers.get("accept-language", ""))
                await _drain(request)
                said = failure.message(language)
                headers = {"Retry-After": "5"} if failure.status in (429, 503) else None
                return JSONResponse({"error": said.key, "message": str(said)}, failure.status, headers)

        return answer


def _explain(error: Exception) -> AcademyError:
    """The failure as a person should read it; the cause goes to the log only."""
    match error:
        case AcademyError():
            return error
        case archive.ArchiveError(reason="too-large"):
            return AcademyError("exchange-too-large-unpacked", 413, limit=error.what)
        case archive.ArchiveError():
            return AcademyError(f"exchange-{error.reason}", 422, what=error.what)
        case RequestValidationError():
            fields = ", ".join(sorted({str(problem["loc"][-1]) for problem in error.errors()}))
            return AcademyError("exchange-bad-request", 422, detail=fields)
        case ClientDisconnect() | TimeoutError():
            return AcademyError("exchange-interrupted", 400)
        case SQLAlchemyError():
            return AcademyError("exchange-database-down", 503)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return AcademyError("exchange-disk-full", 507)
        case _:
            return AcademyError("exchange-failed", 500)


async def _drain(request: Request) -> None:
    """Take the rest of a refused upload: a connection closed on a sender who still writes loses the answer."""
    if request.method in ("GET", "HEAD", "DELETE"):
        return
    service: Service = request.state.exchange
    left = 2 * service.store.max_bytes
    with contextlib.suppress(ClientDisconnect, RuntimeError, TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for chunk in request.stream():
                left -= len(chunk)
                if left < 0:
                    return


def get_service(request: Request) -> Service:
    service: Service = request.state.exchange
    return service


async def browser_caller(request: Request) -> Caller | None:
    """Who is signed in in a browser: nobody, unless the pages override this dependency.

    The override must do what the pages do before they answer: students' servers share the origin.
    """
    return None


async def get_caller(
    request: Request,
    service: Service = Depends(get_service),
    browser: Caller | None = Depends(browser_caller),
) -> Caller:
    """Who is asking (a FastAPI dependency).

    Raises:
        AcademyError: nobody whom the hub and the roster know.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() in ("token", "bearer") and token.strip():
        caller = await service.callers.by_token(token.strip(), request.headers.get("accept-language", ""))
    elif browser is not None and request.method in ("GET", "HEAD"):
        caller = browser
    else:
        raise AcademyError("exchange-no-token", 401)
    request.state.language = caller.language
    return caller


Asking = Annotated[Caller, Depends(get_caller)]
Exchange = Annotated[Service, Depends(get_service)]

routes = APIRouter(
    route_class=_Route,
    responses={status: {"model": Error} for status in (401, 403, 404, 413, 422, 429, 503, 507)},
)


def router(settings: Settings, database: Database, hub_transport: httpx.AsyncBaseTransport | None = None) -> APIRouter:
    """The API of one deployment, to include under ``/services/academy/api/v1``."""
    service = Service(settings, database, hub_transport)
    service.store.sweep()

    async def bind(request: Request) -> None:
        request.state.exchange = service

    @contextlib.asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        yield
        await service.callers.close()

    bound = APIRouter(dependencies=[Depends(bind)], lifespan=lifespan)
    bound.include_router(routes)
    return bound


@routes.get("/me")
def me(service: Exchange, caller: Asking) -> Me:
    """Who the caller is, and in which courses."""
    titles: dict[str, str] = {}
    with contextlib.suppress(AcademyError):  # one course's broken file is no reason to lock everybody out
        titles = {course.id: course.title[caller.language] for course in catalogue.courses(service.settings)}
    courses = [
        Membership(course=entry.course, role=entry.role, title=titles.get(entry.course, entry.course))
        for entry in caller.person.enrollments
    ]
    return Me(login=caller.login, name=caller.person.name, language=caller.language, courses=courses)


@routes.get("/courses/{course}/units")
def units(course: Id, service: Exchange, caller: Asking) -> list[UnitRelease]:
    """The units that can be fetched now; a student sees none that is still closed to them."""
    _need_member(caller, course)
    with service.database.read() as session:
        releases = session.scalars(select(Release).where(Release.course == course).order_by(Release.released_at)).all()
        receipts = _receipts(session, select(Submission).where(Submission.course == course, Submission.login == caller.login))
        closed = _closed(session, service.settings, caller, course)
    return [
        UnitRelease(
            course=release.course,
            unit=release.unit,
            due_at=release.due_at,
            languages=sorted(release.blobs),
            released_at=release.released_at,
            submissions=[receipt for receipt in receipts if receipt.unit == release.unit],
        )
        for release in releases
        if release.unit not in closed
    ]


@routes.get("/courses/{course}/units/{unit}/release", response_class=FileResponse)
def fetch(course: Id, unit: Id, service: Exchange, caller: Asking, language: LanguageTag = "") -> Response:
    """The student version, in the language asked for or else in one that exists (``X-Academy-Language`` says which)."""
    _need_member(caller, course)
    with service.write() as session:
        release = _released(session, course, unit)
        if needed := _closed(session, service.settings, caller, course).get(unit):
            percent = round(100 * catalogue.course(service.settings, course).mastery)
            raise AcademyError("unit-locked", 403, needed=mastery.names(needed, caller.language), percent=percent)
        given = language if language in release.blobs else min(release.blobs, key=lambda tag: tag != "ko")
        sha256 = release.blobs[given]
        record(session, caller.login, "fetch", course, unit, caller.login, language=given, sha256=sha256)
    return _file(service, sha256, {"X-Academy-Language": given})


def _closed(session: Session, settings: Settings, caller: Caller, course: str) -> dict[str, list[catalogue.Unit]]:
    """The units that a student has not begun and that are closed to them: those to master first, by unit."""
    if caller.person.role_in(course) != "student":
        return {}
    reached = mastery.of(session, settings, caller.login)
    query = select(History.unit).where(History.course == course, History.actor == caller.login, History.action == "fetch")
    begun = {unit for owner, unit in reached.submitted if owner == course} | set(session.scalars(query))
    found = {unit.id: reached.needed(owner, unit) for owner, unit in reached.known.values() if owner.id == course}
    return {unit: needed for unit, needed in found.items() if needed and unit not in begun}


@routes.put("/courses/{course}/units/{unit}/release")
async def release(
    request: Request,
    course: Id,
    unit: Id,
    service: Exchange,
    caller: Asking,
    language: LanguageTag = "",
    due_at: datetime | None = None,
) -> UnitRelease:
    """Release a unit, or replace one language of it. The language ``""`` stands for all: it replaces the others."""
    _need_staff(caller, course)
    if due_at is not None and due_at.tzinfo is None:
        raise AcademyError("exchange-bad-request", 422, detail="due_at")

    def keep(writer: Writer, _arrived: datetime) -> UnitRelease:
        _need_notebook(service, writer)
        sha256 = writer.keep().sha256
        with service.write() as session:
            row = session.get(Release, (course, unit))
            if row is None:
                row = Release(course=course, unit=unit, blobs={}, due_at=due_at, released_by=caller.login)
                session.add(row)
            others = {tag: blob for tag, blob in row.blobs.items() if tag and language}
            row.blobs = {**others, language: sha256}
            row.due_at = due_at or row.due_at
            row.released_at, row.released_by = now(), caller.login
            record(
                session, caller.login, "release", course, unit, blobs=row.blobs, due_at=row.due_at and row.due_at.isoformat()
            )
        return UnitRelease(
            course=course,
            unit=unit,
            due_at=row.due_at,
            languages=sorted(row.blobs),
            released_at=row.released_at,
            submissions=[],
        )

    return await _receive(request, service, caller, keep)


@routes.delete("/courses/{course}/units/{unit}/release", status_code=204)
def withdraw(course: Id, unit: Id, service: Exchange, caller: Asking) -> None:
    """Take a unit back; submissions stay."""
    _need_staff(caller, course)
    with service.write() as session:
        session.delete(_released(session, course, unit))
        record(session, caller.login, "withdraw", course, unit)


@routes.post("/courses/{course}/units/{unit}/submissions", status_code=201)
async def submit(
    request: Request,
    response: Response,
    course: Id,
    unit: Id,
    service: Exchange,
    caller: Asking,
    x_academy_language: Annotated[LanguageTag, Header()] = "",
    x_idempotency_key: Annotated[str | None, Header(pattern=r"^[A-Za-z0-9-]{8,64}$")] = None,
) -> Receipt:
    """Hand a unit in: a ``tar.gz`` with at least one notebook.

    ``X-Content-SHA256`` is compared when given. A request repeated with the same ``X-Idempotency-Key`` answers 200 with the
    receipt of the first.
    """
    _need_member(caller, course)
    await run_in_threadpool(_check_open, service, course, unit)

    def keep(writer: Writer, arrived: datetime) -> Receipt:
        _need_notebook(service, writer)
        blob = writer.keep()
        try:
            receipt, new = _accept(service, caller, course, unit, blob, arrived, x_academy_language, x_idempotency_key)
        except IntegrityError:  # the same key, at the same time
            receipt, new = _accept(service, caller, course, unit, blob, arrived, x_academy_language, x_idempotency_key)
        response.status_code = 201 if new else 200
        return receipt

    return await _receive(request, service, caller, keep)


def _check_open(service: Service, course: str, unit: str) -> None:
    """Refuse before the content is sent."""
    with service.database.read() as session:
        _released(session, course, unit)


def _on_submit(settings: Settings, course: str, unit: str) -> bool:
    try:
        return catalogue.course(settings, course).unit(unit).on_submit
    except AcademyError:
        return False  # made by hand in formgrader


def _accept(
    service: Service, caller: Caller, course: str, unit: str, blob: Blob, arrived: datetime, language: str, key: str | None
) -> tuple[Receipt, bool]:
    """Write the submission and its line of history in one transaction; False: it was there already."""
    with service.write() as session:
        mine = select(Submission).where(Submission.login == caller.login)
        before = session.scalar(mine.where(Submission.idempotency_key == key)) if key else None
        if before is not None:
            if (before.course, before.unit, before.sha256) != (course, unit, blob.sha256):
                raise AcademyError("exchange-key-reused", 409)
            return _receipt(before, session.get(Feedback, before.id)), False
        _released(session, course, unit)
        last_hour = Submission.received_at > arrived - timedelta(hours=1)
        recent = mine.where(Submission.course == course, Submission.unit == unit, last_hour)
        if (session.scalar(select(func.count()).select_from(recent.subquery())) or 0) >= SUBMISSIONS_PER_HOUR:
            raise AcademyError("exchange-too-often", 429, count=SUBMISSIONS_PER_HOUR)
        late = catalogue.late_policy(service.settings, course)
        submission = Submission(
            course=course,
            unit=unit,
            login=caller.login,
            language=language,
            sha256=blob.sha256,
            size=blob.size,
            received_at=arrived,
            late=is_late(late, arrived, due_for(session, course, unit, caller.login)),
            idempotency_key=key,
        )
        session.add(submission)
        session.flush()
        _record_about(session, caller, "submit", submission, sha256=blob.sha256, late=submission.late)
        if _on_submit(service.settings, course, unit):
            grade_at_once(session, submission)
    return _receipt(submission, None), True


@routes.get("/courses/{course}/submissions")
def course_submissions(
    course: Id, service: Exchange, caller: Asking, login: str | None = None, newest: bool = False
) -> list[Receipt]:
    """A course's receipts, withdrawn units' too, oldest first: one's own; as staff everybody's."""
    return _list(service, caller, course, None, login, newest)


@routes.get("/courses/{course}/units/{unit}/submissions")
def submissions(
    course: Id, unit: Id, service: Exchange, caller: Asking, login: str | None = None, newest: bool = False
) -> list[Receipt]:
    """A unit's receipts, oldest first: one's own; as staff everybody's."""
    return _list(service, caller, course, unit, login, newest)


def _list(service: Service, caller: Caller, course: str, unit: str | None, login: str | None, newest: bool) -> list[Receipt]:
    _need_member(caller, course)
    if not caller.acts_as_staff(course):
        if login not in (None, caller.login):
            _need_staff(caller, course)
        login = caller.login
    query = select(Submission).where(Submission.course == course)
    if unit is not None:
        query = query.where(Submission.unit == unit)
    if login is not None:
        query = query.where(Submission.login == login)
    with service.database.read() as session:
        receipts = _receipts(session, query)
    if newest:
        receipts = list({(receipt.unit, receipt.login): receipt for receipt in receipts}.values())
    return receipts


@routes.get("/submissions/{submission_id}/content", response_class=FileResponse)
def content(submission_id: Id, service: Exchange, caller: Asking) -> Response:
    """What was handed in, to its author and to staff."""
    with service.write() as session:
        submission = _visible(session, caller, submission_id)
        action = "download" if submission.login == caller.login else "collect"
        _record_about(session, caller, action, submission)
    received = submission.received_at.isoformat()
    return _file(service, submission.sha256, {"X-Academy-Received-At": received})


@routes.put("/submissions/{submission_id}/feedback")
async def release_feedback(
    request: Request,
    submission_id: Id,
    service: Exchange,
    caller: Asking,
    score: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    max_score: Annotated[float | None, Query(allow_inf_nan=False)] = None,
) -> Receipt:
    """Give feedback, a ``tar.gz`` of HTML pages, and the score; again to replace it."""
    await run_in_threadpool(_check_feedback, service, caller, submission_id)

    def keep(writer: Writer, _arrived: datetime) -> Receipt:
        if not any(name.endswith(".html") for name in archive.inspect(writer.opened(), service.store.max_bytes)):
            raise AcademyError("exchange-no-page", 422)
        sha256 = writer.keep().sha256
        with service.write() as session:
            submission = _visible(session, caller, submission_id)
            row = session.get(Feedback, submission_id)
            if row is None:
                row = Feedback(submission_id=submission_id)
                session.add(row)
            changed = row.sha256 != sha256
            row.sha256, row.score, row.max_score, row.released_by = sha256, score, max_score, caller.login
            row.released_at = now() if changed else row.released_at
            _record_about(session, caller, "feedback", submission, sha256=sha256, score=score, max_score=max_score)
        return _receipt(submission, row)

    return await _receive(request, service, caller, keep)


def _check_feedback(service: Service, caller: Caller, submission_id: str) -> None:
    with service.database.read() as session:
        submission = _visible(session, caller, submission_id)
    _need_staff(caller, submission.course)


@routes.get("/submissions/{submission_id}/feedback", response_class=FileResponse)
def feedback(submission_id: Id, service: Exchange, caller: Asking) -> Response:
    """The released feedback, to the submission's author and to staff."""
    with service.write() as session:
        submission = _visible(session, caller, submission_id)
        row = session.get(Feedback, submission_id)
        if row is None:
            raise AcademyError("exchange-no-feedback", 404)
        _record_about(session, caller, "fetch-feedback", submission)
    return _file(service, row.sha256, {})


@routes.post("/courses/{course}/units/{unit}/execute", response_class=FileResponse)
async def execute(request: Request, course: Id, unit: Id, service: Exchange, caller: Asking) -> Response:
    """Run a prepared notebook in the sandbox; answers with the archive that comes out, however long that takes."""
    _need_staff(caller, course)

    def keep(writer: Writer, _arrived: datetime) -> str:
        _need_notebook(service, writer)
        job = Job(
            kind="execute",
            course=course,
            unit=unit,
            payload_sha256=writer.keep().sha256,
            priority=EXECUTE_PRIORITY,
            requested_by=caller.login,
        )
        with service.write() as session:
            session.add(job)
            session.flush()
            record(session, caller.login, "execute", course, unit, job=job.id)
        return job.id

    job_id = await _receive(request, service, caller, keep)
    result = await _finished(request, service, job_id)
    return await run_in_threadpool(_file, service, result, {})


async def _finished(request: Request, service: Service, job_id: str) -> str:
    """Wait for a worker; the SHA-256 of what came out. A job that nobody waits for any more is cancelled."""
    limit = service.settings.grading.timeout + 60
    waited = ran = 0.0
    try:
        while waited < QUEUE_SECONDS and ran < limit:
            job = await run_in_threadpool(_job, service, job_id)
            if job.state == "done" and job.result_sha256:
                return job.result_sha256
            if job.state in ("done", "failed", "cancelled"):
                raise AcademyError("exchange-execute-failed", 500, reason=job.error or job.state)
            if await request.is_disconnected():
                raise ClientDisconnect
            await asyncio.sleep(POLL_SECONDS)
            waited, ran = waited + POLL_SECONDS, ran + POLL_SECONDS if job.state == "running" else 0.0
        raise AcademyError("exchange-execute-timeout", 504)
    finally:
        await run_in_threadpool(_cancel, service, job_id)


def _job(service: Service, job_id: str) -> Job:
    with service.database.read() as session:
        return session.get_one(Job, job_id)


def _cancel(service: Service, job_id: str) -> None:
    with service.write() as session:
        job = session.get_one(Job, job_id)
        if job.state == "queued":
            job.state, job.finished_at = "cancelled", now()


Keep = Callable[[Writer, datetime], Any]


async def _receive(request: Request, service: Service, caller: Caller, keep: Keep) -> Any:
    """Stream a request's body into the store, compare its digest, and hand it to ``keep`` on a thread.

    Raises:
        AcademyError: too large, broken off, or not what was sent.
    """
    limit = service.store.max_bytes
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise AcademyError("exchange-too-large", 413, limit=limit >> 20)
    with service.upload_of(caller.login), service.store.writer(limit) as writer:
        async for chunk in _megabytes(request):
            await run_in_threadpool(writer.write, chunk)
        arrived = now()
        said = request.headers.get("x-content-sha256", "").lower()
        if said and said != writer.blob.sha256:
            raise AcademyError("exchange-digest", 422)
        return await _to_the_end(run_in_threadpool(keep, writer, arrived))


async def _to_the_end(work: Awaitable[Any]) -> Any:
    """A thread cannot be cancelled, so neither is the wait for it: the file it works on must outlive it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def _megabytes(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces of about a megabyte, one visit to a thread each."""
    buffer = bytearray()
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                chunk = await anext(stream)
        except StopAsyncIteration:
            break
        buffer += chunk
        if len(buffer) >= 1 << 20:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


def _need_member(caller: Caller, course: str) -> None:
    """Members only; to others the course does not exist."""
    if caller.role_in(course) is None:
        raise AcademyError("exchange-no-course", 404, course=course)


def _need_staff(caller: Caller, course: str) -> None:
    """Staff of the course, with a token of a grading server."""
    _need_member(caller, course)
    if not caller.person.staff_of(course):
        raise AcademyError("exchange-staff-only", 403)
    if not caller.staff_token:
        raise AcademyError("exchange-staff-server", 403, course=course)


def _need_notebook(service: Service, writer: Writer) -> None:
    names = archive.inspect(writer.opened(), service.store.max_bytes)
    if not any(re.search(r"[^/]\.ipynb$", name) for name in names):
        raise AcademyError("exchange-no-notebook", 422)


def _released(session: Session, course: str, unit: str) -> Release:
    release = session.get(Release, (course, unit))
    if release is None:
        raise AcademyError("exchange-not-released", 404, unit=unit)
    return release


def _visible(session: Session, caller: Caller, submission_id: str) -> Submission:
    """A submission that the caller may know of; somebody else's does not exist."""
    submission = session.get(Submission, submission_id)
    own = submission is not None and submission.login == caller.login
    if submission is None or not (own or caller.acts_as_staff(submission.course)):
        raise AcademyError("exchange-no-submission", 404)
    return submission


def _record_about(session: Session, caller: Caller, action: str, submission: Submission, **detail: Any) -> None:
    course, unit, login = submission.course, submission.unit, submission.login
    record(session, caller.login, action, course, unit, login, submission=submission.id, **detail)


def _receipts(session: Session, query: Any) -> list[Receipt]:
    query = query.add_columns(Feedback).outerjoin(Feedback, Feedback.submission_id == Submission.id)
    rows = session.execute(query.order_by(Submission.received_at, Submission.id))
    return [_receipt(submission, given) for submission, given in rows]


def _receipt(submission: Submission, given: Feedback | None) -> Receipt:
    return Receipt(
        id=submission.id,
        course=submission.course,
        unit=submission.unit,
        login=submission.login,
        sha256=submission.sha256,
        size=submission.size,
        received_at=submission.received_at.astimezone(UTC),
        late=submission.late,
        language=submission.language,
        score=given.score if given else None,
        max_score=given.max_score if given else None,
        feedback=given is not None,
        feedback_at=given.released_at if given else None,
    )


def _file(service: Service, sha256: str, headers: dict[str, str]) -> FileResponse:
    """A stored file, compared with its name before it is given out."""
    path = service.store.verified(sha256)
    return FileResponse(path, media_type=GZIP, headers={"X-Content-SHA256": sha256, **headers})
