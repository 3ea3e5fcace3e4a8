"""nbgrader's exchange over the academy's API: its command, the Assignment List and formgrader work unchanged on top of it.

Goes into the notebook image: imports nothing of the server. ``configure`` is called by the image's ``nbgrader_config.py``; the
Assignment List is loaded through this module too, because nbgrader's own hides why something failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import nbformat
from nbconvert.preprocessors import ClearMetadataPreprocessor, CSSHTMLHeaderPreprocessor
from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.auth.base import BaseAuthPlugin
from nbgrader.converters.base import NbGraderException
from nbgrader.exchange import ExchangeError, abc, default
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    GetGrades,
    LimitOutput,
    NbGraderPreprocessor,
    SaveAutoGrades,
)
from nbgrader.server_extensions import validate_assignment
from nbgrader.server_extensions.assignment_list import handlers
from nbgrader.utils import ignore_patterns, is_grade, is_solution, parse_utc
from traitlets import Unicode
from traitlets.config import Config

from grading.exchange.client import Client, ClientError, Receipt

NOTE = ".academy.json"  # in a fetched unit: its language and its notebooks
RELEASED_AT = ".released_at"  # in fetched feedback
TIMESTAMP = "%Y-%m-%d %H:%M:%S.%f UTC"  # nbgrader's

MESSAGES = {
    "no-course": {
        "ko": "과목을 알려 주세요: --course 과목",
        "en": "Name the course: --course COURSE",
    },
    "not-fetched": {
        "ko": "제출할 폴더가 없어요: {path}. 과제를 먼저 받아 주세요.",
        "en": "There is no folder {path} to submit. Fetch the assignment first.",
    },
    "already-fetched": {
        "ko": "이미 받은 과제예요: {path}. 빠진 파일만 다시 받으려면 --replace를 붙여 주세요.",
        "en": "You have this assignment already: {path}. To get missing files again, add --replace.",
    },
    "notebook-missing": {
        "ko": "제출하지 않았어요. 이 노트북이 폴더에 없어요: {names}. 이름을 바꿨다면 되돌리고 다시 제출해 주세요.",
        "en": "Not submitted: these notebooks are missing: {names}. If you renamed one, name it back and submit again.",
    },
    "submitted": {
        "ko": "제출했어요: {course} {unit}\n접수 번호 {id}\nSHA-256 {sha256}\n서버 시각 {time}{late}",
        "en": "Submitted: {course} {unit}\nreceipt {id}\nSHA-256 {sha256}\nserver time {time}{late}",
    },
    "late": {"ko": " (늦은 제출)", "en": " (late)"},
    "kept": {
        "ko": "제출물은 지울 수 없어요. 모두 기록으로 남아요.",
        "en": "Submissions cannot be removed: all of them are kept.",
    },
    "already-released": {
        "ko": "이미 공개한 단원이에요: {unit}. 바꾸려면 --force를 붙여 주세요.",
        "en": "The unit {unit} is released already; add --force to replace it.",
    },
    "nothing-to-release": {
        "ko": "학생용 과제가 없어요: {path}. 먼저 Generate(nbgrader generate_assignment)를 실행해 주세요.",
        "en": "There is no student version at {path}. Run Generate (nbgrader generate_assignment) first.",
    },
    "unknown-submission": {
        "ko": "{login} 학생의 피드백이 어느 제출물의 것인지 알 수 없어요 (시각 {time}). 다시 모으고 채점해 주세요.",
        "en": "The feedback of {login} belongs to no known submission (time {time}). Collect and grade again.",
    },
    "files": {
        "ko": "이 서버의 파일을 읽거나 쓰지 못했어요: {reason}. 저장 공간을 확인해 주세요.",
        "en": "A file of this server could not be read or written: {reason}. Check its free space.",
    },
    "hidden-tests": {"ko": "숨은 테스트가 여기서 실행됐어요.", "en": "Hidden tests ran here."},
}


def configure(c: Config) -> None:
    """Make nbgrader use the academy, as the hub started this server: a student's, or one of staff that grades a course."""
    c.Exchange.path_includes_course = True
    c.ExchangeFactory.exchange = Exchange
    c.ExchangeFactory.list = ExchangeList
    c.ExchangeFactory.fetch_assignment = ExchangeFetchAssignment
    c.ExchangeFactory.submit = ExchangeSubmit
    c.ExchangeFactory.fetch_feedback = ExchangeFetchFeedback
    c.ExchangeFactory.release_assignment = ExchangeReleaseAssignment
    c.ExchangeFactory.collect = ExchangeCollect
    c.ExchangeFactory.release_feedback = ExchangeReleaseFeedback
    c.Authenticator.plugin_class = AcademyAuthPlugin
    course = os.environ.get("ACADEMY_COURSE")
    if course:
        _configure_grading(c, course)


def _configure_grading(c: Config, course: str) -> None:
    c.CourseDirectory.course_id = course
    c.CourseDirectory.root = os.environ.get("ACADEMY_COURSE_FOLDER", "/srv/course")
    c.CourseDirectory.groupshared = True
    if url := os.environ.get("ACADEMY_GRADEBOOK_URL"):
        c.CourseDirectory.db_url = url
    c.Autograde.autograde_preprocessors = [
        RemoteExecute,
        ClearMetadataPreprocessor,
        LimitOutput,
        SaveAutoGrades,
        AssignLatePenalties,
        CheckCellMetadata,
    ]
    c.ClearMetadataPreprocessor.preserve_cell_metadata_mask = ["nbgrader"]
    c.ClearMetadataPreprocessor.preserve_nb_metadata_mask = ["kernelspec", "language_info"]
    c.OverwriteCells.add_missing_cells = True
    c.GenerateFeedback.preprocessors = [GetGrades, HideTests, CSSHTMLHeaderPreprocessor]
    c.HTMLExporter.sanitize_html = True  # what a student's cell printed must not run in anybody's browser


def _text(key: str, **values: object) -> str:
    return MESSAGES[key]["en" if os.environ.get("ACADEMY_LANGUAGE") == "en" else "ko"].format(**values)


def _timestamp(receipt: Receipt) -> str:
    return datetime.fromisoformat(receipt.received_at).astimezone(UTC).strftime(TIMESTAMP)


class Exchange(default.Exchange):
    """What all our exchange classes share: the client, and failures that people can read."""

    root = Unicode("", help="Not used: the exchange is a service.").tag(config=True)
    said: ClassVar[str] = ""  # the last failure, for the Assignment List

    @cached_property
    def client(self) -> Client:
        return Client.from_environment()

    def ensure_root(self) -> None:
        """There is no folder."""

    def init_src(self) -> None:
        pass

    def init_dest(self) -> None:
        pass

    def fail(self, msg: str) -> None:
        Exchange.said = msg
        self.log.fatal(msg)
        raise ExchangeError(msg) from None

    @contextlib.contextmanager
    def failures_told(self) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            self.fail(error.text)
        except OSError as error:
            self.fail(_text("files", reason=error.strerror or error))

    def start(self) -> Any:
        with self.failures_told():
            return super().start()

    @property
    def course(self) -> str:
        course = str(self.coursedir.course_id)
        if course in ("", "*"):
            self.fail(_text("no-course"))
        return course

    @property
    def unit(self) -> str:
        return str(self.coursedir.assignment_id)

    def course_path(self, course: str) -> Path:
        """Where a student's units of a course lie."""
        return Path(self.assignment_dir, course if self.path_includes_course else "").absolute()

    def left_out(self, parent: str, names: list[str]) -> list[str]:
        """What is not sent; a file that is too large is refused by the academy instead of being left out in silence."""
        ignore = [*self.coursedir.ignore, NOTE, RELEASED_AT]
        chosen = ignore_patterns(exclude=ignore, include=self.coursedir.include, log=self.log)
        return list(chosen(parent, names))

    def share(self, folder: Path) -> None:
        """Let the course's group write what was put into the course folder."""
        if self.coursedir.groupshared:
            for path in [folder, *folder.rglob("*")]:
                path.chmod(0o2770 if path.is_dir() else 0o660)

    @contextlib.contextmanager
    def scratch(self, parent: Path) -> Iterator[Path]:
        """An empty folder in the same file system as ``parent``, which is made."""
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".academy-") as folder:
            fresh = Path(folder, "unit")
            fresh.mkdir()
            yield fresh


class ExchangeList(default.ExchangeList, Exchange):
    """Released units, own submissions (``cached``), and for staff everybody's (``inbound``)."""

    def init_src(self) -> None:
        pass

    def init_dest(self) -> None:
        wanted = str(self.coursedir.course_id)
        self.courses = [wanted] if wanted not in ("", "*") else [row.course for row in self.client.me().courses]

    def start(self) -> Any:
        with self.failures_told():
            return super().start()

    def parse_assignments(self) -> list[dict[str, Any]]:
        if self.inbound or self.cached:
            return [entry for course in self.courses for entry in self._submitted(course)]
        return [entry for course in self.courses for entry in self._released(course)]

    def _wanted(self, unit: str) -> bool:
        return self.unit in ("", "*", unit)

    def _released(self, course: str) -> Iterator[dict[str, Any]]:
        for row in self.client.units(course):
            if not self._wanted(row.unit):
                continue
            folder = self.course_path(course) / row.unit
            fetched = folder.is_dir()
            notebooks = sorted(folder.glob("*.ipynb")) if fetched else []
            status = "removed" if self.remove else "fetched" if fetched else "released"
            yield {
                "course_id": course,
                "assignment_id": row.unit,
                "status": status,
                "path": str(folder),
                "notebooks": [{"notebook_id": path.stem, "path": str(path)} for path in notebooks],
                "due_at": row.due_at,
            }

    def _submitted(self, course: str) -> list[dict[str, Any]]:
        student = str(self.coursedir.student_id)
        me = None if self.inbound else self.client.me().login
        login = me or (None if student in ("", "*") else student)
        groups: dict[tuple[str, str], dict[str, Any]] = {}
        for receipt in self.client.submissions(course, login=login):
            if not self._wanted(receipt.unit):
                continue
            empty = {
                "course_id": course,
                "student_id": receipt.login,
                "assignment_id": receipt.unit,
                "status": "submitted",
                "submissions": [],
            }
            groups.setdefault((receipt.unit, receipt.login), empty)["submissions"].append(self._submission(receipt))
        return [groups[key] for key in sorted(groups)]

    def _submission(self, receipt: Receipt) -> dict[str, Any]:
        timestamp = _timestamp(receipt)
        folder = self.course_path(receipt.course) / receipt.unit / "feedback" / timestamp
        pages = sorted(folder.glob("*.html"))
        note = folder / RELEASED_AT
        seen = note.read_text() if note.is_file() else ""
        state = {
            "has_local_feedback": bool(pages),
            "has_exchange_feedback": receipt.feedback,
            "feedback_updated": bool(pages) and receipt.feedback and seen != receipt.feedback_at,
        }
        notebooks = [{"notebook_id": page.stem, "path": str(page), "local_feedback_path": str(page), **state} for page in pages]
        return {
            "course_id": receipt.course,
            "student_id": receipt.login,
            "assignment_id": receipt.unit,
            "timestamp": timestamp,
            "status": "submitted",
            "path": str(folder),
            "notebooks": notebooks,
            "local_feedback_path": str(folder) if pages else None,
            "id": receipt.id,
            "late": receipt.late,
            "score": receipt.score,
            "max_score": receipt.max_score,
            **state,
        }

    def format_inbound_assignment(self, info: dict[str, Any]) -> str:
        return str(super().format_inbound_assignment(info)) + (_text("late") if info["late"] else "")

    def format_outbound_assignment(self, info: dict[str, Any]) -> str:
        downloaded = " (already downloaded)" if Path(info["path"]).is_dir() else ""
        return f"{info['course_id']} {info['assignment_id']}{downloaded}"

    def remove_files(self) -> list[dict[str, Any]]:
        """Withdraw units; submissions stay."""
        if self.inbound or self.cached:
            self.fail(_text("kept"))
        entries = self.parse_assignments()
        for entry in entries:
            self.client.withdraw(entry["course_id"], entry["assignment_id"])
            self.log.info("Withdrawn: %s %s", entry["course_id"], entry["assignment_id"])
        return entries


class ExchangeFetchAssignment(Exchange, default.ExchangeFetchAssignment):
    """Brings a unit; what is there already is never overwritten."""

    def init_dest(self) -> None:
        self.dest_path = str(self.course_path(self.course) / self.unit)
        if os.path.isdir(self.dest_path) and not self.replace_missing_files:
            self.fail(_text("already-fetched", path=os.path.relpath(self.dest_path)))

    def copy_files(self) -> None:
        destination = Path(self.dest_path)
        with self.scratch(destination.parent) as fresh:
            language = self.client.fetch(self.course, self.unit, fresh)
            note = {"language": language, "notebooks": sorted(path.name for path in fresh.glob("*.ipynb"))}
            (fresh / NOTE).write_text(json.dumps(note))
            if destination.is_dir():
                self.copy_if_missing(str(fresh), self.dest_path)
            else:
                fresh.rename(destination)
        self.log.info("Fetched as: %s %s", self.course, self.unit)


class ExchangeSubmit(Exchange, abc.ExchangeSubmit):
    """Hands a unit in, and shows and keeps the receipt."""

    def init_src(self) -> None:
        self.src_path = str((self.course_path(self.course) / self.unit).absolute())
        self.coursedir.assignment_id = os.path.basename(self.src_path)
        if not os.path.isdir(self.src_path):
            self.fail(_text("not-fetched", path=os.path.relpath(self.src_path)))

    def copy_files(self) -> None:
        folder = Path(self.src_path)
        note = self._note(folder)
        missing = [name for name in note.get("notebooks", []) if not (folder / str(name)).is_file()]
        if missing:
            self.fail(_text("notebook-missing", names=", ".join(missing)))
        receipt = self.client.submit(self.course, self.unit, folder, note.get("language", ""), self.left_out)
        text = _text(
            "submitted",
            course=receipt.course,
            unit=receipt.unit,
            id=receipt.id,
            sha256=receipt.sha256,
            time=_timestamp(receipt),
            late=_text("late") if receipt.late else "",
        )
        self.log.info(text)
        self._keep(receipt, text)

    def _note(self, folder: Path) -> dict[str, Any]:
        try:
            note = json.loads((folder / NOTE).read_text())
            return note if isinstance(note, dict) and note.get("language") in ("", "ko", "en") else {}
        except (OSError, ValueError):
            return {}

    def _keep(self, receipt: Receipt, text: str) -> None:
        path = self.course_path(self.course) / "receipts" / f"{self.unit}-{receipt.id}.txt"
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
        except OSError as error:  # it is submitted all the same, and the home page has the receipt
            self.log.warning("The receipt was not written to %s: %s", path, error)


class ExchangeFetchFeedback(Exchange, abc.ExchangeFetchFeedback):
    """Brings what feedback there is for one's submissions of a unit."""

    def copy_files(self) -> None:
        login = self.client.me().login
        wanted = None if self.unit in ("", "*") else self.unit
        for receipt in self.client.submissions(self.course, wanted, login=login):
            if receipt.feedback:
                self._bring(receipt)

    def _bring(self, receipt: Receipt) -> None:
        folder = self.course_path(receipt.course) / receipt.unit / "feedback" / _timestamp(receipt)
        with self.scratch(folder.parent) as fresh:
            self.client.feedback(receipt.id, fresh)
            (fresh / RELEASED_AT).write_text(receipt.feedback_at or "")
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
        self.log.info("Fetched feedback: %s", folder)


class ExchangeReleaseAssignment(Exchange, abc.ExchangeReleaseAssignment):
    """Releases ``release/UNIT``, and ``release.en/UNIT`` where there is one."""

    def init_src(self) -> None:
        directory = self.coursedir.release_directory
        self.src_path = self.coursedir.format_path(directory, ".", self.unit)
        self.english_path = self.coursedir.format_path(f"{directory}.en", ".", self.unit)
        if not os.path.isdir(self.src_path):
            self.fail(_text("nothing-to-release", path=self.src_path))

    def init_dest(self) -> None:
        if not self.force and any(row.unit == self.unit for row in self.client.units(self.course)):
            self.fail(_text("already-released", unit=self.unit))

    def copy_files(self) -> None:
        due_at = self._due_at()
        both = os.path.isdir(self.english_path)
        self.client.release(self.course, self.unit, Path(self.src_path), "ko" if both else "", due_at, self.left_out)
        if both:
            self.client.release(self.course, self.unit, Path(self.english_path), "en", due_at, self.left_out)
        self.log.info("Released as: %s %s", self.course, self.unit)

    def _due_at(self) -> str:
        with Gradebook(self.coursedir.db_url, self.coursedir.course_id) as book:
            try:
                due = book.find_assignment(self.unit).duedate
            except MissingEntry:
                return ""
        return due.replace(tzinfo=UTC).isoformat() if due else ""


class ExchangeCollect(Exchange, abc.ExchangeCollect):
    """Brings everybody's newest submission of a unit into ``submitted/``."""

    def copy_files(self) -> None:
        student = str(self.coursedir.student_id)
        login = None if student in ("", "*") else student
        chosen: dict[str, Receipt] = {}
        for receipt in self.client.submissions(self.course, self.unit, login):
            if not (self.before_duedate and receipt.late and receipt.login in chosen):
                chosen[receipt.login] = receipt
        self.log.info("Processing %d submissions of '%s' for course '%s'", len(chosen), self.unit, self.course)
        for receipt in chosen.values():
            self._collect(receipt)

    def _collect(self, receipt: Receipt) -> None:
        folder = Path(self.coursedir.format_path(self.coursedir.submitted_directory, receipt.login, self.unit))
        timestamp = _timestamp(receipt)
        if folder.is_dir():
            before, after = self.coursedir.get_existing_timestamp(str(folder)), parse_utc(timestamp)
            if before == after or not (self.update or self.before_duedate):
                self.log.info("No newer submission to collect: %s %s", receipt.login, self.unit)
                return
        with self.scratch(folder.parent) as fresh:
            self.client.content(receipt.id, fresh)
            (fresh / "timestamp.txt").unlink(missing_ok=True)
            (fresh / "timestamp.txt").write_text(timestamp)
            self.share(fresh)
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
        self.share_parent(folder.parent)
        self.log.info("Collected submission: %s %s", receipt.login, self.unit)

    def share_parent(self, folder: Path) -> None:
        if self.coursedir.groupshared:
            with contextlib.suppress(PermissionError):  # the worker outside made it, and shared it then
                folder.chmod(0o2770)


class ExchangeReleaseFeedback(Exchange, abc.ExchangeReleaseFeedback):
    """Gives students their ``feedback/LOGIN/UNIT`` pages, with the score that the gradebook has."""

    def copy_files(self) -> None:
        student = str(self.coursedir.student_id) or "*"
        root = self.coursedir.format_path(self.coursedir.feedback_directory, "*", self.unit)
        excluded = set((self.coursedir.student_id_exclude or "").split(","))
        receipts: dict[tuple[str, str], Receipt] = {}
        for receipt in self.client.submissions(self.course, self.unit):
            receipts[receipt.login, _timestamp(receipt)] = receipt
        for folder in sorted(Path("/").glob(root.lstrip("/"))):
            login = folder.parent.name
            if (student not in ("*", login)) or login in excluded or not any(folder.glob("*.html")):
                continue
            time = (folder / "timestamp.txt").read_text().strip() if (folder / "timestamp.txt").is_file() else "-"
            if (login, time) not in receipts:
                self.fail(_text("unknown-submission", login=login, time=time))
            score, max_score = self._score(login)
            self.client.release_feedback(receipts[login, time].id, folder, score, max_score)
            self.log.info("Feedback released: %s %s", login, self.unit)

    def _score(self, login: str) -> tuple[float | None, float | None]:
        with Gradebook(self.coursedir.db_url, self.coursedir.course_id) as book:
            try:
                submission = book.find_submission(self.unit, login)
            except MissingEntry:
                return None, None
            most = float(submission.max_score)
            return min(max(0.0, float(submission.score)), most), most


class AcademyAuthPlugin(BaseAuthPlugin):
    """A person's courses as the academy knows them; who belongs to a course is said by its roster, not by formgrader."""

    def get_student_courses(self, student_id: str) -> list[str]:
        return [row.course for row in Client.from_environment().me().courses]

    def add_student_to_course(self, student_id: str, course_id: str) -> None:
        self.log.warning("%s is not added to %s: import the course's roster in the academy's pages.", student_id, course_id)

    def remove_student_from_course(self, student_id: str, course_id: str) -> None:
        self.log.warning("%s stays in %s: the academy's pages change the roster.", student_id, course_id)


class RemoteExecute(NbGraderPreprocessor):
    """In place of nbgrader's Execute: the notebook and its folder go to the academy's sandbox; only outputs come back."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        about = resources["nbgrader"]
        name = f"{about['notebook']}.ipynb"
        with tempfile.TemporaryDirectory() as scratch:
            folder, result = Path(scratch, "folder"), Path(scratch, "result")
            notebooks = shutil.ignore_patterns("*.ipynb", "*.pyc", "__pycache__")
            shutil.copytree(resources["metadata"]["path"], folder, symlinks=True, ignore=notebooks)
            nbformat.write(nb, folder / name)
            result.mkdir()
            try:
                Client.from_environment().execute(os.environ.get("ACADEMY_COURSE", ""), about["assignment"], folder, result)
                executed = nbformat.read(result / name, as_version=4)
            except ClientError as error:
                raise NbGraderException(error.text) from error
        if len(executed.cells) != len(nb.cells):
            raise NbGraderException(f"The sandbox gave back {len(executed.cells)} cells instead of {len(nb.cells)}.")
        for cell, done in zip(nb.cells, executed.cells, strict=True):
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = done.outputs, done.execution_count
        return nb, resources


class HideTests(NbGraderPreprocessor):
    """Takes out of a student's feedback pages what they must not see: hidden tests, their output, tests' tracebacks."""

    hidden = re.compile(r"[^\n]*BEGIN HIDDEN TESTS.*?(?:END HIDDEN TESTS[^\n]*\n?|\Z)", re.DOTALL)

    def preprocess_cell(self, cell: NotebookNode, resources: dict[str, Any], index: int) -> tuple[NotebookNode, dict[str, Any]]:
        if cell.cell_type != "code":
            return cell, resources
        cell.source, found = self.hidden.subn(f"# {_text('hidden-tests')}\n", cell.source)
        if found or (is_grade(cell) and not is_solution(cell)):
            cell.outputs = [output for output in cell.outputs if output.output_type == "error" or not found]
            for output in cell.outputs:
                if output.output_type == "error":
                    output.traceback = [f"{output.ename}: {output.evalue}"]
        return cell, resources


class AssignmentList(handlers.AssignmentList):
    """nbgrader's, which says why something failed: also when fetching, where the page shows only the list that follows."""

    failed: dict[str, Any] | None = None

    def list_assignments(self, course_id: str | None = None) -> dict[str, Any]:
        failed, self.failed = self.failed, None
        return failed or self._told(super().list_assignments, course_id)

    def fetch_assignment(self, course_id: str, assignment_id: str) -> dict[str, Any]:
        return self._remembered(self._told(super().fetch_assignment, course_id, assignment_id))

    def fetch_feedback(self, course_id: str, assignment_id: str) -> dict[str, Any]:
        return self._remembered(self._told(super().fetch_feedback, course_id, assignment_id))

    def submit_assignment(self, course_id: str, assignment_id: str) -> dict[str, Any]:
        return self._told(super().submit_assignment, course_id, assignment_id)

    def _told(self, call: Any, *arguments: str | None) -> dict[str, Any]:
        Exchange.said = ""
        result: dict[str, Any] = call(*arguments)
        return {"success": False, "value": Exchange.said} if Exchange.said and not result["success"] else result

    def _remembered(self, result: dict[str, Any]) -> dict[str, Any]:
        self.failed = None if result["success"] else result
        return result


def load_handlers(app: Any) -> None:
    """The server's side of nbgrader's Assignment List, with our errors in it, and of Validate."""
    handlers.load_jupyter_server_extension(app)
    manager = AssignmentList(parent=app)
    manager.root_dir = app.root_dir
    app.web_app.settings["assignment_list_manager"] = manager
    validate_assignment.load_jupyter_server_extension(app)
