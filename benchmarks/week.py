"""A week of an academy on a virtual clock: the same people with the same work, and two ways of giving them GPUs.

What is assumed; where nothing is published, by judgement (``benchmarks.gpus`` varies it):

- Classes: 30 students each, six on a working day, 110 minutes from odd hours on. 90% come, around the hour, 5% of them 10 to 40
  minutes late; they stay until it ends.
- Homework on a GPU: each student on 4 of 5 working days and 2 of 5 others, by ``HOURS``, for a median of 75 minutes.
- Startups come 1.5 times on a working day, 0.5 times on others, with 3 trainings on average.
- Cells. In the notebooks of a company (Carver et al., NotebookOS, ASPLOS 2026) half of the training cells take at most 2
  minutes, three quarters at most 5; the median from one to the next is 5 minutes, and reserved GPUs lie idle for 81% of the
  time. So homework: cells with median 2 and mean 5 minutes, thinking with median 5 and mean 20. In class: cells with median
  20 and mean 33 seconds, thinking with median 3 and mean 5 minutes.
- Trainings. On Microsoft's Philly (Jeon et al., ATC 2019) and Alibaba's PAI (Weng et al., NSDI 2022) they take from minutes to
  days. So startups: median 30 and mean 90 minutes, a day at most. During one of more than an hour people go away, and come back
  half an hour after its end on average, but not at night.
- Work is in seconds of a whole GPU. Of k people who compute on one at once each gets 1/k, 10% of it lost to time-slicing. That
  small kernels fit beside each other is not counted.
- 3 in 10 stop their server when they leave, the others just go.
- Patience: in class until its end; homework 45 minutes, startups 4 hours on average.
"""

from __future__ import annotations

import heapq
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import inf, log, sqrt
from typing import Any

from academy.gpus.inventory import Device
from academy.gpus.plan import LEAD, Kind, Lesson, Live, Waiting, decide
from benchmarks.report import percentile

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)  # 0 seconds
COHORT, CLASSES, CLASS_LASTS = 30, (9, 11, 13, 15, 17, 19), 110 * MINUTE
HOURS = (0.5, 0.2, 0.1, 0, 0, 0, 0.2, 0.5, 1, 2, 3, 3, 2, 3, 4, 4, 4, 4, 4, 5, 6, 6, 4, 2)  # homework by the hour of the day
IDLE, GRACE, KEEPS, NO_SHOW = 30 * MINUTE, 10 * MINUTE, 3, 10 * MINUTE  # as academy.toml has them
LOOK, STOPPING = 1.0, 15.0  # until the pool decides; from a lease's end to the free GPU (a look every 5 s, then Docker's 10)
CHECKPOINT = 30 * MINUTE  # whoever is moved loses what was computed since


@dataclass(frozen=True)
class Academy:
    """What can be varied."""

    seed: int = 1
    days: int = 7
    students: int = 330
    startups: int = 12
    gpus: int = 8
    cut: int = 5  # of the GPUs
    shares: int = 8
    load: float = 1.0  # homework and startups
    think: float = 1.0
    stop: float = 0.3  # who stops the own server
    slicing: float = 0.9  # what is left of a GPU when two or more compute
    booked: bool = True  # lessons
    retry: float = 1.0
    cull: float = HOUR

    def devices(self) -> list[Device]:
        return [Device(f"GPU-{n}", "H100", 81920, self.shares if n < self.cut else 1) for n in range(self.gpus)]


@dataclass(frozen=True)
class Visit:
    """Somebody comes with work for a GPU."""

    login: str
    group: str  # class, homework, startup
    course: str
    asks_at: float
    patience: float
    work: list[tuple[float, float]]  # seconds of thinking, then seconds of a whole GPU
    stops: bool  # the server, when leaving
    seed: int  # of what is decided on the way
    begins_at: float = 0.0  # of a class
    ends_at: float = inf


class Trace:
    """Who comes when with what; and the lessons, for whoever books."""

    def __init__(self, academy: Academy) -> None:
        self.academy, self.rng = academy, random.Random(academy.seed)  # noqa: S311 - reproducible, no secret
        self.visits: list[Visit] = []
        self.lessons: list[Lesson] = []
        for day in range(academy.days):
            works = day % 7 < 5
            for number, hour in enumerate(CLASSES if works else ()):
                self.lesson(day * len(CLASSES) + number, day * DAY + hour * HOUR)
            for student in range(academy.students):
                if self.rng.random() < (0.3 if works else 0.2) * academy.load:
                    self.homework(student, day * DAY)
            for startup in range(academy.startups):
                for _ in range(2):
                    if self.rng.random() < (0.75 if works else 0.25) * academy.load:
                        self.startup(startup, day * DAY)
        self.visits.sort(key=lambda visit: visit.asks_at)

    def lesson(self, number: int, begin: float) -> None:
        course, end = number % (self.academy.students // COHORT), begin + CLASS_LASTS
        kind: Kind = "share" if self.academy.cut else "whole"
        places = COHORT if self.academy.cut else self.academy.gpus
        self.lessons.append(Lesson(str(number), f"c{course}", kind, places, clock(begin), clock(end)))
        for student in range(course * COHORT, (course + 1) * COHORT):
            if self.rng.random() < 0.9:
                late = self.rng.uniform(10, 40) if self.rng.random() < 0.05 else max(-10.0, self.rng.gauss(0, 4))
                at = begin + late * MINUTE
                work = self.cycles((3 * MINUTE, 5 * MINUTE), (20, 33), CLASS_LASTS)
                self.visit(f"s{student}", "class", f"c{course}", at, end - at, work, begins_at=begin, ends_at=end)

    def homework(self, student: int, midnight: float) -> None:
        at = midnight + (self.rng.choices(range(24), HOURS)[0] + self.rng.random()) * HOUR
        work = self.cycles((5 * MINUTE, 20 * MINUTE), (2 * MINUTE, 5 * MINUTE), self.around(75 * MINUTE, 90 * MINUTE))
        self.visit(f"s{student}", "homework", f"c{student // COHORT}", at, self.rng.expovariate(1 / (45 * MINUTE)), work)

    def startup(self, startup: int, midnight: float) -> None:
        at = midnight + self.rng.triangular(9, 22, 13) * HOUR
        work = self.cycles((15 * MINUTE, 25 * MINUTE), (30 * MINUTE, 90 * MINUTE), inf, 1 + int(self.rng.expovariate(1 / 2.5)))
        self.visit(f"f{startup}", "startup", "", at, self.rng.expovariate(1 / (4 * HOUR)), work)

    def cycles(
        self, think: tuple[float, float], work: tuple[float, float], limit: float, count: int = 0
    ) -> list[tuple[float, float]]:
        """Thinking and work, each by its median and mean, until their time is over; or so many."""
        cycles: list[tuple[float, float]] = []
        while len(cycles) < count or (not count and limit > 0):
            cycles.append((self.around(*think) * self.academy.think, min(DAY, self.around(*work))))
            limit -= sum(cycles[-1])
        return cycles

    def around(self, median: float, mean: float) -> float:
        return self.rng.lognormvariate(log(median), sqrt(2 * log(mean / median)))

    def visit(self, login: str, group: str, course: str, at: float, patience: float, work: Any, **more: float) -> None:
        stops = self.rng.random() < self.academy.stop
        self.visits.append(Visit(login, group, course, at, patience, work, stops, self.rng.getrandbits(32), **more))


def clock(seconds: float) -> datetime:
    return MONDAY + timedelta(seconds=seconds)


@dataclass(eq=False)
class Person:
    """A visit as it goes."""

    visit: Visit
    name: str
    rng: random.Random
    state: str = ""  # waiting, thinking, away, computing, gone
    turn: int = 0  # counts the changes of state: what was planned in an earlier one does not happen
    cycle: int = 0
    left: float = 0.0  # of the cycle's work
    asked_at: float = 0.0
    back_at: float = 0.0  # when thinking is over
    busy_at: float = 0.0  # when the GPU last did something
    keeps: int = 0
    gpu: Gpu | None = None
    granted_at: float = 0.0
    shares: int = 0


class Gpu:
    """Those who compute on it at the same time get equal parts of it."""

    def __init__(self, device: Device, slicing: float) -> None:
        self.device, self.slicing = device, slicing
        self.people: list[Person] = []
        self.until, self.version, self.done = 0.0, 0, 0.0  # accounted for until; seconds of work

    def rate(self) -> float:
        return (1.0 if len(self.people) == 1 else self.slicing) / len(self.people)

    def advance(self, now: float) -> None:
        if self.people:
            done = (now - self.until) * self.rate()
            for person in self.people:
                person.left -= done
            self.done += done * len(self.people)
        self.until = now


class Week:
    """An academy and its people; how GPUs are given is said by its children."""

    def __init__(self, academy: Academy) -> None:
        trace = Trace(academy)
        self.academy, self.lessons = academy, trace.lessons
        self.gpus = {device.uuid: Gpu(device, academy.slicing) for device in academy.devices()}
        self.now, self.thrown_away, self.held = 0.0, 0.0, 0.0
        self.waits: dict[str, list[float]] = defaultdict(list)
        self.gave_up: Counter[str] = Counter()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.number = 0
        for number, visit in enumerate(trace.visits):
            person = Person(visit, f"{visit.login}/{number}", random.Random(visit.seed))  # noqa: S311
            self.later(visit.asks_at, self.ask, person)

    def at(self, when: float, what: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self.events, (when, self.number, what))

    def later(self, when: float, what: Callable[[Person], None], person: Person) -> None:
        """Unless the person has come to another state by then."""
        turn = person.turn
        self.at(when, lambda: what(person) if person.turn == turn else None)

    def run(self) -> dict[str, float]:
        end = self.academy.days * DAY
        while self.events and self.events[0][0] < end:
            self.now, _, what = heapq.heappop(self.events)
            what()
        for gpu in self.gpus.values():
            gpu.advance(end)
        others = self.waits["homework"] + self.waits["startup"]
        return {
            "useful_hours": round((sum(gpu.done for gpu in self.gpus.values()) - self.thrown_away) / HOUR, 1),
            "held_hours": round(self.held / HOUR, 1),
            "class_median_wait_s": round(statistics.median(self.waits["class"]), 1),
            "class_p95_wait_s": round(percentile(self.waits["class"], 0.95), 1),
            "other_median_wait_s": round(statistics.median(others), 1),
            "other_p95_wait_s": round(percentile(others, 0.95), 1),
            "class_gave_up": self.gave_up["class"] / len(self.waits["class"]),
            "other_gave_up": (self.gave_up["homework"] + self.gave_up["startup"]) / len(others),
        }

    def turn(self, person: Person, state: str) -> None:
        person.turn, person.state = person.turn + 1, state

    def ask(self, person: Person) -> None:
        self.turn(person, "waiting")
        person.asked_at = self.now
        self.later(min(self.now + person.visit.patience, person.visit.ends_at), self.give_up, person)
        self.join(person)

    def waited(self, person: Person) -> None:
        self.waits[person.visit.group].append(max(0.0, self.now - max(person.asked_at, person.visit.begins_at)))

    def give_up(self, person: Person) -> None:
        self.waited(person)
        self.gave_up[person.visit.group] += 1
        self.turn(person, "gone")

    def grant(self, person: Person, uuid: str, shares: int) -> None:
        person.gpu, person.shares, person.granted_at, person.busy_at = self.gpus[uuid], shares, self.now, self.now
        if person.state == "waiting":
            self.waited(person)
            self.think(person, MINUTE if person.left else person.visit.work[person.cycle][0])
        else:
            self.leave(person, stops=False)  # given to somebody who has gone

    def think(self, person: Person, pause: float, state: str = "thinking") -> None:
        self.turn(person, state)
        person.back_at = min(self.now + pause, person.visit.ends_at)
        self.later(person.back_at, self.compute, person)
        self.rest(person)

    def compute(self, person: Person) -> None:
        if self.now >= person.visit.ends_at:
            self.leave(person, person.visit.stops)
            return
        assert person.gpu
        self.turn(person, "computing")
        person.left = person.left or person.visit.work[person.cycle][1]
        person.gpu.advance(self.now)
        person.gpu.people.append(person)
        self.plan(person.gpu)

    def plan(self, gpu: Gpu) -> None:
        """Who is ready first; unless others come or go before."""
        gpu.version += 1
        if gpu.people:
            version, first = gpu.version, min(gpu.people, key=lambda person: person.left)
            self.at(self.now + first.left / gpu.rate(), lambda: self.ready(gpu, first) if gpu.version == version else None)

    def ready(self, gpu: Gpu, person: Person) -> None:
        self.stop_computing(person)
        visit, done = person.visit, person.visit.work[person.cycle][1]
        person.left, person.busy_at, person.cycle = 0.0, self.now, person.cycle + 1
        if person.cycle == len(visit.work) or self.now >= visit.ends_at:
            self.leave(person, visit.stops)
        elif done > HOUR:
            self.think(person, self.morning(self.now + person.rng.expovariate(1 / (30 * MINUTE))) - self.now, "away")
        else:
            self.think(person, visit.work[person.cycle][0])

    @staticmethod
    def morning(when: float) -> float:
        """The next moment at which people are up."""
        day, hour = divmod(when, DAY)
        return when if 9 * HOUR <= hour < 22 * HOUR else (day + (hour >= 9 * HOUR)) * DAY + 9 * HOUR

    def stop_computing(self, person: Person) -> None:
        assert person.gpu
        person.gpu.advance(self.now)
        person.gpu.people.remove(person)
        self.plan(person.gpu)

    def leave(self, person: Person, stops: bool) -> None:
        self.turn(person, "gone")
        if stops:
            self.release(person)
        else:
            self.rest(person)

    def take(self, person: Person) -> None:
        """Take the GPU of somebody who has not stopped the server; whoever has work left asks again."""
        if person.state == "computing":
            self.stop_computing(person)
            again = (person.visit.work[person.cycle][1] - person.left) % CHECKPOINT
            person.left, self.thrown_away = person.left + again, self.thrown_away + again
            person.back_at = self.now + MINUTE
        work_left = person.state != "gone" and person.back_at < person.visit.ends_at
        self.turn(person, "gone")
        if work_left:
            self.later(max(self.now, person.back_at), self.ask, person)
        self.release(person)

    def release(self, person: Person) -> None:
        assert person.gpu
        self.held += (self.now - person.granted_at) * person.shares / person.gpu.device.shares
        self.free(person)
        person.gpu = None

    def join(self, person: Person) -> None:
        """Somebody wants a GPU."""
        raise NotImplementedError

    def free(self, person: Person) -> None:
        """Somebody's GPU is free again."""
        raise NotImplementedError

    def rest(self, person: Person) -> None:
        """Somebody's GPU does nothing from now on."""
        raise NotImplementedError


class FirstCome(Week):
    """A start gets a whole free GPU or fails, and people try again; the culler takes back what they left."""

    def __init__(self, academy: Academy) -> None:
        super().__init__(academy)
        self.there = set(self.gpus)

    def join(self, person: Person) -> None:
        if self.there:
            uuid = min(self.there)
            self.there.remove(uuid)
            self.grant(person, uuid, self.gpus[uuid].device.shares)
        else:
            mean = (3 if person.visit.group == "class" else 10) * MINUTE * self.academy.retry
            self.later(self.now + person.rng.expovariate(1 / mean), self.join, person)

    def free(self, person: Person) -> None:
        assert person.gpu
        self.there.add(person.gpu.device.uuid)

    def rest(self, person: Person) -> None:
        if person.state in ("away", "gone"):
            self.later(self.now + self.academy.cull + person.rng.uniform(0, 10 * MINUTE), self.take, person)


class Pool(Week):
    """``academy.gpus``: shares, a line, lessons, idle GPUs."""

    def __init__(self, academy: Academy) -> None:
        super().__init__(academy)
        self.line: dict[str, tuple[Waiting, Person]] = {}
        self.leases: dict[str, tuple[Live, Person]] = {}
        self.used: Counter[str] = Counter()
        self.looks = False
        for lesson in self.lessons if academy.booked else ():
            begin, end = ((at - MONDAY).total_seconds() for at in (lesson.starts_at, lesson.ends_at))
            for when in (begin - LEAD.total_seconds(), begin, begin + NO_SHOW, end):
                self.at(when, self.look)

    def look(self) -> None:
        if not self.looks:
            self.looks = True
            self.at(self.now + LOOK, self.settle)

    def settle(self) -> None:
        self.looks = False
        devices = [gpu.device for gpu in self.gpus.values()]
        live, waiting = [lease for lease, _ in self.leases.values()], [wait for wait, _ in self.line.values()]
        lessons = self.lessons if self.academy.booked else []
        decision = decide(devices, live, waiting, lessons, self.used, clock(self.now), timedelta(seconds=NO_SHOW))
        for name, ends_at in decision.moves.items():
            lease, person = self.leases[name]
            if lease.ends_at != ends_at:
                self.end(person, (ends_at - MONDAY).total_seconds(), "booked")
        for name in decision.stays:
            lease, person = self.leases[name]
            self.leases[name] = replace(lease, ends_at=None, ends_why=""), person
        for grant in decision.grants:
            wait, person = self.line.pop(grant.holder)
            given = wait.holder, grant.device, grant.shares, wait.kind, wait.login, wait.tier, wait.courses
            self.leases[wait.holder] = Live(*given, clock(self.now)), person
            self.grant(person, grant.device, grant.shares)

    def join(self, person: Person) -> None:
        visit = person.visit
        kind: Kind = "whole" if visit.group == "startup" or not self.academy.cut else "share"
        courses = frozenset([visit.course] if visit.course else [])
        self.line[person.name] = Waiting(person.name, visit.login, kind, 0, 2, courses, clock(self.now)), person
        self.look()

    def give_up(self, person: Person) -> None:
        super().give_up(person)
        if person.rng.random() < 2 / 3:  # the others close the tab, and the line goes on for them
            del self.line[person.name]
            self.look()

    def free(self, person: Person) -> None:
        lease, _ = self.leases.pop(person.name)
        self.used[lease.login] += round((self.now - person.granted_at) * 1000)
        self.look()

    def compute(self, person: Person) -> None:
        super().compute(person)
        lease, _ = self.leases.get(person.name, (None, None))
        if lease and lease.ends_why == "idle":
            self.leases[person.name] = replace(lease, ends_at=None, ends_why=""), person

    def rest(self, person: Person) -> None:
        self.later(max(self.now, person.busy_at + IDLE), self.idle, person)

    def idle(self, person: Person) -> None:
        lease, _ = self.leases[person.name]
        if lease.ends_at is not None:
            return
        if person.state == "thinking" and person.keeps < KEEPS and person.rng.random() < 0.9:
            person.keeps, person.busy_at = person.keeps + 1, self.now
            self.rest(person)
        else:
            self.end(person, self.now + GRACE, "idle")

    def end(self, person: Person, when: float, why: str) -> None:
        lease, _ = self.leases[person.name]
        self.leases[person.name] = replace(lease, ends_at=clock(when), ends_why=why), person

        def due() -> None:
            now, _ = self.leases.get(person.name, (None, None))
            if now and (now.ends_at, now.ends_why, now.granted_at) == (clock(when), why, lease.granted_at):
                self.take(person)

        self.at(max(self.now, when) + STOPPING, due)
