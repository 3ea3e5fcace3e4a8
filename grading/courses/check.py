"""Proves a unit in the grader's own sandbox: the solution earns all points, the empty release none, every mistake is caught."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
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
from grading import sandbox
from grading.courses import build
from grading.courses.catalogue import Course, Unit

_HIDDEN = re.compile(r"### BEGIN HIDDEN TESTS")
_SOLUTION = re.compile(r"^([ \t]*)### BEGIN SOLUTION.*?### END SOLUTION", re.DOTALL | re.MULTILINE)
CELL_SECONDS = 120  # no cell of the solution may take longer


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
    """Prove one unit; problems are listed in the record, in English, for the unit's author."""
    record = Record(unit=f"{course.id}/{unit.id}")
    began = time.monotonic()
    nb = build.notebook(unit, course.id, "ko")
    _count(nb, record)
    record.problems += _languages(course, unit, nb)
    solution_cells = {cell.id for cell in nb.cells if is_solution(cell) and not is_grade(cell)}
    report("solution")
    scores, errors = _run(settings, course, unit, {})
    record.problems += [
        f"the solution loses points at {name}: {errors.get(name, '')}" for name, (got, most) in scores.items() if got < most
    ]
    report("empty release")
    stripped = {cell.id: _strip(cell.source) for cell in nb.cells if cell.id in solution_cells}
    empty, _ = _run(settings, course, unit, stripped)
    record.problems += [f"the empty release earns points at {name}" for name, (got, _) in empty.items() if got > 0]
    for mistake in mistakes(unit):
        report(f"mistake {mistake.name}")
        record.mistakes += 1
        problems = [*mistake.problems, *_missed(settings, course, unit, mistake, set(scores), solution_cells)]
        record.mistakes_caught += not problems
        record.problems += problems
    if not 3 <= record.mistakes <= 6:
        record.problems.append(f"a unit has 3 to 6 known mistakes, this one {record.mistakes}")
    if record.hidden_tests < 4:
        record.problems.append(f"a unit has at least 4 hidden tests, this one {record.hidden_tests}")
    record.seconds = round(time.monotonic() - began, 1)
    record.ok = not record.problems
    return record


def _count(nb: Any, record: Record) -> None:
    graded = [cell for cell in nb.cells if is_grade(cell)]
    record.tasks = sum(1 for cell in nb.cells if is_solution(cell))
    record.points = float(sum(cell.metadata.nbgrader["points"] for cell in graded))
    record.hidden_tests = sum(len(_HIDDEN.findall(cell.source)) for cell in graded)


def _languages(course: Course, unit: Unit, korean: Any) -> list[str]:
    """Both languages have the same cells in the same order, and no Korean text was left behind by a changed English one."""
    english = build.notebook(unit, course.id, "en")
    problems = []
    ko, en = ([(cell.id, cell.cell_type, cell.metadata.get("nbgrader")) for cell in nb.cells] for nb in (korean, english))
    if ko != en:
        differing = {str(cell[0]) for cell in ko} ^ {str(cell[0]) for cell in en}
        problems.append(f"the languages have other cells: {', '.join(sorted(differing)) or 'another order'}")
    texts = {cell.id: cell.source for cell in english.cells}
    for cell in jupytext.reads(unit.source.read_text(encoding="utf-8"), fmt="py:percent").cells:
        reviewed = cell.metadata.get("reviewed")
        if reviewed and reviewed != fingerprint(texts.get(cell.metadata["id"], "")):
            problems.append(f"the Korean text of {cell.metadata['id']!r} was reviewed against another English text")
    missing = set(build.messages(unit, "ko")) ^ set(build.messages(unit, "en"))
    return problems + [f"message {key!r} is not there in both languages" for key in sorted(missing)]


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
    scores, _ = _run(settings, course, unit, mistake.cells)
    got, most = scores[mistake.fails]
    return [f"mistake {mistake.name} passes {mistake.fails}"] if got >= most else []


def _strip(source: str) -> str:
    return _SOLUTION.sub(r"\1raise NotImplementedError()", source)


def _run(
    settings: Settings, course: Course, unit: Unit, replaced: dict[str, str]
) -> tuple[dict[str, tuple[float, float]], dict[str, str]]:
    """Score of each autograded test as (got, most), and the errors of those that failed."""
    nb = build.notebook(unit, course.id, "ko")
    for cell in nb.cells:
        cell.source = replaced.get(cell.id, cell.source)
    with tempfile.TemporaryDirectory(prefix="academyhub-check-") as name:
        folder = Path(name)
        nbformat.write(nb, folder / f"{unit.id}.ipynb")
        (folder / "messages.json").write_text(json.dumps(build.messages(unit, "ko"), ensure_ascii=False), encoding="utf-8")
        for path in build.extra_files(unit):
            target = folder / path.relative_to(unit.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        result = sandbox.run(settings, folder, f"{unit.id}.ipynb", "ko")
    done: Any = nbformat.reads(result.notebook.decode("utf-8"), as_version=4)
    scores, errors = {}, {}
    for cell in done.cells:
        if is_grade(cell) and not is_solution(cell):
            got, most = determine_grade(cell)
            scores[cell.id] = (got or 0.0, most)
            errors[cell.id] = " ".join(o.evalue for o in cell.outputs if o.output_type == "error")[:300]
    return scores, errors
