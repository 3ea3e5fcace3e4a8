"""A course of our own, built and proved with real nbgrader and real kernels; then the units of this repository."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook

from academy.settings import CHECKOUT, Settings
from grading.courses import build, catalogue, check
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
    settings = config(grading={"backend": "docker"})
    found = catalogue.course(settings, course)
    record = check.check(settings, found, found.unit(unit))
    assert record.problems == []
    assert record.mistakes_caught == record.mistakes
