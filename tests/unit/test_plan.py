"""Who gets which GPU: the rules one by one, then whatever people, lessons and the clock do."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from academy.gpus.inventory import Device
from academy.gpus.plan import LEAD, SECOND_WARNING, Decision, Kind, Lesson, Live, Waiting, decide, fits, forecast, suits

T0 = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NO_SHOW = 10 * MINUTE
H100 = Device("GPU-0", "H100", 81920)
H100S = [H100, Device("GPU-1", "H100", 81920)]
CUT = Device("GPU-c", "A10", 24576, shares=4)
SLICE = Device("MIG-0", "H100 1g.10gb", 10240, slice=True, parent="GPU-2")


def waits(name: str, kind: Kind = "whole", course: str = "", asked: float = -1, **more: Any) -> Waiting:
    given: dict[str, Any] = {"memory_mb": 0, "tier": 2, **more}
    return Waiting(name, name, kind, courses=frozenset(course.split()), asked_at=T0 + asked * MINUTE, **given)


def holds(name: str, device: str = "GPU-0", kind: Kind = "whole", course: str = "", since: float = -60, **more: Any) -> Live:
    given: dict[str, Any] = {"shares": 1, "tier": 2, **more}
    return Live(name, device, kind=kind, login=name, courses=frozenset(course.split()), granted_at=T0 + since * MINUTE, **given)


def lesson(course: str, places: int, begin: float, end: float, kind: Kind = "whole") -> Lesson:
    return Lesson(f"{course}@{begin}", course, kind, places, T0 + begin * MINUTE, T0 + end * MINUTE)


def plan(
    devices: list[Device],
    live: list[Live] | None = None,
    waiting: list[Waiting] | None = None,
    lessons: list[Lesson] | None = None,
    used: dict[str, int] | None = None,
    at: float = 0,
) -> Decision:
    return decide(devices, live or [], waiting or [], lessons or [], used or {}, T0 + at * MINUTE)


def granted(decision: Decision) -> dict[str, tuple[str, int]]:
    return {grant.holder: (grant.device, grant.shares) for grant in decision.grants}


@pytest.mark.parametrize(
    ("device", "kinds"), [(H100, {"whole"}), (CUT, {"whole", "share"}), (SLICE, {"slice"})], ids=["uncut", "cut", "slice"]
)
def test_which_device_is_of_which_kind(device: Device, kinds: set[Kind]) -> None:
    for kind in ("whole", "slice", "share"):
        assert suits(device, kind, device.memory_mb) == (kind in kinds)
        assert not suits(device, kind, device.memory_mb + 1)


def test_the_order_is_booked_places_then_tier_then_least_used_then_arrival() -> None:
    line = [
        waits("late", asked=-1),
        waits("early", asked=-9),
        waits("used", asked=-20),
        waits("staff", tier=1),
        waits("class", course="ml", asked=0),
    ]
    used = {"used": 1, "staff": 2, "class": 3}
    decision = plan([H100], [holds("x")], line, [lesson("ml", 1, 5, 60)], used)
    assert decision.order == ["class", "staff", "early", "late", "used"]
    assert granted(plan([H100], [], line, [lesson("ml", 1, 5, 60)], used)) == {"class": ("GPU-0", 1)}
    assert granted(plan(H100S, [], line, [], used)).keys() == {"staff", "early"}


def test_among_a_lessons_people_the_same_order_holds() -> None:
    line = [waits("first", course="ml", asked=-5), waits("teacher", course="ml", tier=1), waits("used", course="ml", asked=-9)]
    decision = plan([H100], [], line, [lesson("ml", 1, 0, 60)], {"used": 1})
    assert granted(decision).keys() == {"teacher"}
    assert decision.order == ["first", "used"]


def test_what_does_not_suit_the_first_is_given_to_the_next() -> None:
    line = [waits("big", memory_mb=90000), waits("whole", memory_mb=80000), waits("slice", "slice"), waits("share", "share")]
    assert granted(plan([H100, SLICE, CUT], [], line)) == {"whole": ("GPU-0", 1), "slice": ("MIG-0", 1), "share": ("GPU-c", 1)}


def test_shares_fill_one_device_before_the_next_and_whole_gpus_come_uncut_first() -> None:
    other = replace(CUT, uuid="GPU-d")
    live = [holds("a", "GPU-d", "share")]
    assert granted(plan([CUT, other, H100], live, [waits("b", "share"), waits("w")])) == {"b": ("GPU-d", 1), "w": ("GPU-0", 1)}
    assert granted(plan([CUT, other], live, [waits("w")])) == {"w": ("GPU-c", 4)}
    assert granted(plan([other], live, [waits("w")])) == {}


def test_the_smallest_memory_that_does_is_given() -> None:
    big = replace(CUT, uuid="GPU-b", memory_mb=81920)
    assert granted(plan([big, CUT], [], [waits("a", "share")])) == {"a": ("GPU-c", 1)}
    assert granted(plan([big, CUT], [], [waits("a", "share", memory_mb=30000)])) == {"a": ("GPU-b", 1)}


def test_whoever_has_a_whole_device_has_all_of_it_though_it_is_cut_since() -> None:
    assert granted(plan([CUT], [holds("w", "GPU-c")], [waits("a", "share")])) == {}


def test_who_is_away_keeps_the_place_and_does_not_stop_the_next() -> None:
    decision = plan([H100], [], [waits("away", asked=-9, here=False), waits("b"), waits("c")])
    assert granted(decision).keys() == {"b"}
    assert decision.order == ["away", "c"]


def test_a_device_that_is_gone_is_not_given() -> None:
    assert granted(plan([H100], [holds("x", "GPU-gone")], [waits("a")])) == {"a": ("GPU-0", 1)}


def test_somebody_who_wants_a_whole_device_is_not_starved_by_shares() -> None:
    """The device that nobody new has come to for longest gets nobody new; where there are uncut ones, those are waited for."""
    live = [holds("a", "GPU-c", "share"), holds("b", "GPU-c", "share", since=-9)]
    full = [holds(name, "GPU-d", "share", since=-10) for name in "efg"]
    line = [waits("w", asked=-5), waits("s", "share")]
    assert plan([CUT], live, line).order == ["w", "s"]
    devices = [CUT, replace(CUT, uuid="GPU-d")]
    assert granted(plan(devices, live + full, line)) == {"s": ("GPU-c", 1)}
    first = waits("first", "share", asked=-9)
    assert granted(plan(devices, live[1:] + full[1:], [first, *line])) == {"first": ("GPU-d", 1), "s": ("GPU-d", 1)}
    assert granted(plan([CUT], live, [replace(line[0], here=False), line[1]])) == {"s": ("GPU-c", 1)}
    assert granted(plan([CUT, H100], [*live, holds("x", since=-1)], line)) == {"s": ("GPU-c", 1)}
    assert granted(plan([CUT], [], line)) == {"w": ("GPU-c", 4)}


@given(stays=st.lists(st.integers(1, 6), min_size=8, max_size=60), devices=st.integers(1, 3))
def test_a_whole_device_comes_free_whoever_else_comes(stays: list[int], devices: int) -> None:
    """Shares are asked for every minute, more than there are; a whole device is given when the longest stay is over."""
    cut = [replace(CUT, uuid=f"GPU-{number}") for number in range(devices)]
    live: dict[str, tuple[Live, int]] = {}
    for minute in range(40):
        live = {name: one for name, one in live.items() if one[1] > minute}
        line = [waits(f"s{minute}-{n}", "share", asked=minute) for n in range(6)]
        if minute >= 10:
            line.append(waits("w", asked=9.5))
        decision = plan(cut, [one for one, _ in live.values()], line, at=minute)
        for grant in decision.grants:
            if grant.holder == "w":
                assert minute <= 10 + max(stays)
                return
            stay = stays[len(live) % len(stays)]
            live[grant.holder] = holds(grant.holder, grant.device, "share", since=minute), minute + stay
    pytest.fail("the whole device never came")


def test_places_are_kept_from_a_lead_before_the_lesson_until_the_no_show() -> None:
    booked = [lesson("ml", 1, 60, 120)]
    for at, free in [(44, True), (45, False), (60, False), (69, False), (70, True), (119, True), (120, True)]:
        assert bool(plan([H100], [], [waits("out")], booked, at=at).grants) == free, at
        assert granted(plan([H100], [], [waits("in", course="ml"), waits("out", tier=0)], booked, at=at)).keys() == (
            {"in"} if 45 <= at < 120 else {"out"}
        )


def test_only_as_many_places_are_kept_as_are_not_taken() -> None:
    live = [holds("in", course="ml")]
    assert granted(plan(H100S, live, [waits("out")], [lesson("ml", 2, 5, 60)])) == {}
    assert granted(plan(H100S, live, [waits("out")], [lesson("ml", 1, 5, 60)])).keys() == {"out"}
    assert granted(plan(H100S, live, [waits("out")], [lesson("ml", 2, 5, 60, "share")])).keys() == {"out"}


def test_the_first_of_a_course_have_its_places() -> None:
    live = [holds("late", "GPU-1", course="ml", since=-5), holds("early", course="ml")]
    for there in (live, live[::-1]):
        assert plan(H100S, there, [], [lesson("ml", 1, 0, 60), lesson("dl", 1, 5, 60)]).moves.keys() == {"late"}


def test_places_are_taken_by_those_who_want_the_lessons_kind() -> None:
    booked = [lesson("ml", 4, 0, 60, "share")]
    decision = plan([CUT, H100], [], [waits("w", course="ml"), waits("s", "share", course="ml")], booked)
    assert granted(decision) == {"w": ("GPU-0", 1), "s": ("GPU-c", 1)}
    assert granted(plan([CUT], [], [waits("w", course="ml")], booked)) == {}


def test_more_people_than_places_wait_like_everybody() -> None:
    line = [waits("a", course="ml"), waits("b", course="ml"), waits("out", asked=-5)]
    decision = plan(H100S, [], line, [lesson("ml", 1, 0, 60)])
    assert granted(decision).keys() == {"a", "out"}
    assert decision.order == ["b"]


def test_a_place_is_kept_for_whoever_has_come_though_a_hub_is_away() -> None:
    decision = plan([H100], [], [waits("in", course="ml", here=False), waits("out")], [lesson("ml", 1, -30, 60)])
    assert decision.grants == []
    assert decision.order == ["in", "out"]


def test_who_is_there_gets_the_free_place_before_who_is_away() -> None:
    line = [waits("away", course="ml", tier=0, here=False), waits("in", course="ml")]
    decision = plan(H100S, [holds("out")], line, [lesson("ml", 2, -30, 60)])
    assert granted(decision).keys() == {"in"}
    assert decision.moves.keys() == {"out"}


def test_a_latecomer_gets_the_next_place_and_an_outsider_is_told() -> None:
    decision = plan([H100], [holds("out")], [waits("in", course="ml")], [lesson("ml", 1, -30, 60)])
    assert decision.moves == {"out": T0 + SECOND_WARNING}
    assert plan([H100], [holds("out")], [], [lesson("ml", 1, -30, 60)]).moves == {}
    assert plan([H100], [holds("out")], [waits("in", course="ml")], [lesson("ml", 1, -30, 4)]).moves == {}  # soon over


def test_outsiders_are_told_fifteen_minutes_before_and_no_sooner() -> None:
    booked = [lesson("ml", 1, 15, 60)]
    assert plan([H100], [holds("out")], [], booked, at=-0.1).moves == {}
    assert plan([H100], [holds("out")], [], booked).moves == {"out": T0 + 15 * MINUTE}
    assert plan([H100], [holds("out")], [], booked, at=12).moves == {"out": T0 + 17 * MINUTE}  # booked a moment ago
    told = holds("out", ends_at=T0 + 15 * MINUTE, ends_why="booked")
    assert plan([H100], [told], [], booked, at=14).moves == {"out": T0 + 15 * MINUTE}
    assert plan([H100], [told], [], booked, at=15.1).moves == {"out": T0 + 15 * MINUTE}  # whoever stops it may be slow


def test_those_go_who_wait_behind_others_who_used_most_who_came_last() -> None:
    devices = [replace(H100, uuid=f"GPU-{number}") for number in range(5)]
    live = [
        holds("grading", "GPU-0", tier=3, movable=False),
        holds("staff", "GPU-1", tier=1, since=-1),
        holds("used", "GPU-2", since=-90),
        holds("late", "GPU-3", since=-2),
        holds("early", "GPU-4", since=-3),
    ]
    for places, told in [
        (1, {"used"}),
        (2, {"used", "late"}),
        (3, {"used", "late", "early"}),
        (4, {"used", "late", "early", "staff"}),
    ]:
        moves = plan(devices, live, [], [lesson("ml", places, 10, 60)], {"used": 9}).moves
        assert moves.keys() == told
        assert set(moves.values()) == {T0 + 10 * MINUTE}
    assert plan(devices, live, [], [lesson("ml", 5, 10, 60)]).moves.keys() == {"used", "late", "early", "staff"}


def test_of_those_on_one_device_as_many_go_as_there_are_places_to_make() -> None:
    live = [
        holds("staff", "GPU-c", "share", tier=1, since=-1),
        holds("early", "GPU-c", "share", since=-9),
        holds("late", "GPU-c", "share", since=-5),
        holds("idle", "GPU-c", "share", since=-9, tier=0, ends_at=T0 + 8 * MINUTE, ends_why="idle"),
    ]
    for places, told in [(1, set()), (2, {"late"}), (3, {"late", "early"}), (4, {"late", "early", "staff"})]:
        assert plan([CUT], live, [], [lesson("ml", places, 10, 60, "share")]).moves.keys() == told


def test_who_goes_anyway_is_counted_and_keeps_the_reason() -> None:
    live = [holds("idle", ends_at=T0 + 8 * MINUTE, ends_why="idle"), holds("late", "GPU-1", since=-2)]
    assert plan(H100S, live, [], [lesson("ml", 1, 10, 60)]).moves == {}
    assert plan(H100S, live, [], [lesson("ml", 1, 6, 60)]).moves == {"idle": T0 + 6 * MINUTE}  # not soon enough
    live[0] = replace(live[0], ends_at=T0 + 50 * MINUTE)
    assert plan(H100S, live, [], [lesson("ml", 1, 10, 60)]).moves == {"late": T0 + 10 * MINUTE}


def test_whoever_has_been_told_stays_the_one_to_go() -> None:
    told = holds("early", ends_at=T0 + 10 * MINUTE, ends_why="booked")
    live = [told, holds("late", "GPU-1", since=-1)]
    decision = plan(H100S, live, [], [lesson("ml", 1, 10, 60)])
    assert decision.moves == {"early": T0 + 10 * MINUTE}
    assert decision.stays == []


def test_moves_are_taken_back_when_they_are_not_needed() -> None:
    told = [holds(name, f"GPU-{number}", ends_at=T0 + 10 * MINUTE, ends_why="booked") for number, name in enumerate("ab")]
    assert plan(H100S, told).stays == ["a", "b"]  # the lesson was cancelled
    assert plan(H100S, told[:1], [], [lesson("ml", 1, 10, 60)]).stays == ["a"]  # the other is gone: its place is kept
    assert plan(H100S, told, [], [lesson("ml", 2, -10, 60)]).stays == ["a", "b"]  # nobody came
    idle = replace(told[0], ends_why="idle")
    assert plan(H100S, [idle]).stays == []


def test_whoever_was_told_and_is_of_the_lesson_stays() -> None:
    told = holds("in", course="ml", ends_at=T0 + 10 * MINUTE, ends_why="booked")
    decision = plan([H100], [told], [], [lesson("ml", 1, 10, 60)])
    assert (decision.moves, decision.stays) == ({}, ["in"])


def test_a_whole_device_is_emptied_at_the_least_cost_and_nobody_moves_in() -> None:
    devices = [CUT, replace(CUT, uuid="GPU-d")]
    live = [holds(name, "GPU-c", "share", since=-9) for name in "abc"] + [holds(name, "GPU-d", "share") for name in "de"]
    decision = plan(devices, live, [waits("s", "share"), waits("t", "share")], [lesson("ml", 1, 10, 60)])
    assert decision.moves.keys() == {"d", "e"}
    assert granted(decision) == {"s": ("GPU-c", 1)}
    assert plan(devices, [*live[:4], replace(live[4], tier=1)], [], [lesson("ml", 1, 10, 60)]).moves.keys() == {"a", "b", "c"}
    live[3] = replace(live[3], movable=False)
    assert plan(devices, live, [], [lesson("ml", 1, 10, 60)]).moves.keys() == {"a", "b", "c"}
    live[0] = replace(live[0], movable=False)
    decision = plan(devices, live, [waits("s", "share")], [lesson("ml", 1, 10, 60)])
    assert decision.moves == {}  # nobody is moved in vain
    assert granted(decision) == {"s": ("GPU-c", 1)}  # and the other is left to become empty
    newer = [*live[:3], *(replace(lease, granted_at=T0) for lease in live[3:])]
    assert granted(plan(devices, newer, [waits("s", "share")], [lesson("ml", 1, 10, 60)])) == {"s": ("GPU-d", 1)}


def test_lessons_of_two_kinds_find_their_places_beside_each_other() -> None:
    live = [holds(name, "GPU-c", "share") for name in "abc"] + [holds(name, "GPU-d", "share") for name in "defg"]
    booked = [lesson("ml", 1, 10, 60), lesson("dl", 4, 5, 60, "share")]
    decision = plan([CUT, replace(CUT, uuid="GPU-d")], live, [waits("s", "share")], booked)
    assert {name: (at - T0) / MINUTE for name, at in decision.moves.items()} == {
        **dict.fromkeys("abc", 10),
        **dict.fromkeys("defg", 5),
    }
    assert decision.grants == []


def test_a_whole_lease_makes_room_for_many_shares() -> None:
    live = [holds("w", "GPU-c", shares=4), holds("s", "GPU-d", "share")]
    decision = plan([CUT, replace(CUT, uuid="GPU-d")], live, [], [lesson("ml", 7, 10, 60, "share")])
    assert decision.moves.keys() == {"w"}


def test_a_place_with_enough_memory_is_made() -> None:
    big = replace(H100, uuid="GPU-b", memory_mb=200000)
    line = [waits("in", course="ml", memory_mb=100000)]
    decision = plan([H100, big], [holds("out", "GPU-b")], [*line, waits("next")], [lesson("ml", 1, 0, 60)])
    assert decision.moves.keys() == {"out"}
    assert granted(decision).keys() == {"next"}


def test_lessons_one_after_another() -> None:
    """Whose lesson ends makes room for the next course on the hour, and goes before outsiders do; the same course stays."""
    first, second = lesson("ml", 2, -60, 10), lesson("dl", 1, 10, 60)
    live = [holds("a", course="ml"), holds("b", "GPU-1", course="ml", since=-5)]
    assert plan(H100S, live, [], [first, second]).moves == {"b": T0 + 10 * MINUTE}
    assert plan(H100S, live, [], [first, replace(second, starts_at=T0 + 5 * MINUTE)]).moves == {}  # they overlap
    assert plan(H100S, [live[0], holds("out", "GPU-1", since=-1)], [], [replace(first, places=1), second]).moves.keys() == {"a"}
    again = [first, replace(first, id="again", starts_at=first.ends_at, ends_at=T0 + 60 * MINUTE)]
    decision = plan([*H100S, replace(H100, uuid="GPU-2")], live, [waits("out")], again)
    assert decision.moves == {}
    assert granted(decision) == {"out": ("GPU-2", 1)}
    assert plan(H100S, live, [], [*again, second]).moves == {}  # theirs goes on, and nobody else is there


def test_lessons_at_the_same_time_keep_their_places_apart() -> None:
    booked = [lesson("ml", 1, 0, 60), lesson("dl", 1, 5, 60)]
    both = waits("both", course="ml dl")
    assert granted(plan(H100S, [], [both, waits("out")], booked)).keys() == {"both"}
    decision = plan(H100S, [holds("x", course="ml dl"), holds("y", "GPU-1", course="dl")], [], booked)
    assert decision.moves == {}


def test_the_forecast_follows_the_ends_of_the_leases() -> None:
    live = [
        holds("a", ends_at=T0 + 20 * MINUTE, likely_end=T0 + 90 * MINUTE),
        holds("b", "GPU-1", likely_end=T0 + 50 * MINUTE),
        holds("c", "GPU-c", "share", likely_end=T0 - 5 * MINUTE),
        holds("d", "GPU-c", "share", likely_end=T0 + 70 * MINUTE),
    ]
    line = {one.holder: one for one in [*map(waits, "uvwx"), waits("s", "share"), waits("m", "slice")]}
    when = forecast([*H100S, CUT, SLICE], live, line, list(line), T0)
    assert {name: (at - T0) / MINUTE for name, at in when.items()} == {"u": 20, "v": 50, "w": 70, "x": 80, "s": 0}


def test_whole_places_and_shares_fit_together_or_not() -> None:
    devices = [CUT, replace(CUT, uuid="GPU-d"), H100]
    assert fits(devices, [("share", 4), ("whole", 2)])
    assert not fits(devices, [("share", 5), ("whole", 2)])
    assert not fits(devices, [("slice", 1)])
    assert fits([CUT, replace(CUT, uuid="GPU-d", shares=3)], [("share", 4), ("whole", 1)])


DEVICES = st.lists(
    st.builds(
        lambda shares, memory, cut: Device("", "", memory, 1 if cut else shares, slice=cut),
        st.integers(1, 4),
        st.sampled_from([10, 40]),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
).map(lambda found: [replace(device, uuid=f"GPU-{number}") for number, device in enumerate(found)])
KINDS = st.sampled_from(["whole", "slice", "share"])
COURSES = st.frozensets(st.sampled_from(["ml", "dl"]), max_size=2)


class Academy(RuleBasedStateMachine):
    """People, hubs, lessons and the clock do what they like; after each step the plan is asked and obeyed."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: list[Device] = []
        self.live: dict[str, Live] = {}
        self.waiting: dict[str, Waiting] = {}
        self.lessons: list[Lesson] = []
        self.used: Counter[str] = Counter()
        self.now, self.number = T0, 0

    @precondition(lambda self: not self.devices)
    @rule(devices=DEVICES)
    def open(self, devices: list[Device]) -> None:
        self.devices = devices

    @rule(kind=KINDS, memory=st.sampled_from([0, 20]), tier=st.integers(0, 2), courses=COURSES, grading=st.booleans())
    def arrive(self, kind: Kind, memory: int, tier: int, courses: frozenset[str], grading: bool) -> None:
        self.number += 1
        name = f"p{self.number}{'!' if grading else ''}"  # !: once it has a device it is not moved
        self.waiting[name] = Waiting(name, name, kind, memory, tier, courses, self.now)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), how=st.sampled_from(["leaves", "here", "away"]))
    def look_away(self, data: st.DataObject, how: str) -> None:
        one = self.waiting.pop(data.draw(st.sampled_from(sorted(self.waiting))))
        if how != "leaves":
            self.waiting[one.holder] = replace(one, here=how == "here")

    @rule(here=st.booleans())
    def hub_dies_or_is_back(self, here: bool) -> None:
        self.waiting = {name: replace(one, here=here) for name, one in self.waiting.items()}

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        self.used[self.live.pop(data.draw(st.sampled_from(sorted(self.live)))).login] += 1

    @precondition(lambda self: self.live)
    @rule(data=st.data(), minutes=st.integers(0, 30))
    def idle(self, data: st.DataObject, minutes: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.live)))
        if self.live[name].ends_at is None:
            self.live[name] = replace(self.live[name], ends_at=self.now + minutes * MINUTE, ends_why="idle")

    @rule(
        kind=KINDS,
        places=st.integers(1, 4),
        begin=st.integers(0, 60),
        length=st.integers(10, 60),
        course=st.sampled_from(["ml", "dl"]),
    )
    def book(self, kind: Kind, places: int, begin: int, length: int, course: str) -> None:
        start, end = self.now + begin * MINUTE, self.now + (begin + length) * MINUTE
        there = [(one.kind, one.places) for one in self.lessons if one.starts_at < end and one.ends_at > start]
        if fits(self.devices, [*there, (kind, places)]):
            self.number += 1
            self.lessons.append(Lesson(f"l{self.number}", course, kind, places, start, end))

    @precondition(lambda self: self.lessons)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.lessons.remove(data.draw(st.sampled_from(self.lessons)))

    @rule(minutes=st.integers(0, 30), slow=st.booleans())
    def clock(self, minutes: int, slow: bool) -> None:
        """Who has to go is gone a moment later, or only at the next step."""
        self.now += minutes * MINUTE
        if not slow:
            self.live = {name: one for name, one in self.live.items() if one.ends_at is None or one.ends_at > self.now}

    @invariant()
    def settle(self) -> None:
        live, waiting = list(self.live.values()), list(self.waiting.values())
        decision = decide(self.devices, live, waiting, self.lessons, self.used, self.now, NO_SHOW)
        again = [list(one) for one in (self.devices, live, waiting, self.lessons)]
        for one in again:
            random.Random(self.number).shuffle(one)
        assert decide(*again, self.used, self.now, NO_SHOW) == decision  # type: ignore[arg-type]
        self.check_moves(decision)
        free_before = self.free()
        for grant in decision.grants:
            one, device = self.waiting.pop(grant.holder), self.device(grant.device)
            assert one.here
            assert suits(device, one.kind, one.memory_mb)
            assert grant.shares == (device.shares if one.kind == "whole" else 1)
            self.live[one.holder] = Live(
                one.holder,
                device.uuid,
                grant.shares,
                one.kind,
                one.login,
                one.tier,
                one.courses,
                self.now,
                movable="!" not in one.holder,
            )
        assert all(free >= 0 for free in self.free().values())
        assert sorted(decision.order) == sorted(self.waiting)
        self.check_line(decision, free_before)
        for name, ends_at in decision.moves.items():
            self.live[name] = replace(self.live[name], ends_at=ends_at, ends_why="booked")
        for name in decision.stays:
            self.live[name] = replace(self.live[name], ends_at=None, ends_why="")

    def device(self, uuid: str) -> Device:
        return next(device for device in self.devices if device.uuid == uuid)

    def free(self) -> dict[str, int]:
        held: Counter[str] = Counter()
        for one in self.live.values():
            held[one.device] += one.shares
        return {device.uuid: device.shares - held[device.uuid] for device in self.devices}

    def could_take(self, one: Waiting, free: dict[str, int]) -> list[Device]:
        wanted = [(device, device.shares if one.kind == "whole" else 1) for device in self.devices]
        return [device for device, shares in wanted if free[device.uuid] >= shares and suits(device, one.kind, one.memory_mb)]

    def soon(self) -> list[Lesson]:
        return [one for one in self.lessons if one.starts_at - LEAD <= self.now < one.ends_at]

    def check_moves(self, decision: Decision) -> None:
        """Only for lessons, with time to save one's work, and never grading or somebody in a lesson of the same kind alone."""
        wanted = sum(lesson.places for lesson in self.soon())
        assert len(decision.moves) <= wanted * (4 if any(lesson.kind == "whole" for lesson in self.soon()) else 1)
        for name, ends_at in decision.moves.items():
            lease = self.live[name]
            assert lease.movable
            assert lease.ends_why == "booked" or ends_at >= self.now + SECOND_WARNING
            assert lease.ends_at is None or ends_at <= lease.ends_at
            [*theirs] = [x for x in self.soon() if x.course in lease.courses and x.kind == lease.kind and x.ends_at > ends_at]
            for lesson in theirs:  # a lesson of theirs goes on: then others have taken its places
                alike = [x for x in self.live.values() if lesson.course in x.courses and x.kind == lesson.kind]
                assert len(alike) > lesson.places or len(self.soon()) > 1
        assert not set(decision.stays) & set(decision.moves)
        told = {name for name, lease in self.live.items() if lease.ends_why == "booked"}
        assert told <= {*decision.moves, *decision.stays}

    def check_line(self, decision: Decision, free_before: dict[str, int]) -> None:
        """Nobody takes what suited somebody in front; nothing lies idle that is not kept."""
        soon, after = self.soon(), self.free()
        outsiders = [name for name in decision.order if not self.may_be_booked(self.waiting[name])]
        key = {name: (one.tier, self.used[one.login], one.asked_at, name) for name, one in self.waiting.items()}
        assert outsiders == sorted(outsiders, key=lambda name: key[name])
        whole_in_front = False
        for name in decision.order:
            one = self.waiting[name]
            if not one.here:
                continue
            could = self.could_take(one, after)
            if not soon:
                assert not could or (whole_in_front and one.kind == "share")
                assert all(device.shares > 1 for device in could)
            whole_in_front |= one.kind == "whole"
        for grant in decision.grants:
            got = self.live[grant.holder]
            if not any(lesson.course in got.courses and lesson.kind == got.kind for lesson in soon):
                for lesson in soon:  # nobody of a lesson with places left waits for what an outsider has got
                    inside = sum(lesson.course in x.courses and x.kind == lesson.kind for x in self.live.values())
                    theirs = [
                        one
                        for one in self.waiting.values()
                        if one.here and lesson.course in one.courses and one.kind == lesson.kind
                    ]
                    if inside < lesson.places:
                        given_up = {**after, grant.device: after[grant.device] + grant.shares}
                        assert not any(
                            device.uuid == grant.device for one in theirs for device in self.could_take(one, given_up)
                        )

    def may_be_booked(self, one: Waiting) -> bool:
        return any(lesson.course in one.courses and lesson.kind == one.kind for lesson in self.soon())


Academy.TestCase.settings = examples(max_examples=60, stateful_step_count=40)
TestAcademy = Academy.TestCase


@given(
    devices=DEVICES,
    kind=KINDS,
    part=st.floats(0.01, 1),
    outsiders=st.lists(st.tuples(st.integers(0, 60), KINDS, COURSES), max_size=20),
    before=st.booleans(),
)
def test_a_class_starts_at_the_hour(
    devices: list[Device], kind: Kind, part: float, outsiders: list[tuple[int, Kind, frozenset[str]]], before: bool
) -> None:
    """Whoever is there before, be it a class of another course until that minute: at the hour everybody has a place."""
    most = sum(device.shares if kind == "share" else 1 for device in devices if suits(device, kind))
    places, hour = round(part * most), T0 + 60 * MINUTE
    academy = Academy()
    academy.open(devices)
    if before:
        academy.lessons.append(Lesson("before", "ml", kind, most, T0, hour))
    academy.lessons.append(Lesson("lesson", "new", kind, places, hour, hour + 60 * MINUTE))
    for minute in range(61):
        for at, wanted, courses in outsiders:
            if at == minute and (minute < 40 or not courses):  # later ones have five minutes from when they came
                academy.arrive(wanted, 0, 0, courses, False)
        if minute == 60:
            for number in range(places):
                academy.waiting[f"s{number}"] = Waiting(f"s{number}", f"s{number}", kind, 0, 2, frozenset({"new"}), academy.now)
        academy.settle()
        if minute < 60:
            academy.clock(1, slow=False)
    assert {f"s{number}" for number in range(places)} <= academy.live.keys()
