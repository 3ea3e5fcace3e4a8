"""A student's way through the courses as a picture: what is mastered, done, open, closed, and still being written."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import ClassVar

from grading import mastery
from grading.courses.catalogue import Course, Unit
from grading.mastery import Mastery

WIDTH, HEIGHT, GAP, ROW_GAP, LABEL = 158, 66, 30, 14, 34  # of boxes and between them, in the picture's units
CHIP, CHIP_HEIGHT = 62, 26  # of a unit to come
LINE = 23.0  # what a line of a box holds, in halves of a Hangul syllable
NUMBER = 4.4  # what the unit's number takes of the first line


@dataclass(frozen=True)
class Box:
    """A unit in the picture."""

    x: int
    y: int
    number: str
    lines: list[str]  # the title
    title: str
    state: str  # mastered, done, open, closed, elsewhere (a course that the student does not take)
    percent: int | None  # of the points
    needed: str  # the units before it


@dataclass(frozen=True)
class Lane:
    """A course in the picture."""

    y: int
    title: str
    coming: bool
    taken: bool
    boxes: list[Box]
    chips: list[tuple[int, int, str, str]]  # x, y, number, title of the units to come
    lines: list[str]  # the ways between boxes, as SVG paths


@dataclass(frozen=True)
class Path:
    box: ClassVar = (WIDTH, HEIGHT)
    chip: ClassVar = (CHIP, CHIP_HEIGHT)
    width: int
    height: int
    lanes: list[Lane]
    next: list[str]  # what is open and not handed in yet
    mastered: int
    units: int
    closed: dict[tuple[str, str], str]  # (course, unit) -> the units that keep it closed


def draw(courses: list[Course], found: Mastery, language: str) -> Path:
    """Lay the courses out one below the other, each from left to right in the order in which its units open."""
    lanes, y, width = [], 0, 0
    for course in courses:
        if not course.units and not course.coming:
            continue
        lane, height = _lane(course, found, language, y)
        lanes.append(lane)
        width = max([width, *(box.x + WIDTH for box in lane.boxes), *(x + CHIP for x, *_ in lane.chips)])
        y += height
    units = [(course, unit) for course in courses for unit in course.units if course.id in found.taken]
    ahead = [unit for course, unit in units if _state(course, unit, found) == "open"]
    return Path(
        width,
        y,
        lanes,
        [f"{unit.number} {unit.title[language]}" for unit in ahead],
        sum(found.mastered(course, unit) for course, unit in units),
        len(units),
        {
            (course.id, unit.id): mastery.names(needed, language)
            for course, unit in units
            if (needed := found.needed(course, unit))
        },
    )


def _lane(course: Course, found: Mastery, language: str, y: int) -> tuple[Lane, int]:
    places, top = _places(course), y + LABEL
    boxes = {}
    for unit in course.units:
        column, row = places[unit.id]
        share = found.shares.get((course.id, unit.id))
        boxes[unit.id] = Box(
            column * (WIDTH + GAP),
            top + row * (HEIGHT + ROW_GAP),
            unit.number,
            wrapped(unit.title[language]),
            unit.title[language],
            _state(course, unit, found),
            round(100 * share) if share else None,
            mastery.names(found.needed(course, unit), language),
        )
    ways = [_way(boxes[before], boxes[unit.id]) for unit in course.units for before in _before(course, unit)]
    rows = 1 + max((row for _, row in places.values()), default=-1)
    height = LABEL + rows * (HEIGHT + ROW_GAP)
    chips = [(i * (CHIP + 10), y + height, coming.number, coming.title[language]) for i, coming in enumerate(course.coming)]
    height += CHIP_HEIGHT + ROW_GAP if chips else 0
    return Lane(
        y, course.title[language], not course.units, course.id in found.taken, list(boxes.values()), chips, ways
    ), height + 12


def _places(course: Course) -> dict[str, tuple[int, int]]:
    """Column and row of each unit: a column to the right of every unit before it, and below those already there."""
    columns: dict[str, int] = {}
    for _ in course.units:  # as often as the longest way can be, so that a circle ends too
        for unit in course.units:
            columns[unit.id] = 1 + max((columns.get(before, 0) for before in _before(course, unit)), default=-1)
            columns[unit.id] = min(columns[unit.id], len(course.units) - 1)
    places: dict[str, tuple[int, int]] = {}
    for unit in course.units:
        wanted = min((places[before][1] for before in _before(course, unit) if before in places), default=0)
        taken = {row for column, row in places.values() if column == columns[unit.id]}
        row = next(row for row in range(wanted, len(course.units) + 1) if row not in taken)
        places[unit.id] = (columns[unit.id], row)
    return places


def _before(course: Course, unit: Unit) -> list[str]:
    """The units of the same course that come before."""
    return [other.id for other in course.units if other.id != unit.id and {other.id, other.number} & set(unit.after)]


def _way(start: Box, end: Box) -> str:
    x1, y1, x2, y2 = start.x + WIDTH, start.y + HEIGHT // 2, end.x, end.y + HEIGHT // 2
    bend = x2 - GAP // 2
    return f"M{x1} {y1}H{bend}V{y2}H{x2}" if y1 != y2 else f"M{x1} {y1}H{x2}"


def _state(course: Course, unit: Unit, found: Mastery) -> str:
    if course.id not in found.taken:
        return "elsewhere"
    if found.mastered(course, unit):
        return "mastered"
    if (course.id, unit.id) in found.submitted:
        return "done"
    return "closed" if found.needed(course, unit) else "open"


def wrapped(title: str) -> list[str]:
    """A title on at most two lines that fit into a box."""
    lines = [""]
    for word in title.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _wide(longer) > LINE - (NUMBER if len(lines) == 1 else 0):
            lines.append(word)
        else:
            lines[-1] = longer
    if len(lines) > 2:
        lines = [lines[0], f"{lines[1]} …"]
    return lines


def _wide(text: str) -> float:
    return sum(2.0 if unicodedata.east_asian_width(character) in "WF" else 1.2 for character in text)
