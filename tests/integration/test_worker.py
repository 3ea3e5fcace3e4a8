"""Workers that lose their job, sweep and ask at the same moment: what a grader still does, and what it must not do any more."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from academy.images import image_tag
from academy.settings import Settings
from grading import operations, sandbox, worker
from grading.autograde import gradebook
from grading.records import Submission
from tests.integration.test_grading import LIMITS, Class, make_class
from tests.integration.units import COURSE, RIGHT, UNIT, answer

WRONG = "def square(x):\n    return 9"
# The grader as it is, but for its sandboxes, which take as long to close as with a Docker Engine that is busy.
GRADER = """
import time
from grading import autograde, sandbox
close_all = sandbox.close_all
def slowly():
    close_all()
    time.sleep(6)
sandbox.close_all = slowly
autograde.main()
"""


class Hand:
    """A worker's grader, asked by hand."""

    def __init__(self, group: Class) -> None:
        self.group = group
        environment = {**os.environ, "ACADEMY_CONFIG": str(group.config)}
        command = [sys.executable, "-c", GRADER]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.told: list[dict[str, Any]] = []

    def grade(self, login: str) -> None:
        """Begin with what the student submitted last."""
        assert self.process.stdin
        with self.group.database.read() as session:
            submission = session.get_one(Submission, self.group.submissions[login])
        operations.collect_submission(self.group.settings, submission)
        settings = self.group.settings.model_dump(mode="json")
        request = {"settings": settings, "slot": 0, "action": "grade"}
        request["arguments"] = {"course": COURSE, "unit": UNIT, "login": login}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def wait_for(self, key: str) -> Any:
        """What it tells under this name: ``phase`` as the next one begins, ``ok`` when it has graded."""
        assert self.process.stdout
        for line in self.process.stdout:
            found = json.loads(line)
            assert "error" not in found, found
            if key in found:
                return found[key]
        raise AssertionError("the grader ended")

    def let_go(self) -> None:
        """As a worker that has lost its job."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(60)

    def end(self) -> None:
        if self.process.poll() is None:
            self.let_go()


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Class]:
    group = make_class(tmp_path, grading={**LIMITS, "timeout": 120, "cell_timeout": 100, "backend": "local"})
    yield group
    group.database.close()


@pytest.fixture
def hand(group: Class) -> Iterator[Callable[[], Hand]]:
    made: list[Hand] = []

    def start() -> Hand:
        made.append(Hand(group))
        return made[-1]

    yield start
    for each in made:
        each.end()


def points(group: Class, login: str) -> float:
    with gradebook(group.settings, COURSE) as book:
        return float(book.find_submission(UNIT, login).score)


def waits_for(path: Path) -> str:
    """A wrong answer that takes until the file is there."""
    return f"import pathlib, time\nwhile not pathlib.Path({str(path)!r}).exists():\n    time.sleep(0.1)\n{WRONG}"


def test_a_run_that_is_cancelled_leaves_the_earlier_grade(group: Class, hand: Callable[[], Hand], tmp_path: Path) -> None:
    grader = hand()
    group.submit("kim", answer(group.release))
    grader.grade("kim")
    assert grader.wait_for("ok")["score"] == 4
    group.submit("kim", answer(group.release, code=waits_for(tmp_path / "never")))
    grader.grade("kim")
    assert grader.wait_for("phase") == "student cells"
    grader.let_go()
    assert points(group, "kim") == 4


def test_a_grader_that_has_lost_its_job_does_not_overwrite_the_next_ones_grade(
    group: Class, hand: Callable[[], Hand], tmp_path: Path
) -> None:
    first, next_one, go_on = hand(), hand(), tmp_path / "go-on"
    group.submit("kim", answer(group.release, code=waits_for(go_on)))
    first.grade("kim")
    assert first.wait_for("phase") == "student cells"
    group.submit("kim", answer(group.release, code=RIGHT))
    next_one.grade("kim")
    with ThreadPoolExecutor(1) as pool:
        graded = pool.submit(next_one.wait_for, "ok")
        try:
            deadline = time.monotonic() + 15  # time enough to be done before the first, if nothing keeps it
            while not graded.done() and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            go_on.touch()
        assert graded.result()["score"] == 4
    first.wait_for("ok")
    assert points(group, "kim") == 4
    autograded = group.settings.course_folder(COURSE) / "autograded" / "kim" / UNIT / f"{UNIT}.ipynb"
    assert "while not" not in autograded.read_text(encoding="utf-8")


def test_two_who_ask_at_once_do_not_take_each_other_for_a_worker(
    config: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, flock = config(), fcntl.flock

    def slowly(file: Any, how: int) -> None:
        flock(file, how)
        if how & fcntl.LOCK_NB:
            time.sleep(0.5)

    monkeypatch.setattr("fcntl.flock", slowly)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(worker.alive, [settings] * 2)) == [False, False]
        with worker._lock_file(settings) as working:
            flock(working, fcntl.LOCK_SH)
            assert list(pool.map(worker.alive, [settings] * 2)) == [True, True]


@pytest.mark.docker
def test_a_sandbox_that_another_worker_removes_meanwhile_does_not_end_the_sweep(
    config: Callable[..., Settings], sandbox_image: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import docker

    settings = config(grading={"backend": "docker"})
    labels = {"academyhub.deployment": settings.academy.name, "academyhub.kind": "sandbox"}
    labels |= {"academyhub.owner": f"{socket.gethostname()}:999999999", "academyhub.expires": str(int(time.time()) + 3600)}
    client = docker.from_env()
    for _ in range(2):
        client.containers.create(image_tag("sandbox", settings), labels=labels)
    listed = docker.APIClient.containers

    def then_one_goes(self: Any, **more: Any) -> Any:
        found = listed(self, **more)
        self.remove_container(found[0]["Id"])
        return found

    with monkeypatch.context() as patched:
        patched.setattr("docker.APIClient.containers", then_one_goes)
        assert sandbox.sweep(settings) == 1
    assert client.api.containers(all=True, filters={"label": f"academyhub.deployment={settings.academy.name}"}) == []
    client.close()
