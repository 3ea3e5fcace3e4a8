"""Proves a unit in the grader's own sandbox: the solution earns all points, the empty release none, every mistake is caught."""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbgrader.utils import determine_grade, is_grade, is_solution

from academy.settings import Settings
from grading import supervisor
from grading.courses import build
from grading.courses.catalogue import Course, CourseError, Unit

_HIDDEN = re.compile(r"### BEGIN HIDDEN TESTS")
_BOLD = re.compile(r"[^\s\w*]\*\*[가-힣]")  # Markdown does not see this as the end of bold text


@dataclass
class Record:
    """What is known of a unit after its check; ``build/courses.json`` holds a list of these."""

    unit: str
    ok: bool = False
    tasks: int = 0
    points: float = 0.0
    hidden_tests: int = 0
    mistakes: int = 0
    mistakes_caught: int = 0
    gates: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Mistake:
    """A plausible wrong solution: the cells it replaces, and the test that must fail."""

    name: str
    fails: str
    cells: dict[str, str]
    problems: list[str]


def check(settings: Settings, course: Course, unit: Unit, report: Callable[[str], None] = lambda _: None) -> Record:
    """Prove one unit; problems are listed in the record, in English, for the unit's author.

    Raises:
        AcademyError: the sandbox cannot be started.
    """
    record = Record(unit=f"{course.id}/{unit.id}")
    began = time.monotonic()
    try:
        _prove(settings, course, unit, record, report)
    except CourseError as error:
        record.problems.append(str(error))
    record.seconds = round(time.monotonic() - began, 1)
    record.ok = not record.problems
    return record


def _prove(settings: Settings, course: Course, unit: Unit, record: Record, report: Callable[[str], None]) -> None:
    def tell(step: str) -> None:
        report(f"{record.unit}: {step}")

    nb = build.notebook(unit, course.id, "ko")
    _count(nb, record)
    record.problems += language_problems(course, unit, nb)
    tell("release")
    released, problems = _released(settings, course, unit)
    record.problems += problems
    tell("solution")
    solution = _run(settings, course, unit, {}, everything=True)
    record.problems += [
        f"the solution loses points at {name}: {solution.errors.get(name, '')}"
        for name, (got, most) in solution.scores.items()
        if got < most
    ]
    record.problems += [f"cell {name} fails with the solution: {text}" for name, text in solution.other_errors.items()]
    record.gates = solution.gates
    tell("empty release")
    empty = _run(settings, course, unit, released, everything=True)
    record.problems += [f"the empty release earns points at {name}" for name, (got, _) in empty.scores.items() if got > 0]
    record.problems += [f"cell {name} fails before a task is solved: {text}" for name, text in empty.other_errors.items()]
    for mistake in mistakes(unit):
        tell(f"mistake {mistake.name}")
        record.mistakes += 1
        problems = [*mistake.problems, *_missed(settings, course, unit, mistake, set(solution.scores), set(released))]
        record.mistakes_caught += not problems
        record.problems += problems
    if not 3 <= record.mistakes <= 6:
        record.problems.append(f"a unit has 3 to 6 known mistakes, this one {record.mistakes}")
    if record.hidden_tests < 4:
        record.problems.append(f"a unit has at least 4 hidden tests, this one {record.hidden_tests}")


def _count(nb: Any, record: Record) -> None:
    graded = [cell for cell in nb.cells if is_grade(cell)]
    record.tasks = sum(1 for cell in nb.cells if is_solution(cell))
    record.points = float(sum(cell.metadata.nbgrader["points"] for cell in graded))
    record.hidden_tests = sum(len(_HIDDEN.findall(cell.source)) for cell in graded)


def language_problems(course: Course, unit: Unit, korean: Any) -> list[str]:
    """Both languages have the same cells in the same order, and no Korean text was left behind by a changed English one."""
    english = build.notebook(unit, course.id, "en")
    problems = []
    ko, en = ([(cell.id, cell.cell_type, cell.metadata.get("nbgrader")) for cell in nb.cells] for nb in (korean, english))
    if ko != en:
        differing = {str(cell[0]) for cell in ko} ^ {str(cell[0]) for cell in en}
        problems.append(f"the languages have other cells: {', '.join(sorted(differing)) or 'another order'}")
    texts, known = {cell.id: cell.source for cell in english.cells}, build.messages(unit)
    for cell in jupytext.reads(unit.source.read_text(encoding="utf-8"), fmt="py:percent").cells:
        name, reviewed = cell.metadata.get("id", ""), cell.metadata.get("reviewed")
        now = fingerprint(texts.get(name, ""))
        if cell.metadata.get("lang") == "ko" and reviewed != now:
            problems.append(
                f'read the Korean text of {name!r} against the English one, then note reviewed="{now}" in its header'
            )
        for key in hints(cell.source if cell.cell_type == "code" else ""):
            if key not in known:
                problems.append(f"cell {name!r} uses the message {key!r}, which messages.toml lacks")
        if broken := _BOLD.search(cell.source if cell.cell_type == "markdown" else ""):
            problems.append(f"cell {name!r}: bold does not end at {broken[0]!r}; put the punctuation behind the asterisks")
    return problems


def hints(source: str) -> list[str]:
    """The message keys that a cell uses, as far as they are written out."""
    return re.findall(r"""\bhint\(\s*["']([^"']+)["']""", source)


def _released(settings: Settings, course: Course, unit: Unit) -> tuple[dict[str, str], list[str]]:
    """The cells to fill in, as students get them, by id; and what is wrong with the release."""
    problems = []
    with tempfile.TemporaryDirectory(prefix="academyhub-check-") as name:
        aside = settings.model_copy(
            update={
                "academy": settings.academy.model_copy(update={"data": Path(name)}),
                "database": settings.database.model_copy(update={"gradebook_url": ""}),
            }
        )
        build.build(aside, course.id, unit.id)
        notebooks: dict[str, Any] = {
            language: nbformat.read(build.release(aside, course, unit, language) / f"{unit.id}.ipynb", as_version=4)
            for language in build.LANGUAGES
        }
    for language, nb in notebooks.items():
        for cell in nb.cells:
            if "### BEGIN" in cell.source or "### END" in cell.source:
                problems.append(f"the release ({language}) shows a mark of a solution or a hidden test in {cell.id}")
    return {cell.id: cell.source for cell in notebooks["ko"].cells if is_solution(cell) and not is_grade(cell)}, problems


def fingerprint(text: str) -> str:
    """What ``reviewed="…"`` of a Korean cell holds: the start of the SHA-256 of the English text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def mistakes(unit: Unit) -> list[Mistake]:
    """The unit's known mistakes, by name."""
    return [_mistake(path) for path in sorted((unit.folder / "mistakes").glob("*.py"))]


def _mistake(path: Path) -> Mistake:
    text = path.read_text(encoding="utf-8")
    header = dict(re.findall(r"^# (fails|ko|en): (.+)$", text, re.MULTILINE))
    problems = [f"mistake {path.stem} has no line '# {key}: …'" for key in ("fails", "ko", "en") if key not in header]
    cells = {c.metadata["id"]: c.source for c in jupytext.reads(text, fmt="py:percent").cells if "id" in c.metadata}
    return Mistake(path.stem, header.get("fails", "").strip(), cells, problems)


def _missed(
    settings: Settings, course: Course, unit: Unit, mistake: Mistake, tests: set[str], solution_cells: set[str]
) -> list[str]:
    if unknown := mistake.cells.keys() - solution_cells:
        return [f"mistake {mistake.name} replaces {', '.join(sorted(unknown))}, which is no solution cell"]
    if mistake.fails not in tests:
        return [f"mistake {mistake.name} names {mistake.fails!r}, which is no graded test"]
    got, most = _run(settings, course, unit, mistake.cells, until=mistake.fails).scores[mistake.fails]
    return [f"mistake {mistake.name} passes {mistake.fails}"] if got >= most else []


@dataclass
class _Outcome:
    """What a run of a unit gave: each autograded test as (got, most), errors by cell, figures of gates."""

    scores: dict[str, tuple[float, float]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    other_errors: dict[str, str] = field(default_factory=dict)
    gates: list[dict[str, Any]] = field(default_factory=list)


def _run(settings: Settings, course: Course, unit: Unit, replaced: dict[str, str], until: str = "", everything: bool = False) -> _Outcome:
    """Run the source with some cells replaced, up to the cell ``until``, in the grader's sandbox."""
    nb = build.notebook(unit, course.id, "ko")
    for cell in nb.cells:
        cell.source = replaced.get(cell.id, cell.source)
    if until:
        nb.cells = nb.cells[: [cell.id for cell in nb.cells].index(until) + 1]
    with tempfile.TemporaryDirectory(prefix="academyhub-check-") as name:
        folder = Path(name)
        work = folder / "work"
        work.mkdir()
        nbformat.write(nb, work / f"{unit.id}.ipynb")
        build.write_files(unit, "ko", work)
        source = folder / "source"
        source.mkdir()
        nbformat.write(build.notebook(unit, course.id, "ko"), source / f"{unit.id}.ipynb")
        build.write_files(unit, "ko", source)
        result = supervisor.run(settings, work, f"{unit.id}.ipynb", "ko", source=source, everything=everything)
    done: Any = nbformat.reads(result.notebook.decode("utf-8"), as_version=4)
    outcome = _Outcome(gates=[{key: gate[key] for key in ("name", "ratio", "at_least")} for gate in result.gates])
    for cell in (cell for cell in done.cells if cell.cell_type == "code"):
        error = " ".join(output.evalue for output in cell.outputs if output.output_type == "error")[:300]
        if is_grade(cell) and not is_solution(cell):
            got, most = determine_grade(cell)
            outcome.scores[cell.id] = (got or 0.0, most)
            outcome.errors[cell.id] = error
        elif error:
            outcome.other_errors[cell.id] = error
    return outcome
