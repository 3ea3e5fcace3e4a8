"""Many submissions, two workers, one of them killed with SIGKILL again and again: each submission is graded exactly once.

``QUEUE_SUBMISSIONS=500 pytest tests/integration/test_queue.py`` runs more of them; ``-s`` shows the figures.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from academy.people import Person, enrol
from grading import operations, sandbox
from grading.autograde import gradebook
from grading.exchange import archive
from grading.exchange.store import Store
from grading.records import Grade, History, Job, Submission
from tests.conftest import remove_deployment
from tests.integration.test_grading import Class, make_class
from tests.integration.units import COURSE, MOST, RIGHT, UNIT, answer

SUBMISSIONS = int(os.environ.get("QUEUE_SUBMISSIONS", "40"))
KILLS = max(6, SUBMISSIONS // 10)  # at most
SECONDS_EACH = 15.0  # on a busy machine; beyond it the test gives up
LIMITS = {"backend": "docker", "timeout": 30, "cell_timeout": 10, "memory_mb": 600, "workers": 1}
ANSWERS: list[tuple[dict[str, Any], float]] = [  # what students hand in, in turns, and its score
    ({}, 4),
    ({"code": "def square(x):\n    return 9"}, 1),
    ({"code": "# nothing"}, 0),
    ({"code": f"import time\ntime.sleep(0.5)\n{RIGHT}"}, 4),
    ({"code": "def square(x):\n    return 9 if x == 3 else 0.1"}, 0.4),
]
# The worker as it is, but for the time after which a dead one's job is taken up again; and the test kills more often than
# ATTEMPTS allows for one unlucky submission.
WORKER = """
from academy.settings import load
from grading import worker
assert worker.CLAIM_SECONDS and worker.HEARTBEAT_SECONDS and worker.ATTEMPTS
worker.CLAIM_SECONDS, worker.HEARTBEAT_SECONDS, worker.ATTEMPTS = 6.0, 1.5, 100
worker.main(load())
"""


class Hand:
    """A worker process that can be killed and started again."""

    def __init__(self, group: Class, folder: Path, name: str) -> None:
        self.group, self.log = group, folder / f"{name}.log"
        self.scratch = folder / f"{name}-tmp"
        self.scratch.mkdir()
        self.pids: list[int] = []

    def start(self) -> None:
        environment = {**os.environ, "ACADEMY_CONFIG": str(self.group.config), "TMPDIR": str(self.scratch)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-c", WORKER], stdout=log, stderr=log, env=environment)
        self.pids.append(self.process.pid)

    def kill(self) -> None:
        if self.pids:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        finally:
            self.kill()


@contextmanager
def hands(group: Class, folder: Path) -> Iterator[list[Hand]]:
    both = [Hand(group, folder, name) for name in ("steady", "mortal")]
    try:
        yield both
    finally:
        for hand in both:
            hand.kill()


@pytest.mark.docker
@pytest.mark.timeout(120 + SUBMISSIONS * SECONDS_EACH)
def test_every_submission_is_graded_once_while_workers_are_killed(tmp_path: Path, sandbox_image: None) -> None:
    group = make_class(tmp_path, grading=LIMITS)
    try:
        expected = hand_in(group)
        with group.database.write() as session:
            operations.request_grading(session, COURSE, UNIT, "teacher")
        began = time.monotonic()
        with hands(group, tmp_path) as both:
            kills = kill_until_done(group, *both)
            seconds = time.monotonic() - began
            for hand in both:
                hand.stop()
        figures(group, seconds, kills)
        assert len(kills) >= 2, "the queue was empty before a worker could be killed twice: queue more"
        check_records(group, expected)
        check_gradebook(group, expected)
        check_leftovers(group, both)
    finally:
        group.database.close()
        remove_deployment(group.settings.academy.name)


def hand_in(group: Class) -> dict[str, tuple[str, float]]:
    """Everybody submits; login -> id of the submission and the score that it must get."""
    store, made = Store(group.settings), {}
    blobs = [store.put(packed(group, changes)) for changes, _ in ANSWERS]
    with group.database.write() as session:
        for number in range(SUBMISSIONS):
            login = f"s{number:04}"
            session.add(Person(login=login, name=login))
            enrol(session.get_one(Person, login), COURSE, "student")
            sha256 = blobs[number % len(ANSWERS)]
            size = store.path(sha256).stat().st_size
            submission = Submission(course=COURSE, unit=UNIT, login=login, sha256=sha256, size=size)
            session.add(submission)
            session.flush()
            made[login] = (submission.id, float(ANSWERS[number % len(ANSWERS)][1]))
    return made


def packed(group: Class, changes: dict[str, Any]) -> bytes:
    folder = group.config.parent / "packed"
    folder.mkdir()
    (folder / f"{UNIT}.ipynb").write_bytes(answer(group.release, **changes))
    content = archive.pack_bytes(folder)
    shutil.rmtree(folder)
    return content


def kill_until_done(group: Class, steady: Hand, mortal: Hand) -> list[float]:
    """Kill one worker again and again, start it again, until nothing is left to do; the moments of the kills.

    Twice after it took a submission, while it is alone, so that kills hit one however fast grading is; later at any moment.
    """
    rng = random.Random()
    mortal.start()
    began = time.monotonic()
    deadline, armed = began + 60 + SUBMISSIONS * SECONDS_EACH, None
    kills: list[float] = []
    while left(group):
        assert time.monotonic() < deadline, f"not done in time, killed at {kills}:\n{mortal.log.read_text()[-3000:]}"
        if armed is None and len(kills) < KILLS and (holds_job(group, mortal) or (steady.pids and rng.random() < 0.005)):
            late = rng.choice([0.3, 2, 12]) if steady.pids else 0.1
            armed = time.monotonic() + rng.uniform(0, late)
        if armed is not None and time.monotonic() > armed:
            mortal.kill()
            kills.append(round(time.monotonic() - began, 1))
            mortal.start()
            if len(kills) == 2:
                steady.start()
            armed = None
        time.sleep(0.05)
    return kills


def holds_job(group: Class, hand: Hand) -> bool:
    mine = Job.claimed_by.contains(f":{hand.process.pid}:")
    with group.database.read() as session:
        return bool(session.scalar(select(func.count()).where(Job.state == "running", mine)))


def left(group: Class) -> int:
    with group.database.read() as session:
        return session.scalar(select(func.count()).where(Job.state.in_(("queued", "running")))) or 0


def figures(group: Class, seconds: float, kills: list[float]) -> None:
    with group.database.read() as session:
        jobs = list(session.scalars(select(Job)))
    attempts = Counter(job.attempts for job in jobs)
    spent = statistics.median(sum(value for name, value in job.phases.items() if name != "queued") for job in jobs)
    print(
        f"\n{len(jobs)} submissions in {seconds:.0f} s ({60 * len(jobs) / seconds:.0f} a minute, median {spent:.2f} s each), "
        f"{len(kills)} kills, jobs by attempts: {dict(sorted(attempts.items()))}"
    )


def check_records(group: Class, expected: dict[str, tuple[str, float]]) -> None:
    with group.database.read() as session:
        jobs = list(session.scalars(select(Job)))
        grades = {grade.submission_id: grade for grade in session.scalars(select(Grade))}
        lines = list(session.scalars(select(History).where(History.action == "grade")))
    assert {job.state for job in jobs} == {"done"}, [(job.id, job.error) for job in jobs if job.state != "done"]
    assert sorted(str(job.submission_id) for job in jobs) == sorted(id for id, _ in expected.values())
    assert any(job.attempts > 1 for job in jobs), "no kill hit a submission that was being graded"
    assert {id: (grade.score, grade.max_score) for id, grade in grades.items()} == {
        id: (score, MOST) for id, score in expected.values()
    }
    assert Counter(line.login for line in lines) == Counter(expected.keys())
    assert {line.login: (line.detail["submission"], line.detail["score"]) for line in lines} == expected


def check_gradebook(group: Class, expected: dict[str, tuple[str, float]]) -> None:
    with gradebook(group.settings, COURSE) as book:
        submissions = book.assignment_submissions(UNIT)
        assert Counter(submission.student.id for submission in submissions) == Counter(expected.keys())
        assert {submission.student.id: submission.score for submission in submissions} == {
            login: score for login, (_, score) in expected.items()
        }
        cells = {(grade.name, submission.student.id) for submission in submissions for grade in submission.notebooks[0].grades}
        assert len(cells) == 3 * len(expected)
        assert sum(len(submission.notebooks) for submission in submissions) == len(expected)
        assert sum(len(submission.notebooks[0].grades) for submission in submissions) == 3 * len(expected)


def check_leftovers(group: Class, both: list[Hand]) -> None:
    """Nothing of a killed worker is left: no process, no container, no half-made folder, nothing under its TMPDIR."""
    import docker
    import psutil

    config = str(group.config)
    deadline = time.monotonic() + 60  # the grader of a worker that was killed ends by itself, after its sandboxes
    while alive := [p.pid for p in psutil.process_iter() if _environment(p).get("ACADEMY_CONFIG") == config]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.2)
    sandbox.sweep(group.settings)
    client = docker.from_env()
    mine = {"label": f"academyhub.deployment={group.settings.academy.name}"}
    containers = [box["Names"] for box in client.api.containers(all=True, filters=mine)]
    client.close()
    assert containers == []
    course = group.settings.course_folder(COURSE)
    for folder in ("submitted", "autograded"):
        found = sorted(str(path.relative_to(course / folder)) for path in (course / folder).glob("*/*"))
        assert found == sorted(f"{path.name}/{UNIT}" for path in (course / folder).iterdir())
        assert len(found) == SUBMISSIONS
    assert [str(path) for hand in both for path in hand.scratch.rglob("*") if path.is_file()] == []


def _environment(process: Any) -> dict[str, str]:
    import psutil

    try:
        return dict(process.environ()) if process.status() != psutil.STATUS_ZOMBIE else {}
    except psutil.Error:
        return {}
