"""Who gets which GPU: a pure function of devices, leases, waiting people and lessons; the pool and the simulation share it.

Order: places booked for a lesson to its course, then tiers, then whoever used GPUs least in the last week, then arrival. Nobody
who comes later takes what a person in front could use; what does not suit the one in front is given to the next it suits.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from math import inf
from typing import Literal

from academy.gpus.inventory import Device

Kind = Literal["whole", "slice", "share"]

LEAD = timedelta(minutes=15)  # before a lesson: its places are kept for it, and whoever is on them is warned
SECOND_WARNING = timedelta(minutes=5)
USUAL_STAY = timedelta(hours=1)  # for the forecast: of somebody who is not there yet
ORDER: dict[Kind, int] = {"whole": 0, "slice": 1, "share": 2}  # in which places are laid out, so that wholes find room


@dataclass(slots=True)  # a thousand are made for each decision: frozen ones take four times as long
class Live:
    """A lease that has not ended."""

    id: str
    device: str
    shares: int
    kind: Kind
    login: str
    tier: int
    courses: frozenset[str]
    granted_at: datetime
    ends_at: datetime | None = None
    ends_why: str = ""
    movable: bool = True  # grading is not
    likely_end: datetime | None = None  # for the forecast


@dataclass(slots=True)
class Waiting:
    holder: str
    login: str
    kind: Kind
    memory_mb: int
    tier: int
    courses: frozenset[str]
    asked_at: datetime
    here: bool = True  # whoever waits is there to take it


@dataclass(frozen=True, slots=True)
class Lesson:
    """``places`` GPUs of a kind for a course, from one time to another."""

    id: str
    course: str
    kind: Kind
    places: int
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Grant:
    holder: str
    device: str
    shares: int


@dataclass(frozen=True, slots=True)
class Decision:
    grants: list[Grant]
    moves: dict[str, datetime]  # lease -> when it has to be gone, for a lesson
    stays: list[str]  # leases that were to move and need not any more
    order: list[str]  # holders who still wait, from the first in the line to the last


def suits(device: Device, kind: Kind, memory_mb: int = 0) -> bool:
    """Whether a device is of a kind; a GPU that is cut into shares may be given whole too, once nobody is on it."""
    return device.memory_mb >= memory_mb and device.slice == (kind == "slice") and (kind != "share" or device.shares > 1)


def fits(devices: Sequence[Device], wanted: Iterable[tuple[Kind, int]]) -> bool:
    """Whether empty devices have room for so many places of each kind at the same time."""
    room = _Room(devices)
    return all(room.take(kind) for kind, places in sorted(wanted, key=lambda x: ORDER[x[0]]) for _ in range(places))


def decide(
    devices: Sequence[Device],
    live: Sequence[Live],
    waiting: Sequence[Waiting],
    lessons: Iterable[Lesson],
    used: Mapping[str, int],
    now: datetime,
    no_show: timedelta = timedelta(minutes=10),
) -> Decision:
    """What to do now.

    Args:
        lessons: those that are over, or begin later than the lead, do not count.
        used: login -> device-milliseconds of the last week.
        no_show: into a lesson, after that places are kept only for those who have come.
    """
    room = _Room(devices, live)
    line = sorted(waiting, key=lambda one: (one.tier, used.get(one.login, 0), one.asked_at, one.holder))
    soon = sorted((x for x in lessons if x.starts_at - LEAD <= now < x.ends_at), key=lambda x: (x.starts_at, x.id))
    inside, needs = _needs(soon, live, line, now - no_show)

    grants: list[Grant] = []
    moves: dict[str, datetime] = {}
    for _, alike in groupby(needs, key=lambda need: need[0].kind):
        short: list[tuple[Lesson, int]] = []  # with the memory it takes
        for lesson, one in alike:
            memory_mb = one.memory_mb if one else 0
            found = room.take(lesson.kind, memory_mb)
            if found is None:
                short.append((lesson, memory_mb))
            elif one and one.here:
                grants.append(Grant(one.holder, *found))
        moves |= _moves(short, live, inside, room, used, now)

    booked = {one.holder for _, one in needs if one}
    for one in line:
        if one.here and one.holder not in booked:
            if found := room.take(one.kind, one.memory_mb):
                grants.append(Grant(one.holder, *found))
            else:
                room.close(one.kind, one.memory_mb)

    stays = sorted(lease.id for lease in live if lease.ends_why == "booked" and lease.id not in moves)
    served = {grant.holder for grant in grants}
    order = [one.holder for one in line if one.holder not in served]
    return Decision(grants, moves, stays, sorted(order, key=lambda holder: holder not in booked))


def _needs(
    soon: Sequence[Lesson], live: Sequence[Live], line: Sequence[Waiting], came_by: datetime
) -> tuple[dict[str, datetime], list[tuple[Lesson, Waiting | None]]]:
    """Lease -> when the lesson is over on whose place it is; and what the lessons want besides: places for those who wait,
    and while they may still come, for those who do not (None)."""
    missing = {lesson.id: lesson.places for lesson in soon}

    def places(one: Live | Waiting) -> list[Lesson]:
        """The lessons in which somebody takes a place: one after another, never two at the same time."""
        taken: list[Lesson] = []
        for lesson in soon:
            free = missing[lesson.id] and lesson.kind == one.kind and lesson.course in one.courses
            if free and (not taken or taken[-1].ends_at <= lesson.starts_at):
                missing[lesson.id] -= 1
                taken.append(lesson)
        return taken

    inside: dict[str, datetime] = {}
    needs: list[tuple[Lesson, Waiting | None]] = []
    if soon:
        for lease in sorted(live, key=lambda x: (x.granted_at, x.id)):
            if taken := places(lease):
                inside[lease.id] = taken[-1].ends_at
        for one in line:
            if taken := places(one):
                needs.append((taken[0], one))
        needs += [(lesson, None) for lesson in soon if lesson.starts_at > came_by for _ in range(missing[lesson.id])]
        # Who is there is served before a place is kept for those who are away or have not come yet.
        needs.sort(key=lambda need: (ORDER[need[0].kind], not (need[1] and need[1].here), need[0].starts_at))
    return inside, needs


def _moves(
    short: Sequence[tuple[Lesson, int]],
    live: Sequence[Live],
    inside: Mapping[str, datetime],
    room: _Room,
    used: Mapping[str, int],
    now: datetime,
) -> dict[str, datetime]:
    """Lease -> when it has to be gone so that lessons find their places. As few as it takes: those who go anyway or whose own
    lesson is over by then, then the last tier, who used most, who came last."""

    def stays(lease: Live) -> bool:
        return lease.id not in inside and (lease.ends_at is None or lease.ends_at > now + LEAD)

    others = [lease for lease in live if lease.movable and lease.device in room.devices] if short else []
    others.sort(key=lambda x: (stays(x), -x.tier, -used.get(x.login, 0), -x.granted_at.timestamp(), x.id))
    rank = {lease.id: number for number, lease in enumerate(others)}
    on: dict[str, list[Live]] = defaultdict(list)
    for lease in others:
        on[lease.device].append(lease)

    moves: dict[str, datetime] = {}
    later = room.copy()
    for number, (lesson, memory_mb) in enumerate(short):
        until = max(lesson.starts_at, now + SECOND_WARNING)
        if until >= lesson.ends_at or later.take(lesson.kind, memory_mb):
            continue
        ways: list[tuple[tuple[float, float, list[int]], list[Live]]] = []  # what it costs to make room on a device
        for device in later.of[lesson.kind]:
            if device.memory_mb < memory_mb or device.uuid in room.closed:
                continue
            free, wanted, leaving = later.free[device.uuid], _shares(device, lesson.kind), []
            for lease in on[device.uuid]:
                if free >= wanted:
                    break
                if inside.get(lease.id, until) <= until:
                    leaving.append(lease)
                    free += room.held(lease)
            if free >= wanted:
                told = [lease.tier for lease in leaving if stays(lease)]
                places = min(free // wanted, len(short) - number)
                ways.append(((-min(told, default=inf), len(told) / places, [rank[lease.id] for lease in leaving]), leaving))
        if not ways:
            room.close(lesson.kind, memory_mb)  # nobody is moved in vain
            continue
        _, leaving = min(ways, key=lambda way: way[0])
        for lease in leaving:
            on[lease.device].remove(lease)
            later.give(lease)
            if lease.ends_at is None or lease.ends_at > until or lease.ends_why == "booked":
                moves[lease.id] = min(lease.ends_at or until, until)
        if lesson.kind == "whole":
            room.closed.add(leaving[0].device)  # no outsider moves in while it becomes empty
        later.take(lesson.kind, memory_mb)
    return moves


def forecast(
    devices: Sequence[Device], live: Sequence[Live], waiting: Mapping[str, Waiting], order: Sequence[str], now: datetime
) -> dict[str, datetime]:
    """Holder -> when the place is likely to be free, as far as leases say when they end. Lessons are not looked at."""
    ends: dict[str, list[datetime]] = defaultdict(list)
    for lease in live:
        ends[lease.device].append(max(now, lease.ends_at or lease.likely_end or now))
    free: dict[Kind, list[datetime]] = {}
    for kind in {waiting[holder].kind for holder in order}:
        there = [ends[device.uuid] for device in devices if suits(device, kind) and ends[device.uuid]]
        free[kind] = [max(one) for one in there] if kind == "whole" else [end for one in there for end in one]
        heapq.heapify(free[kind])
    when: dict[str, datetime] = {}
    for holder in order:
        if heap := free[waiting[holder].kind]:
            when[holder] = heap[0]
            heapq.heapreplace(heap, heap[0] + USUAL_STAY)
    return when


class _Room:
    """How many shares of each device are free."""

    def __init__(self, devices: Iterable[Device], live: Iterable[Live] = ()) -> None:
        self.devices = {device.uuid: device for device in devices}
        self.of: dict[Kind, list[Device]] = {kind: [d for d in self.devices.values() if suits(d, kind)] for kind in ORDER}
        self.free = {device.uuid: device.shares for device in self.devices.values()}
        self.closed: set[str] = set()  # devices that are to become empty for somebody in front
        self.none: dict[Kind, int] = {}  # kind -> the least memory for which there was nothing
        self.newest: dict[str, float] = {}  # when a device was last given to somebody who is on it
        for lease in live:
            if lease.device in self.devices:
                self.free[lease.device] -= self.held(lease)
                self.newest[lease.device] = max(self.newest.get(lease.device, 0), lease.granted_at.timestamp())

    def copy(self) -> _Room:
        room = _Room(self.devices.values())
        room.free, room.closed = dict(self.free), set(self.closed)
        return room

    def held(self, lease: Live) -> int:
        """Its shares; whoever has a whole device has all of it, however it is cut now."""
        return self.devices[lease.device].shares if lease.kind == "whole" else lease.shares

    def take(self, kind: Kind, memory_mb: int = 0) -> tuple[str, int] | None:
        """A device and how many of its shares: the fullest that suits, so that empty ones stay whole."""
        if memory_mb >= self.none.get(kind, memory_mb + 1):
            return None
        best: tuple[int, int, str] | None = None
        for device in self.of[kind]:
            free = self.free[device.uuid]
            if free >= _shares(device, kind) and device.memory_mb >= memory_mb and device.uuid not in self.closed:
                rank = (free, device.memory_mb, device.uuid)
                best = min(best or rank, rank)
        if best is None:
            self.none[kind] = memory_mb
            return None
        uuid = best[2]
        shares = _shares(self.devices[uuid], kind)
        self.free[uuid] -= shares
        self.newest[uuid] = inf
        return uuid, shares

    def give(self, lease: Live) -> None:
        self.free[lease.device] += self.held(lease)
        self.none.clear()

    def close(self, kind: Kind, memory_mb: int) -> None:
        """Somebody waits for a whole device: where all that suit are cut, one gets nobody new. The one whose newest lease is
        the oldest: however often that is asked, it is empty once everybody is gone who was there at first."""
        if kind == "whole" and all(device.shares > 1 for device in self.of["whole"] if device.memory_mb >= memory_mb):
            open_ = [d.uuid for d in self.of["whole"] if d.memory_mb >= memory_mb and d.uuid not in self.closed]
            if open_:
                self.closed.add(min(open_, key=lambda uuid: (self.newest.get(uuid, 0), uuid)))


def _shares(device: Device, kind: Kind) -> int:
    return device.shares if kind == "whole" else 1
