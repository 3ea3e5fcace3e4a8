"""People: the roster as a file, what an import changes, and the `academy people` commands."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from typer.testing import CliRunner, Result

from academy.cli import app
from academy.database import Database
from academy.messages import AcademyError, catalogue
from academy.people import (
    ACADEMY_ROLES,
    COURSE_ROLES,
    NAME_LENGTH,
    Enrollment,
    Person,
    RosterError,
    decode_roster,
    enrol,
    import_roster,
    members,
    normal_login,
    parse_roster,
    usable_login,
)
from academy.settings import CHECKOUT, Settings
from grading.records import History

HEADER = "name,login,role\n"


def problems(text: str, course: str | None = "nlp") -> list[tuple[int, str, str]]:
    with pytest.raises(RosterError) as caught:
        parse_roster(text, course)
    return caught.value.problems


def test_columns_come_in_any_order_and_case() -> None:
    rows = parse_roster(
        '\ufeffRole, LOGIN ,name\r\nStudent,Minji@Example.ac.kr,"Kim, Minji"\r\n\r\nfounder,최대표,최대표\r\n', "nlp"
    )
    assert [(row.line, row.name, row.login, row.role) for row in rows] == [
        (2, "Kim, Minji", "minji@example.ac.kr", "student"),
        (4, "최대표", "최대표", "founder"),
    ]


def test_every_bad_line_is_reported() -> None:
    text = (
        HEADER
        + "김민지,min ji,student\n,bo,student\n이,lee,teacher\n박,lee,student\n박,park\n최,choi,student,x\n정,jung,student\n"
    )
    assert problems(text) == [
        (2, "roster-bad-login", "min ji"),
        (3, "roster-name-missing", "bo"),
        (4, "roster-bad-role", "teacher"),
        (5, "roster-login-twice", "lee"),
        (6, "roster-cell-count", "박,park"),
        (7, "roster-cell-count", "최,choi,student,x"),
    ]


@pytest.mark.parametrize(
    ("text", "course", "problem"),
    [
        ("", "nlp", (1, "roster-empty", "")),
        ("\n \n,,\n", "nlp", (1, "roster-empty", "")),
        ("name,login\n", "nlp", (1, "roster-column-missing", "role")),
        ("김민지,minji,student\n", "nlp", (1, "roster-column-missing", "name, login, role")),
        (HEADER + "김민지,minji,student\n", None, (2, "roster-role-needs-course", "student")),
        (HEADER + "김민지,../../etc,student\n", "nlp", (2, "roster-bad-login", "../../etc")),
        (HEADER + f"김민지,{'m' * 65},student\n", "nlp", (2, "roster-bad-login", "m" * 65)),
        (HEADER + f"{'김' * (NAME_LENGTH + 1)},minji,student\n", "nlp", (2, "roster-bad-name", "minji")),
        (HEADER + "\x1b[31m김,minji,student\n", "nlp", (2, "roster-bad-name", "minji")),
        (HEADER + '"김\n민지",minji,student\n', "nlp", (3, "roster-bad-name", "minji")),
        (HEADER + f'"{"x" * 200_000}",minji,student\n', "nlp", (2, "roster-not-csv", "field larger than field limit (131072)")),
    ],
)
def test_what_a_roster_may_not_hold(text: str, course: str | None, problem: tuple[int, str, str]) -> None:
    found = problems(text, course)
    assert found[0] == problem or (found[0][1:] == problem[1:] and problem[1] == "roster-empty")


def test_hangul_typed_in_parts_is_the_same_login() -> None:
    parts = unicodedata.normalize("NFD", "홍길동")
    assert parts != "홍길동"
    row = parse_roster(f"{HEADER}{parts},{parts},student\n", "nlp")[0]
    assert (row.name, row.login) == ("홍길동", "홍길동")
    assert normal_login(f" {parts.upper()} ") == "홍길동"


def test_another_encoding_is_named_with_its_line() -> None:
    assert decode_roster(f"\ufeff{HEADER}김민지,minji,student\n".encode()) == f"{HEADER}김민지,minji,student\n"
    with pytest.raises(RosterError) as caught:
        decode_roster(f"{HEADER}김민지,minji,student\n".encode("cp949"))
    assert caught.value.problems == [(2, "roster-not-utf8", "")]


@given(st.text() | st.lists(st.lists(st.text(max_size=6), max_size=4), max_size=4).map(lambda rows: HEADER + _csv(rows)))
def test_any_text_is_a_roster_or_a_report(text: str) -> None:
    rows, found = [], []
    try:
        rows = parse_roster(text, "nlp")
    except RosterError as error:
        found = error.problems
    assert bool(found) or text
    assert all({"ko", "en", "ko_fix", "en_fix"} <= catalogue()[key].keys() for _, key, _ in found)
    assert all(usable_login(row.login) and row.login == normal_login(row.login) for row in rows)
    assert all(row.role in COURSE_ROLES + ACADEMY_ROLES and row.name.isprintable() for row in rows)


LOGINS = st.from_regex(r"[a-z0-9_가-힣][a-z0-9_.@+\-가-힣]{0,20}", fullmatch=True)
NAMES = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=30).filter(lambda name: name.strip() == name)


@given(
    st.dictionaries(LOGINS, st.tuples(NAMES, st.sampled_from(COURSE_ROLES + ACADEMY_ROLES)), min_size=1),
    st.permutations((0, 1, 2)),
)
def test_a_good_roster_comes_back_as_it_was_written(people: dict[str, tuple[str, str]], order: list[int]) -> None:
    def arranged(*cells: str) -> list[str]:
        return [cells[index] for index in order]

    text = _csv([arranged("name", "login", "role")] + [arranged(name, login, role) for login, (name, role) in people.items()])
    rows = parse_roster(text, "nlp")
    assert {row.login: (row.name, row.role) for row in rows} == {
        login: (unicodedata.normalize("NFC", name), role) for login, (name, role) in people.items()
    }


def _csv(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def test_an_import_adds_and_changes_and_removes_nobody(database: Database) -> None:
    first = parse_roster(HEADER + "김민지,minji,student\n박준호,junho,student\n최,choi,founder\n", "nlp")
    second = parse_roster(HEADER + "김민지,minji,assistant\n최,choi,founder\n이,lee,instructor\n", "nlp")
    with database.write() as session:
        assert import_roster(session, first, "nlp") == (3, 0)
    with database.write() as session:
        assert import_roster(session, second, "nlp") == (1, 1)
    with database.read() as session:
        assert {p.login: p.role_in("nlp") for p in members(session, "nlp")} == {
            "junho": "student",
            "lee": "instructor",
            "minji": "assistant",
        }
        assert [p.login for p in members(session, "nlp", "assistant", "instructor")] == ["lee", "minji"]
        choi = session.get_one(Person, "choi")
        assert (choi.role, choi.enrollments) == ("founder", [])


def test_roles_and_the_groups_that_nbgrader_expects() -> None:
    person = Person(login="lee", name="이", role="operator")
    for course, role in {"nlp": "instructor", "cv": "assistant", "ops": "student"}.items():
        enrol(person, course, role)
    assert person.groups() == ["formgrade-cv", "formgrade-nlp", "nbgrader-ops"]
    assert person.roles() == {"operator", "instructor", "assistant", "student"}
    assert (person.staff_of("nlp"), person.staff_of("cv"), person.staff_of("ops"), person.staff_of("x")) == (
        True,
        True,
        False,
        False,
    )
    enrol(person, "nlp", "student")
    assert person.role_in("nlp") == "student"
    assert Person(login="guest").roles() == {"student"}


@pytest.fixture
def academy(config: Callable[..., Settings]) -> Callable[..., Result]:
    """Runs `academy people ...` on an academy of its own, which has the courses of this checkout."""
    settings = config()
    database = Database(settings.database_url)
    database.upgrade()

    def people(*arguments: str, input: str | None = None) -> Result:
        return CliRunner().invoke(app, ["people", *arguments], input=input)

    people.database = database  # type: ignore[attr-defined]
    yield people
    database.close()


def history(database: Database) -> list[tuple[str, str, str, dict[str, Any]]]:
    with database.read() as session:
        return [(line.action, line.course, line.login, line.detail) for line in session.scalars(select(History))]


COURSE = sorted(path.parent.name for path in (CHECKOUT / "courses").glob("*/course.toml"))[0]


def test_import_says_what_it_did_and_writes_the_history(academy: Any, tmp_path: Path) -> None:
    roster = tmp_path / "roster.csv"
    roster.write_text(HEADER + "김민지,Minji,student\n이선생,lee,instructor\n", encoding="utf-8-sig")
    assert academy("import", str(roster), "--course", COURSE).stdout == "2 people: 2 added, 0 changed.\n"
    assert academy("import", str(roster), "--course", COURSE).stdout == "2 people: 0 added, 0 changed.\n"
    assert history(academy.database)[0] == ("roster", COURSE, "", {"rows": 2, "added": 2, "changed": 0})
    listed = academy("list", "--course", COURSE).stdout.splitlines()
    assert [line.split()[:2] for line in listed] == [["lee", "이선생"], ["minji", "김민지"]]
    assert academy("list").stdout.splitlines() == listed


def test_a_bad_line_imports_nothing(academy: Any, tmp_path: Path) -> None:
    roster = tmp_path / "roster.csv"
    roster.write_text(HEADER + "김민지,minji,student\n박,junho,pupil\n,choi,student\n", encoding="utf-8")
    result = academy("import", str(roster), "--course", COURSE)
    assert result.exit_code == 1
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["line 3", "line 4", "Nothing was imported."]
    assert "알 수 없는 역할" in result.stderr
    assert academy("list").stdout == ""
    assert history(academy.database) == []
    roster.write_bytes((HEADER + "김민지,minji,student\n").encode("cp949"))
    assert "UTF-8" in academy("import", str(roster), "--course", COURSE).stderr
    result = academy("import", str(roster), "--course", "no-such-course")
    assert isinstance(result.exception, AcademyError)


def test_adding_gives_a_role_and_keeps_the_name(academy: Any) -> None:
    assert academy("add", "Lee", "--role", "instructor", "--course", COURSE, "--name", "이선생").stdout.startswith(
        "lee: instructor of"
    )
    assert academy("add", "lee", "--role", "operator").stdout == "lee: operator\n"
    with academy.database.read() as session:
        lee = session.get_one(Person, "lee")
        assert (lee.name, lee.role, lee.role_in(COURSE)) == ("이선생", "operator", "instructor")
    assert [line[0] for line in history(academy.database)] == ["person-added", "person-added"]
    for wrong, key in {
        ("kim", "--role", "student"): "roster-role-needs-course",
        ("kim", "--role", "boss"): "roster-bad-role",
        ("k im", "--role", "founder"): "roster-bad-login",
    }.items():
        error = academy("add", *wrong).exception
        assert isinstance(error, AcademyError)
        assert error.key == key
    assert len(academy("list").stdout.splitlines()) == 1


def test_removing_asks_first_and_lets_others_write_meanwhile(academy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    academy("add", "minji", "--role", "student", "--course", COURSE)
    assert academy("remove", "Minji", input="n\n").exit_code == 1
    assert "minji" in academy("list").stdout

    def answer(*_: Any, **__: Any) -> None:
        other = Database(str(academy.database.engine.url))
        with other.write() as session:
            session.add(Person(login="junho", name="박준호"))
        other.close()

    monkeypatch.setattr("typer.confirm", answer)
    assert academy("remove", "minji", "--course", COURSE).exit_code == 0
    assert COURSE not in academy("list").stdout
    assert academy("remove", "minji", "--course", COURSE).exception.key == "person-not-enrolled"
    assert academy("remove", "minji", "--yes").exit_code == 0
    assert academy("list").stdout.split()[0] == "junho"
    assert academy("remove", "minji", "--yes").exception.key == "person-unknown"
    with academy.database.read() as session:
        assert session.scalars(select(Enrollment)).all() == []
    assert [line[:3] for line in history(academy.database)][1:] == [
        ("person-removed", COURSE, "minji"),
        ("person-removed", "", "minji"),
    ]
