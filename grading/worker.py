"""Takes jobs from the table and does them; any number of workers may share one table.

A worker claims a job for ``CLAIM_SECONDS`` and renews the claim while it works. A claim that runs out (the worker was killed)
is taken up again, by anybody, ``ATTEMPTS`` times. A job's result is recorded in one transaction, by whoever holds its claim.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import logging
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import and_, exists, func, or_, select, text, update
from sqlalchemy.orm import Session, aliased

from academy.database import Database, now
from academy.gpus import inventory, pool
from academy.gpus.plan import suits
from academy.gpus.records import Lease, Wait
from academy.messages import AcademyError
from academy.people import Person
from academy.settings import Settings
from grading import sandbox
from grading.courses import catalogue
from grading.exchange import archive
from grading.exchange.store import Store
from grading.operations import collect_submission, due_for
from grading.records import Feedback, Grade, Job, Measurement, Submission, record

CLAIM_SECONDS = 60.0
HEARTBEAT_SECONDS = 15.0
ATTEMPTS = 3
LOOK_SECONDS = 1.0  # between two looks whether a job was cancelled
POLL_SECONDS = 0.2
NBGRADER_SECONDS = 120.0  # allowed beyond the sandbox's own time
_log = logging.getLogger("academy.worker")


class Lost(Exception):
    """The claim is gone: cancelled, or another worker has the job now."""


class Stopped(Exception):
    """This worker is to stop."""


class NoGpu(Exception):
    """The run wants a GPU, and others have them: it stands in the pool's line, and other jobs go on."""


def main(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    worker = Worker(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop.set())
    worker.run()


def alive(settings: Settings) -> bool:
    """Whether a worker of this deployment runs on this machine."""
    with _lock_file(settings, "worker.asked") as turn, _lock_file(settings) as file:
        fcntl.flock(turn, fcntl.LOCK_EX)  # of two who ask at once, one would take the other for a worker
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def work_off(settings: Settings, jobs: list[str], report: Callable[[int], None]) -> None:
    """Wait until ``jobs`` are finished; where no worker lives, do them here. ``report`` gets how many are finished."""
    database = Database(settings.database_url)
    worker = None if alive(settings) else Worker(settings)
    thread = threading.Thread(target=worker.run, args=(jobs,)) if worker else None
    if thread:
        thread.start()
    unfinished = select(func.count()).where(Job.id.in_(jobs), Job.state.in_(("queued", "running")))
    try:
        left = len(jobs)
        while left and (thread is None or thread.is_alive()):
            time.sleep(0.2)
            with database.read() as session:
                left = session.scalar(unfinished) or 0
            report(len(jobs) - left)
    finally:
        if worker and thread:
            worker.stop.set()
            thread.join()
        database.close()


@contextlib.contextmanager
def _lock_file(settings: Settings, name: str = "worker.lock") -> Iterator[TextIO]:
    settings.data.mkdir(parents=True, exist_ok=True)
    with open(settings.data / name, "a") as file:
        yield file


class Grader:
    """``grading.autograde`` as a process that lives on between jobs, with warm sandboxes; one a thread of the worker."""

    def __init__(self, settings: Settings, slot: int) -> None:
        self.settings, self.slot = settings, slot
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  closed in close()
        command = [sys.executable, "-m", "grading.autograde"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        self.answers: queue.Queue[bytes] = queue.Queue()
        self.warm = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        self._send("warm", {})

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if self.warm.is_set():
                self.answers.put(line)
            self.warm.set()  # the first line says so
        self.warm.set()
        self.answers.put(b"")

    def _send(self, action: str, arguments: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        request = {"settings": self.settings.model_dump(mode="json"), "slot": self.slot, "action": action}
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps({**request, "arguments": arguments}).encode() + b"\n")
            self.process.stdin.flush()

    def ask(self, action: str, arguments: dict[str, Any]) -> None:
        self._send(action, arguments)

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """The next phase or result, if one comes in time.

        Raises:
            AcademyError: the process ended without one.
        """
        try:
            line = self.answers.get(timeout=seconds)
        except queue.Empty:
            return None
        if not line:
            self.process.wait()
            _log.error("the grader ended with %s: %s", self.process.returncode, self.tail())
            raise AcademyError("grading-failed", 500, reason=f"nbgrader ended with status {self.process.returncode}")
        found: dict[str, Any] = json.loads(line)
        return found

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def tail(self) -> str:
        """The end of what it logged."""
        self.log.seek(max(0, self.log.seek(0, os.SEEK_END) - 4000))
        return self.log.read().decode("utf-8", "replace").strip()

    def close(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()  # ends it, and its sandboxes with it
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Worker:
    """``settings.grading.workers`` threads that each claim, do and record one job at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"[-64:]
        self.database = Database(settings.database_url)
        self.store = Store(settings)
        self.stop = threading.Event()
        self.mine = threading.local()

    def run(self, jobs: list[str] | None = None) -> None:
        """Work until stopped, or until none of ``jobs`` is left to do."""
        with _lock_file(self.settings) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            with contextlib.suppress(Exception):  # Docker may be down; each job says so
                sandbox.sweep(self.settings)
            _log.info("worker %s started", self.name)
            threads = [threading.Thread(target=self._loop, args=(jobs, slot)) for slot in range(self.settings.grading.workers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.5)
            _log.info("worker %s stopped", self.name)
        self.database.close()

    def _loop(self, jobs: list[str] | None, slot: int) -> None:
        self.mine.slot = slot
        if jobs is None:
            with contextlib.suppress(Exception):  # a job that needs it says why it cannot be had
                warm = self._grader().warm
                while not warm.wait(POLL_SECONDS) and not self.stop.is_set():
                    pass  # meanwhile another worker, which is warm, takes the jobs
        while not self.stop.is_set():
            try:
                job = self.claim()
                if job is not None:
                    self.work(job)
                elif jobs is not None and not self._left(jobs):
                    break
                else:
                    self.stop.wait(POLL_SECONDS)
            except Exception:
                _log.exception("the worker met an error and goes on")
                self.stop.wait(5)
        self._drop_grader()

    def _left(self, jobs: list[str]) -> bool:
        with self.database.read() as session:
            return bool(session.scalar(select(func.count()).where(Job.id.in_(jobs), Job.state.in_(("queued", "running")))))

    def claim(self) -> Job | None:
        """The next job: highest priority, then the newest submission; never two of one student's unit at once."""
        with self.database.read() as session:  # a look costs little, and keeps nobody from writing
            if session.scalar(select(Job.id).where(Job.state.in_(("queued", "running"))).limit(1)) is None:
                return None
        with self.database.write() as session:
            if not self.database.sqlite:  # two claims at once could each take a job of the same student
                session.execute(text("SELECT pg_advisory_xact_lock(hashtext('academy-jobs'))"))
            values = {
                "state": "running",
                "claimed_by": self.name,
                "claim_expires_at": now() + timedelta(seconds=CLAIM_SECONDS),
                "attempts": Job.attempts + 1,
                "phase": "started",
                "phase_at": now(),
            }
            statement = update(Job).where(Job.id == _next_job()).values(values).returning(Job)
            job = session.scalars(statement, execution_options={"synchronize_session": False}).one_or_none()
            if job is None:
                return None
            if job.attempts > ATTEMPTS:
                error = AcademyError("grading-attempts", attempts=ATTEMPTS)
                job.state, job.error, job.finished_at = "failed", self._say(error), now()
                return None
            job.phases = {**job.phases, "queued": round((now() - job.created_at).total_seconds(), 3)}
            return job

    def work(self, job: Job) -> None:
        """Do a claimed job and record how it went."""
        _log.info("%s %s %s/%s started", job.kind, job.id, job.course, job.unit)
        phases = dict(job.phases)
        try:
            {"grade": self._grade, "feedback": self._feedback, "execute": self._execute}[job.kind](job, phases)
        except Lost:
            _log.warning("%s: the claim is gone", job.id)
        except Stopped:
            self._put_back(job)
        except NoGpu:
            self._put_back(job, "gpu")
        except Exception as error:
            if not isinstance(error, AcademyError):
                _log.exception("%s failed", job.id)
                error = AcademyError("grading-failed", 500, reason=f"{type(error).__name__}: {error}"[:500])
            _log.warning("%s failed: %s", job.id, error)
            with contextlib.suppress(Lost), self.database.write() as session:
                self._finish(session, job, phases, "failed", self._say(error))
        else:
            _log.info("%s done", job.id)

    def _grade(self, job: Job, phases: dict[str, float]) -> None:
        submission, name = self._submission(job)
        started = time.monotonic()
        folder = collect_submission(self.settings, submission)
        with self.database.read() as session:
            due_at = due_for(session, job.course, job.unit, submission.login)
        phases["started"] = _since(started)
        arguments = {
            "course": job.course,
            "unit": job.unit,
            "login": submission.login,
            "name": name,
            "language": submission.language,
            "received_at": submission.received_at.isoformat(),
            "due_at": due_at.isoformat() if due_at else "",
        }
        with self._gpu(job) as gpu:
            notebooks = len(list(folder.glob("*.ipynb")))
            result = self._child(job, "grade", {**arguments, "gpu": gpu}, notebooks, phases)
        started = time.monotonic()
        most = float(result["max_score"])
        score = min(max(float(result["score"]), 0.0), most)
        with self.database.write() as session:
            phases["recorded"] = _since(started)
            notes = _notes(result)
            self._finish(session, job, phases, "done", self._explain(result["outcomes"]), phase="recorded", notes=notes)
            session.merge(
                Grade(
                    submission_id=submission.id,
                    score=score,
                    max_score=most,
                    penalty=float(result["penalty"]),
                    needs_manual=bool(result["needs_manual"]),
                    graded_at=now(),
                )
            )
            for gate in result["gates"]:
                figures = {key: gate[key] for key in ("name", "ratio", "low", "high", "at_least", "passed")}
                session.merge(Measurement(submission_id=submission.id, measured_at=now(), **figures))
            detail = {"submission": submission.id, "score": score, "max_score": most, "outcomes": result["outcomes"]}
            record(session, job.requested_by, "grade", job.course, job.unit, submission.login, **detail)

    @contextlib.contextmanager
    def _gpu(self, job: Job) -> Iterator[str]:
        """A whole device for a unit that is graded with one, out of the pool that people's come from; "" where there is none.

        Raises:
            NoGpu: it is not its turn yet.
        """
        try:
            wanted = catalogue.course(self.settings, job.course).unit(job.unit).gpu
        except AcademyError:  # a course without a file
            wanted = False
        devices = inventory.devices(self.settings) if wanted else []
        if not any(suits(device, "whole") for device in devices):
            yield ""
            return
        with self.database.write() as session:
            lease = pool.for_run(session, self.settings, devices, job.id, now())
            if lease is not None:
                if lease.started_at is not None:  # by a worker that died: nothing of its run may stay on the device
                    sandbox.sweep(self.settings)
                pool.started(session, lease.id, "", now())
        if lease is None:
            raise NoGpu
        try:
            yield lease.device
        except Lost:  # whoever has the job now has its GPU
            raise
        except BaseException:
            self._give_back(lease, "failed")
            raise
        self._give_back(lease, "stopped")

    def _give_back(self, lease: Lease, why: str) -> None:
        with self.database.write() as session:
            if pool.release(session, lease.id, why, now()):
                pool.settle(session, self.settings, inventory.devices(self.settings), now())

    def _feedback(self, job: Job, phases: dict[str, float]) -> None:
        submission, _ = self._submission(job)
        with self.database.read() as session:
            if _last_graded(session, submission) != submission.id:
                raise AcademyError("grading-not-graded", 409)
        arguments = {"course": job.course, "unit": job.unit, "login": submission.login, "language": submission.language}
        result = self._child(job, "feedback", arguments, 0, phases)
        folder = self.settings.course_folder(job.course) / "feedback" / submission.login / job.unit
        sha256 = self.store.put(_pack(folder, result["pages"]))
        score, most = float(result["score"]), float(result["max_score"])
        with self.database.write() as session:
            self._finish(session, job, phases, "done", None)
            session.merge(
                Feedback(
                    submission_id=submission.id,
                    sha256=sha256,
                    score=score,
                    max_score=most,
                    released_at=now(),
                    released_by=job.requested_by,
                )
            )
            grade = session.get_one(Grade, submission.id)
            grade.score, grade.max_score, grade.needs_manual = score, most, bool(result["needs_manual"])
            detail = {"submission": submission.id, "score": score, "max_score": most, "sha256": sha256}
            record(session, job.requested_by, "feedback", job.course, job.unit, submission.login, **detail)

    def _execute(self, job: Job, phases: dict[str, float]) -> None:
        assert job.payload_sha256
        with tempfile.TemporaryDirectory(prefix="academy-execute-") as scratch:
            folder = Path(scratch)
            self.store.unpack(job.payload_sha256, folder)
            language = self._language_of(job.requested_by)
            arguments = {"course": job.course, "unit": job.unit, "folder": scratch, "language": language}
            result = self._child(job, "execute", arguments, len(list(folder.glob("*.ipynb"))), phases)
            sha256 = self.store.put(archive.pack_bytes(folder))
        with self.database.write() as session:
            self._finish(session, job, phases, "done", self._explain(result["outcomes"]), result_sha256=sha256)

    def _child(
        self, job: Job, action: str, arguments: dict[str, Any], notebooks: int, phases: dict[str, float]
    ) -> dict[str, Any]:
        """Have this thread's grader do something; keep the claim while it works."""
        limit = notebooks * (self.settings.grading.timeout + 10) + NBGRADER_SECONDS
        grader = self._grader()
        beat, look = time.monotonic() + HEARTBEAT_SECONDS, time.monotonic() + LOOK_SECONDS
        deadline = time.monotonic() + limit
        try:
            grader.ask(action, arguments)
            while (answer := grader.answer(0.1)) is None or "phase" in answer:
                if answer is not None:
                    self._phase(job, str(answer["phase"]))
                if self.stop.is_set():
                    raise Stopped
                if time.monotonic() > deadline:
                    raise AcademyError("grading-failed", 500, reason="nbgrader did not finish in time")
                if time.monotonic() > beat:
                    beat = time.monotonic() + HEARTBEAT_SECONDS
                    self._renew(job)
                if time.monotonic() > look:
                    look = time.monotonic() + LOOK_SECONDS
                    self._still_mine(job)
        except BaseException:
            self._drop_grader()  # and its sandboxes
            raise
        if "error" in answer:
            _log.warning("%s: %s", job.id, grader.tail())
            raise AcademyError(answer["error"], **answer["values"])
        ok: dict[str, Any] = answer["ok"]
        phases.update(ok.get("phases", {}))
        phases["started"] = round(phases.get("started", 0.0) + float(answer["total"]) - float(ok.get("seconds", 0.0)), 3)
        return ok

    def _grader(self) -> Grader:
        """This thread's own."""
        grader: Grader | None = getattr(self.mine, "grader", None)
        if grader is None or not grader.alive:
            self._drop_grader()
            grader = self.mine.grader = Grader(self.settings, self.mine.slot)
        return grader

    def _drop_grader(self) -> None:
        if grader := getattr(self.mine, "grader", None):
            grader.close()
        self.mine.grader = None

    def _still_mine(self, job: Job) -> None:
        """Raises Lost: somebody cancelled the job, or took it."""
        with self.database.read() as session:
            row = session.get(Job, job.id)
            if row is None or (row.state, row.claimed_by) != ("running", self.name):
                raise Lost

    def _phase(self, job: Job, phase: str) -> None:
        """Tell those who watch what happens now."""
        with self.database.write() as session:
            if not self._update(session, job, {"phase": phase, "phase_at": now()}):
                raise Lost

    def _renew(self, job: Job) -> None:
        with self.database.write() as session:
            values = {"claim_expires_at": now() + timedelta(seconds=CLAIM_SECONDS)}
            if not self._update(session, job, values):
                raise Lost

    def _put_back(self, job: Job, phase: str = "queued") -> None:
        """Give a job back unfinished; the attempt does not count."""
        with self.database.write() as session:
            values: dict[str, Any] = {"state": "queued", "phase": phase, "claimed_by": None, "claim_expires_at": None}
            values["attempts"] = Job.attempts - 1
            self._update(session, job, values)
        _log.info("%s put back", job.id)

    def _finish(
        self, session: Session, job: Job, phases: dict[str, float], state: str, error: str | None, **values: Any
    ) -> None:
        """Record the end of a job, if it is still ours. Raises Lost, which undoes the caller's transaction."""
        values |= {"state": state, "error": error, "phases": phases, "finished_at": now(), "claim_expires_at": None}
        if not self._update(session, job, values):
            raise Lost

    def _update(self, session: Session, job: Job, values: dict[str, Any]) -> bool:
        mine = and_(Job.id == job.id, Job.claimed_by == self.name, Job.state == "running")
        statement = update(Job).where(mine).values(values).returning(Job.id)
        return session.execute(statement, execution_options={"synchronize_session": False}).one_or_none() is not None

    def _submission(self, job: Job) -> tuple[Submission, str]:
        with self.database.read() as session:
            submission = session.get_one(Submission, job.submission_id)
            person = session.get(Person, submission.login)
            return submission, person.name if person else ""

    def _language_of(self, login: str) -> str:
        with self.database.read() as session:
            person = session.get(Person, login)
            return (person.language if person else None) or self.settings.academy.language

    def _say(self, error: AcademyError) -> str:
        return str(error.message(self.settings.academy.language))

    def _explain(self, outcomes: list[str]) -> str | None:
        """What staff should know about a run that was graded but did not end well."""
        limits = self.settings.grading
        values: dict[str, Any] = {"seconds": f"{limits.timeout:g}", "megabytes": limits.memory_mb}
        texts = [self._say(AcademyError(f"grading-{outcome}", **values)) for outcome in outcomes if outcome != "ok"]
        return "\n".join(texts) or None


def _next_job() -> Any:
    other, theirs = aliased(Job), aliased(Submission)
    due = or_(Job.state == "queued", and_(Job.state == "running", Job.claim_expires_at < now()))
    busy = and_(other.state == "running", other.claim_expires_at >= now())
    first = and_(Job.kind == "feedback", other.kind == "grade", other.state.in_(("queued", "running")))
    same = and_(theirs.course == Submission.course, theirs.unit == Submission.unit, theirs.login == Submission.login)
    no_gpu = exists().where(Wait.purpose == "grading", Wait.server == Job.id)
    has_gpu = exists().where(Lease.purpose == "grading", Lease.server == Job.id, Lease.holder.is_not(None))
    blocked = exists().where(other.id != Job.id, other.submission_id == theirs.id, same, or_(busy, first))
    return (
        select(Job.id)
        .outerjoin(Submission, Job.submission_id == Submission.id)
        .where(due, ~blocked, ~no_gpu)
        .order_by(
            has_gpu.desc(), Job.priority.desc(), func.coalesce(Submission.received_at, Job.created_at).desc(), Job.id.desc()
        )
        .limit(1)
        .with_for_update(skip_locked=True, of=Job)
        .scalar_subquery()
    )


def _last_graded(session: Session, submission: Submission) -> str | None:
    same = and_(
        Submission.course == submission.course, Submission.unit == submission.unit, Submission.login == submission.login
    )
    query = select(Grade.submission_id).join(Submission, Grade.submission_id == Submission.id).where(same)
    return session.scalars(query.order_by(Grade.graded_at.desc()).limit(1)).first()


def _pack(folder: Path, names: list[str]) -> bytes:
    buffer = io.BytesIO()
    archive.pack(folder, buffer, lambda _, found: [name for name in found if name not in names])
    return buffer.getvalue()


def _notes(result: dict[str, Any]) -> list[dict[str, str]]:
    """What the grader noticed: flags are for staff, repairs for the student too."""
    return [{"kind": kind, "text": text} for kind in ("flag", "repair") for text in result[f"{kind}s"]]


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
