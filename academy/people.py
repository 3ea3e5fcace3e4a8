"""People, their roles, and the courses they belong to; the roster that decides who gets in."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from academy.database import Base, UTCDateTime, now

COURSE_ROLES = ("student", "assistant", "instructor")
ACADEMY_ROLES = ("founder", "operator")
STAFF_ROLES = ("assistant", "instructor")
LOGIN_LENGTH, NAME_LENGTH = 64, 200
_LOGIN = re.compile(rf"\w[\w.@+-]{{0,{LOGIN_LENGTH - 1}}}")  # \w: letters of any script, 홍길동 too


FOUNDERS = "academy-founders"  # the hub's group of those who may show a prototype to others


class Person(Base):
    """Somebody who may sign in."""

    __tablename__ = "people"

    login: Mapped[str] = mapped_column(String(LOGIN_LENGTH), primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), default="")
    role: Mapped[str | None] = mapped_column(String(20))  # founder, operator, or None
    language: Mapped[str | None] = mapped_column(String(2))  # None: has not chosen
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
    enrollments: Mapped[list[Enrollment]] = relationship(
        back_populates="person", cascade="all, delete-orphan", lazy="selectin", order_by="Enrollment.course"
    )

    def roles(self) -> set[str]:
        """All roles, in any course or none; somebody with none at all counts as a student."""
        roles = {enrollment.role for enrollment in self.enrollments}
        if self.role:
            roles.add(self.role)
        return roles or {"student"}

    def role_in(self, course: str) -> str | None:
        return next((e.role for e in self.enrollments if e.course == course), None)

    def staff_of(self, course: str) -> bool:
        return self.role_in(course) in STAFF_ROLES

    def groups(self) -> list[str]:
        """The hub groups that nbgrader expects, and that of founders."""
        prefix = {"student": "nbgrader", "assistant": "formgrade", "instructor": "formgrade"}
        found = [f"{prefix[e.role]}-{e.course}" for e in self.enrollments]
        return sorted([*found, FOUNDERS] if self.role == "founder" else found)


class Enrollment(Base):
    """Somebody's role in a course."""

    __tablename__ = "enrollments"

    login: Mapped[str] = mapped_column(ForeignKey("people.login", ondelete="CASCADE"), primary_key=True)
    course: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(20))
    person: Mapped[Person] = relationship(back_populates="enrollments")


def normal_login(text: str) -> str:
    """A login as the roster and the hub keep it: lower case, Hangul in whole syllables (some systems type it in parts)."""
    return unicodedata.normalize("NFC", text.strip().lower())


def usable_login(login: str) -> bool:
    return bool(_LOGIN.fullmatch(login))


@dataclass(frozen=True)
class RosterRow:
    line: int
    name: str
    login: str
    role: str


class RosterError(Exception):
    """The roster has bad lines; nothing was imported. ``problems``: (line number, message key, what stands there)."""

    def __init__(self, problems: list[tuple[int, str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"line {line}: {problem}: {value!r}" for line, problem, value in problems))


def decode_roster(content: bytes) -> str:
    """
    Raises:
        RosterError: it is not UTF-8 text.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RosterError([(content.count(b"\n", 0, error.start) + 1, "roster-not-utf8", "")]) from error


def parse_roster(text: str, course: str | None) -> list[RosterRow]:
    """Read a roster: CSV with the columns name, login, role in any order; UTF-8 with or without a byte order mark.

    Raises:
        RosterError: with every bad line, not only the first.
    """
    problems: list[tuple[int, str, str]] = []
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise RosterError([(reader.line_num, "roster-not-csv", str(error))]) from error
    if not rows:
        raise RosterError([(1, "roster-empty", "")])
    line, header = rows[0]
    header = [column.lower() for column in header]
    missing = [column for column in ("name", "login", "role") if column not in header]
    if missing:
        raise RosterError([(line, "roster-column-missing", ", ".join(missing))])
    seen: dict[str, int] = {}
    parsed: list[RosterRow] = []
    allowed = COURSE_ROLES + ACADEMY_ROLES if course else ACADEMY_ROLES
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            problems.append((line, "roster-cell-count", ",".join(cells)))
            continue
        row = dict(zip(header, cells, strict=True))
        name, login, role = unicodedata.normalize("NFC", row["name"]), normal_login(row["login"]), row["role"].lower()
        before = len(problems)
        if not usable_login(login):
            problems.append((line, "roster-bad-login", row["login"]))
        elif login in seen:
            problems.append((line, "roster-login-twice", login))
        if role not in COURSE_ROLES + ACADEMY_ROLES:
            problems.append((line, "roster-bad-role", row["role"]))
        elif role not in allowed:
            problems.append((line, "roster-role-needs-course", role))
        if not name:
            problems.append((line, "roster-name-missing", login))
        elif len(name) > NAME_LENGTH or not name.isprintable():
            problems.append((line, "roster-bad-name", login))
        seen.setdefault(login, line)
        if len(problems) == before:
            parsed.append(RosterRow(line, name, login, role))
    if problems:
        raise RosterError(problems)
    return parsed


def import_roster(session: Session, rows: list[RosterRow], course: str | None) -> tuple[int, int]:
    """Add or change the people of a roster; nobody is removed. Returns (added, changed)."""
    added = changed = 0
    for row in rows:
        person = session.get(Person, row.login)
        if person is None:
            person = Person(login=row.login, name=row.name)
            session.add(person)
            added += 1
            before = None
        else:
            before = (person.name, person.role, person.role_in(course) if course else None)
        person.name = row.name
        if row.role in ACADEMY_ROLES:
            person.role = row.role
        elif course:
            enrol(person, course, row.role)
        after = (person.name, person.role, person.role_in(course) if course else None)
        if before is not None and before != after:
            changed += 1
    return added, changed


def enrol(person: Person, course: str, role: str) -> None:
    for enrollment in person.enrollments:
        if enrollment.course == course:
            enrollment.role = role
            return
    person.enrollments.append(Enrollment(course=course, role=role))


def members(session: Session, course: str, *roles: str) -> list[Person]:
    """A course's people with any of the roles (all when none is given), by login."""
    query = select(Person).join(Enrollment).where(Enrollment.course == course).order_by(Person.login)
    if roles:
        query = query.where(Enrollment.role.in_(roles))
    return list(session.scalars(query))
