"""nbgrader's converters with our preprocessors: a submitted folder in, scores in the gradebook and feedback pages out.

The worker runs this module as a child process (``python -m grading.autograde``), since nbgrader changes the working directory
and its libraries are large: lines of JSON with requests on stdin, with phases and results on stdout, the log on stderr. The
child ends when stdin closes, so that nothing goes on grading after its worker died. Student code runs in neither: the sandboxes
have it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import queue
import re
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import bleach
import nbformat
import nbgrader
from alembic.script import ScriptDirectory
from jinja2 import pass_context
from nbconvert.exporters import HTMLExporter
from nbconvert.preprocessors import ClearMetadataPreprocessor, CSSHTMLHeaderPreprocessor
from nbformat import NotebookNode
from nbgrader.api import Assignment, Gradebook, MissingEntry
from nbgrader.converters import Autograde, GenerateFeedback
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbgrader.nbgraderformat import SCHEMA_VERSION
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearOutput,
    GetGrades,
    LimitOutput,
    NbGraderPreprocessor,
    OverwriteCells,
    OverwriteKernelspec,
    SaveAutoGrades,
)
from nbgrader.utils import is_grade, is_solution
from sqlalchemy import create_engine, inspect, make_url, text
from traitlets.config import Config

from academy.messages import AcademyError, message
from academy.settings import Settings
from grading import sandbox, supervisor
from grading.courses import catalogue
from grading.penalties import penalty

MAX_NOTEBOOK = 50 << 20  # bytes
_HIDDEN = re.compile(r"^[^\n]*BEGIN HIDDEN TESTS.*?(?:^[^\n]*END HIDDEN TESTS[^\n]*(?:\n|\Z)|\Z)", re.MULTILINE | re.DOTALL)
_TAGS = bleach.ALLOWED_TAGS | {"p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "img", "pre", "div", "span", "figure"}
_TAGS |= {"table", "thead", "tbody", "tr", "th", "td", "s", "del", "sup", "sub", "u", "dl", "dt", "dd", "figcaption"}
_ATTRIBUTES = {"*": ["class", "id", "title"], "a": ["href"], "img": ["src", "alt", "width", "height"], "th": ["scope"]}
_SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Score:
    """A student's score of a unit as the gradebook has it; the late penalty is already taken off."""

    login: str
    score: float
    max_score: float
    needs_manual: bool
    penalty: float = 0.0
    submitted_at: datetime | None = None


@dataclass
class Run:
    """One submission on its way through nbgrader; the preprocessors find it in ``_run``."""

    settings: Settings
    language: str
    source: Path | None = None  # the instructor's folder of the unit
    tell: Callable[[str], None] = lambda _: None  # gets each phase as it begins
    gpu: str = ""  # UUID of the device that it has to itself
    seconds: float = 0.0
    outcomes: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)
    gates: list[dict[str, Any]] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)
    late: Callable[[float, float], float] = lambda _score, _most: 0.0  # the penalty of a notebook's score
    error: AcademyError | None = None  # why the sandbox could not run it; nbgrader would only log it

    def take(self, result: supervisor.Result) -> None:
        self.seconds += result.seconds
        self.outcomes.append(result.outcome)
        self.flags += result.flags
        self.gates += result.gates
        for phase, seconds in result.phases.items():
            self.phases[phase] = round(self.phases.get(phase, 0.0) + seconds, 3)

    def about(self) -> dict[str, Any]:
        names = ("seconds", "outcomes", "flags", "repairs", "gates", "phases")
        return {name: getattr(self, name) for name in names}


_run: ContextVar[Run] = ContextVar("_run")


def gradebook_url(settings: Settings, course: str) -> str:
    """The gradebook's URL as nbgrader can use it: with our PostgreSQL driver, and patient with SQLite's lock."""
    url = make_url(settings.gradebook_url(course))
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite":
        url = url.update_query_dict({"timeout": "30"})
    return url.render_as_string(hide_password=False)


def nbgrader_config(settings: Settings, course: str) -> Config:
    """Everything that nbgrader needs to know about a course."""
    config = Config()
    config.CourseDirectory.root = str(settings.course_folder(course))
    config.CourseDirectory.course_id = course
    config.CourseDirectory.db_url = gradebook_url(settings, course)
    config.CourseDirectory.groupshared = True
    config.Autograde.force = True
    config.Autograde.sanitize_preprocessors = [
        ClearOutput,
        RestoreMetadata,
        OverwriteKernelspec,
        RestoreCells,
        CheckCellMetadata,
    ]
    config.Autograde.autograde_preprocessors = [
        SandboxExecute,
        ClearMetadataPreprocessor,
        LimitOutput,
        SaveGrades,
        CheckCellMetadata,
    ]
    config.ClearMetadataPreprocessor.preserve_cell_metadata_mask = ["nbgrader"]
    config.ClearMetadataPreprocessor.preserve_nb_metadata_mask = ["kernelspec", "language_info"]
    config.OverwriteCells.add_missing_cells = True
    config.GenerateFeedback.force = True
    config.GenerateFeedback.exporter_class = SafePages
    config.GenerateFeedback.preprocessors = [GetGrades, HideTests, CSSHTMLHeaderPreprocessor]
    config.SafePages.sanitize_html = True  # what a student's cell printed must not run in anybody's browser
    return config


@contextlib.contextmanager
def gradebook(settings: Settings, course: str) -> Iterator[Gradebook]:
    """The course's gradebook; made on first use, by one process at a time."""
    folder = settings.course_folder(course)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".gradebook.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _name_version(gradebook_url(settings, course))
        book = Gradebook(gradebook_url(settings, course), course)
        book.check_course(course_id="default_course")  # which nbgrader's preprocessors open; two at once could not make it
        url = make_url(settings.gradebook_url(course))
        if url.get_backend_name() == "sqlite" and url.database:
            with contextlib.suppress(PermissionError):  # the group of the course's grading servers writes it too
                os.chmod(url.database, 0o664)
    with book:
        yield book


def _name_version(url: str) -> None:
    """Note in a new gradebook which version of nbgrader's tables it has; nbgrader would run a program to find out."""
    engine = create_engine(url)
    with engine.begin() as connection:
        if not inspect(connection).get_table_names():
            versions = ScriptDirectory(str(Path(nbgrader.__file__).parent / "alembic"))
            connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
            connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": versions.get_current_head()})
    engine.dispose()


def scores(settings: Settings, course: str, unit: str | None = None) -> dict[str, list[Score]]:
    """What the gradebook says now, manual scores included: unit -> its students' scores, clamped to what can be earned."""
    if not _has_gradebook(settings, course):
        return {}
    with gradebook(settings, course) as book:
        units = [unit] if unit else [assignment.name for assignment in book.assignments]
        return {
            name: [_score(submission) for submission in book.assignment_submissions(name)]
            for name in units
            if _known(book, name)
        }


def set_due_date(settings: Settings, course: str, unit: str, due_at: datetime | None) -> None:
    """Tell nbgrader when a unit is due, where it knows the unit."""
    if not _has_gradebook(settings, course):
        return
    with gradebook(settings, course) as book:
        if _known(book, unit):
            book.update_or_create_assignment(unit, duedate=due_at.replace(tzinfo=None) if due_at else None)


def grade(
    settings: Settings,
    course: str,
    unit: str,
    login: str,
    name: str = "",
    language: str = "",
    received_at: str = "",
    due_at: str = "",
    gpu: str = "",
) -> dict[str, Any]:
    """Autograde ``submitted/LOGIN/UNIT`` into the gradebook.

    Args:
        received_at, due_at: ISO 8601, for the course's late policy; the due date is the student's own.
        gpu: UUID of the device that the run has to itself.

    Returns ``score``, ``max_score``, ``needs_manual``; ``seconds`` in the sandboxes and their ``outcomes``; ``flags`` for
    staff, ``repairs`` for the student, ``gates`` (measured figures), ``phases`` (name -> seconds).

    Raises:
        AcademyError: it cannot be graded; says why.
    """
    folder = settings.course_folder(course) / "submitted" / login / unit
    with gradebook(settings, course) as book:
        if not _known(book, unit):
            raise AcademyError("grading-no-source", course=course, unit=unit)
        wanted = [folder / f"{notebook.name}.ipynb" for notebook in book.find_assignment(unit).notebooks]
        for path in [path for path in wanted if path.exists()] or wanted:  # of several some may be missing: they earn nothing
            check_notebook(path)
        book.update_or_create_student(login, **({"first_name": name} if name else {}))
    source = settings.course_folder(course) / "source" / unit
    run = Run(settings, language or settings.academy.language, source if source.is_dir() else None, _tell, gpu=gpu)
    if received_at and due_at:
        policy = catalogue.late_policy(settings, course)
        moments = datetime.fromisoformat(received_at), datetime.fromisoformat(due_at)
        run.late = lambda score, most: penalty(policy, *moments, score, most).points
    _run.set(run)
    _convert(Autograde, settings, course, unit, login)
    with gradebook(settings, course) as book:
        score = asdict(_score(book.find_submission(unit, login)))
    del score["submitted_at"], score["login"]
    return {**score, **run.about()}


def feedback(settings: Settings, course: str, unit: str, login: str, language: str = "") -> dict[str, Any]:
    """Write ``feedback/LOGIN/UNIT/*.html`` from ``autograded/LOGIN/UNIT`` and the gradebook. Returns the score in it."""
    root = settings.course_folder(course)
    if not (root / "autograded" / login / unit).is_dir():
        raise AcademyError("grading-not-graded", 409)
    _run.set(Run(settings, language or settings.academy.language))
    _convert(GenerateFeedback, settings, course, unit, login)
    pages = [f"{notebook.stem}.html" for notebook in sorted((root / "autograded" / login / unit).glob("*.ipynb"))]
    for page in (root / "feedback" / login / unit / name for name in pages):
        page.write_text(_SCRIPT.sub("", page.read_text(encoding="utf-8")), encoding="utf-8")
    with gradebook(settings, course) as book:
        score = asdict(_score(book.find_submission(unit, login)))
    del score["submitted_at"], score["login"]
    return {**score, "pages": pages}


def execute(settings: Settings, course: str, unit: str, folder: str, language: str = "") -> dict[str, Any]:
    """Run every notebook that lies in ``folder`` in the sandboxes and replace it by what came out."""
    source = settings.course_folder(course) / "source" / unit
    run = Run(settings, language or settings.academy.language)
    for path in sorted(Path(folder).glob("*.ipynb")):
        check_notebook(path)
        result = supervisor.run(settings, path.parent, path.name, run.language, source=source, slot=_slot, tell=_tell)
        path.write_bytes(result.notebook)
        run.take(result)
    return run.about()


def check_notebook(path: Path) -> None:
    """Raises AcademyError when nbgrader could not even open it."""
    if not path.is_file() or path.is_symlink():
        raise AcademyError("grading-notebook-missing", notebook=path.name)
    try:
        if path.stat().st_size > MAX_NOTEBOOK:
            raise ValueError("too large")
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises whatever the damage leads to
        raise AcademyError("grading-notebook-unreadable", notebook=path.name) from error


class RestoreMetadata(NbGraderPreprocessor):
    """Puts back what the gradebook knows of each cell; of what a student wrote into metadata only known names are read."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        about = resources["nbgrader"]
        nb.metadata = NotebookNode({key: nb.metadata[key] for key in ("kernelspec", "language_info") if key in nb.metadata})
        with Gradebook(about["db_url"]) as book:
            original = book.find_notebook(about["notebook"], about["assignment"])
            known = _metadata(original)
            sources = {cell.name: _visible(cell.source or "") for cell in original.source_cells if cell.locked}
            kernel = json.loads(original.kernelspec or "{}").get("name")
        if nb.metadata.get("kernelspec", {}).get("name") != kernel:
            self.repaired("kernel")
        seen: set[str] = set()
        for cell in reversed(nb.cells):  # of two cells of one name the later counts, as for nbgrader
            mine = cell.metadata.get("nbgrader")
            grade_id = str(mine.get("grade_id")) if isinstance(mine, dict) else ""
            metadata = known.get(grade_id)
            if metadata and grade_id in seen:
                self.repaired("doubled", cell=grade_id)
                metadata = None
            if metadata and grade_id in sources and _visible(cell.source) != sources[grade_id]:
                self.repaired("changed", cell=grade_id)
            cell.metadata = NotebookNode({"nbgrader": NotebookNode(metadata)} if metadata else {})
            seen |= {grade_id} if metadata else set()
        for grade_id, metadata in known.items():
            if grade_id not in seen and (metadata["grade"] or metadata["task"]):
                self.repaired("missing", cell=grade_id)
        return nb, resources

    def repaired(self, what: str, **values: str) -> None:
        """Tell the student what was mended."""
        text = message(f"grading-repaired-{what}", _run.get().language, **values).text
        if text not in _run.get().repairs:
            _run.get().repairs.append(text)


def _visible(source: str) -> str:
    """What students see of a locked cell, without regard to layout."""
    return "".join(_HIDDEN.sub("", source).split())


def _metadata(notebook: Any) -> dict[str, dict[str, Any]]:
    points = {cell.name: cell.max_score for cell in [*notebook.grade_cells, *notebook.task_cells]}
    graded = {cell.name for cell in notebook.grade_cells}
    solutions = {cell.name for cell in notebook.solution_cells}
    tasks = {cell.name for cell in notebook.task_cells}
    return {
        cell.name: {
            "schema_version": SCHEMA_VERSION,
            "grade_id": cell.name,
            "cell_type": cell.cell_type,
            "locked": cell.locked,
            "checksum": cell.checksum,
            "grade": cell.name in graded,
            "solution": cell.name in solutions,
            "task": cell.name in tasks,
            **({"points": points[cell.name]} if cell.name in points else {}),
        }
        for cell in notebook.source_cells
    }


class RestoreCells(OverwriteCells):
    """OverwriteCells, which also finds a place for a missing cell whose neighbour is missing too."""

    def add_missing_grade_cells(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        source = self.gradebook.find_notebook(self.notebook_id, self.assignment_id)
        grade_cells = {cell.name: cell for cell in source.grade_cells}
        solutions = {cell.name for cell in source.solution_cells}
        place = 0
        for cell in source.source_cells:
            here = next(
                (i for i, c in enumerate(nb.cells) if c.metadata.get("nbgrader", {}).get("grade_id") == cell.name), None
            )
            if here is not None:
                place = here + 1
            elif cell.name in grade_cells:
                self.log.warning("Missing grade cell %s, adding it", cell.name)
                points = grade_cells[cell.name].max_score
                nb.cells.insert(place, self.missing_cell_transform(cell, points, is_solution=cell.name in solutions))
                place += 1
        return nb, resources


class SandboxExecute(NbGraderPreprocessor):
    """In place of nbgrader's Execute: the notebook and its folder go to the sandbox, outputs come back."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        run = _run.get()
        folder, name = Path(resources["metadata"]["path"]), f"{resources['nbgrader']['notebook']}.ipynb"
        try:
            more: dict[str, Any] = {"slot": _slot, "tell": run.tell, "gpu": run.gpu}
            result = supervisor.run(run.settings, folder, name, run.language, source=run.source, **more)
        except AcademyError as error:
            run.error = error
            raise
        run.take(result)
        if result.outcome != "ok":
            self.log.warning("The run of %s ended: %s %s", name, result.outcome, result.detail)
        return nbformat.reads(result.notebook.decode("utf-8"), as_version=4), resources


class SafePages(HTMLExporter):
    """Feedback pages in which text cells are as harmless as outputs: markup yes, anything active no."""

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        html: str = super().markdown2html(context, source)
        return bleach.clean(html, _TAGS, _ATTRIBUTES, protocols={"http", "https", "mailto", "data"})


_saving = threading.Lock()  # held while points are saved, and for good once the worker has closed stdin


class SaveGrades(SaveAutoGrades):
    """Saves the points, then the penalty by the course's late policy and the student's own due date."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        about = resources["nbgrader"]
        with _saving:
            nb, resources = super().preprocess(nb, resources)
            with Gradebook(about["db_url"]) as book:
                found = book.find_submission_notebook(about["notebook"], about["assignment"], about["student"])
                found.late_submission_penalty = _run.get().late(float(found.score or 0), float(found.max_score or 0)) or None
                book.db.commit()
        return nb, resources


class HideTests(NbGraderPreprocessor):
    """Takes out of a student's pages what they must not see: hidden tests, their output, and tracebacks of tests."""

    def preprocess_cell(self, cell: NotebookNode, resources: dict[str, Any], index: int) -> tuple[NotebookNode, dict[str, Any]]:
        if cell.cell_type != "code":
            return cell, resources
        note = "# 숨은 테스트가 여기서 실행됐어요.\n" if _run.get().language == "ko" else "# Hidden tests ran here.\n"
        cell.source, hidden = _HIDDEN.subn(note, cell.source)
        if hidden or (is_grade(cell) and not is_solution(cell)):
            shown = [o for o in cell.outputs if o.output_type == "error" or o.get("metadata", {}).get("academy") == "gate"]
            cell.outputs = shown if hidden else cell.outputs
            for output in cell.outputs:
                if output.output_type == "error":
                    output.traceback = [f"{output.ename}: {output.evalue}"]
        return cell, resources


def _convert(converter: type[Any], settings: Settings, course: str, unit: str, login: str) -> None:
    config = nbgrader_config(settings, course)
    config.CourseDirectory.assignment_id = unit
    config.CourseDirectory.student_id = login
    errors = _Errors()
    logger = logging.getLogger("traitlets")
    logger.addHandler(errors)
    os.umask(0o002)
    try:
        with _alone(settings, course, unit, login):
            converter(coursedir=CourseDirectory(config=config), config=config).start()
    except NbGraderException as error:
        if known := _run.get().error:
            raise known from error
        raise AcademyError("grading-failed", 500, reason=errors.reason or str(error)) from error
    finally:
        logger.removeHandler(errors)


@contextlib.contextmanager
def _alone(settings: Settings, course: str, unit: str, login: str) -> Iterator[None]:
    """One process at a time works on a student's unit: one that has lost its job goes on until its worker notices."""
    with open(settings.course_folder(course) / ".grading.lock", "a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX, 1, zlib.crc32(f"{unit}/{login}".encode()))  # a byte each; it ends with the process
        yield


class _Errors(logging.Handler):
    """Keeps the last line of the first error that a converter logs: nbgrader's own exception only refers to it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.reason = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().strip()
        if text.startswith("Traceback") or not self.reason:
            self.reason = text.splitlines()[-1][:500] if text else ""


def _score(submission: Any) -> Score:
    most = float(submission.max_score or 0)
    penalty = float(submission.late_submission_penalty or 0)
    score = min(max(float(submission.score or 0) - penalty, 0.0), most)
    return Score(submission.student.id, score, most, bool(submission.needs_manual_grade), penalty, submission.timestamp)


def _known(book: Gradebook, unit: str) -> bool:
    try:
        assignment: Assignment = book.find_assignment(unit)
    except MissingEntry:
        return False
    return bool(assignment.notebooks)


def _has_gradebook(settings: Settings, course: str) -> bool:
    url = make_url(settings.gradebook_url(course))
    return url.get_backend_name() != "sqlite" or bool(url.database and Path(url.database).exists())


ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {"grade": grade, "feedback": feedback, "execute": execute}


_slot = 0  # which of its worker's graders this process is
_answers: TextIO | None = None


def _say(line: dict[str, Any]) -> None:
    if _answers is not None:
        _answers.write(json.dumps(line) + "\n")
        _answers.flush()


def _tell(phase: str) -> None:
    _say({"phase": phase})


def main() -> None:
    """Answer requests, one line of JSON each, until stdin closes; the sandboxes stay warm between them."""
    global _slot, _answers
    _answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    requests: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    while True:
        request = json.loads(requests.get())
        _slot, started = request["slot"], time.monotonic()
        settings = Settings(**request["settings"])
        if request["action"] == "warm":
            with contextlib.suppress(AcademyError):  # whoever needs the sandboxes learns what is wrong with them
                sandbox.warm_up(settings, _slot)
            _say({"warm": True})
            continue
        try:
            result: dict[str, Any] = {"ok": ACTIONS[request["action"]](settings, **request["arguments"])}
        except AcademyError as error:
            result = {"error": error.key, "values": {key: str(value) for key, value in error.values.items()}}
        except Exception as error:
            traceback.print_exc()
            result = {"error": "grading-failed", "values": {"reason": f"{type(error).__name__}: {error}"[:500]}}
        _say({**result, "total": time.monotonic() - started})


def _read(requests: queue.Queue[bytes]) -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    _saving.acquire()  # a run whose sandbox is closed now looks like one that was killed, and would get 0 points
    try:
        sandbox.close_all()
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
