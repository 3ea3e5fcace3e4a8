"""The path: which units are mastered, which are open, and the picture of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies

from academy.database import Database
from academy.pages import path, render
from academy.people import Person, enrol
from academy.settings import CHECKOUT, Settings, Text
from grading import mastery
from grading.courses import catalogue
from grading.courses.catalogue import Course, Late, Unit
from grading.records import Feedback, Grade, Submission

BASICS = """
title = {{ ko = "기초", en = "Basics" }}
mastery = {mastery}
{units}
"""
FURTHER = """
title = { ko = "심화", en = "Further" }
[[units]]
id = "speed"
number = "8.1"
title = { ko = "속도", en = "Speed" }
hours = 1
after = ["7.3", "7.9", "6.6"]
[[coming]]
number = "8.2"
title = { ko = "나중", en = "Later" }
"""


def entry(number: str, id: str, after: str = "[]", more: str = "") -> str:
    title = f'title = {{ ko = "{id} 단원", en = "{id} unit" }}'
    return f'[[units]]\nid = "{id}"\nnumber = "{number}"\n{title}\nhours = 1\nafter = {after}\n{more}'


UNITS = "\n".join(
    [entry("7.1", "sums", more="on_submit = true"), entry("7.2", "means", '["7.1"]'), entry("7.3", "lines", '["sums", "7.2"]')]
)


@pytest.fixture
def academy(tmp_path: Path) -> Iterator[tuple[Settings, Database, Callable[..., None]]]:
    """Courses, a student of one of them, and a way to hand in and be graded."""
    write(tmp_path, BASICS.format(mastery=0.7, units=UNITS))
    settings = Settings(academy={"courses": tmp_path / "courses", "data": tmp_path / "data"})
    database = Database(f"sqlite:///{tmp_path}/academy.sqlite")
    database.upgrade()
    with database.write() as session:
        person = Person(login="minji", name="민지")
        enrol(person, "basics", "student")
        session.add(person)

    def graded(unit: str, score: float, most: float = 10, penalty: float = 0.0, given: bool = False) -> None:
        with database.write() as session:
            submission = Submission(course="basics", unit=unit, login="minji", sha256="0" * 64, size=1)
            session.add(submission)
            session.flush()
            session.add(Grade(submission_id=submission.id, score=score, max_score=most, penalty=penalty))
            if given:
                session.add(
                    Feedback(submission_id=submission.id, sha256="1" * 64, score=score, max_score=most, released_by="teacher")
                )

    yield settings, database, graded
    database.close()


def write(folder: Path, basics: str) -> None:
    for name, text in (("basics", basics), ("further", FURTHER)):
        root = folder / "courses" / name
        root.mkdir(parents=True, exist_ok=True)
        (root / "course.toml").write_text(text, encoding="utf-8")
        for unit in ("sums", "means", "lines", "speed"):
            (root / unit).mkdir(exist_ok=True)
            (root / unit / f"{unit}.py").write_text("# %%\n")


def closed(settings: Settings, database: Database) -> dict[str, list[str]]:
    with database.read() as session:
        found = mastery.of(session, settings, "minji")
    return {
        unit.id: [n.id for n in found.needed(course, unit)] for key, (course, unit) in found.known.items() if "/" not in key
    }


def test_a_unit_opens_when_those_before_it_are_mastered(academy: tuple[Settings, Database, Callable[..., None]]) -> None:
    settings, database, graded = academy
    assert closed(settings, database) == {"sums": [], "means": ["sums"], "lines": ["sums", "means"], "speed": ["lines"]}
    graded("sums", 6.9)
    assert closed(settings, database)["means"] == ["sums"]
    graded("sums", 7.0)
    graded("sums", 2.0)  # what was mastered once stays so
    assert closed(settings, database) == {"sums": [], "means": [], "lines": ["means"], "speed": ["lines"]}
    graded("means", 10)  # not released yet: that it opens something would tell the score
    assert closed(settings, database)["lines"] == ["means"]
    graded("means", 8, given=True)
    assert closed(settings, database)["lines"] == []


def test_lateness_costs_points_and_no_mastery(academy: tuple[Settings, Database, Callable[..., None]]) -> None:
    settings, database, graded = academy
    graded("sums", 4.0, penalty=3.5)
    assert closed(settings, database)["means"] == []


def test_courses_one_does_not_take_and_units_not_written_close_nothing(
    academy: tuple[Settings, Database, Callable[..., None]],
) -> None:
    settings, database, _ = academy
    with database.write() as session:
        person = session.get(Person, "minji")
        assert person
        person.enrollments.clear()
        enrol(person, "further", "student")
    assert closed(settings, database)["speed"] == []


def test_a_course_may_open_everything_at_once(academy: tuple[Settings, Database, Callable[..., None]], tmp_path: Path) -> None:
    settings, database, _ = academy
    write(tmp_path, BASICS.format(mastery=0, units=UNITS))
    assert not any(closed(settings, database).values())


def test_the_picture_tells_every_state(academy: tuple[Settings, Database, Callable[..., None]]) -> None:
    settings, database, graded = academy
    graded("sums", 9)
    graded("means", 3, given=True)
    with database.read() as session:
        found = mastery.of(session, settings, "minji")
    drawn = path.draw(catalogue.courses(settings), found, "ko")
    states = {box.number: (box.state, box.percent) for lane in drawn.lanes for box in lane.boxes}
    assert states == {"7.1": ("mastered", 90), "7.2": ("done", 30), "7.3": ("closed", None), "8.1": ("elsewhere", None)}
    assert (drawn.mastered, drawn.units, drawn.next) == (1, 3, [])
    assert drawn.closed == {("basics", "lines"): "7.2 means 단원"}
    html = render.environment("ko").get_template("path.html").module.card(drawn)  # type: ignore[attr-defined]
    assert "통과 · 90%" in html
    assert "먼저 통과할 단원: 7.2 means 단원" in html
    assert "(준비 중)" in html
    assert "단원 3개 가운데 1개 통과" in html


def test_the_next_units_are_named(academy: tuple[Settings, Database, Callable[..., None]]) -> None:
    settings, database, graded = academy
    graded("sums", 9)
    with database.read() as session:
        drawn = path.draw(catalogue.courses(settings), mastery.of(session, settings, "minji"), "en")
    assert drawn.next == ["7.2 means unit"]


ORDERS = strategies.lists(strategies.sets(strategies.integers(0, 11), max_size=3), min_size=1, max_size=12)


@given(ORDERS)
def test_no_two_boxes_overlap_and_every_way_leads_to_the_right(orders: list[set[int]]) -> None:
    text = Text(ko="단원", en="unit")
    units = [
        Unit(id=f"u{i}", number=f"7.{i}", title=text, hours=1, after=[f"7.{n}" for n in sorted(after) if n < i])
        for i, after in enumerate(orders)
    ]
    course = Course("basics", text, text, units, Path(), Late(), 0.7, [catalogue.Coming(number="7.90", title=text)])
    drawn = path.draw([course], mastery.Mastery(frozenset({"basics"}), {}, frozenset(), {}), "ko")
    boxes, [(_, below, *_)] = drawn.lanes[0].boxes, drawn.lanes[0].chips
    assert max(box.y for box in boxes) + path.HEIGHT < below < drawn.height - path.CHIP_HEIGHT  # units to come stand below
    assert len({(box.x, box.y) for box in boxes}) == len(units)
    assert max(box.x for box in boxes) + path.WIDTH == drawn.width
    assert max(box.y for box in boxes) + path.HEIGHT < drawn.height
    for way in drawn.lanes[0].lines:
        start, *_, end = map(int, re.findall(r"[MHV](\d+)", way.replace(" ", "H")))
        assert int(re.findall(r"M(\d+)", way)[0]) < int(re.findall(r"H(\d+)$", way)[0]), (start, end)


def test_a_circle_of_units_is_drawn_all_the_same() -> None:
    text = Text(ko="단원", en="unit")
    units = [Unit(id=f"u{i}", number=f"7.{i}", title=text, hours=1, after=[f"7.{1 - i}"]) for i in range(2)]
    course = Course("basics", text, text, units, Path(), Late(), 0.7, [])
    assert path.draw([course], mastery.Mastery(frozenset({"basics"}), {}, frozenset(), {}), "ko").lanes


@pytest.mark.parametrize("language", ["ko", "en"])
def test_the_titles_of_this_repository_fit_into_their_boxes(language: str) -> None:
    for course in catalogue.courses(Settings(academy={"courses": CHECKOUT / "courses"})):
        for unit in course.units:
            assert not path.wrapped(unit.title[language])[-1].endswith("…"), unit.title[language]
