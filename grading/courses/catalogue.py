"""What courses and units there are, read from ``courses/<course>/course.toml`` at each call.

A course or a unit is added by adding files; nothing needs a restart.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from academy.messages import AcademyError
from academy.settings import Name, Settings, Text


class CourseError(AcademyError):
    """A course or unit cannot be used; the message names the file and what is wrong with it."""


class Unit(BaseModel):
    """A unit as ``course.toml`` declares it; ``folder`` holds its source, mistakes, messages and data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Name = Field(description="Folder and nbgrader assignment name.")
    number: str = Field(pattern=r"^\d+\.\d+$", description="What people call it, e.g. 1.1.")
    title: Text
    summary: Text = Text(ko="", en="")
    objective: Text = Field(Text(ko="", en=""), description="What a learner can do afterwards.")
    hours: float = Field(gt=0, description="Hours a learner needs.")
    on_submit: bool = Field(False, description="Grade each submission as it arrives, and show its result at once.")
    gpu: bool = Field(False, description="Grade each submission with a whole GPU to itself, where the academy has one.")
    leaderboard: str = Field("", max_length=100, description="Name of the gate that students may compare themselves by.")
    after: list[str] = Field(default_factory=list, description="Numbers or ids of the units that come before.")
    folder: Path = Field(default=Path(), exclude=True)

    @property
    def source(self) -> Path:
        return self.folder / f"{self.id}.py"


class Late(BaseModel):
    """What a late submission costs: ``[late]`` of ``course.toml``. Without it, nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grace_minutes: float = Field(0.0, ge=0, description="A submission this little late is on time.")
    per_day: float = Field(0.0, ge=0, le=1, description="Part of the unit's points that each begun day takes off.")
    most_days: int = Field(0, ge=0, description="After so many days a submission earns nothing; 0: no end.")


class Coming(BaseModel):
    """A unit that is announced and not written yet: ``[[coming]]`` of ``course.toml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: str = Field(pattern=r"^\d+\.\d+$")
    title: Text


class _CourseFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Text
    description: Text = Text(ko="", en="")
    late: Late = Late()
    mastery: float = Field(
        0.7, ge=0, le=1, description="Part of a unit's points that masters it; 0: every unit is open at once."
    )
    units: list[Unit] = Field(default_factory=list)
    coming: list[Coming] = Field(default_factory=list)


@dataclass(frozen=True)
class Course:
    """An ordered set of units."""

    id: str
    title: Text
    description: Text
    units: list[Unit]
    folder: Path
    late: Late
    mastery: float
    coming: list[Coming]

    @property
    def numbers(self) -> list[str]:
        """Of its units, then of those to come."""
        return [*(unit.number for unit in self.units), *(coming.number for coming in self.coming)]

    def unit(self, wanted: str) -> Unit:
        """A unit by id or number.

        Raises:
            CourseError: there is none.
        """
        for unit in self.units:
            if wanted in (unit.id, unit.number):
                return unit
        known = ", ".join(f"{unit.number} {unit.id}" for unit in self.units)
        raise CourseError("unit-unknown", 404, unit=wanted, course=self.id, known=known)


def courses(settings: Settings) -> list[Course]:
    """All courses that can be read, in the order of their first unit's number; see ``problems`` for the others."""
    found = [course for course in map(_try, _folders(settings)) if isinstance(course, Course)]
    return sorted(found, key=lambda course: min(map(_number, course.numbers), default=()))


def problems(settings: Settings) -> list[CourseError]:
    """What is wrong with the courses that cannot be read."""
    return [problem for problem in map(_try, _folders(settings)) if isinstance(problem, CourseError)]


def by_name(courses: list[Course]) -> dict[str, tuple[Course, Unit]]:
    """Units by number, and by "course/id"."""
    return {
        key: (course, unit) for course in courses for unit in course.units for key in (unit.number, f"{course.id}/{unit.id}")
    }


def before(known: dict[str, tuple[Course, Unit]], course: Course, unit: Unit) -> list[tuple[Course, Unit]]:
    """The units that a unit's ``after`` names, as far as they are written."""
    return [found for name in unit.after if (found := known.get(name) or known.get(f"{course.id}/{name}"))]


def path_problems(settings: Settings, course: Course, unit: Unit) -> list[str]:
    """What is wrong with a unit's ``after``: a name that no unit has, or a circle, in which no unit would ever open."""
    found = courses(settings)
    known, coming = by_name(found), {each.number for one in found for each in one.coming}
    unknown = [name for name in unit.after if not {name, f"{course.id}/{name}"} & (known.keys() | coming)]
    problems = [f"after names {name!r}, but no unit has this number or id" for name in unknown]
    todo, seen = before(known, course, unit), set()
    while todo:
        owner, one = todo.pop()
        if one.number == unit.number:
            return [*problems, "after leads back to this unit, so it would never open"]
        if one.number not in seen:
            seen.add(one.number)
            todo += before(known, owner, one)
    return problems


def course(settings: Settings, id: str) -> Course:
    """One course.

    Raises:
        CourseError: there is no such course, or its file is wrong.
    """
    for folder in _folders(settings):
        if folder.name == id:
            return _read(folder)
    known = ", ".join(folder.name for folder in _folders(settings))
    raise CourseError("course-unknown", 404, course=id, known=known)


def late_policy(settings: Settings, id: str) -> Late:
    """What being late costs in a course; nothing in one without a file."""
    try:
        return course(settings, id).late
    except CourseError:
        return Late()


def _folders(settings: Settings) -> list[Path]:
    return sorted(path.parent for path in settings.academy.courses.glob("*/course.toml"))


def _number(number: str) -> tuple[int, ...]:
    return tuple(int(part) for part in number.split("."))


def _try(folder: Path) -> Course | CourseError:
    try:
        return _read(folder)
    except CourseError as error:
        return error


def _read(folder: Path) -> Course:
    path = folder / "course.toml"
    data: dict[str, Any] = {}
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        file = _CourseFile.model_validate(data)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CourseError("course-file-wrong", file=path, problem=str(error)) from error
    except ValidationError as error:
        problem = "; ".join(_told(data, each["loc"], each["msg"], each["input"]) for each in error.errors())
        raise CourseError("course-file-wrong", file=path, problem=problem) from error
    units = [unit.model_copy(update={"folder": folder / unit.id}) for unit in file.units]
    names = [name for unit in units for name in (unit.id, unit.number)]
    twice = sorted({name for name in names if names.count(name) > 1})
    missing = [str(unit.source) for unit in units if not unit.source.is_file()]
    if twice or missing:
        problem = "; ".join([*(f"{name} stands twice" for name in twice), *(f"{name} is missing" for name in missing)])
        raise CourseError("course-file-wrong", file=path, problem=problem)
    coming = [each for each in file.coming if each.number not in names]  # written by now
    return Course(folder.name, file.title, file.description, units, folder, file.late, file.mastery, coming)


def _told(data: dict[str, Any], place: tuple[int | str, ...], problem: str, value: object) -> str:
    """A wrong key, with the unit that it stands in."""
    where = ".".join(map(str, place))
    if len(place) > 1 and isinstance(number := place[1], int):
        entry = data[str(place[0])][number]
        named = entry.get("id") or entry.get("number") if isinstance(entry, dict) else None
        where = f"{place[0]}, {named or f'entry {number + 1}'}: {'.'.join(map(str, place[2:]))}"
    return f"{where}: {problem}" + (f" ({value!r})" if isinstance(value, str | int | float) else "")
