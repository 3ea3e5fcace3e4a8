"""A new unit from a template that passes the check as it is."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import jupytext

from academy.settings import Settings, Text
from grading.courses import catalogue
from grading.courses.catalogue import CourseError
from grading.courses.check import fingerprint

TEMPLATE = Path(__file__).with_name("template")
_NAME = re.compile(r"[a-z](-?[a-z0-9]+)*")
_NUMBER = re.compile(r"\d+\.\d+")
_KOREAN = re.compile(r'^(# %% \[markdown\] id="([^"]+)" lang="ko") reviewed="[^"]*"', re.MULTILINE)


def unit(settings: Settings, course: str, unit: str, number: str = "", ko: str = "", en: str = "") -> Path:
    """Make the unit's folder and its entry in ``course.toml``, and the course where there is none; returns the folder.

    Raises:
        CourseError: a name or number that cannot be used, or one that is taken; nothing is written then.
    """
    folder = settings.academy.courses / course
    for name in (course, unit):
        if not _NAME.fullmatch(name):
            raise CourseError("course-name-wrong", 422, name=name)
    path = folder / "course.toml"
    known, coming = [], {}
    if path.is_file():
        found = catalogue.course(settings, course)
        known, coming = found.units, {each.number: each.title for each in found.coming}
    number = number or _next(known, list(coming))
    if not _NUMBER.fullmatch(number):
        raise CourseError("unit-number-wrong", 422, number=number)
    if taken := next((each for each in known if unit == each.id or number == each.number), None):
        raise CourseError("unit-taken", 409, unit=f"{taken.number} {taken.id}", course=course)
    target = folder / unit
    if target.exists():
        raise CourseError("unit-folder-taken", 409, folder=target)
    announced = coming.get(number, Text(ko=unit, en=unit))
    titles = {"NUMBER": number, "TITLE_KO": ko or announced.ko, "TITLE_EN": en or announced.en}
    shutil.copytree(TEMPLATE, target, ignore=shutil.ignore_patterns("__pycache__"))
    source = (target / "unit.py").read_text(encoding="utf-8")
    for mark, text in titles.items():
        source = source.replace(mark, text)
    (target / "unit.py").unlink()
    (target / f"{unit}.py").write_text(_reviewed(source), encoding="utf-8")
    title = f"title = {{ ko = {_quoted(titles['TITLE_KO'])}, en = {_quoted(titles['TITLE_EN'])} }}"
    entry = f'\n[[units]]\nid = "{unit}"\nnumber = "{number}"\n{title}\nhours = 1\nafter = []\n'
    if not path.is_file():
        entry = f"title = {{ ko = {_quoted(course)}, en = {_quoted(course)} }}\n{entry}"
    with path.open("a", encoding="utf-8") as file:
        file.write(entry)
    return target


def _next(known: list[catalogue.Unit], coming: list[str]) -> str:
    if not known:
        return coming[0] if coming else "9.1"
    first, last = known[-1].number.split(".")
    return f"{first}.{int(last) + 1}"


def _reviewed(source: str) -> str:
    """Note of each Korean text that it was read against the English one."""
    cells = jupytext.reads(source, fmt="py:percent").cells
    english = {cell.metadata["id"]: cell.source for cell in cells if cell.metadata.get("lang") == "en"}
    return _KOREAN.sub(lambda found: f'{found[1]} reviewed="{fingerprint(english[found[2]])}"', source)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
