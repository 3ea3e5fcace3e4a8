"""The ledger: exact, append-only, never below nothing, whatever the order of what happens."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from academy.cli import app
from academy.database import Base, Database, now
from academy.gpus.records import Lease
from academy.messages import AcademyError
from academy.people import Enrollment, Person
from academy.settings import Settings
from academy.vouchers import ledger, statement, teams
from academy.vouchers.records import GPU_HOUR, Entry, Member, Team, Voucher
from grading.records import History

T0 = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path}/a.sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    database = Database(url)
    database.upgrade()
    yield database
    database.close()


def grant(
    session: Session, hours: float = 10, holder: str = "ada", kind: Any = "person", days: float = 30, **more: Any
) -> Voucher:
    if kind == "person" and session.get(Person, holder) is None:
        session.add(Person(login=holder, name=holder))
    number = more.pop("number", f"V-{len(session.scalars(select(Voucher)).all()) + 1}")
    begin = T0 + timedelta(days=more.pop("after", 0))
    return ledger.grant(session, number, kind, holder, hours, begin, T0 + timedelta(days=days), "op", "Support 2026", T0)


def lease(session: Session, voucher: Voucher, name: str = "l1", weight: int = 1000, at: datetime = T0) -> Lease:
    made = Lease(
        id=name, device="GPU", shares=1, of_shares=1, holder=f"{name}/", login=name, server="", purpose="server", profile="p",
        tier=0, granted_at=at, weight=weight, voucher_id=voucher.id,
    )  # fmt: skip
    ledger.hold(session, voucher.id, made.id, weight, at)
    session.add(made)
    session.flush()
    return made


def lines(session: Session) -> list[tuple[str, float]]:
    return [(entry.kind, entry.amount / GPU_HOUR) for entry in session.scalars(select(Entry).order_by(Entry.id))]


def test_a_voucher_from_grant_to_zero_to_the_second(db: Database) -> None:
    with db.write() as session:
        voucher = grant(session, hours=1.5)
        one = lease(session, voucher)
        assert lines(session) == [("grant", 1.5), ("hold", -1)]
        standing = ledger.charge(session, one.id, T0 + 30 * MINUTE)
        assert (standing.free, standing.held, standing.empty_at) == (0, GPU_HOUR, None)
        assert standing.left == pytest.approx(2 / 3)
        again = ledger.charge(session, one.id, T0 + 30 * MINUTE)
        assert again == standing  # nothing is booked twice
        standing = ledger.charge(session, one.id, T0 + 75 * MINUTE)
        assert standing.left == pytest.approx(1 / 6)
        standing = ledger.charge(session, one.id, T0 + 100 * MINUTE)
        assert standing.empty_at == T0 + 90 * MINUTE  # not when it was noticed
        assert (standing.free, standing.held, standing.left) == (0, 0, 0)
        ledger.finish(session, one.id, T0 + 101 * MINUTE)
        [account] = ledger.accounts(session, [voucher])
        assert (account.free, account.held, account.used) == (0, 0, round(1.5 * GPU_HOUR))


def test_what_is_not_used_comes_back(db: Database) -> None:
    with db.write() as session:
        voucher = grant(session, hours=10)
        one = lease(session, voucher, weight=250)
        ledger.finish(session, one.id, T0 + 2 * HOUR)
        ledger.finish(session, one.id, T0 + 2 * HOUR)
        [account] = ledger.accounts(session, [voucher])
        assert (account.free, account.held, account.used) == (round(9.5 * GPU_HOUR), 0, GPU_HOUR // 2)


def test_two_teammates_cannot_start_on_the_same_last_hour(db: Database) -> None:
    with db.write() as session:
        voucher = grant(session, hours=1)
    started, refused = [], []

    def start(name: str) -> None:
        try:
            with db.write() as session:
                lease(session, session.get_one(Voucher, voucher.id), name)
            started.append(name)
        except AcademyError as error:
            refused.append(error.key)

    threads = [threading.Thread(target=start, args=(name,)) for name in ("ada", "bea", "cleo")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started) == 1
    assert refused == ["voucher-spent"] * 2


def test_the_voucher_that_ends_first_pays_first(db: Database) -> None:
    with db.write() as session:
        later, sooner = grant(session, days=60), grant(session, days=5)
        team = Team(id="t", name="Team", made_by="ada", made_at=T0)
        session.add(team)
        session.flush()
        session.add(Member(team_id="t", login="ada", invited_by="ada", invited_at=T0, joined_at=T0))
        session.flush()
        shared = grant(session, holder="t", kind="team", days=2)
        for_course = grant(session, holder="ml", kind="course", days=1)
        future = grant(session, days=400, after=20)
        ada = session.get_one(Person, "ada")
        bea = Person(login="bea", name="bea", enrollments=[])
        session.add(Member(team_id="t", login="bea", invited_by="ada", invited_at=T0))  # invited, has not joined
        session.flush()
        assert ledger.choose(session, ada, T0) == shared
        assert ledger.choose(session, ada, T0 + timedelta(days=3)) == sooner
        assert ledger.choose(session, ada, T0, later.id) == later
        with pytest.raises(AcademyError, match="none that is open"):
            ledger.choose(session, bea, T0)
        with pytest.raises(AcademyError, match="cannot pay for you"):
            ledger.choose(session, bea, T0, later.id)
        with pytest.raises(AcademyError, match="none that is open"):
            ledger.choose(session, ada, T0, future.id)
        student = Person(login="cleo", name="cleo", enrollments=[Enrollment(course="ml", role="student")])
        assert ledger.choose(session, student, T0) == for_course
        one = lease(session, shared, weight=1000)
        ledger.charge(session, one.id, T0 + 9 * HOUR + 57 * MINUTE)
        assert ledger.choose(session, ada, T0) == sooner  # of the first nothing is free any more
        with pytest.raises(AcademyError, match="V-3"):
            ledger.choose(session, ada, T0, shared.id)


def test_what_makes_no_sense_is_refused(db: Database) -> None:
    with db.write() as session:
        first, second = grant(session), grant(session)
        for changes, key in [
            ({"hours": 0}, "voucher-bad-grant"),
            ({"hours": -1}, "voucher-bad-grant"),
            ({"days": -1}, "voucher-bad-grant"),
            ({"hours": float("nan")}, "voucher-bad-grant"),
            ({"hours": float("inf")}, "voucher-bad-grant"),
            ({"hours": 1e7}, "voucher-bad-grant"),
            ({"number": "V" * 65}, "voucher-bad-grant"),
            ({"number": "V-1"}, "voucher-number-taken"),
            ({"holder": "nobody", "kind": "team"}, "voucher-no-holder"),
        ]:
            with pytest.raises(AcademyError) as caught:
                grant(session, **changes)  # type: ignore[arg-type]
            assert caught.value.key == key
        with pytest.raises(AcademyError, match=r"10\.00 GPU-hours"):
            ledger.transfer(session, first.id, second.id, 10.5, "op", "x", T0)
        ledger.transfer(session, first.id, second.id, 4, "op", "Merger", T0)
        with pytest.raises(AcademyError):
            ledger.correct(session, first.id, -7, "op", "x", T0)
        with pytest.raises(AcademyError):
            ledger.correct(session, first.id, -1, "op", " ", T0)
        for hours in (0, float("nan"), float("-inf"), -1e7):
            with pytest.raises(AcademyError, match="makes no sense"):
                ledger.correct(session, first.id, hours, "op", "x", T0)
            with pytest.raises(AcademyError, match="makes no sense"):
                ledger.transfer(session, first.id, second.id, hours, "op", "x", T0)
        with pytest.raises(AcademyError, match="makes no sense"):
            ledger.transfer(session, first.id, first.id, 1, "op", "x", T0)
        ledger.correct(session, first.id, -6, "op", "Typing mistake", T0)
        over = T0 + timedelta(days=31)
        with pytest.raises(AcademyError, match="has ended: V-1"):
            ledger.transfer(session, second.id, first.id, 1, "op", "x", over)
        with pytest.raises(AcademyError, match="has ended: V-1"):
            ledger.correct(session, first.id, 1, "op", "x", over)
        assert [account.free // GPU_HOUR for account in ledger.accounts(session, [first, second])] == [0, 14]


def test_what_is_left_at_the_end_expires_and_servers_keep_what_they_hold(db: Database) -> None:
    with db.write() as session:
        voucher = grant(session, days=1, hours=10)
        end = T0 + timedelta(days=1)
        one = lease(session, voucher, at=end - 10 * MINUTE)
        assert ledger.expire(session, end - MINUTE) == 0
        assert ledger.expire(session, end) == 1
        assert ledger.charge(session, one.id, end + 20 * MINUTE).empty_at is None
        assert ledger.charge(session, one.id, end + 60 * MINUTE).empty_at == end + 50 * MINUTE
        ledger.finish(session, one.id, end + 70 * MINUTE)
        assert ledger.expire(session, end + 80 * MINUTE) == 0
        assert ledger.free(session, voucher.id) == 0


def test_a_server_costs_what_its_profile_weighs(db: Database) -> None:
    with db.write() as session:
        sooner, later = grant(session, hours=0.1, days=5), grant(session, hours=10)
        ada = session.get_one(Person, "ada")
        assert ledger.choose(session, ada, T0, weight=1000) == sooner
        assert ledger.choose(session, ada, T0, weight=2000) == later  # of which the first has less than five minutes
        ledger.correct(session, sooner.id, -0.07, "op", "x", T0)
        assert ledger.choose(session, ada, T0, weight=1000) == later
        assert ledger.choose(session, ada, T0, weight=250) == sooner
        with pytest.raises(AcademyError, match="V-1"):
            ledger.choose(session, ada, T0, sooner.id)


def test_time_before_the_end_is_paid_even_if_it_is_booked_late(db: Database) -> None:
    with db.write() as session:
        voucher = grant(session, days=1, hours=10)
        end = T0 + timedelta(days=1)
        one = lease(session, voucher, at=end - 3 * HOUR)
        standing = ledger.charge(session, one.id, end + HOUR)  # nobody looked for four hours
        assert standing.empty_at == end  # three hours from what was free, the held one among them
        assert _used(session, one.id) == 3 * GPU_HOUR
        assert ledger.expire(session, end + HOUR) == 1
        assert ledger.free(session, voucher.id) == 0


def test_a_server_that_has_ended_is_charged_no_more(db: Database) -> None:
    with db.write() as session:
        voucher = grant(session)
        one = lease(session, voucher)
        one.released_at = T0 + HOUR
        ledger.finish(session, one.id, T0 + HOUR)
        before = lines(session)
        for late in (T0 + 2 * HOUR, T0):
            ledger.charge(session, one.id, late)
            ledger.finish(session, one.id, late)
        assert lines(session) == before
        assert _used(session, one.id) == GPU_HOUR


@pytest.mark.postgresql
def test_a_charge_that_comes_after_the_release_holds_nothing(postgres_url: str) -> None:
    database = Database(postgres_url)
    database.upgrade()
    with database.write() as session:
        voucher = grant(session)
        one = lease(session, voucher)
    with database.write() as keeper:
        assert keeper.get_one(Lease, one.id).released_at is None  # what the keeper of the pool has read
        with database.write() as hub:
            hub.get_one(Lease, one.id).released_at = T0 + 10 * MINUTE
            hub.flush()
            ledger.finish(hub, one.id, T0 + 10 * MINUTE)
        ledger.charge(keeper, one.id, T0 + 11 * MINUTE)
    with database.read() as session:
        [account] = ledger.accounts(session, [voucher])
        assert (account.held, account.used) == (0, GPU_HOUR // 6)
    database.close()


def test_a_full_hold_costs_the_ledger_one_line_a_minute(db: Database) -> None:
    with db.write() as session:
        one = lease(session, grant(session))
        for minute in range(1, 4):
            ledger.charge(session, one.id, T0 + minute * MINUTE)
        assert [kind for kind, _ in lines(session)] == ["grant", "hold", "use", "use", "use"]
        one.released_at = T0 + 3 * MINUTE
        ledger.finish(session, one.id, one.released_at)
        assert lines(session)[-1] == ("release", 1)


def test_people_are_told_at_a_fifth_and_at_a_twentieth(db: Database) -> None:
    with db.write() as session:
        voucher, other = grant(session, hours=10), grant(session, hours=10, number="full")
        ada = session.get_one(Person, "ada")
        one = lease(session, voucher)
        for minutes, low in ((479, ""), (480, "few"), (569, "few"), (570, "last"), (700, "last")):
            ledger.charge(session, one.id, T0 + minutes * MINUTE)
            told = ledger.warnings(session, ada, T0)
            assert [(account.voucher, account.low) for account in told] == ([(voucher, low)] if low else [])
        assert ledger.warnings(session, ada, T0 - HOUR) == []  # not open yet
        assert other.number == "full"


def test_every_decision_stands_in_the_history(db: Database) -> None:
    with db.write() as session:
        first = grant(session, holder="ml", kind="course")
        second = grant(session)
        ledger.transfer(session, first.id, second.id, 2, "op", "Merger", T0)
        ledger.correct(session, second.id, -1, "op", "Mistake", T0)
        team = teams.make(session, " Seoul  Chips ", "ada", "op", T0)
        session.add(Person(login="bea", name="bea"))
        session.flush()
        for _ in range(2):  # the second time nothing happens
            teams.invite(session, team.id, "bea", "ada", T0)
            teams.join(session, team.id, "bea", T0)
        teams.lead(session, team.id, "bea", "ada")
        teams.remove(session, team.id, "ada", "bea")
        with pytest.raises(AcademyError, match="needs a lead"):
            teams.remove(session, team.id, "bea", "bea")
        said = [(row.actor, row.course, row.login, row.detail) for row in session.scalars(select(History).order_by(History.id))]
    of_first = {"number": "V-1", "reason": "Support 2026", "what": "grant", "hours": 10}
    assert said[0] == ("op", "ml", "", of_first)
    assert said[1] == ("op", "", "ada", {**of_first, "number": "V-2"})
    assert sorted((detail["number"], detail["hours"]) for *_, detail in said[2:4]) == [("V-1", -2), ("V-2", 2)]
    assert said[4][3] == {"number": "V-2", "reason": "Mistake", "what": "correction", "hours": -1}
    assert [(actor, login, detail["what"]) for actor, _, login, detail in said[5:]] == [
        ("op", "ada", "made"),
        ("ada", "bea", "invited"),
        ("bea", "bea", "joined"),
        ("ada", "bea", "lead"),
        ("bea", "ada", "removed"),
    ]


@pytest.mark.parametrize(
    "change", ["UPDATE voucher_entries SET amount = 1", "DELETE FROM voucher_entries", "TRUNCATE voucher_entries"]
)
def test_the_database_itself_keeps_the_ledger(db: Database, change: str) -> None:
    if db.sqlite and change.startswith("TRUNCATE"):
        return  # SQLite has no such statement
    with db.write() as session:
        grant(session)
    with pytest.raises(DBAPIError, match="append-only"), db.write() as session:
        session.execute(text(change))
    with pytest.raises(TypeError, match="append a correction"), db.write() as session:
        session.scalars(select(Entry)).one().amount = 5


WHO = st.sampled_from(["a", "b", "c"])
STEP = st.one_of(
    st.tuples(st.just("start"), WHO, st.sampled_from([0, 250, 1000, 3000]), st.integers(0, 1)),
    st.tuples(st.just("charge"), WHO),
    st.tuples(st.just("stop"), WHO),
    st.tuples(st.just("clock"), st.integers(-90_000, 5_400_000)),  # milliseconds; back a little, too
    st.tuples(st.just("grant"), st.floats(0.1, 3)),
    st.tuples(st.just("transfer"), st.floats(0.1, 3)),
    st.tuples(st.just("correct"), st.floats(-2, 2)),
    st.just(("expire",)),
)


class Academy:
    """What should be true of the ledger, kept beside it."""

    def __init__(self, hours: tuple[float, float]) -> None:
        self.database = Database("sqlite://")
        Base.metadata.create_all(self.database.engine)
        self.session = Session(self.database.engine)
        self.clock, self.running, self.time = T0, dict[str, str](), dict[str, int]()
        self.vouchers = [grant(self.session, hours=amount, days=1 + number) for number, amount in enumerate(hours)]
        self.session.commit()

    def take(self, step: Any, crash: bool) -> None:
        """One step in one transaction; when the process dies before its commit nothing has happened."""
        before = self.running.copy(), self.time.copy(), self.vouchers.copy()
        try:
            self._take(step)
            if crash:
                raise AcademyError("page-missing")
            self.session.commit()
        except AcademyError:
            self.session.rollback()
            self.running, self.time, self.vouchers = before

    def _take(self, step: Any) -> None:
        session, clock = self.session, self.clock
        match step:
            case ("start", who, weight, which) if who not in self.running:
                name = f"l{len(self.time)}"
                self.running[who] = lease(session, self.vouchers[which], name, weight, clock).id
                self.time[name] = 0
            case ("charge", who) if who in self.running:
                self.charge(self.running[who])
            case ("stop", who) if who in self.running:
                self.stop(who)
            case ("clock", milliseconds):
                self.clock += timedelta(milliseconds=milliseconds)
            case ("grant", amount):
                self.vouchers.append(grant(session, hours=amount, days=3, number=f"G{len(self.vouchers)}"))
            case ("transfer", amount):
                ledger.transfer(session, self.vouchers[0].id, self.vouchers[1].id, amount, "op", "x", clock)
            case ("correct", amount):
                ledger.correct(session, self.vouchers[0].id, amount, "op", "x", clock)
            case ("expire",):
                ledger.expire(session, clock)
                assert not any(ledger.free(session, one.id) for one in self.vouchers if one.ends_at <= clock)

    def charge(self, lease_id: str) -> None:
        one = self.session.get_one(Lease, lease_id)
        standing = ledger.charge(self.session, lease_id, self.clock)
        self.time[lease_id] = max(self.time[lease_id], (self.clock - one.granted_at) // ledger.MS)
        owed, used = self.time[lease_id] * one.weight, _used(self.session, lease_id)
        if standing.held:  # there is money: all is paid, to the millisecond, and not more
            assert used == owed
        else:  # what is not paid nobody could pay: nothing is free, or the voucher has ended
            assert used == owed or not standing.free or self.clock >= self.session.get_one(Voucher, one.voucher_id).ends_at
            assert used <= owed
            assert not one.weight or standing.empty_at == one.granted_at + used // one.weight * ledger.MS
        assert ledger.charge(self.session, lease_id, self.clock) == standing  # nothing is booked twice

    def stop(self, who: str) -> None:
        lease_id = self.running.pop(who)
        self.charge(lease_id)
        one = self.session.get_one(Lease, lease_id)
        one.released_at = max(self.clock, one.granted_at)  # as the pool does
        self.session.flush()
        ledger.finish(self.session, lease_id, one.released_at)
        ended = lines(self.session)
        ledger.finish(self.session, lease_id, one.released_at + HOUR)
        assert lines(self.session) == ended

    def check(self) -> None:
        """At every line of the ledger: nothing is below nothing, nothing appears or is lost."""
        free: dict[str, int] = {}
        held: dict[str, int] = {}
        for entry in self.session.scalars(select(Entry).order_by(Entry.id)):
            free[entry.voucher_id] = free.get(entry.voucher_id, 0) + entry.amount
            if entry.kind in ("hold", "release"):
                held[entry.lease_id or ""] = held.get(entry.lease_id or "", 0) - entry.amount
            assert free[entry.voucher_id] >= 0
            assert held.get(entry.lease_id or "", 0) >= 0
        assert not any(amount for lease_id, amount in held.items() if lease_id not in self.running.values())
        accounts = ledger.accounts(self.session, self.vouchers)
        assert {one.voucher.id: one.free for one in accounts} == free
        assert sum(one.held for one in accounts) == sum(held.values())
        expired = sum(self.session.scalars(select(Entry.amount).where(Entry.kind == "expiry")))
        for one in accounts:
            assert one.used == sum(
                _used(self.session, lease_id)
                for lease_id in self.time
                if self.session.get_one(Lease, lease_id).voucher_id == one.voucher.id
            )
        assert sum(one.granted for one in accounts) + expired == sum(one.free + one.held + one.used for one in accounts)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(st.tuples(STEP, st.booleans() | st.just(False)), max_size=25), hours=st.tuples(*[st.floats(0.1, 5)] * 2))
def test_whatever_happens_the_sums_are_right(steps: list[tuple[Any, bool]], hours: tuple[float, float]) -> None:
    academy = Academy(hours)
    for step, crash in steps:
        academy.take(step, crash)
        academy.check()
    for who in list(academy.running):
        academy.stop(who)
    academy.check()
    academy.session.close()
    academy.database.close()


def _used(session: Session, lease_id: str) -> int:
    uses = select(Entry.amount).where(Entry.lease_id == lease_id, Entry.kind == "use")
    return -sum(session.scalars(uses))


def test_a_statement_says_who_used_what_and_when(db: Database) -> None:
    with db.write() as session:
        session.add(Person(login="bea", name="bea"))
        first, second = grant(session, hours=4), grant(session, holder="bea", hours=2)
        for voucher, login, name, begin, minutes in (
            (first, "ada", "l1", 0, 90),
            (first, "bea", "l2", 0.99, 30),  # ends before the first: equal ends have no order
            (second, "bea", "l3", 0, 45),
        ):
            one = lease(session, voucher, name, at=T0 + begin * HOUR)
            one.login, one.server = login, "demo"
            for minute in range(1, minutes + 1):
                ledger.charge(session, one.id, one.granted_at + minute * MINUTE)
            one.released_at = one.granted_at + minutes * MINUTE
            ledger.finish(session, one.id, one.released_at)
        found = statement.lines(session, [first])
        assert [(line.kind, line.who, line.amount / GPU_HOUR) for line in found] == [
            ("use", "ada", -1.5), ("use", "bea", -0.5), ("grant", "op", 4),
        ]  # fmt: skip
        assert (found[0].since, found[0].until, found[0].said) == (T0, T0 + 90 * MINUTE, "demo")
        assert statement.people(found) == [("ada", 3 * GPU_HOUR // 2), ("bea", GPU_HOUR // 2)]
        both = statement.lines(session, [first, second], only="bea")
        assert sorted((line.number, line.kind, line.amount / GPU_HOUR) for line in both) == [
            ("V-1", "use", -0.5), ("V-2", "grant", 2), ("V-2", "use", -0.75),
        ]  # fmt: skip
        rows = list(csv.DictReader(io.StringIO(statement.table(session, [first, second], only="bea"))))
        assert {(row["voucher"], row["who"]) for row in rows} == {("V-1", "bea"), ("V-2", "bea"), ("V-2", "")}
        assert sum(int(row["amount"]) for row in rows if row["voucher"] == "V-2") == ledger.free(session, second.id)
        some = statement.table(session, [first], since=T0 + 80 * MINUTE, until=T0 + 82 * MINUTE)
        assert [row["who"] for row in csv.DictReader(io.StringIO(some))] == ["ada", "bea"] * 2


def test_the_plot_shows_what_was_granted_and_what_was_used() -> None:
    def line(kind: Any, since: int, until: int, hours: float) -> statement.Line:
        return statement.Line("V", kind, T0 + since * HOUR, T0 + until * HOUR, round(hours * GPU_HOUR), "ada", "")

    found = [line("use", 2, 6, -4), line("correction", 5, 5, -2), line("grant", 0, 0, 10)]
    plot = statement.plot(found, T0 + 10 * HOUR, 100, 100)
    assert plot
    assert (plot.since, plot.until, plot.most) == (T0, T0 + 10 * HOUR, 10)
    assert plot.granted == "M0 100L0 100.0L0 0.0L50 0.0L50 20.0L100 20.0L100 100Z"
    assert plot.used == "M0 100L20 100.0L60 60.0L100 60.0L100 100Z"
    assert statement.plot([], T0, 100, 100) is None
    assert statement.plot(found[2:], T0, 100, 100) is None  # no time has passed


def test_the_commands_do_what_the_pages_do(config: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "courses" / "ml").mkdir(parents=True)
    (tmp_path / "courses" / "ml" / "course.toml").touch()
    database = Database(config(academy={"courses": str(tmp_path / "courses")}).database_url)
    database.upgrade()
    with database.write() as session:
        session.add_all(Person(login=login, name=login) for login in ("ada", "bea"))

    def run(words: str, answer: str = "", fails: str = "") -> str:
        result = CliRunner().invoke(app, words.split("|"), input=answer)
        if fails:
            assert fails in f"{result.output} {result.exception}"
            assert result.exit_code
        else:
            assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    dates = f"--from|2026-03-02|--until|{now().year + 1}-12-31|--reason|Support"
    assert "made" in run("teams|add|Seoul Chips|--lead|Ada")
    run("teams|invite|Seoul Chips|bea")
    run("teams|lead|Seoul Chips|bea", fails="Not in this team: bea")
    run("teams|remove|Seoul Chips|bea", "n\n", fails="Aborted")
    assert "bea" in run("teams|list")
    run("teams|remove|Seoul Chips|bea", "y\n")
    assert "bea" not in run("teams|list")
    run("teams|remove|Seoul Chips|ada|--yes", fails="A team needs a lead")
    run("teams|invite|Nobody|bea", fails="Nobody")
    run(f"vouchers|grant|T-1|10|--to|team|--holder|Seoul Chips|{dates}")
    run(f"vouchers|grant|P-1|5|--to|person|--holder|ADA|{dates}")
    run(f"vouchers|grant|C-1|5|--to|course|--holder|ml|{dates}")
    run(f"vouchers|grant|C-2|5|--to|course|--holder|nothing|{dates}", fails="nothing")
    run(f"vouchers|grant|X|5|--to|planet|--holder|ml|{dates}", fails="person, team or course")
    run(f"vouchers|grant|X|5|--to|course|--holder|ml|{dates}|--until|tomorrow", fails="not a date")
    run("vouchers|transfer|T-1|P-1|2|--reason|Merger", "n\n", fails="Aborted")
    run("vouchers|transfer|T-1|P-1|2|--reason|Merger", "y\n")
    run("vouchers|transfer|T-1|Z-9|2|--reason|Merger|--yes", fails="Z-9")
    run("vouchers|correct|P-1|--reason|Mistake|--|-3", "n\n", fails="Aborted")
    run("vouchers|correct|P-1|--yes|--reason|Mistake|--|-3")
    run("vouchers|correct|P-1|1|--reason|More")
    listed = " ".join(run("vouchers|list").split())
    assert "team Seoul" in listed
    rows = list(csv.DictReader(io.StringIO(run("vouchers|statement|P-1"))))
    assert [(row["kind"], float(row["gpu_hours"])) for row in rows] == [
        ("grant", 5),
        ("transfer", 2),
        ("correction", -3),
        ("correction", 1),
    ]
    assert all(row["by"].startswith("terminal:") for row in rows)
    assert run("vouchers|statement|P-1|--until|2026-03-02").count("\n") == 1
    assert run("vouchers|expire") == "Vouchers that had something left: 0\n"
    with database.read() as session:
        recorded = [row.detail["what"] for row in session.scalars(select(History).order_by(History.id))]
        assert recorded == ["made", "invited", "removed", *["grant"] * 3, *["transfer"] * 2, "correction", "correction"]
        assert session.scalars(select(Member.login)).all() == ["ada"]
    database.close()


def test_the_keeper_ends_a_server_when_its_voucher_is_empty_and_lets_it_be_when_hours_come(
    db: Database, config: Callable[..., Settings]
) -> None:
    from academy.gpus.watch import Watch

    watch = Watch(config(gpus={"voucher_grace_minutes": 5}), db)

    def look(minutes: float) -> tuple[str, datetime | None]:
        with db.write() as session:
            watch.every_minute(session, [], T0 + minutes * MINUTE)
            one = session.get_one(Lease, "l1")
            return one.ends_why, one.ends_at

    with db.write() as session:
        voucher = grant(session, hours=1).id
        lease(session, session.get_one(Voucher, voucher))
    assert look(57) == ("", None)
    assert look(58.5) == ("voucher", T0 + 65 * MINUTE)  # before it is empty: to the second
    assert look(60.2) == ("voucher", T0 + 65 * MINUTE)
    with db.write() as session:
        ledger.correct(session, voucher, 2, "op", "more", T0 + 61 * MINUTE)
    assert look(62) == ("", None)
    with db.read() as session:
        [account] = ledger.accounts(session, session.scalars(select(Voucher)))
        assert account.used == GPU_HOUR * 62 // 60
