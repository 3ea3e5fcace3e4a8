"""The ledger: exact, append-only, never below nothing, whatever the order of what happens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from academy.database import Base, Database
from academy.gpus.records import Lease
from academy.messages import AcademyError
from academy.people import Enrollment, Person
from academy.vouchers import ledger
from academy.vouchers.records import GPU_HOUR, Entry, Member, Team, Voucher

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
    assert refused == ["voucher-empty"] * 2


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
        ledger.correct(session, first.id, -6, "op", "Typing mistake", T0)
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


@pytest.mark.parametrize("statement", ["UPDATE voucher_entries SET amount = 1", "DELETE FROM voucher_entries"])
def test_the_database_itself_keeps_the_ledger(db: Database, statement: str) -> None:
    with db.write() as session:
        grant(session)
    with pytest.raises(DBAPIError, match="append-only"), db.write() as session:
        session.execute(text(statement))
    with pytest.raises(TypeError, match="append a correction"), db.write() as session:
        session.scalars(select(Entry)).one().amount = 5


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.sampled_from(["a", "b", "c"]), st.sampled_from([0, 250, 1000, 3000]), st.integers(0, 1)),
        st.tuples(st.just("charge"), st.sampled_from(["a", "b", "c"])),
        st.tuples(st.just("stop"), st.sampled_from(["a", "b", "c"])),
        st.tuples(st.just("clock"), st.integers(-90_000, 5_400_000)),  # milliseconds; back a little, too
        st.tuples(st.just("transfer"), st.floats(0.1, 3)),
        st.tuples(st.just("correct"), st.floats(-2, 2)),
        st.just(("expire",)),
        st.just(("crash",)),
    ),
    max_size=30,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, hours=st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)))
def test_whatever_happens_the_sums_are_right(steps: list[Any], hours: tuple[float, float]) -> None:
    database = Database("sqlite://")
    Base.metadata.create_all(database.engine)
    clock = T0
    running: dict[str, str] = {}
    seen: dict[str, int] = {}
    with Session(database.engine) as session:
        vouchers = [grant(session, hours=amount, days=1 + number) for number, amount in enumerate(hours)]
        session.commit()
        for number, step in enumerate(steps):
            try:
                _take(session, step, clock, running, seen, vouchers, f"l{number}")
                session.commit()
            except AcademyError:
                session.rollback()
            if step[0] == "clock":
                clock += timedelta(milliseconds=step[1])
            if step[0] == "crash":
                session.rollback()
            for account in ledger.accounts(session, vouchers):
                assert account.free >= 0
                assert account.held >= 0
        for name in list(running):
            _time(session, running[name], clock, seen)
            ledger.finish(session, running.pop(name), clock)
        for account in ledger.accounts(session, vouchers):
            assert account.held == 0
            assert account.free + account.used == sum(
                entry.amount
                for entry in session.scalars(select(Entry).where(Entry.voucher_id == account.voucher.id))
                if entry.kind in ("grant", "transfer", "correction", "expiry")
            )
        for one in session.scalars(select(Lease)):
            assert _used(session, one.id) <= seen.get(one.id, 0) * one.weight
    database.close()


def _used(session: Session, lease_id: str) -> int:
    uses = select(Entry.amount).where(Entry.lease_id == lease_id, Entry.kind == "use")
    return -sum(session.scalars(uses))


def _time(session: Session, lease_id: str, clock: datetime, seen: dict[str, int]) -> int:
    """The longest that a lease was seen to run, in milliseconds."""
    seen[lease_id] = max(seen.get(lease_id, 0), (clock - session.get_one(Lease, lease_id).granted_at) // ledger.MS)
    return seen[lease_id]


def _take(
    session: Session,
    step: Any,
    clock: datetime,
    running: dict[str, str],
    seen: dict[str, int],
    vouchers: list[Voucher],
    name: str,
) -> None:
    match step:
        case ("start", who, weight, which) if who not in running:
            made = lease(session, vouchers[which], name, weight, clock)
            running[who] = made.id
        case ("charge", who) if who in running:
            standing, time = ledger.charge(session, running[who], clock), _time(session, running[who], clock, seen)
            if standing.held:  # then all that it owes is paid, and neither more nor less
                assert _used(session, running[who]) == time * session.get_one(Lease, running[who]).weight
        case ("stop", who) if who in running:
            _time(session, running[who], clock, seen)
            ledger.finish(session, running.pop(who), clock)
        case ("transfer", amount):
            ledger.transfer(session, vouchers[0].id, vouchers[1].id, amount, "op", "x", clock)
        case ("correct", amount):
            ledger.correct(session, vouchers[0].id, amount, "op", "x", clock)
        case ("expire",):
            ledger.expire(session, clock)
