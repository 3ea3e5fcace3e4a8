"""Grading: stock ``nbgrader autograde`` against ours, seconds from a submission to its score, and gates that must not pass.

``python -m benchmarks.grading``. Two units: 1.1 (arrays) and one that imports torch. Of each, 60 submissions (solutions, known
mistakes, empty releases) are graded by both sides on the same cores, in batches that alternate:

- stock: ``nbgrader autograde UNIT`` in a course folder of its own, with nbgrader's own configuration and gradebook. Counted:
  the command from start to end.
- ours: ``academy worker`` on Docker with two submissions at a time, jobs queued as staff queue them. Counted: from the first
  claim to the last recorded grade. The worker is started with the first batch already queued and lives for all of a unit's
  batches; whatever it warms up after its first claim counts, as does all CPU time since its start, containers included.
  ``*_ratio_with_start`` also counts its start until that claim.

A ratio compares submissions a minute of all batches together; ``*_median_ratio`` those of the batches in the middle, where ours
is warm. Ours leaves out cells that their author marked as demonstrations, since no grade depends on them; stock runs every
cell. ``*_same_cells_ratio`` compares with stock on notebooks from which they were deleted.

Both sides must give every test of every submission the same score, except where stock takes a warning on stderr for a failure.
Then a student hands in twenty times, and 200 times code is gated against itself while other processes keep the cores busy.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.utils import is_grade, is_solution
from sqlalchemy import select

from academy import settings as settings_module
from academy.database import Database
from academy.network import free_port
from academy.people import Person, enrol
from academy.settings import CHECKOUT, Settings
from benchmarks import report
from benchmarks.exchange import Service
from benchmarks.small_hub import STUDENT, small_hub
from grading import operations
from grading.autograde import gradebook_url
from grading.courses import build, catalogue, check
from grading.courses.catalogue import Unit
from grading.exchange import archive
from grading.exchange.client import Client
from grading.exchange.store import Store
from grading.records import Grade, Job, Submission

BIN = Path(sys.executable).parent
PARTS = os.environ.get("PARTS", "arrays,torch,on_submit,false_passes").split(",")
SUBMISSIONS = int(os.environ.get("SUBMISSIONS", "60"))  # of a unit, on each side
BATCHES = int(os.environ.get("BATCHES", "4"))
SUBMITS = int(os.environ.get("SUBMITS", "20"))
UNITS = {"arrays": ("foundations", "arrays", 6.0), "torch": ("units", "tensors", 10.0)}
UNCHANGED = ("units", "unchanged", 4)  # submissions of 50 gates each
GRADE_SECONDS = 120.0  # for one submission; beyond it the benchmark gives up
SPIN = "while True: pass"
STREAM = """
import random, time, numpy as np
block = np.ones(4_000_000)
while True:
    until = time.monotonic() + random.uniform(0.05, 1)
    while time.monotonic() < until:
        block += 1
    time.sleep(random.uniform(0.05, 1))
"""


@dataclass
class Batch:
    """One batch on one side."""

    unit: str
    side: str
    submissions: int
    seconds: float
    cpu_seconds: float
    machine_cpu_seconds: float  # of all processes: what the engine and the kernel did is in it, and whatever else ran
    start_seconds: float = 0.0  # ours: from the worker's start to its first claim, in the batch that starts it

    @property
    def per_minute(self) -> float:
        return per_minute([self])


@dataclass
class Bench:
    """A deployment on Docker with the units released, and a stock course folder beside it."""

    settings: Settings
    config: Path
    folder: Path
    database: Database
    scores: dict[str, dict[tuple[str, str], float | None]] = field(default_factory=dict)  # side -> (login, cell) -> score

    def unit(self, course: str, unit: str) -> Unit:
        return catalogue.course(self.settings, course).unit(unit)


@contextlib.contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    courses = folder / "courses"
    courses.mkdir()
    (courses / "foundations").symlink_to(CHECKOUT / "courses" / "foundations")
    (courses / "units").symlink_to(CHECKOUT / "benchmarks" / "units")
    config, name = folder / "academy.toml", f"bench{secrets.token_hex(3)}"
    ports = "\n".join(f"{key} = {free_port()}" for key in ("port", "hub_port", "pages_port", "proxy_api_port"))
    config.write_text(
        f'[academy]\nname = "{name}"\ndata = "{folder}/data"\ncourses = "{courses}"\n[hub]\n{ports}\n'
        '[spawner]\nbackend = "local"\n[grading]\nbackend = "docker"\nworkers = 2\n'
    )
    os.environ["ACADEMY_CONFIG"] = str(config)
    settings = settings_module.load()
    database = Database(settings.database_url)
    database.upgrade()
    build.build(settings)
    with database.write() as session:
        session.add(Person(login="teacher", name="teacher"))
        for course, unit, _ in [*UNITS.values(), UNCHANGED]:
            operations.release_unit(session, settings, course, unit, None, "teacher")
    try:
        yield Bench(settings, config, folder, database)
    finally:
        database.close()
        clean(name)


def clean(name: str) -> None:
    """Remove what the deployment left on the engine."""
    import docker

    engine = docker.from_env()
    for box in engine.containers.list(all=True, filters={"label": f"academyhub.deployment={name}"}):
        box.remove(force=True, v=True)
    engine.close()


def notebooks(academy: Bench, course: str, unit: str) -> list[NotebookNode]:
    """What students of a unit hand in, in turns: every other one the solution, then each known mistake, then nothing."""
    made = academy.unit(course, unit)
    source = build.notebook(made, course, "ko")
    solution = {cell.id: cell.source for cell in source.cells if is_solution(cell) and cell.cell_type == "code"}
    released = build.release(academy.settings, catalogue.course(academy.settings, course), made, "ko") / f"{unit}.ipynb"

    answers = {cell.id: "An answer." for cell in source.cells if is_solution(cell) and cell.cell_type == "markdown"}

    def filled(cells: dict[str, str]) -> NotebookNode:
        notebook: Any = nbformat.read(released, as_version=4)
        for cell in notebook.cells:
            cell.source = {**answers, **cells}.get(cell.id, cell.source)
        return notebook

    right = filled(solution)
    wrong = [filled({**solution, **mistake.cells}) for mistake in check.mistakes(made)]
    return [notebook for other in [*wrong, filled({})] for notebook in (right, other)]


def is_demonstration(cell: NotebookNode) -> bool:
    return bool(cell.metadata.get("academy", {}).get("demo"))


def write_work(folder: Path, unit: str, notebook: NotebookNode, release: Path) -> None:
    """A student's folder: the release with their notebook."""
    shutil.copytree(release, folder)
    nbformat.write(notebook, folder / f"{unit}.ipynb")


class Stock:
    """nbgrader as its documentation sets it up: a course folder, a name in its configuration, everything else default."""

    def __init__(self, academy: Bench, course: str, unit: str, demonstrations: bool = True) -> None:
        self.unit, self.demonstrations = unit, demonstrations
        self.root = academy.folder / f"stock-{unit}{'' if demonstrations else '-short'}"
        self.root.mkdir()
        (self.root / "nbgrader_config.py").write_text('c = get_config()\nc.CourseDirectory.course_id = "stock"\n')
        made = catalogue.course(academy.settings, course)
        shutil.copytree(build.source(academy.settings, made, made.unit(unit), "ko"), self.root / "source" / unit)
        self._shorten(self.root / "source" / unit)
        self._nbgrader("generate_assignment", unit)

    def _shorten(self, folder: Path) -> None:
        if self.demonstrations:
            return
        for path in folder.glob("*.ipynb"):
            notebook: Any = nbformat.read(path, as_version=4)
            notebook.cells = [cell for cell in notebook.cells if not is_demonstration(cell)]
            nbformat.write(notebook, path)

    def _nbgrader(self, *arguments: str) -> tuple[float, float]:
        """Seconds and CPU seconds, of its kernels too."""
        environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        with (self.root / "nbgrader.log").open("ab") as log:
            began = time.monotonic()
            process = subprocess.Popen([BIN / "nbgrader", *arguments], cwd=self.root, env=environment, stdout=log, stderr=log)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.monotonic() - began
        if process.returncode:
            raise RuntimeError(f"nbgrader {' '.join(arguments)}:\n{(self.root / 'nbgrader.log').read_text()[-3000:]}")
        return seconds, used.ru_utime + used.ru_stime

    def grade(self, work: Path, logins: list[str]) -> Batch:
        submitted = self.root / "submitted"
        shutil.rmtree(submitted, ignore_errors=True)  # of the last batch, so that nothing has to be skipped
        for login in logins:
            shutil.copytree(work / login, submitted / login / self.unit)
            self._shorten(submitted / login / self.unit)
        before = machine_cpu()
        seconds, cpu = self._nbgrader("autograde", self.unit)
        return Batch(
            self.unit, "stock" if self.demonstrations else "stock-short", len(logins), seconds, cpu, machine_cpu() - before
        )

    def scores(self) -> dict[tuple[str, str], float | None]:
        with Gradebook(f"sqlite:///{self.root}/gradebook.db", "stock") as book:
            return cell_scores(book, self.unit)

    def warned(self) -> set[tuple[str, str]]:
        """(login, cell) of tests that stock failed for what they wrote to stderr alone."""
        found = set()
        for path in self.root.glob(f"autograded/*/{self.unit}/*.ipynb"):
            notebook: Any = nbformat.read(path, as_version=4)
            for cell in notebook.cells:
                if cell.cell_type != "code" or not is_grade(cell):
                    continue
                kinds = {output.output_type for output in cell.outputs}
                if "error" not in kinds and any(output.get("name") == "stderr" for output in cell.outputs):
                    found.add((path.parts[-3], cell.metadata.nbgrader.grade_id))
        return found


class Ours:
    """``academy worker`` as a process."""

    def __init__(self, academy: Bench) -> None:
        self.academy = academy
        self.process: psutil.Popen | None = None
        self.started = 0.0
        self.containers = Containers(academy.settings.academy.name)

    def start(self) -> None:
        with (self.academy.folder / "worker.log").open("ab") as log:
            self.started = time.time()
            self.process = psutil.Popen([str(BIN / "academy"), "worker"], stdout=log, stderr=log)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
        self.containers.stop.set()
        self.containers.join()

    def __enter__(self) -> Ours:
        self.containers.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def cpu(self) -> float:
        return family_cpu(self.process) + self.containers.total() if self.process else 0.0

    def grade(self, course: str, unit: str, work: Path, logins: list[str]) -> Batch:
        store, academy = Store(self.academy.settings), self.academy
        blobs = {login: store.put(archive.pack_bytes(work / login)) for login in logins}
        machine, before = machine_cpu(), self.cpu()
        with academy.database.write() as session:
            for login, sha256 in blobs.items():
                size = store.path(sha256).stat().st_size
                session.add(Submission(course=course, unit=unit, login=login, language="ko", sha256=sha256, size=size))
            session.flush()
            ids = [job.id for job in operations.request_grading(session, course, unit, "teacher", logins)]
        fresh = self.process is None
        if fresh:
            self.start()
        jobs = self.wait(ids)
        claims = [job.created_at.timestamp() + job.phases["queued"] for job in jobs]
        seconds = max(job.finished_at.timestamp() for job in jobs if job.finished_at) - min(claims)
        self.containers.look()
        made = Batch(unit, "ours", len(logins), seconds, self.cpu() - before, machine_cpu() - machine)
        made.start_seconds = min(claims) - self.started if fresh else 0.0
        return made

    def wait(self, ids: list[str]) -> list[Job]:
        """Until the jobs are done.

        Raises:
            RuntimeError: one failed, or they take too long.
        """
        deadline = time.monotonic() + len(ids) * GRADE_SECONDS
        while time.monotonic() < deadline:
            with self.academy.database.read() as session:
                jobs = list(session.scalars(select(Job).where(Job.id.in_(ids))))
            if failed := [f"{job.unit}: {job.error}" for job in jobs if job.state not in ("queued", "running", "done")]:
                raise RuntimeError("\n".join(failed))
            if all(job.state == "done" for job in jobs):
                return jobs
            time.sleep(0.1)
        raise RuntimeError(f"not graded in time:\n{(self.academy.folder / 'worker.log').read_text()[-3000:]}")

    def scores(self, course: str, unit: str) -> dict[tuple[str, str], float | None]:
        with Gradebook(gradebook_url(self.academy.settings, course), course) as book:
            return cell_scores(book, unit)


def cell_scores(book: Gradebook, unit: str) -> dict[tuple[str, str], float | None]:
    """(login, cell) -> what the tests gave."""
    return {
        (submission.student.id, grade.name): grade.auto_score
        for submission in book.assignment_submissions(unit)
        for notebook in submission.notebooks
        for grade in notebook.grades
    }


class Containers(threading.Thread):
    """Adds up the CPU time of a deployment's containers, those that are gone as they were seen last."""

    def __init__(self, name: str) -> None:
        import docker

        super().__init__(daemon=True)
        self.client = docker.APIClient()
        self.filters = {"label": f"academyhub.deployment={name}"}
        self.used: dict[str, float] = {}
        self.stop, self.lock = threading.Event(), threading.Lock()

    def run(self) -> None:
        while not self.stop.wait(0.3):
            self.look()

    def look(self) -> None:
        import docker

        with self.lock:
            for box in self.client.containers(filters=self.filters):
                with contextlib.suppress(docker.errors.APIError, KeyError, ValueError):  # it ended meanwhile
                    stats = self.client.stats(box["Id"], stream=False, one_shot=True)
                    self.used[box["Id"]] = stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9

    def total(self) -> float:
        with self.lock:
            return sum(self.used.values())


def family_cpu(process: psutil.Process) -> float:
    """CPU seconds of a process, its descendants, and those of them that ended."""
    total = 0.0
    for member in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            total += sum(member.cpu_times()[:4])  # its own and its ended children's, user and system
    return total


def machine_cpu() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def compare(academy: Bench, name: str) -> tuple[list[Batch], dict[str, Any]]:
    """One unit on both sides, in alternating batches; what differs in the scores."""
    course, unit, _ = UNITS[name]
    work, kinds = academy.folder / f"work-{unit}", notebooks(academy, course, unit)
    made = catalogue.course(academy.settings, course)
    release = build.release(academy.settings, made, made.unit(unit), "ko")
    logins = [f"s{number:03}" for number in range(SUBMISSIONS)]
    for number, login in enumerate(logins):
        write_work(work / login, unit, kinds[number % len(kinds)], release)
    stock, batches = Stock(academy, course, unit), []
    size = -(-SUBMISSIONS // BATCHES)
    with Ours(academy) as ours:
        for turn in range(BATCHES):
            mine = logins[turn * size : (turn + 1) * size]
            for side in ("stock", "ours") if turn % 2 else ("ours", "stock"):
                batch = stock.grade(work, mine) if side == "stock" else ours.grade(course, unit, work, mine)
                batches.append(batch)
                cpu = batch.cpu_seconds / batch.submissions
                print(f"{unit:<8} {side:<6} {batch.per_minute:7.1f} a minute {cpu:6.2f} CPU s each", flush=True)
        theirs, own = stock.scores(), ours.scores(course, unit)
    if any(is_demonstration(cell) for cell in kinds[0].cells):
        batches.append(Stock(academy, course, unit, demonstrations=False).grade(work, logins[:size]))
    warned = stock.warned()
    differ = {key: (theirs.get(key), own.get(key)) for key in theirs.keys() | own.keys() if theirs.get(key) != own.get(key)}
    zeroed = {key for key in differ if key in warned and not differ[key][0]}
    other = [f"{login} {cell}: {pair}" for (login, cell), pair in differ.items() if (login, cell) not in zeroed]
    earned = sum(1 for score in own.values() if score)
    print(f"{unit:<8} {len(own)} tests, {earned} passed; {len(other)} differ, {len(zeroed)} zeroed by stock for a warning")
    return batches, {"tests": len(own), "passed": earned, "stock_zeroed_for_stderr": len(zeroed), "differ": other}


def unit_lines(name: str, batches: list[Batch], found: dict[str, Any]) -> list[report.Line]:
    sides = {side: [batch for batch in batches if batch.side == side] for side in ("stock", "ours", "stock-short")}
    stock, ours, short = sides["stock"], sides["ours"], sides["stock-short"]
    cpu = {side: sum(batch.cpu_seconds for batch in mine) / SUBMISSIONS for side, mine in sides.items()}
    medians = {side: statistics.median(batch.per_minute for batch in sides[side]) for side in ("stock", "ours")}
    lines: list[report.Line] = [
        {"name": f"{name}_stock_per_minute", "value": per_minute(stock)},
        {"name": f"{name}_ours_per_minute", "value": per_minute(ours)},
        {"name": f"{name}_stock_cpu_s", "value": cpu["stock"]},
        {"name": f"{name}_ours_cpu_s", "value": cpu["ours"]},
        {"name": f"{name}_unit_ratio", "value": per_minute(ours) / per_minute(stock), "at_least": UNITS[name][2]},
        {"name": f"{name}_ratio_with_start", "value": per_minute(ours, with_start=True) / per_minute(stock)},
        {"name": f"{name}_median_ratio", "value": medians["ours"] / medians["stock"]},
        {"name": f"{name}_scores_differ", "value": len(found["differ"]), "at_most": 0},
        {"name": f"{name}_stock_zeroed", "value": found["stock_zeroed_for_stderr"]},
    ]
    if short:
        lines.append({"name": f"{name}_same_cells_ratio", "value": per_minute(ours) / per_minute(short)})
    return lines


def per_minute(batches: list[Batch], with_start: bool = False) -> float:
    seconds = sum(batch.seconds + (batch.start_seconds if with_start else 0.0) for batch in batches)
    return 60 * sum(batch.submissions for batch in batches) / seconds


def on_submit(academy: Bench) -> list[float]:
    """Seconds from the receipt until the score is there: one submission after the other, into an empty queue; worker warm."""
    course, unit, _ = UNITS["torch"]
    made = catalogue.course(academy.settings, course)
    release = build.release(academy.settings, made, made.unit(unit), "ko")
    folder, seconds = academy.folder / "on-submit", []
    write_work(folder, unit, notebooks(academy, course, unit)[0], release)
    logins = [f"n{number:02}" for number in range(SUBMITS + 1)]
    with academy.database.write() as session:
        for login in logins:
            person = Person(login=login, name=login)
            enrol(person, course, "student")
            session.add(person)
    service = Service(academy.settings, academy.config, academy.folder)
    with small_hub(academy.settings, academy.folder) as hub, Ours(academy) as ours:
        tokens = hub.tokens(logins, STUDENT)
        service.start()
        try:
            ours.start()
            for login in logins:
                client = Client(f"{service.url}/api/v1", tokens[login], "en")
                receipt = client.submit(course, unit, folder, "ko")
                seconds.append(round(until_graded(academy, receipt.id), 3))
                print(f"submit   {seconds[-1]:6.2f} s", flush=True)
        finally:
            service.kill()
    return seconds[1:]  # the first met a worker that had just been started


def until_graded(academy: Bench, submission: str) -> float:
    began = time.monotonic()
    while time.monotonic() < began + GRADE_SECONDS:
        with academy.database.read() as session:
            if session.get(Grade, submission):
                return time.monotonic() - began
        time.sleep(0.02)
    raise RuntimeError(f"no grade after {GRADE_SECONDS:g} s:\n{(academy.folder / 'worker.log').read_text()[-3000:]}")


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Other work on every core: one process each that never rests, and one that streams through memory in bursts."""
    programs = [SPIN] * (os.cpu_count() or 1) + [STREAM]
    processes = [subprocess.Popen([sys.executable, "-c", program]) for program in programs]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def false_passes(academy: Bench) -> dict[str, Any]:
    """How many gates of 1.5x code passes that is as fast as what it is compared with."""
    course, unit, submissions = UNCHANGED
    made = catalogue.course(academy.settings, course)
    source = build.notebook(made.unit(unit), course, "ko")
    solution = {cell.id: cell.source for cell in source.cells if is_solution(cell)}
    release = build.release(academy.settings, made, made.unit(unit), "ko")
    notebook: Any = nbformat.read(release / f"{unit}.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = solution.get(cell.id, cell.source)
    work, logins = academy.folder / "work-unchanged", [f"u{number}" for number in range(submissions)]
    for login in logins:
        write_work(work / login, unit, notebook, release)
    with Ours(academy) as ours, busy():
        batch = ours.grade(course, unit, work, logins)
        scores = ours.scores(course, unit)
    trials = 5 * len(scores)
    passed = sum(score or 0.0 for score in scores.values())
    errors = [f"{login} {cell}" for login, cell in failed_cells(academy, course, unit)]
    print(f"gates    {trials} trials in {batch.seconds:.0f} s, {passed:g} pass, {len(errors)} tests fail", flush=True)
    return {"trials": trials, "passed": passed, "errors": errors, "seconds": batch.seconds}


def failed_cells(academy: Bench, course: str, unit: str) -> Iterator[tuple[str, str]]:
    """(login, cell) of tests that ended with an error: their trials did not happen."""
    for path in academy.settings.course_folder(course).glob(f"autograded/*/{unit}/*.ipynb"):
        notebook: Any = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if is_grade(cell) and any(output.output_type == "error" for output in cell.get("outputs", [])):
                yield path.parts[-3], cell.metadata.nbgrader.grade_id


def main() -> int:
    lines: list[report.Line] = []
    runs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="academy-bench-") as scratch, bench(Path(scratch)) as academy:
        for name in [name for name in UNITS if name in PARTS]:
            batches, found = compare(academy, name)
            runs[name] = {"batches": [vars(batch) for batch in batches], "scores": found}
            lines += unit_lines(name, batches, found)
        if "on_submit" in PARTS:
            seconds = runs["on_submit"] = on_submit(academy)
            lines.append({"name": "on_submit_median_s", "value": statistics.median(seconds)})
            lines.append({"name": "on_submit_p95_s", "value": report.percentile(seconds, 0.95), "at_most": 5})
        if "false_passes" in PARTS:
            gates = runs["false_passes"] = false_passes(academy)
            lines.append({"name": "false_pass_trials", "value": gates["trials"], "at_least": 200})
            lines.append({"name": "false_pass_errors", "value": len(gates["errors"]), "at_most": 0})
            lines.append({"name": "false_passes", "value": gates["passed"], "at_most": 0})
    return report.write("grading", runs, lines)


if __name__ == "__main__":
    raise SystemExit(main())
