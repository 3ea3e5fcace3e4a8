"""Makes nbgrader's sources and releases from a unit's one source, in both languages.

``source/<unit>/`` and ``release/<unit>/`` are Korean, ``source.en/`` and ``release.en/`` English. Code and answer cells, which
alone carry nbgrader's metadata, are the same in both, so one gradebook serves both.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from academy.gpus import inventory
from academy.gpus.plan import suits
from academy.settings import Settings
from grading.courses import catalogue
from grading.courses.catalogue import Course, CourseError, Unit

LANGUAGES = ("ko", "en")
CODE = "# 여기에 코드를 쓰세요. / YOUR CODE HERE\nraise NotImplementedError()"
ANSWER = "여기에 답을 쓰세요. / Write your answer here."
FORMAT = 6  # counts up when what this module writes changes
CALIBRATION, RECORD = "calibration.toml", "record.md"  # written by the commands of these names; neither goes to students
_FOLDERS = ("source", "source.en", "release", "release.en", "submitted", "autograded", "feedback")
_KINDS = {
    "solution": {"grade": False, "locked": False, "solution": True, "task": False},
    "test": {"grade": True, "locked": True, "solution": False, "task": False},
    "manual": {"grade": True, "locked": False, "solution": True, "task": False},
    "locked": {"grade": False, "locked": True, "solution": False, "task": False},
}


def build(settings: Settings, course: str | None = None, unit: str | None = None) -> list[tuple[str, str]]:
    """Build what has changed of all courses, one course or one unit; returns the (course, unit) pairs that were built.

    Raises:
        CourseError: a course or a unit's source is wrong; the message says where. Everything else is built all the same.
    """
    built: list[tuple[str, str]] = []
    wrong: list[CourseError] = [] if course else catalogue.problems(settings)
    for found in [catalogue.course(settings, course)] if course else catalogue.courses(settings):
        with _alone(prepare_folder(settings, found.id)):
            for wanted in [found.unit(unit)] if unit else found.units:
                try:
                    if _build_unit(settings, found, wanted):
                        built.append((found.id, wanted.id))
                except CourseError as error:
                    wrong.append(error)
    if wrong:
        raise wrong[0]
    return built


def source(settings: Settings, course: Course, unit: Unit, language: str) -> Path:
    """The folder of a built unit's nbgrader source."""
    return settings.course_folder(course.id) / _suffixed("source", language) / unit.id


def release(settings: Settings, course: Course, unit: Unit, language: str) -> Path:
    """The folder of a built unit's student version."""
    return settings.course_folder(course.id) / _suffixed("release", language) / unit.id


def _suffixed(name: str, language: str) -> str:
    return name if language == "ko" else f"{name}.{language}"


def staff_gid(settings: Settings) -> int:
    """The group that owns course folders: grading servers join it."""
    return settings.grading.staff_gid if os.geteuid() == 0 else os.getegid()


def prepare_folder(settings: Settings, course: str) -> Path:
    """Make nbgrader's course directory, owned by the group that grading servers join."""
    folder = settings.course_folder(course)
    for path in [folder, *(folder / name for name in _FOLDERS)]:
        if not path.is_dir():
            path.mkdir(parents=True)
        if path.stat().st_uid == os.geteuid():
            if os.geteuid() == 0:
                os.chown(path, -1, staff_gid(settings))
            path.chmod(0o2770)
    return folder


def notebook(unit: Unit, course_id: str, language: str, gpus: bool = False) -> nbformat.NotebookNode:
    """A unit's source notebook in one language, with solutions and hidden tests.

    Args:
        gpus: submissions are graded on GPUs, so a test that is marked ``gpu`` earns its points once the unit is calibrated.

    Raises:
        CourseError: a cell without an id, an id twice, an unknown kind, a test without points.
    """
    import jupytext  # slow to import, and not needed when nothing has changed

    cells, seen, counts = [], set(), gpus and bool(calibration(unit))
    for number, cell in enumerate(jupytext.reads(unit.source.read_text(encoding="utf-8"), fmt="py:percent").cells, 1):
        metadata = dict(cell.metadata)
        identity, kind, spoken = metadata.get("id"), metadata.get("kind"), metadata.get("lang")
        if not identity:
            raise _wrong(unit, f'cell {number} has no id="…": {cell.source.strip()[:60]!r}')
        if (identity, spoken) in seen:
            raise _wrong(unit, f"the id {identity!r} stands twice")
        if kind not in (None, "demo", *_KINDS):
            raise _wrong(unit, f"cell {identity!r}: kind {kind!r} is none of {', '.join(_KINDS)}, demo")
        if kind in ("test", "manual") and not isinstance(metadata.get("points"), int | float):
            raise _wrong(unit, f"cell {identity!r} needs points, a number: points=2")
        if cell.cell_type != "code" and kind != "manual" and spoken not in LANGUAGES:
            raise _wrong(unit, f'cell {identity!r} is a text, so it needs lang="ko" or lang="en"')
        if problem := _marks(cell.source, kind):
            raise _wrong(unit, f"cell {identity!r}: {problem}")
        seen.add((identity, spoken))
        if spoken not in (None, language):
            continue
        if metadata.get("gpu") and not counts:
            metadata["points"] = 0
        cells.append(_cell(cell, identity, kind, metadata))
    return new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
            "academy": {"course": course_id, "unit": unit.id, "language": language},
        },
    )


def _marks(source: str, kind: str | None) -> str:
    """What is wrong with the marks of a cell's solution or hidden tests."""
    for mark, owners in (("SOLUTION", ("solution", "manual")), ("HIDDEN TESTS", ("test",))):
        found = re.findall(rf"### (BEGIN|END) {mark}", source)
        if found and kind not in owners:
            return f"### {found[0]} {mark} stands in a cell that is no {owners[0]}"
        if found != ["BEGIN", "END"] * (len(found) // 2):
            return f"each ### BEGIN {mark} needs an ### END {mark} behind it"
    return ""


def wants_gpu(cell: Any) -> bool:
    """Whether a test cell of a source notebook was marked ``gpu``."""
    return bool(cell.metadata.get("academy", {}).get("gpu"))


def _cell(cell: Any, identity: str, kind: str | None, metadata: dict[str, Any]) -> nbformat.NotebookNode:
    make: Any = new_code_cell if cell.cell_type == "code" else new_markdown_cell
    made: nbformat.NotebookNode = make(cell.source, id=identity)
    if kind == "demo":
        made.metadata["academy"] = {"demo": True}
    elif kind:
        made.metadata["nbgrader"] = {"schema_version": 3, "grade_id": identity, **_KINDS[kind]}
        if "points" in metadata:
            made.metadata["nbgrader"]["points"] = metadata["points"]
        if metadata.get("gpu"):
            made.metadata["academy"] = {"gpu": True}
    return made


def _wrong(unit: Unit, problem: str) -> CourseError:
    return CourseError("course-file-wrong", file=unit.source, problem=problem)


def messages(unit: Unit) -> dict[str, dict[str, str]]:
    """The unit's messages: key -> language -> text.

    Raises:
        CourseError: a message lacks a language or is no text.
    """
    path = unit.folder / "messages.toml"
    if not path.is_file():
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CourseError("course-file-wrong", file=path, problem=str(error)) from error
    for key, texts in found.items():
        if not (isinstance(texts, dict) and texts.keys() == set(LANGUAGES) and all(isinstance(t, str) for t in texts.values())):
            raise CourseError("course-file-wrong", file=path, problem=f"[{key}] needs the texts {' and '.join(LANGUAGES)}")
    return found


def calibration(unit: Unit) -> dict[str, dict[str, Any]]:
    """The gates that the solution passed on a GPU, with figure, machine and date, as ``academy courses calibrate`` wrote them.

    Raises:
        CourseError: the file is no TOML.
    """
    path = unit.folder / CALIBRATION
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CourseError("course-file-wrong", file=path, problem=str(error)) from error


def write_files(unit: Unit, language: str, folder: Path) -> None:
    """What lies beside the notebook: the messages, in both languages since grading has one source for both, and data."""
    catalogue = {"language": language, "messages": messages(unit), "calibrated": sorted(calibration(unit))}
    (folder / "messages.json").write_text(json.dumps(catalogue, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for path in extra_files(unit):
        target = folder / path.relative_to(unit.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


def extra_files(unit: Unit) -> list[Path]:
    """Data, pictures and modules that go along with the notebook; mistakes and the source stay here."""
    skip = {"mistakes", "__pycache__"}
    files = (path for path in sorted(unit.folder.rglob("*")) if path.is_file())
    own = {unit.source.name, "messages.toml", CALIBRATION, RECORD}
    return [f for f in files if not skip & set(f.relative_to(unit.folder).parts) and f.name not in own]


def _digest(unit: Unit) -> str:
    digest = hashlib.sha256(str(FORMAT).encode())
    for path in [unit.source, unit.folder / "messages.toml", unit.folder / CALIBRATION, *extra_files(unit)]:
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _build_unit(settings: Settings, course: Course, unit: Unit) -> bool:
    stamp, gpus = settings.course_folder(course.id) / f".built-{unit.id}", _has_gpus(settings, unit)
    digest = f"{_digest(unit)} {gpus}"
    if stamp.is_file() and stamp.read_text() == digest and release(settings, course, unit, "en").is_dir():
        return False
    for language in LANGUAGES:
        folder = source(settings, course, unit, language)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        nbformat.write(notebook(unit, course.id, language, gpus), folder / f"{unit.id}.ipynb")
        write_files(unit, language, folder)
        _generate(settings, course, unit, language)
    _share(settings, settings.course_folder(course.id), unit)
    stamp.write_text(digest)
    return True


def _has_gpus(settings: Settings, unit: Unit) -> bool:
    """Whether the unit's submissions are graded with a GPU in this academy."""
    return unit.gpu and any(suits(device, "whole") for device in inventory.devices(settings))


def _generate(settings: Settings, course: Course, unit: Unit, language: str) -> None:
    """nbgrader's generate_assignment; only the Korean version tells the gradebook, since both have the same cells."""
    from nbgrader.converters import GenerateAssignment
    from nbgrader.converters.base import NbGraderException
    from nbgrader.coursedir import CourseDirectory

    from grading.autograde import gradebook, nbgrader_config

    with gradebook(settings, course.id):
        pass  # made here, by one process at a time: nbgrader would make it without a lock
    config = nbgrader_config(settings, course.id)
    config.CourseDirectory.source_directory = _suffixed("source", language)
    config.CourseDirectory.release_directory = _suffixed("release", language)
    config.CourseDirectory.assignment_id = unit.id
    config.ClearSolutions.code_stub = {"python": CODE}
    config.ClearSolutions.text_stub = ANSWER
    config.GenerateAssignment.no_database = language != "ko"
    config.GenerateAssignment.force = True
    with _quiet() as errors:
        try:
            GenerateAssignment(coursedir=CourseDirectory(config=config), config=config).start()
        except NbGraderException as error:
            raise _wrong(unit, errors[-1] if errors else str(error)) from error


@contextlib.contextmanager
def _quiet() -> Iterator[list[str]]:
    """Keeps nbgrader's log and umask to itself; gives the last line of each error that it logs."""
    errors: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines = [line for line in record.getMessage().splitlines() if line.strip()]
            if lines and "see the the above" not in lines[-1]:  # nbgrader's way of saying that it said it before
                errors.append(lines[-1].strip())

    logger, handler = logging.getLogger("traitlets"), Keep(logging.ERROR)
    level, propagate, mask = logger.level, logger.propagate, os.umask(0o007)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield errors
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
        os.umask(mask)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One build of a course at a time."""
    with open(folder / ".build.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _share(settings: Settings, folder: Path, unit: Unit) -> None:
    """Let the staff's group read and write what was built."""
    roots = [folder / name / unit.id for name in _FOLDERS[:4]] + [folder / "gradebook.db"]
    for root in roots:
        for path in [root, *root.rglob("*")] if root.is_dir() else [root]:
            if path.exists() and path.stat().st_uid == os.geteuid():
                if os.geteuid() == 0:
                    os.chown(path, -1, staff_gid(settings))
                path.chmod(0o2770 if path.is_dir() else 0o660)
