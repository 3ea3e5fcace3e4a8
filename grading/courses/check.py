"""Proves a unit in the grader's own sandbox: the solution earns all points, the empty release none, every mistake is caught.

Every performance gate must hold with the solution in each of twenty runs while something else keeps all cores busy.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from string import Formatter
from typing import Any

import jupytext
import nbformat
from nbgrader.utils import determine_grade, is_grade, is_solution

from academy.settings import Settings
from grading import supervisor
from grading.courses import build, catalogue
from grading.courses.catalogue import Course, CourseError, Unit

_HIDDEN = re.compile(r"### BEGIN HIDDEN TESTS")
_BOLD = re.compile(r"[^\s\w*]\*\*[가-힣]")  # Markdown does not see this as the end of bold text
_LINK = re.compile(r"""(!?)\[[^\]\n]*\]\(([^)\s]+)[^)]*\)|<(img)\s[^>]*?src=["']([^"']+)""")
_GATE = re.compile(r"""\bgate\(\s*["']([^"']+)""")
_GLYPH = re.compile(r"Glyph .* missing from")  # what matplotlib says of a character that its font lacks
GATE_RUNS = 20
SLOWEST_CELL = 120.0  # seconds
GATES_TIMEOUT = 3600.0  # seconds, for all runs of a unit's gates


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


def check(
    settings: Settings,
    course: Course,
    unit: Unit,
    report: Callable[[str], None] = lambda _: None,
    gate_runs: int = GATE_RUNS,
    demos: bool = True,
) -> Record:
    """Prove one unit; problems are listed in the record, in English, for the unit's author.

    Args:
        gate_runs: how often each performance gate is tried with all cores kept busy; 0: not at all.
        demos: run demonstrations, too, which take most of the time and earn no points.

    Raises:
        AcademyError: the sandbox cannot be started.
    """
    record = Record(unit=f"{course.id}/{unit.id}")
    began = time.monotonic()
    try:
        _prove(settings, course, unit, record, report, gate_runs, demos)
    except CourseError as error:
        record.problems.append(str(error))
    record.seconds = round(time.monotonic() - began, 1)
    record.ok = not record.problems
    return record


def _prove(
    settings: Settings,
    course: Course,
    unit: Unit,
    record: Record,
    report: Callable[[str], None],
    gate_runs: int,
    demos: bool,
) -> None:
    def tell(step: str) -> None:
        report(f"{record.unit}: {step}")

    nb = build.notebook(unit, course.id, "ko")
    _count(nb, record)
    record.problems += language_problems(course, unit, nb)
    for language in build.LANGUAGES:
        record.problems += link_problems(unit, build.notebook(unit, course.id, language))
    record.problems += catalogue.path_problems(settings, course, unit)
    tell("release")
    released, problems = _released(settings, course, unit)
    record.problems += problems
    tell("solution")
    solution = _run(settings, course, unit, {}, everything=demos)
    record.problems += [
        f"the solution loses points at {name}: {solution.errors.get(name, '')}"
        for name, (got, most) in solution.scores.items()
        if got < most
    ]
    record.problems += [f"cell {name} fails with the solution: {text}" for name, text in solution.other_errors.items()]
    record.problems += solution.plot_problems
    record.gates = solution.gates
    tell("empty release")
    empty = _run(settings, course, unit, released, everything=demos)
    record.problems += [f"the empty release earns points at {name}" for name, (got, _) in empty.scores.items() if got > 0]
    record.problems += [f"cell {name} fails before a task is solved: {text}" for name, text in empty.other_errors.items()]
    for mistake in mistakes(unit):
        tell(f"mistake {mistake.name}")
        record.mistakes += 1
        problems = [*mistake.problems, *_missed(settings, course, unit, mistake, set(solution.scores), set(released))]
        record.mistakes_caught += not problems
        record.problems += problems
    if solution.gates and gate_runs:
        tell(f"gates, {gate_runs} times with all cores busy")
        with busy_cores():
            tried = gate_figures(settings, course, unit, gate_runs)
        record.gates, problems = _judged(solution.gates, tried, gate_runs)
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
        in_korean, in_english = ({str(cell[0]) for cell in each} for each in (ko, en))
        alone = [f"{name} only in Korean" for name in sorted(in_korean - in_english)]
        alone += [f"{name} only in English" for name in sorted(in_english - in_korean)]
        problems.append(f"the languages have other cells: {', '.join(alone) or 'another order'}")
    texts, known = {cell.id: cell.source for cell in english.cells}, build.messages(unit)
    for cell in jupytext.reads(unit.source.read_text(encoding="utf-8"), fmt="py:percent").cells:
        name, reviewed = cell.metadata.get("id", ""), cell.metadata.get("reviewed")
        now = fingerprint(texts.get(name, ""))
        if cell.metadata.get("lang") == "ko" and name in texts and reviewed != now:
            problems.append(
                f'read the Korean text of {name!r} against the English one, then note reviewed="{now}" in its header'
            )
        for key in hints(cell.source if cell.cell_type == "code" else ""):
            if key not in known:
                problems.append(f"cell {name!r} uses the message {key!r}, which messages.toml lacks")
        if broken := _BOLD.search(cell.source if cell.cell_type == "markdown" else ""):
            problems.append(f"cell {name!r}: bold does not end at {broken[0]!r}; put the punctuation behind the asterisks")
    for key, spoken in known.items():
        one, other = (sorted({name for _, name, _, _ in Formatter().parse(spoken[at]) if name}) for at in build.LANGUAGES)
        if one != other:
            problems.append(f"the message {key!r} fills in {one} in Korean and {other} in English")
    return problems


def link_problems(unit: Unit, nb: Any) -> list[str]:
    """Links that lead nowhere, and pictures that need a network."""
    problems, anchors = (
        [],
        {_anchor(line) for cell in nb.cells if cell.cell_type == "markdown" for line in cell.source.splitlines()},
    )
    for cell in (cell for cell in nb.cells if cell.cell_type == "markdown"):
        for mark, link, picture, address in _LINK.findall(cell.source):
            target = link or address
            if target.startswith(("http://", "https://")):
                if mark or picture:
                    problems.append(f"cell {cell.id!r}: the picture {target} is not in the unit's folder; units work offline")
            elif target.startswith("#"):
                if target.removeprefix("#") not in anchors:
                    problems.append(f"cell {cell.id!r}: there is no heading for the link {target}")
            elif not target.startswith(("mailto:", "data:")) and not (unit.folder / target.partition("#")[0]).is_file():
                problems.append(f"cell {cell.id!r}: there is no file {target} in the unit's folder")
    return problems


def _anchor(line: str) -> str:
    """What Jupyter calls a heading's place."""
    return line.lstrip("#").strip().replace(" ", "-") if line.startswith("#") else ""


def hints(source: str) -> list[str]:
    """The message keys that a cell uses, as far as they are written out."""
    return re.findall(r"""\bhint\(\s*["']([^"']+)["']""", source)


def _released(settings: Settings, course: Course, unit: Unit) -> tuple[dict[str, str], list[str]]:
    """The cells to fill in, as students get them, by id; and what is wrong with the release."""
    problems = []
    with tempfile.TemporaryDirectory(prefix="academyhub-check-") as name:
        aside = elsewhere(settings, Path(name))
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


def elsewhere(settings: Settings, data: Path) -> Settings:
    """The same academy with its data in another folder, so that a build touches no real course."""
    return settings.model_copy(
        update={
            "academy": settings.academy.model_copy(update={"data": data}),
            "database": settings.database.model_copy(update={"gradebook_url": ""}),
        }
    )


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
    plot_problems: list[str] = field(default_factory=list)
    gates: list[dict[str, Any]] = field(default_factory=list)


def _run(
    settings: Settings, course: Course, unit: Unit, replaced: dict[str, str], until: str = "", everything: bool = False
) -> _Outcome:
    """Run the source with some cells replaced, up to the cell ``until``, in the grader's sandbox."""
    nb = build.notebook(unit, course.id, "ko")
    for cell in nb.cells:
        cell.source = replaced.get(cell.id, cell.source)
    if until:
        nb.cells = nb.cells[: [cell.id for cell in nb.cells].index(until) + 1]
    result = execute(settings, unit, nb, build.notebook(unit, course.id, "ko"), everything=everything)
    done: Any = nbformat.reads(result.notebook.decode("utf-8"), as_version=4)
    outcome = _Outcome(gates=_figures(result))
    for cell in (cell for cell in done.cells if cell.cell_type == "code"):
        error = " ".join(output.evalue for output in cell.outputs if output.output_type == "error")[:300]
        if is_grade(cell) and not is_solution(cell):
            got, most = determine_grade(cell)
            outcome.scores[cell.id] = (got or 0.0, most)
            outcome.errors[cell.id] = error
        elif error:
            outcome.other_errors[cell.id] = error
        elif everything:
            outcome.plot_problems += _plot_problems(cell)
    return outcome


def execute(
    settings: Settings,
    unit: Unit,
    nb: Any,
    source: Any,
    language: str = "ko",
    everything: bool = False,
    timeout: float | None = None,
    gpu: str = "",
) -> supervisor.Result:
    """Run a notebook as a submission of the unit whose source notebook is ``source``."""
    limits = settings.grading.model_copy(update={"cell_timeout": SLOWEST_CELL})
    settings = settings.model_copy(update={"grading": limits})
    with tempfile.TemporaryDirectory(prefix="academyhub-check-") as name:
        folders = {which: Path(name) / which for which in ("work", "source")}
        for folder, each in zip(folders.values(), (nb, source), strict=True):
            folder.mkdir()
            nbformat.write(each, folder / f"{unit.id}.ipynb")
            build.write_files(unit, language, folder)
        return supervisor.run(
            settings,
            folders["work"],
            f"{unit.id}.ipynb",
            language,
            source=folders["source"],
            everything=everything,
            timeout=timeout,
            gpu=gpu,
        )


def _figures(result: supervisor.Result) -> list[dict[str, Any]]:
    return [{key: gate[key] for key in ("name", "ratio", "at_least")} for gate in result.gates]


def _plot_problems(cell: Any) -> list[str]:
    """A cell that shows no picture though it draws one, or one with characters that its font lacks."""
    problems = []
    if "plt.show()" in cell.source and not any("image/png" in output.get("data", {}) for output in cell.outputs):
        problems.append(f"cell {cell.id} draws a plot that does not appear")
    if any(_GLYPH.search(output.get("text", "")) for output in cell.outputs if output.output_type == "stream"):
        problems.append(f"cell {cell.id} draws characters that its font lacks")
    return problems


def gate_names(cell: Any) -> list[str]:
    """The gates of a test cell, as far as they are written out."""
    return _GATE.findall(cell.source) if is_grade(cell) and not is_solution(cell) else []


def gate_figures(settings: Settings, course: Course, unit: Unit, runs: int, gpu: str = "") -> list[dict[str, Any]]:
    """What each performance gate reaches with the solution, ``runs`` times; demonstrations and other tests are left out.

    Args:
        gpu: UUID of the device to run on; without one, gates that want a GPU give no figure.
    """
    notebooks = []
    for _ in range(2):
        nb = build.notebook(unit, course.id, "ko")
        kept = [cell for cell in nb.cells if cell.cell_type == "code" and (not is_grade(cell) or gate_names(cell))]
        nb.cells = [again for cell in kept for again in (_copies(cell, runs) if gate_names(cell) else [cell])]
        notebooks.append(nb)
    mine, source = notebooks
    return _figures(execute(settings, unit, mine, source, timeout=GATES_TIMEOUT, gpu=gpu))


def _copies(cell: Any, count: int) -> Iterator[Any]:
    for number in range(count):
        again = copy.deepcopy(cell)
        again.id = again.metadata.nbgrader.grade_id = f"{cell.id}--{number}"
        yield again


def _judged(seen: list[dict[str, Any]], tried: list[dict[str, Any]], runs: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Each gate with how often it held, and what is wrong."""
    gates, problems = [], []
    for gate in seen:
        ratios = sorted(each["ratio"] for each in tried if each["name"] == gate["name"])
        held = sum(ratio >= gate["at_least"] for ratio in ratios)
        gates.append({**gate, "held": held, "runs": runs, "lowest": ratios[0] if ratios else 0.0})
        if held < runs:
            problems.append(f"the gate {gate['name']!r} held in {held} of {runs} runs; lowest {gates[-1]['lowest']:.2f}x")
    return gates, problems


@contextlib.contextmanager
def busy_cores() -> Iterator[None]:
    """Something else that wants every core, as on a server full of students."""
    endless = f"import os\nwhile os.getppid() == {os.getpid()}: pass"  # but no longer than this process
    loads = [subprocess.Popen([sys.executable, "-c", endless]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for load in loads:
            load.kill()
            load.wait()
