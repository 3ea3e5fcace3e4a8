"""A course of our own, built and proved with real nbgrader and real kernels; then the units of this repository."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import psutil
import pytest
from nbgrader.api import Gradebook

from academy.messages import AcademyError
from academy.settings import CHECKOUT, GpuDevice, Settings
from grading import checks, timing
from grading.courses import build, catalogue, check, measure, new, preview
from grading.courses.catalogue import Course, CourseError, Unit

COURSE = """
title = { ko = "기초", en = "Basics" }
[[units]]
id = "sums"
number = "7.1"
title = { ko = "덧셈", en = "Sums" }
hours = 1
"""
UNIT = """\
# %% [markdown] id="title" lang="ko" reviewed="{reviewed}"
# # 덧셈

# %% [markdown] id="title" lang="en"
# # Sums

# %% id="setup" kind="locked"
from grading.checks import gate, hint, speedup, submission, when_solved

# %% id="add" kind="solution"
def add(a, b):
    ### BEGIN SOLUTION
    return a + b
    ### END SOLUTION

# %% id="test-add" kind="test" points=2
assert submission.add(1, 2) == 3, hint("small")
### BEGIN HIDDEN TESTS
assert submission.add(-1, 1) == 0, hint("small")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
assert submission.add(0, 0) == 0, hint("small")
### END HIDDEN TESTS

# %% id="test-large" kind="test" points=1
assert submission.add(2, 2) == 4, hint("large")
### BEGIN HIDDEN TESTS
assert submission.add(10**20, 1) == 10**20 + 1, hint("large")
### END HIDDEN TESTS
### BEGIN HIDDEN TESTS
assert submission.add(1, 10**20) == 10**20 + 1, hint("large")
### END HIDDEN TESTS

# %% id="shown"
with when_solved():
    print(add(3, 4))

# %% [markdown] id="why" kind="manual" points=1
# YOUR ANSWER HERE
""".replace("{reviewed}", check.fingerprint("# Sums"))
MESSAGES = '[small]\nko = "부호를 보세요."\nen = "Look at the signs."\n\n[large]\nko = "큰 수예요."\nen = "A large number."\n'
MISTAKES = {
    "subtracts": ("test-add", "a - b"),
    "floats": ("test-large", "float(a) + float(b)"),
    "first": ("test-add", "a"),
}


def mistake(fails: str, value: str) -> str:
    return f'# fails: {fails}\n# ko: 틀려요.\n# en: Wrong.\n\n# %% id="add"\ndef add(a, b):\n    return {value}\n'


@pytest.fixture
def unit(tmp_path: Path) -> tuple[Settings, Course, Unit]:
    folder = tmp_path / "courses" / "basics" / "sums"
    (folder / "mistakes").mkdir(parents=True)
    (folder.parent / "course.toml").write_text(COURSE, encoding="utf-8")
    (folder / "sums.py").write_text(UNIT, encoding="utf-8")
    (folder / "messages.toml").write_text(MESSAGES, encoding="utf-8")
    (folder / "table.csv").write_text("1,2\n")
    for name, (fails, value) in MISTAKES.items():
        (folder / "mistakes" / f"{name}.py").write_text(mistake(fails, value), encoding="utf-8")
    settings = Settings(
        academy={"courses": tmp_path / "courses", "data": tmp_path / "data"}, grading={"backend": "local", "cell_timeout": 60}
    )
    course = catalogue.course(settings, "basics")
    return settings, course, course.unit("sums")


def test_a_build_makes_both_releases_once(unit: tuple[Settings, Course, Unit], monkeypatch: pytest.MonkeyPatch) -> None:
    settings, course, sums = unit
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # as under systemd: nbgrader looks for alembic there
    mask = os.umask(0o022)
    os.umask(mask)
    assert build.build(settings) == [("basics", "sums")]
    assert os.umask(mask) == mask
    assert build.build(settings) == []
    for language in build.LANGUAGES:
        folder = build.release(settings, course, sums, language)
        release = nbformat.read(folder / "sums.ipynb", as_version=4)
        sources = {cell.id: cell.source for cell in release.cells}
        assert sources["title"] == {"ko": "# 덧셈", "en": "# Sums"}[language]
        assert "raise NotImplementedError" in sources["add"]
        assert "return a + b" not in sources["add"]
        assert "10**20" not in sources["test-large"]
        assert "assert submission.add(2, 2)" in sources["test-large"]
        assert sources["why"] == build.ANSWER
        assert release.metadata.academy == {"course": "basics", "unit": "sums", "language": language}
        assert (folder / "table.csv").is_file()
        assert json.loads((folder / "messages.json").read_text())["messages"]["small"]["en"] == "Look at the signs."
        assert not (folder / "mistakes").exists()
    with Gradebook(settings.gradebook_url("basics"), "basics") as book:
        assert book.find_assignment("sums").max_score == 4
    root = settings.course_folder("basics")
    assert stat.S_IMODE(root.stat().st_mode) == 0o2770
    assert root.stat().st_gid == build.staff_gid(settings)
    assert (build.source(settings, course, sums, "en") / "sums.ipynb").stat().st_gid == build.staff_gid(settings)


def test_a_changed_unit_is_built_again_and_a_wrong_one_stops_no_other(unit: tuple[Settings, Course, Unit]) -> None:
    settings, course, sums = unit
    other = course.folder.parent / "broken" / "sums"
    other.mkdir(parents=True)
    (other.parent / "course.toml").write_text(COURSE.replace("7.1", "1.1"), encoding="utf-8")
    (other / "sums.py").write_text(UNIT.replace('id="add" ', ""), encoding="utf-8")
    with pytest.raises(CourseError, match="has no id"):
        build.build(settings)
    assert (build.release(settings, course, sums, "ko") / "sums.ipynb").is_file()
    assert build.build(settings, "basics") == []
    sums.source.write_text(UNIT.replace("# # Sums", "# # Adding up"), encoding="utf-8")
    assert build.build(settings, "basics") == [("basics", "sums")]


def test_a_good_unit_is_proved(unit: tuple[Settings, Course, Unit]) -> None:
    steps: list[str] = []
    record = check.check(*unit, steps.append)
    assert record.problems == []
    assert record.ok
    assert (record.tasks, record.points, record.hidden_tests) == (2, 4.0, 4)
    assert (record.mistakes, record.mistakes_caught) == (3, 3)
    assert len(steps) == 6


def test_every_kind_of_fault_is_found(unit: tuple[Settings, Course, Unit]) -> None:
    settings, course, sums = unit
    text = UNIT.replace("assert submission.add(2, 2) == 4", "assert submission.add(2, 2) == 5")  # the solution fails
    text = text.replace("assert submission.add(1, 2) == 3, ", "assert True, ").replace("submission.add(-1, 1)", "0")
    text = text.replace("submission.add(0, 0)", "0")  # the empty release passes
    text = text.replace("print(add(3, 4))", "print(1 / 0)").replace("# # Sums", "# # Adding up")
    sums.source.write_text(text, encoding="utf-8")
    (sums.folder / "mistakes" / "floats.py").unlink()
    (sums.folder / "mistakes" / "first.py").write_text(mistake("test-nothing", "a"), encoding="utf-8")
    record = check.check(settings, course, sums)
    assert not record.ok
    told = "\n".join(record.problems)
    assert "the solution loses points at test-large: 큰 수예요." in told
    assert "the empty release earns points at test-add" in told
    assert "cell shown fails with the solution: division by zero" in told
    assert "Korean text of 'title'" in told
    assert "mistake subtracts passes test-add" in told
    assert "'test-nothing', which is no graded test" in told
    assert "3 to 6 known mistakes, this one 2" in told


def test_gates_must_hold_every_time_with_all_cores_busy(unit: tuple[Settings, Course, Unit]) -> None:
    settings, course, sums = unit
    gate = """
# %% id="slow" kind="locked"
def slow(n):
    return sum(i for i in range(n))

# %% id="total" kind="solution"
def total(n):
    ### BEGIN SOLUTION
    return n * (n - 1) // 2
    ### END SOLUTION

# %% id="test-fast" kind="test" points=1
reached = speedup(submission.total, slow, lambda i: (200_000 + i,), lambda a, b: a == b)
gate("total", reached, AT_LEAST, hint("large"))
"""
    sums.source.write_text(UNIT + gate.replace("AT_LEAST", "1.5"), encoding="utf-8")
    record = check.check(settings, course, sums, gate_runs=3)
    assert record.problems == []
    [found] = record.gates
    assert (found["name"], found["held"], found["runs"]) == ("total", 3, 3)
    assert found["lowest"] >= 1.5
    seen = [{"name": "total", "ratio": 2.0, "at_least": 1.5}]
    gates, problems = check._judged(seen, [*seen, {"name": "total", "ratio": 1.4, "at_least": 1.5}], 2)
    assert (gates[0]["held"], gates[0]["lowest"]) == (1, 1.4)
    assert problems == ["the gate 'total' held in 1 of 2 runs; lowest 1.40x"]


def test_links_pictures_and_plots_are_looked_at(unit: tuple[Settings, Course, Unit]) -> None:
    settings, course, sums = unit
    more = """
# %% [markdown] id="links" lang="ko" reviewed="REVIEWED"
# ## 자리

# %% [markdown] id="links" lang="en"
# ## A place
# [table](table.csv) [here](#A-place) [paper](https://example.org/paper) [none](missing.csv) [nowhere](#Nowhere)
# ![from elsewhere](https://example.org/picture.png)

# %% id="no-plot" kind="demo"
import matplotlib.pyplot as plt
plt.close()
plt.show()

# %% id="no-glyph" kind="demo"
plt.figure()
plt.title("\\U000e0fff\\u1900")
plt.show()
"""
    sums.source.write_text(UNIT + more, encoding="utf-8")
    english = next(cell.source for cell in build.notebook(sums, "basics", "en").cells if cell.id == "links")
    sums.source.write_text(UNIT + more.replace("REVIEWED", check.fingerprint(english)), encoding="utf-8")
    told = "\n".join(check.check(settings, course, sums, gate_runs=0).problems)
    assert "there is no file missing.csv" in told
    assert "no heading for the link #Nowhere" in told
    assert "picture https://example.org/picture.png is not in the unit's folder" in told
    assert "cell no-plot draws a plot that does not appear" in told
    assert "cell no-glyph draws characters that its font lacks" in told
    assert len(told.splitlines()) == 5


def test_a_new_unit_passes_the_check_as_it_is(unit: tuple[Settings, Course, Unit]) -> None:
    settings, course, _ = unit
    folder = new.unit(settings, "basics", "my-unit", ko="나의 단원", en="My unit")
    course = catalogue.course(settings, "basics")
    made = course.unit("7.2")
    assert (made.id, made.title.ko, made.folder) == ("my-unit", "나의 단원", folder)
    record = check.check(settings, course, made, gate_runs=1)
    assert record.problems == []
    assert (record.mistakes_caught, record.hidden_tests) == (3, 4)
    assert new.unit(settings, "other", "first").is_dir()
    assert catalogue.course(settings, "other").unit("9.1").id == "first"


@pytest.mark.parametrize(
    ("course", "name", "number", "key"),
    [
        ("basics", "My unit", "", "course-name-wrong"),
        ("../basics", "more", "", "course-name-wrong"),
        ("basics", "more", "7", "unit-number-wrong"),
        ("basics", "sums", "7.9", "unit-taken"),
        ("basics", "more", "7.1", "unit-taken"),
        ("basics", "left", "", "unit-folder-taken"),
    ],
)
def test_a_new_unit_overwrites_nothing(
    unit: tuple[Settings, Course, Unit], course: str, name: str, number: str, key: str
) -> None:
    settings, basics, _ = unit
    (basics.folder / "left").mkdir()
    before = {path: path.stat().st_mtime_ns for path in basics.folder.parent.rglob("*")}
    with pytest.raises(CourseError) as refused:
        new.unit(settings, course, name, number)
    assert refused.value.key == key
    assert {path: path.stat().st_mtime_ns for path in basics.folder.parent.rglob("*")} == before


def test_a_preview_has_both_languages_side_by_side(unit: tuple[Settings, Course, Unit], tmp_path: Path) -> None:
    settings, course, sums = unit
    released = preview.write(settings, course, sums, False, tmp_path).read_text(encoding="utf-8")
    assert released.index("덧셈") < released.index(">Sums")
    assert (tmp_path / "table.csv").is_file()  # so pictures appear
    assert "raise" in released
    assert "10**20" not in released
    solved = preview.write(settings, course, sums, True, tmp_path).read_text(encoding="utf-8")
    assert "<pre>7\n</pre>" in solved
    assert not (settings.data / "courses").exists()
    for page in (released, solved):
        assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_record_says_what_was_measured_and_where(unit: tuple[Settings, Course, Unit]) -> None:
    settings, course, sums = unit
    text = measure.record(settings, course, sums).read_text(encoding="utf-8")
    assert "cores, Python 3." in text
    assert "## shown\n\n```text\n7\n```" in text
    assert "record.md" not in [path.name for path in build.extra_files(sums)]
    sums.source.write_text(UNIT.replace("print(add(3, 4))", "print(1 / 0)"), encoding="utf-8")
    with pytest.raises(CourseError, match="division by zero"):
        measure.record(settings, course, sums)


GPU = """
# %% id="test-gpu" kind="test" points=2 gpu=true
from grading.checks import gpu
from grading.timing import Speedup
if gpu():
    gate("gpu-add", Speedup(3.0, (2.9, 3.0, 3.1), 0.1, 0.3, gpu=True), 5, hint("large"))
"""


def test_a_gate_on_a_gpu_counts_once_it_was_calibrated(unit: tuple[Settings, Course, Unit]) -> None:
    settings, course, sums = unit
    sums.source.write_text(UNIT + GPU, encoding="utf-8")
    assert measure.gpu_gates(course, sums) == ["gpu-add"]
    assert check.check(settings, course, sums, gate_runs=0).problems == []

    def points(gpus: bool) -> float:
        cells = {cell.id: cell for cell in build.notebook(sums, "basics", "ko", gpus).cells}
        return float(cells["test-gpu"].metadata.nbgrader.points)

    assert points(True) == points(False) == 0
    measure.write_calibration(sums, {"gpu-add": measure.Figure(1.5, (3.0, 2.0), 2)}, "H100; CPU")
    [(name, figure)] = build.calibration(sums).items()
    assert (name, figure["lowest"], figure["machine"]) == ("gpu-add", 2.0, "H100; CPU")
    assert (points(True), points(False)) == (2, 0)
    measure.write_calibration(sums, {"gpu-add": measure.Figure(1.5, (3.0, 1.4), 2)}, "H100; CPU")
    assert build.calibration(sums) == {}
    with pytest.raises(AcademyError) as refused:
        measure.calibrate(settings, course, sums, 1)
    assert refused.value.key == "courses-no-gpu"
    declared = settings.model_copy(update={"gpus": settings.gpus.model_copy(update={"devices": [GpuDevice(uuid="GPU-0")]})})
    with pytest.raises(AcademyError) as refused:  # the sandbox sees none, whatever is declared
        measure.calibrate(declared, course, sums, 1)
    assert refused.value.key == "courses-gpu-unused"


def test_a_figure_from_a_gpu_is_reported_until_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = timing.Speedup(1.2, (1.1, 1.2, 1.3), 0.1, 0.12, gpu=True)
    monkeypatch.setattr(checks, "_catalogue", lambda: {"language": "en"})
    timing.gate("gpu-add", slow, 1.5)
    assert "not graded" in capsys.readouterr().out
    monkeypatch.setattr(checks, "_catalogue", lambda: {"language": "en", "calibrated": ["gpu-add"]})
    with pytest.raises(AssertionError, match=r"at least 1\.5x"):
        timing.gate("gpu-add", slow, 1.5)


UNITS = [
    (course.id, unit.id)
    for course in catalogue.courses(Settings(academy={"courses": CHECKOUT / "courses"}))
    for unit in course.units
]


@pytest.mark.docker
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("course", "unit"), UNITS)
def test_the_units_of_this_repository_are_proved(
    course: str, unit: str, config: Callable[..., Settings], sandbox_image: str
) -> None:
    """`academy courses check` tries gates as well, twenty times, and demonstrations: more minutes than these."""
    settings = config(grading={"backend": "docker"})
    found = catalogue.course(settings, course)
    record = check.check(settings, found, found.unit(unit), gate_runs=0, demos=False)
    assert record.problems == []
    assert record.mistakes_caught == record.mistakes


def test_what_keeps_the_cores_busy_ends_with_the_check() -> None:
    code = (
        "import time\nfrom grading.courses.check import busy_cores\nwith busy_cores():\n    print(flush=True), time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as checking:
        assert checking.stdout
        checking.stdout.readline()
        loads = psutil.Process(checking.pid).children()
        checking.kill()
    assert len(loads) == len(os.sched_getaffinity(0))
    assert psutil.wait_procs(loads, 30)[1] == []
