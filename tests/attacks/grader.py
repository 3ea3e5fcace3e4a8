"""An academy of its own for attacks: secrets planted everywhere, a worker in its own process, and eyes on what comes out."""

from __future__ import annotations

import base64
import copy
import io
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pytest
from nbgrader.api import Gradebook
from sqlalchemy import select

from academy.database import Database
from academy.people import Person, enrol
from academy.settings import Settings, load
from grading import operations
from grading.autograde import gradebook_url
from grading.courses import build
from grading.exchange import archive
from grading.exchange.store import Store
from grading.records import Feedback, Grade, History, Job, Submission
from tests.attacks.case import COURSE, HONEST, Case, Seen
from tests.attacks.snippets import whole
from tests.conftest import remove_deployment, write_config

COURSES = Path(__file__).with_name("courses")
LIMITS: dict[str, Any] = {"timeout": 45, "cell_timeout": 12, "memory_mb": 1024, "processes": 128, "workers": 2}
SECRETS = ("hidden", "reference", "environment", "token", "gradebook", "submission", "host")
PATIENCE = 240.0  # seconds for a job, the machine's load included


class Grader:
    """A course with three units, a victim who has handed in already, and a worker that is told secrets."""

    def __init__(self, folder: Path, limits: dict[str, Any]) -> None:
        self.folder = folder
        self.secrets = {kind: f"canary-{kind}-{secrets.token_hex(8)}" for kind in SECRETS}
        self._write_courses()
        self.config = write_config(
            folder, academy={"courses": str(folder / "courses")}, grading={**LIMITS, **limits, "backend": "docker"}
        )
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("ACADEMY_CONFIG", str(self.config))
            self.settings: Settings = load()
        self.database = Database(self.settings.database_url)
        self.database.upgrade()
        build.build(self.settings, COURSE)
        with self.database.write() as session:
            for unit in HONEST:
                operations.release_unit(session, self.settings, COURSE, unit, None, "teacher")
        self._plant()
        self.listener = Listener()
        self.submissions: dict[str, str] = {}
        self.marks: dict[str, str] = {}
        self.jobs: dict[str, tuple[str, str]] = {}
        self.victim = Case("victim", "", "isolated", HONEST["isolated"], first=f"mine = '{self.secrets['submission']}'")
        self.hand_in([self.victim])
        with self.database.write() as session:
            for id in self.jobs["victim"]:
                session.get_one(Job, id).priority = 100
        self.log = open(folder / "worker.log", "wb")  # noqa: SIM115  closed in close()
        self.worker = self._start_worker()

    @cached_property
    def victim_score(self) -> float | None:
        return self.seen(self.victim).score

    def close(self) -> None:
        self.worker.send_signal(signal.SIGTERM)
        try:
            self.worker.wait(30)
        except subprocess.TimeoutExpired:
            self.worker.kill()
            self.worker.wait()
        self.log.close()
        self.listener.close()
        self.database.close()
        remove_deployment(self.settings.academy.name)

    def _write_courses(self) -> None:
        shutil.copytree(COURSES, self.folder / "courses")
        for path in (self.folder / "courses").rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for kind in ("hidden", "reference"):
                text = text.replace(f"@{kind}@", self.secrets[kind])
            path.write_text(text, encoding="utf-8")

    def _plant(self) -> None:
        folder = self.settings.academy.data / "secrets"
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "pages-token").write_text(self.secrets["token"])
        self.host_file = self.folder / "host.txt"
        self.host_file.write_text(self.secrets["host"])
        self.host_file.chmod(0o666)

    def _start_worker(self) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "ACADEMY_CONFIG": str(self.config),
            "JUPYTERHUB_API_TOKEN": self.secrets["environment"],
            "CONFIGPROXY_AUTH_TOKEN": self.secrets["environment"],
        }
        code = "from academy.settings import load; from grading.worker import main; main(load())"
        return subprocess.Popen([sys.executable, "-c", code], stdout=self.log, stderr=self.log, env=environment)

    def hand_in(self, cases: Iterable[Case]) -> None:
        """Submit, and queue grading and feedback. The newest goes first, so the first case is handed in last."""
        for case in reversed(list(cases)):
            self.marks[case.name] = f"mark{secrets.token_hex(6)}"
            sha256 = Store(self.settings).put(self._archive(case))
            with self.database.write() as session:
                if session.get(Person, case.name) is None:
                    name = self.secrets["gradebook"] if case.name == "victim" else case.name
                    person = Person(login=case.name, name=name)
                    session.add(person)
                    enrol(person, COURSE, "student")
                submission = Submission(course=COURSE, unit=case.unit, login=case.name, language="en", sha256=sha256, size=1)
                session.add(submission)
                session.flush()
                self.submissions[case.name] = submission.id
                [grade] = operations.request_grading(session, COURSE, case.unit, "teacher", [case.name])
                [feedback] = operations.request_feedback(session, COURSE, case.unit, "teacher", [case.name])
                self.jobs[case.name] = (grade.id, feedback.id)

    def _archive(self, case: Case) -> bytes:
        notebook = self.notebook(case)
        if case.archive:
            return case.archive(notebook, self.marks[case.name])
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, data in {f"{case.unit}.ipynb": notebook, **case.files}.items():
                data = data.replace(b"@MARK@", self.marks[case.name].encode())
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        return buffer.getvalue()

    def notebook(self, case: Case) -> bytes:
        """What the student hands in: the release with their cells in it."""
        release = self.settings.course_folder(COURSE) / "release.en" / case.unit / f"{case.unit}.ipynb"
        notebook = json.loads(release.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["source"] = self.fill(case, case.cells.get(cell["id"], "".join(cell["source"])))
        for place, source in ((0, case.first), (len(notebook["cells"]) + 1, case.last)):
            if source:
                notebook["cells"].insert(place, code_cell(self.fill(case, source), f"mine-{place}"))
        changed = case.notebook(copy.deepcopy(notebook)) if case.notebook else notebook
        return changed if isinstance(changed, bytes) else json.dumps(changed).encode()

    def fill(self, case: Case, text: str) -> str:
        return whole(text).replace("@MARK@", self.marks[case.name]).replace("@PORT@", str(self.listener.port))

    def _finished(self, id: str) -> Job:
        deadline = time.monotonic() + PATIENCE
        while True:
            with self.database.read() as session:
                job = session.get_one(Job, id)
            if job.state not in ("queued", "running"):
                return job
            assert self.worker.poll() is None, f"the worker ended: {(self.folder / 'worker.log').read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"the {job.kind} job of {job.submission_id} is still {job.state}"
            time.sleep(0.05)

    def seen(self, case: Case) -> Seen:
        """Wait for a submission's grade and feedback, and collect everything that came out."""
        job, about = self._finished(self.jobs[case.name][0]), self._finished(self.jobs[case.name][1])
        id = self.submissions[case.name]
        with self.database.read() as session:
            grade, feedback = session.get(Grade, id), session.get(Feedback, id)
            lines = session.scalars(select(History).where(History.login == case.name)).all()
            history = json.dumps([line.detail for line in lines])
        outputs, tests = self._outputs(case)
        return Seen(
            case=case,
            state=job.state,
            told=job.error or "",
            score=grade.score if grade else None,
            max_score=grade.max_score if grade else None,
            run_seconds=sum(seconds for name, seconds in job.phases.items() if name not in ("queued", "nbgrader", "record")),
            page=self._page(feedback),
            feedback_state=about.state,
            outputs=outputs,
            tests=tests,
            files=self._files(case),
            history=history,
            mark=self.marks[case.name],
        )

    def _page(self, feedback: Feedback | None) -> str:
        if feedback is None:
            return ""
        with tempfile.TemporaryDirectory() as name, Store(self.settings).verified(feedback.sha256).open("rb") as file:
            archive.unpack(file, Path(name), 50 << 20)
            return "\n".join(path.read_text(encoding="utf-8") for path in sorted(Path(name).rglob("*")) if path.is_file())

    def _outputs(self, case: Case) -> tuple[str, dict[str, str]]:
        path = self._autograded(case) / f"{case.unit}.ipynb"
        if not path.is_file():
            return "", {}
        mine, tests = [], {}
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            about = cell["metadata"].get("nbgrader", {})
            text = "\n".join(map(_text, cell.get("outputs", [])))
            if about.get("grade") and not about.get("solution"):
                tests[about["grade_id"]] = text
            else:
                mine.append(text)
        return "\n".join(mine), tests

    def _autograded(self, case: Case) -> Path:
        return self.settings.course_folder(COURSE) / "autograded" / case.name / case.unit

    def _files(self, case: Case) -> dict[str, bytes]:
        """What lies in the folders of the student's results besides the notebook, its data and what they handed in."""
        root = self.settings.course_folder(COURSE)
        known = {f"{case.unit}.ipynb", f"{case.unit}.html", "timestamp.txt", "messages.json", *case.files}
        found = {}
        for folder in (self._autograded(case), root / "feedback" / case.name / case.unit):
            for path in folder.rglob("*") if folder.is_dir() else ():
                name = str(path.relative_to(folder))
                if path.is_file() and name not in known:
                    found[name] = path.read_bytes()
        return found

    def found_secrets(self, seen: Seen) -> list[str]:
        """The kinds of secrets that came out, in whatever simple disguise."""
        places = [seen.page, seen.outputs, seen.told, seen.history, *seen.probes]
        places += [data.decode("latin-1") for data in seen.files.values()]
        squeezed = [re.sub(r"[^0-9a-zA-Z+/=]", "", text) for text in places]
        return [
            kind
            for kind, secret in self.secrets.items()
            if any(form in text for form in disguises(secret) for text in squeezed)
            and not (kind == "gradebook" and seen.case is self.victim)
        ]

    def left_on_host(self, mark: str) -> list[str]:
        """Files and processes of this machine that carry an attack's mark."""
        found = []
        for folder in ("/tmp", "/dev/shm", "/var/tmp", "/", str(Path.home()), os.getcwd(), str(self.folder)):
            found += [str(path) for path in Path(folder).glob(f"*{mark}*")]
        for process in psutil.process_iter():
            try:
                text = " ".join(process.cmdline()) + process.name()
            except psutil.Error:
                continue
            if mark in text and process.pid != os.getpid():
                found.append(f"process {process.pid}")
        return found

    def students(self) -> dict[str, float]:
        """Everybody in the gradebook with the sum of what they have there."""
        with Gradebook(gradebook_url(self.settings, COURSE), COURSE) as book:
            found = {student.id: 0.0 for student in book.students}
            for unit in HONEST:
                for submission in book.assignment_submissions(unit):
                    student = submission.student.id
                    found[student] = found.get(student, 0.0) + float(submission.score or 0)
        return found


class Listener:
    """Somebody on this machine to whom a submission would like to talk, over TCP and UDP."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        while True:
            self.tcp, self.udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.tcp.bind(("0.0.0.0", 0))
            self.port = int(self.tcp.getsockname()[1])
            try:
                self.udp.bind(("0.0.0.0", self.port))
                break
            except OSError:  # somebody has it for datagrams
                self.close()
        self.tcp.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        threading.Thread(target=self._receive, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                self.heard.append(b"tcp")

    def _receive(self) -> None:
        while True:
            try:
                self.heard.append(self.udp.recv(100))
            except OSError:
                return

    def close(self) -> None:
        for sock in (self.tcp, self.udp):
            sock.close()


def code_cell(source: str, id: str) -> dict[str, Any]:
    return {"cell_type": "code", "id": id, "metadata": {}, "source": source, "outputs": [], "execution_count": None}


def disguises(secret: str) -> set[str]:
    """A secret as it may come out: bare, backwards, in hexadecimal, in base64 wherever it begins."""
    digits = secret.rsplit("-", 1)[1]
    forms = {digits, digits[::-1], secret.encode().hex(), digits.encode().hex()}
    for before in range(3):
        coded = base64.b64encode(b"x" * before + digits.encode()).decode()
        forms.add(coded[4:-4])
    return forms


def _text(output: dict[str, Any]) -> str:
    parts = [output.get("text"), output.get("evalue"), output.get("traceback"), *output.get("data", {}).values()]
    return "\n".join("".join(part) if isinstance(part, list) else str(part) for part in parts if part)
