"""What being late costs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from grading.courses.catalogue import Late
from grading.penalties import Penalty, is_late, penalty

DUE = datetime(2026, 12, 1, 9, tzinfo=UTC)
policies = st.builds(Late, grace_minutes=st.floats(0, 600), per_day=st.floats(0, 1), most_days=st.integers(0, 10))
minutes = st.integers(-10_000, 100_000)
points = st.floats(0, 100)


@given(policies, minutes, points, st.floats(0, 100))
def test_never_negative_and_never_more_than_the_score(late: Late, after: int, score: float, more: float) -> None:
    found = penalty(late, DUE + timedelta(minutes=after), DUE, score, score + more)
    assert 0 <= found.points <= score
    assert (found == Penalty()) or is_late(late, DUE + timedelta(minutes=after), DUE)


@given(policies, minutes, st.integers(0, 10_000), points)
def test_later_never_costs_less(late: Late, after: int, more: int, score: float) -> None:
    costs = [penalty(late, DUE + timedelta(minutes=moment), DUE, score, 100).points for moment in (after, after + more)]
    assert costs[0] <= costs[1]


def test_each_begun_day_takes_its_part() -> None:
    late = Late(grace_minutes=30, per_day=0.1, most_days=3)
    cost = lambda **after: penalty(late, DUE + timedelta(**after), DUE, 8, 10)  # noqa: E731
    assert cost(minutes=30) == Penalty()
    assert cost(minutes=31) == Penalty(1.0, 1)
    assert cost(days=1, minutes=1) == Penalty(2.0, 2)
    assert cost(days=3) == Penalty(3.0, 3)
    assert cost(days=3, minutes=1) == Penalty(8, 4)  # too late for anything
    assert penalty(late, DUE, None, 8, 10) == Penalty()
