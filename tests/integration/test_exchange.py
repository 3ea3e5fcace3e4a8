"""nbgrader's own command, the Assignment List and the grader against the real service and a real hub."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from academy import settings as settings_module
from academy.database import Database
from academy.network import free_port
from academy.people import Person, enrol
from academy.settings import CHECKOUT, Settings
from benchmarks.exchange import Service
from benchmarks.small_hub import STAFF, STUDENT, small_hub, wait_until
from grading.exchange.client import Client, ClientError
from grading.records import History, Submission
from tests.conftest import write_config
from tests.integration.units import COURSE, MOST, UNIT, answer, make_unit

BIN = Path(sys.executable).parent


@dataclass
class Academy:
    """A hub, the service and a course with one unit, as processes."""

    settings: Settings
    service: Service
    folder: Path
    tokens: dict[str, str]

    @property
    def url(self) -> str:
        return f"{self.service.url}/api/v1"

    def client(self, login: str, **options: Any) -> Client:
        return Client(self.url, self.tokens[login], "en", **options)

    def home(self, login: str) -> Path:
        path = self.folder / "homes" / login
        path.mkdir(parents=True, exist_ok=True)
        return path

    def environment(self, login: str, kind: str = "coursework", **changes: str) -> dict[str, str]:
        """What the hub gives a server of this kind."""
        jupyter = CHECKOUT / "images/notebook/jupyter"
        environment = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home(login)),
            "JUPYTER_CONFIG_PATH": f"{jupyter / kind}{os.pathsep}{jupyter / 'common'}",
            "JUPYTERHUB_USER": login,
            "JUPYTERHUB_API_TOKEN": self.tokens[login],
            "ACADEMY_API_URL": self.url,
            "ACADEMY_LANGUAGE": "en",
        }
        if kind == "grading":
            folder = self.settings.course_folder(COURSE)
            grading = {"ACADEMY_COURSE": COURSE, "ACADEMY_COURSE_FOLDER": str(folder)}
            environment |= {**grading, "ACADEMY_GRADEBOOK_URL": self.settings.gradebook_url(COURSE)}
        return {**environment, **changes}

    def nbgrader(self, login: str, *arguments: str, kind: str = "coursework", status: int = 0, **changes: str) -> str:
        environment = self.environment(login, kind, **changes)
        done = subprocess.run(
            [str(BIN / "nbgrader"), *arguments],
            cwd=self.home(login),
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def rows(self, model: Any) -> list[Any]:
        database = Database(self.settings.database_url)
        with database.read() as session:
            found = list(session.query(model).all())
        database.close()
        return found


@pytest.fixture(scope="module")
def academy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Academy]:
    folder = tmp_path_factory.mktemp("exchange")
    local = {"backend": "local"}
    config = write_config(folder, spawner=local, grading=local, exchange={"max_submission_mb": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACADEMY_CONFIG", str(config))
        settings = settings_module.load()
        database = Database(settings.database_url)
        database.upgrade()
        with database.write() as session:
            for login, role in (("alice", "student"), ("bob", "student"), ("teacher", "instructor")):
                person = Person(login=login, name=login, language="en")
                enrol(person, COURSE, role)
                session.add(person)
        database.close()
        make_unit(settings)
        english = settings.course_folder(COURSE) / "release.en" / UNIT
        shutil.copytree(settings.course_folder(COURSE) / "release" / UNIT, english)
        (english / "data.txt").write_text("seven")
        service = Service(settings, config, folder)
        with small_hub(settings, folder) as hub:
            tokens = {**hub.tokens(["alice", "bob"], STUDENT), **hub.tokens(["teacher"], STAFF)}
            service.start()
            try:
                yield Academy(settings, service, folder, tokens)
            finally:
                service.kill()


@pytest.fixture(scope="module")
def released(academy: Academy) -> Academy:
    """The unit, released with nbgrader's own command from a grading server."""
    assert "Released as: demo squares" in academy.nbgrader("teacher", "release_assignment", UNIT, kind="grading")
    return academy


def test_a_student_with_nbgraders_command(released: Academy) -> None:
    home = released.home("alice")
    assert "demo squares" in released.nbgrader("alice", "list", "--course", COURSE)
    released.nbgrader("alice", "fetch_assignment", UNIT, "--course", COURSE)
    unit = home / COURSE / UNIT
    assert (unit / "data.txt").read_text() == "seven"
    assert "already downloaded" in released.nbgrader("alice", "list", "--course", COURSE)

    notebook = unit / f"{UNIT}.ipynb"
    notebook.write_bytes(answer(notebook))
    mine = notebook.read_bytes()
    (unit / "data.txt").unlink()
    assert "You have this assignment already" in released.nbgrader(
        "alice", "fetch_assignment", UNIT, "--course", COURSE, status=1
    )
    released.nbgrader("alice", "fetch_assignment", UNIT, "--course", COURSE, "--replace")
    assert notebook.read_bytes() == mine
    assert (unit / "data.txt").read_text() == "seven"

    output = released.nbgrader("alice", "submit", UNIT, "--course", COURSE)
    receipt = released.client("alice").submissions(COURSE, UNIT)[0]
    assert receipt.id in output
    assert receipt.sha256 in output
    assert receipt.language == "en"
    kept = home / COURSE / "receipts" / f"{UNIT}-{receipt.id}.txt"
    assert receipt.sha256 in kept.read_text()
    assert "demo alice squares" in released.nbgrader("alice", "list", "--cached", "--course", COURSE)
    assert "demo alice" not in released.nbgrader("bob", "list", "--inbound", "--course", COURSE)
    assert "kept" in released.nbgrader("alice", "list", "--cached", "--remove", "--course", COURSE, status=1)


def test_a_korean_student_gets_korean(released: Academy) -> None:
    home = released.home("korean")
    released.tokens["korean"] = released.tokens["bob"]
    released.nbgrader("korean", "fetch_assignment", UNIT, "--course", COURSE, ACADEMY_LANGUAGE="ko")
    assert (home / COURSE / UNIT / "data.txt").read_text() == "7"
    said = released.nbgrader("korean", "fetch_assignment", UNIT, "--course", COURSE, ACADEMY_LANGUAGE="ko", status=1)
    assert "이미 받은 과제예요" in said


def test_failures_reach_the_student(released: Academy) -> None:
    home = released.home("bob")
    released.nbgrader("bob", "fetch_assignment", UNIT, "--course", COURSE)
    notebook = home / COURSE / UNIT / f"{UNIT}.ipynb"
    renamed = notebook.rename(notebook.with_name("mine.ipynb"))
    assert "squares.ipynb" in released.nbgrader("bob", "submit", UNIT, "--course", COURSE, status=1)
    renamed.rename(notebook)
    big = notebook.with_name("model.bin")
    big.write_bytes(secrets.token_bytes(3 << 20))
    assert "at most 2 MB" in released.nbgrader("bob", "submit", UNIT, "--course", COURSE, status=1)
    big.unlink()
    assert "not released" in released.nbgrader("bob", "fetch_assignment", "nope", "--course", COURSE, status=1)
    nowhere = f"http://127.0.0.1:{free_port()}/services/academy/api/v1"
    assert "does not answer" in released.nbgrader("bob", "submit", UNIT, "--course", COURSE, status=1, ACADEMY_API_URL=nowhere)
    assert "Only the course's staff" in released.nbgrader(
        "bob", "release_assignment", UNIT, "--force", kind="grading", status=1
    )
    assert [row.login for row in released.rows(Submission) if row.login == "bob"] == []


def test_the_assignment_list_works_and_says_why_not(released: Academy) -> None:
    """The Jupyter server with the image's configuration, asked as its page asks."""
    home, port = released.home("lister"), free_port()
    released.tokens["lister"] = released.tokens["bob"]
    log = released.folder / "jupyter.log"
    command = [str(BIN / "jupyter-server"), f"--port={port}", "--allow-root", "--no-browser", "--IdentityProvider.token=t"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=home, env=released.environment("lister"), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_until(f"http://127.0.0.1:{port}/api", process, log)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": "token t"}, timeout=60) as page:

            def act(action: str) -> dict[str, Any]:
                reply = page.post(f"/assignments/{action}", json={"course_id": COURSE, "assignment_id": UNIT})
                assert reply.status_code == 200, log.read_text()
                return dict(reply.json())

            assert page.get("/courses").json() == {"success": True, "value": [COURSE]}
            listed = page.get("/assignments", params={"course_id": COURSE}).json()
            assert [row["status"] for row in listed["value"] if row["assignment_id"] == UNIT] == ["released"], listed
            fetched = act("fetch")["value"][0]
            assert (fetched["status"], fetched["notebooks"][0]["path"]) == ("fetched", f"{COURSE}/{UNIT}/{UNIT}.ipynb")
            again = act("fetch")
            assert again["success"] is False
            assert again["value"].startswith("You have this assignment already")
            (home / COURSE / UNIT / f"{UNIT}.ipynb").rename(home / "moved.ipynb")
            failed = act("submit")
            assert failed["value"].startswith("Not submitted: these notebooks are missing")
            (home / "moved.ipynb").rename(home / COURSE / UNIT / f"{UNIT}.ipynb")
            done = act("submit")
            submitted = [row for row in done["value"] if row["status"] == "submitted"]
            assert [len(row["submissions"]) for row in submitted] == [1]
            assert submitted[0]["submissions"][0]["has_exchange_feedback"] is False
            released.service.kill()
            try:
                failed = page.get("/assignments", params={"course_id": COURSE}).json()
            finally:
                released.service.start()
            assert failed["value"].startswith("The academy does not answer")
            assert page.get("/assignments", params={"course_id": COURSE}).json()["success"] is True
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.timeout(400)
def test_staff_collect_grade_and_give_feedback_with_nbgraders_command(released: Academy) -> None:
    """A grading server runs nbgrader; the notebook itself runs where the worker's sandbox is."""
    home = released.home("alice")
    unit = home / COURSE / UNIT
    if not unit.is_dir():
        released.nbgrader("alice", "fetch_assignment", UNIT, "--course", COURSE)
    (unit / f"{UNIT}.ipynb").write_bytes(answer(unit / f"{UNIT}.ipynb"))
    (unit / "timestamp.txt").write_text("2001-01-01 00:00:00 UTC")
    released.nbgrader("alice", "submit", UNIT, "--course", COURSE)
    (unit / "timestamp.txt").unlink()

    def staff(*arguments: str) -> str:
        return released.nbgrader("teacher", *arguments, kind="grading")

    assert "demo alice squares" in staff("list", "--inbound")
    assert "Collected submission: alice squares" in staff("collect", UNIT)
    assert "No newer submission" in staff("collect", UNIT, "--update")
    root = released.settings.course_folder(COURSE)
    newest = released.client("alice").submissions(COURSE, UNIT)[-1]
    stamp = (root / "submitted/alice" / UNIT / "timestamp.txt").read_text()
    assert stamp.startswith(newest.received_at[:10])

    worker = subprocess.Popen([str(BIN / "academy"), "worker"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        staff("autograde", UNIT, "--student", "alice", "--create")
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(90)
    graded = json.loads((root / "autograded/alice" / UNIT / f"{UNIT}.ipynb").read_text())
    outputs = [output for cell in graded["cells"] for output in cell.get("outputs", [])]
    assert any(output["output_type"] == "execute_result" for output in outputs)

    staff("generate_feedback", UNIT, "--student", "alice")
    page = (root / "feedback/alice" / UNIT / f"{UNIT}.html").read_text()
    assert "hidden_answer" not in page
    assert "Feedback released: alice squares" in staff("release_feedback", UNIT)
    receipt = released.client("alice").submissions(COURSE, UNIT)[-1]
    assert (receipt.score, receipt.max_score, receipt.feedback) == (4.0, MOST, True)

    assert "feedback ready" in released.nbgrader("alice", "list", "--cached", "--course", COURSE)
    released.nbgrader("alice", "fetch_feedback", UNIT, "--course", COURSE)
    fetched = list((unit / "feedback").glob(f"*/{UNIT}.html"))
    assert [path.read_text() for path in fetched] == [page]
    assert "feedback already fetched" in released.nbgrader("alice", "list", "--cached", "--course", COURSE)
    actions = {row.action for row in released.rows(History)}
    assert {"release", "fetch", "submit", "collect", "execute", "feedback", "fetch-feedback"} <= actions


def test_nothing_of_a_broken_upload_counts(released: Academy) -> None:
    """The service dies while a submission is arriving."""
    before = len(released.rows(Submission))
    port = released.settings.hub.pages_port
    with socket.create_connection(("127.0.0.1", port)) as sock:
        head = f"POST /services/academy/api/v1/courses/{COURSE}/units/{UNIT}/submissions HTTP/1.1\r\nHost: x\r\n"
        sock.sendall(f"{head}Authorization: token {released.tokens['bob']}\r\nContent-Length: 1900000\r\n\r\n".encode())
        sock.sendall(secrets.token_bytes(1_500_000))
        incoming = released.settings.data / "blobs" / "incoming"
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in incoming.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        released.service.kill()
    with pytest.raises(ClientError) as told:
        released.client("bob", pauses=()).submit(COURSE, UNIT, released.settings.course_folder(COURSE) / "release" / UNIT)
    assert told.value.key == "unreachable"
    released.service.start()
    assert len(released.rows(Submission)) == before
    again = released.client("bob").submit(COURSE, UNIT, released.settings.course_folder(COURSE) / "release" / UNIT)
    assert again.login == "bob"


def test_a_submission_survives_a_restart_of_the_service_under_it(released: Academy) -> None:
    """The client repeats by itself while the service is away, and hands in once."""
    before = len([row for row in released.rows(Submission) if row.login == "bob"])
    released.service.kill()
    restart = subprocess.Popen(["sleep", "1"])
    client = released.client("bob", pauses=(1.0,) * 90)

    import threading

    thread = threading.Thread(target=lambda: (restart.wait(), released.service.start()))
    thread.start()
    client.submit(COURSE, UNIT, released.settings.course_folder(COURSE) / "release" / UNIT)
    thread.join()
    assert len([row for row in released.rows(Submission) if row.login == "bob"]) == before + 1


def test_a_withdrawn_unit_is_gone_and_its_submissions_are_not(released: Academy) -> None:
    """Last in this file: formgrader's button that takes a unit back."""
    count = len(released.client("bob").submissions(COURSE))
    released.nbgrader("teacher", "list", UNIT, "--remove", kind="grading")
    assert released.client("bob").units(COURSE) == []
    assert len(released.client("bob").submissions(COURSE)) == count > 0
    released.nbgrader("teacher", "release_assignment", UNIT, kind="grading")
