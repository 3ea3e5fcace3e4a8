"""Courses as files: what is read, what is refused and with which words, and the notebooks that come out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from academy.settings import CHECKOUT, Settings
from grading.courses import build, catalogue, check, new
from grading.courses.catalogue import CourseError

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

# %% id="add" kind="solution"
def add(a, b):
    ### BEGIN SOLUTION
    return a + b
    ### END SOLUTION

# %% id="test-add" kind="test" points=2
assert add(1, 2) == 3

# %% [markdown] id="why" kind="manual" points=1
# YOUR ANSWER HERE
""".replace("{reviewed}", check.fingerprint("# Sums"))


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Settings]:
    """``written(course_toml, unit_source)`` puts the course ``basics`` beside others in a folder of its own."""

    def write(course: str = COURSE, unit: str | None = UNIT, name: str = "basics") -> Settings:
        folder = tmp_path / "courses" / name / "sums"
        folder.mkdir(parents=True)
        (folder.parent / "course.toml").write_text(course, encoding="utf-8")
        if unit is not None:
            (folder / "sums.py").write_text(unit, encoding="utf-8")
        return Settings(academy={"courses": tmp_path / "courses", "data": tmp_path / "data"})

    return write


def test_a_unit_is_found_by_id_and_by_number(written: Callable[..., Settings]) -> None:
    course = catalogue.course(written(), "basics")
    assert course.unit("sums") is course.unit("7.1")
    assert course.unit("sums").title.ko == "덧셈"
    with pytest.raises(CourseError, match=r"7\.1 sums"):
        course.unit("differences")


def test_a_new_course_needs_no_restart(written: Callable[..., Settings]) -> None:
    settings = written()
    assert [course.id for course in catalogue.courses(settings)] == ["basics"]
    written(COURSE.replace("7.1", "6.1"), name="earlier")
    assert [course.id for course in catalogue.courses(settings)] == ["earlier", "basics"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("hours = 1", "hours = -1", r"units, sums: hours: .*-1"),
        ("hours = 1", "hours = 1\nroom = 3", r"units, sums: room: "),
        ('number = "7.1"', 'number = "seven"', r"units, sums: number: .*seven"),
        ("title = {", "title = [", "course.toml"),
        ('id = "sums"', 'id = "gone"', r"gone\.py is missing"),
    ],
)
def test_a_broken_course_is_named_and_hides_no_other(written: Callable[..., Settings], old: str, new: str, told: str) -> None:
    written()
    settings = written(COURSE.replace(old, new), name="broken")
    assert [course.id for course in catalogue.courses(settings)] == ["basics"]
    (problem,) = catalogue.problems(settings)
    with pytest.raises(CourseError, match=told):
        raise problem
    assert str(settings.academy.courses / "broken" / "course.toml") in str(problem)


def test_both_languages_have_the_same_graded_cells(written: Callable[..., Settings]) -> None:
    unit = catalogue.course(written(), "basics").unit("sums")
    ko, en = (build.notebook(unit, "basics", language) for language in ("ko", "en"))
    assert (ko.cells[0].source, en.cells[0].source) == ("# 덧셈", "# Sums")
    assert ko.cells[1:] == en.cells[1:]
    assert "nbgrader" not in ko.cells[0].metadata
    roles = {cell.id: cell.metadata.nbgrader for cell in ko.cells[1:]}
    assert [roles["add"][key] for key in ("solution", "grade", "locked")] == [True, False, False]
    assert [roles["test-add"][key] for key in ("solution", "grade", "locked", "points")] == [False, True, True, 2]
    assert [roles["why"][key] for key in ("solution", "grade", "points")] == [True, True, 1]
    assert ko.metadata.academy == {"course": "basics", "unit": "sums", "language": "ko"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('id="add" kind', "kind", "has no id"),
        ('id="test-add"', 'id="add"', "'add' stands twice"),
        ('kind="solution"', 'kind="solutoin"', "solutoin"),
        (" points=2", "", "'test-add' needs points"),
        (' lang="en"', "", "'title' is a text, so it needs lang"),
        ("    ### END SOLUTION\n", "", "'add': each ### BEGIN SOLUTION needs an ### END SOLUTION"),
        ("assert add", "### BEGIN HIDDEN TESTS\nassert add", "'test-add': each ### BEGIN HIDDEN TESTS needs"),
        ("# # Sums", "# # Sums\n# ### BEGIN HIDDEN TESTS\n# ### END HIDDEN TESTS", "'title': .* a cell that is no test"),
    ],
)
def test_a_wrong_cell_is_named(written: Callable[..., Settings], old: str, new: str, told: str) -> None:
    unit = catalogue.course(written(unit=UNIT.replace(old, new)), "basics").unit("sums")
    with pytest.raises(CourseError, match=told):
        build.notebook(unit, "basics", "ko")


def test_a_message_needs_both_languages(written: Callable[..., Settings]) -> None:
    unit = catalogue.course(written(), "basics").unit("sums")
    (unit.folder / "messages.toml").write_text('[carry]\nko = "올림을 보세요."\n', encoding="utf-8")
    with pytest.raises(CourseError, match="carry"):
        build.messages(unit)


def test_the_units_here_are_whole() -> None:
    """Every unit of the repository: fresh texts, equal cells, mistakes that name a test; what needs no sandbox."""
    settings = Settings(academy={"courses": CHECKOUT / "courses"})
    assert not catalogue.problems(settings)
    for course in catalogue.courses(settings):
        for unit in course.units:
            notebook = build.notebook(unit, course.id, "ko")
            assert check.language_problems(course, unit, notebook) == []
            assert catalogue.path_problems(settings, course, unit) == []
            used = {word for cell in notebook.cells for word in check.hints(cell.source)}
            assert used <= build.messages(unit).keys()
            tests = {cell.id for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")}
            found = check.mistakes(unit)
            assert 3 <= len(found) <= 6
            assert all(mistake.fails in tests and not mistake.problems for mistake in found)


def test_a_cell_of_one_language_and_a_message_with_other_places_are_named(written: Callable[..., Settings]) -> None:
    more = '\n# %% [markdown] id="more" lang="ko" reviewed=""\n# 더\n'
    course = catalogue.course(written(unit=UNIT + more), "basics")
    unit = course.unit("sums")
    (unit.folder / "messages.toml").write_text('[off]\nko = "{n}만큼"\nen = "by {m}"\n', encoding="utf-8")
    problems = check.language_problems(course, unit, build.notebook(unit, "basics", "ko"))
    assert problems == [
        "the languages have other cells: more only in Korean",
        "the message 'off' fills in ['n'] in Korean and ['m'] in English",
    ]


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ([], []),
        (["8.1"], []),
        (["1.17"], ["after names '1.17', but no unit has this number or id"]),
        (["sums"], ["after leads back to this unit, so it would never open"]),
        (["7.1"], ["after leads back to this unit, so it would never open"]),
        (["more"], ["after leads back to this unit, so it would never open"]),
    ],
)
def test_an_after_that_opens_nothing_is_named(written: Callable[..., Settings], after: list[str], told: list[str]) -> None:
    more = COURSE.partition("[[units]]")[2].replace("sums", "more").replace("7.1", "7.2")
    coming = '[[coming]]\nnumber = "8.1"\ntitle = { ko = "곱", en = "Product" }\n'
    text = f'{COURSE}after = {after}\n[[units]]{more}after = ["7.1"]\n{coming}'
    settings = written(text)
    folder = settings.academy.courses / "basics" / "more"
    folder.mkdir()
    (folder / "more.py").write_text(UNIT, encoding="utf-8")
    course = catalogue.course(settings, "basics")
    assert catalogue.path_problems(settings, course, course.unit("sums")) == told


def test_a_coming_unit_that_is_written_is_not_coming_any_more(written: Callable[..., Settings]) -> None:
    settings = written(f'{COURSE}[[coming]]\nnumber = "7.2"\ntitle = {{ ko = "뺄셈", en = "Differences" }}\n')
    new.unit(settings, "basics", "minus")
    made = new.unit(settings, "basics", "times")
    course = catalogue.course(settings, "basics")
    assert [(unit.number, unit.title.en) for unit in course.units] == [
        ("7.1", "Sums"),
        ("7.2", "Differences"),
        ("7.3", "times"),
    ]
    assert course.coming == []
    assert made.name == "times"


def test_a_changed_english_text_makes_the_korean_one_stale(written: Callable[..., Settings]) -> None:
    settings = written(unit=UNIT.replace("# # Sums", "# # Sums of numbers"))
    course = catalogue.course(settings, "basics")
    unit = course.unit("sums")
    problems = check.language_problems(course, unit, build.notebook(unit, "basics", "ko"))
    assert len(problems) == 1
    assert check.fingerprint("# Sums of numbers") in problems[0]


def test_bold_that_a_particle_breaks_is_found(written: Callable[..., Settings]) -> None:
    settings = written(unit=UNIT.replace("# # 덧셈", "# **더하기(+)**와 빼기"))
    course = catalogue.course(settings, "basics")
    unit = course.unit("sums")
    problems = check.language_problems(course, unit, build.notebook(unit, "basics", "ko"))
    assert any("bold" in problem for problem in problems)
