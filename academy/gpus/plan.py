"""Who gets which GPU: a pure function of devices, leases, waiting people and lessons; the pool and the simulation share it.

Order: places booked for a lesson to its course, then tiers, then whoever used GPUs least in the last week, then arrival. Nobody
who comes later takes what a person in front could use; what does not suit the one in front is given to the next it suits.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from academy.gpus.inventory import Device

Kind = Literal["whole", "slice", "share"]

LEAD = timedelta(minutes=15)  # before a lesson: its places are kept for it, and whoever is on them is warned
SECOND_WARNING = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass
class _Room:
    """How many shares of each device are free."""

    devices: Mapping[str, Device]
    free: dict[str, int]
    closed: set[str] = field(default_factory=set)  # devices that wait to become empty for somebody in front
    full: dict[Kind, int] = field(default_factory=dict)  # kind -> the least memory for which there was nothing

    def copy(self) -> _Room:
        return _Room(self.devices, dict(self.free), set(self.closed))

    def find(self, kind: Kind, memory_mb: int) -> tuple[str, int] | None:
        """A device and how many of its shares: the fullest that suits, so that empty ones stay whole."""
        if memory_mb >= self.full.get(kind, memory_mb + 1):
            return None
        best: tuple[int, int, str] | None = None
        for uuid, free in self.free.items():
            device = self.devices[uuid]
            wanted = device.shares if kind == "whole" else 1
            if free < wanted or not suits(device, kind, memory_mb) or uuid in self.closed:
                continue
            rank = (device.shares if kind == "whole" else free, device.memory_mb, uuid)
            if best is None or rank < best:
                best = rank
        if best is None:
            self.full[kind] = memory_mb
            return None
        return best[2], self.devices[best[2]].shares if kind == "whole" else 1

    def take(self, kind: Kind, memory_mb: int = 0) -> tuple[str, int] | None:
        found = self.find(kind, memory_mb)
        if found:
            self.free[found[0]] -= found[1]
        return found

    def give(self, uuid: str, shares: int) -> None:
        if uuid in self.free:
            self.free[uuid] += shares
            self.full.clear()

    def close(self, kind: Kind, memory_mb: int) -> None:
        """For somebody who wants a whole device and finds parts only: one that is to become empty."""
        cut = [d for d in self.devices.values() if d.shares > 1 and suits(d, kind, memory_mb) and d.uuid not in self.closed]
        if kind == "whole" and cut:
            self.closed.add(max(cut, key=lambda device: (self.free[device.uuid], device.uuid)).uuid)


def suits(device: Device, kind: Kind, memory_mb: int = 0) -> bool:
    """Whether a device is of a kind; a GPU that is cut into shares may be given whole too, once nobody is on it."""
    fits = {"whole": not device.slice, "slice": device.slice, "share": not device.slice and device.shares > 1}[kind]
    return fits and device.memory_mb >= memory_mb


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
        lessons: those that have not ended; later ones than the lead do not count yet.
        used: login -> device-milliseconds of the last week.
    """
    room = _Room({device.uuid: device for device in devices}, {device.uuid: device.shares for device in devices})
    for lease in live:
        room.give(lease.device, -lease.shares)
    room.full.clear()
    soon = sorted((x for x in lessons if x.starts_at - LEAD <= now < x.ends_at), key=lambda x: (x.starts_at, x.id))
    missing, inside = _missing(soon, live)

    grants: list[Grant] = []
    line = sorted(waiting, key=lambda w: (w.tier, used.get(w.login, 0), w.asked_at, w.holder))
    outsiders: list[Waiting] = []
    coming: Counter[str] = Counter()  # lesson -> its people who wait and found nothing
    for one in sorted(line, key=lambda w: w.asked_at):
        lesson = next((x for x in soon if x.course in one.courses and x.kind == one.kind and missing[x.id] > 0), None)
        if lesson is None:
            continue
        missing[lesson.id] -= 1
        found = room.take(one.kind, one.memory_mb) if one.here else None
        if found:
            grants.append(Grant(one.holder, *found))
        else:
            coming[lesson.id] += 1
    first = {grant.holder for grant in grants}
    outsiders = [one for one in line if one.holder not in first]

    # What is kept for lessons is taken out before anybody else is served; after a while only for those who have come.
    spare, short = room.copy(), []
    for lesson in soon:
        kept = coming[lesson.id] + (missing[lesson.id] if now < lesson.starts_at + no_show else 0)
        short += [lesson for _ in range(kept) if spare.take(lesson.kind) is None]
    moves, stays = _moves(short, live, inside, spare, used, now)

    for one in outsiders:
        found = spare.take(one.kind, one.memory_mb) if one.here else None
        if found:
            grants.append(Grant(one.holder, *found))
        elif one.here:
            spare.close(one.kind, one.memory_mb)
    served = {grant.holder for grant in grants}
    ahead = {w.holder for w in line if any(x.course in w.courses and x.kind == w.kind and coming[x.id] for x in soon)}
    order = [w.holder for w in sorted(line, key=lambda w: w.holder not in ahead) if w.holder not in served]
    return Decision(grants, moves, stays, order)


def _missing(soon: Sequence[Lesson], live: Iterable[Live]) -> tuple[dict[str, int], set[str]]:
    """Lesson -> how many of its places its people have not taken; and the leases that stand on one."""
    missing, inside = {lesson.id: lesson.places for lesson in soon}, set()
    for lease in live:
        for lesson in soon:
            if lesson.course in lease.courses and lesson.kind == lease.kind and missing[lesson.id] > 0:
                missing[lesson.id] -= 1
                inside.add(lease.id)
                break
    return missing, inside


def _moves(
    short: Sequence[Lesson], live: Sequence[Live], inside: set[str], spare: _Room, used: Mapping[str, int], now: datetime
) -> tuple[dict[str, datetime], list[str]]:
    """Which outsiders have to go so that the lessons find their places: those who were told so already, then the last tier,
    who used most, who came last."""
    moves: dict[str, datetime] = {}
    if short:
        others = [lease for lease in live if lease.id not in inside and lease.movable]
        others.sort(key=lambda x: (x.ends_why != "booked", -x.tier, -used.get(x.login, 0), -x.granted_at.timestamp(), x.id))
        room = spare.copy()
        for lesson in short:
            until = max(lesson.starts_at, now + SECOND_WARNING)
            freed: list[Live] = []
            while room.take(lesson.kind) is None:
                fitting = (x for x in others if x.device in room.devices and suits(room.devices[x.device], lesson.kind))
                following = next(fitting, None)
                if following is None:
                    break  # those freed so far do not make a place; nobody is moved in vain
                others.remove(following)
                freed.append(following)
                room.give(following.device, following.shares)
            else:
                for lease in freed:
                    going = lease.ends_at if lease.ends_at and lease.ends_at <= until else None
                    moves[lease.id] = going or until
    stays = [lease.id for lease in live if lease.ends_why == "booked" and lease.id not in moves]
    return moves, stays


def forecast(
    devices: Sequence[Device], live: Sequence[Live], waiting: Mapping[str, Waiting], order: Sequence[str], now: datetime
) -> dict[str, datetime]:
    """Holder -> when the place is likely to be free, as far as leases say when they end. Lessons are not looked at."""
    known = {device.uuid: device for device in devices}
    ends: dict[Kind, list[tuple[datetime, int]]] = {}
    for kind in {waiting[holder].kind for holder in order}:
        found = [lease for lease in live if lease.device in known and suits(known[lease.device], kind)]
        heap = [(max(now, lease.ends_at or lease.likely_end or now), number) for number, lease in enumerate(found)]
        heapq.heapify(heap)
        ends[kind] = heap
    when: dict[str, datetime] = {}
    for number, holder in enumerate(order):
        heap = ends[waiting[holder].kind]
        if not heap:
            continue
        at, _ = heapq.heappop(heap)
        when[holder] = at
        heapq.heappush(heap, (at + timedelta(hours=1), len(live) + number))  # whoever gets it stays for a while
    return when


def fits(devices: Sequence[Device], wanted: Iterable[tuple[Kind, int]]) -> bool:
    """Whether empty devices have room for so many places of each kind at the same time; whole devices are laid first."""
    room = _Room({device.uuid: device for device in devices}, {device.uuid: device.shares for device in devices})
    order = ("whole", "slice", "share")
    return all(room.take(kind) for kind, places in sorted(wanted, key=lambda x: order.index(x[0])) for _ in range(places))
