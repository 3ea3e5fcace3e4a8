"""The GPU pool: a simulated week against first come, first served, and what a decision costs.

``python -m benchmarks.gpus``. The week (``benchmarks.week`` says what it assumes): the same people come at the same
times with the same work to both sides.

- ours: ``academy.gpus.plan.decide``, asked after every change as the pool asks it. Five of eight GPUs are cut into eight shares
  each, lessons book 30 shares, startups ask for whole GPUs. A GPU idle for half an hour is warned of and ended 10 minutes
  later.
- first come: what plain DockerSpawner gives with a list of UUIDs in a hook. A start gets a free GPU of its own or fails, and
  people try again. jupyterhub-idle-culler takes back what they left after an hour, as Zero to JupyterHub has it. It is better
  than life in two ways: everybody who leaves closes the tab, whose polling would keep the server alive, and no two get one GPU.

``useful_hours``: GPU work that was done, less what a move threw away. Waits of those who gave up count as long as they waited;
in class they count from the hour or from the asking, whichever is later. Each line is the worst of ``SEEDS`` weeks;
``VARIATIONS`` changes one assumption at a time and is printed, not judged. Where nothing is cut into shares we do less than
first come: eight places for a class of thirty are kept from those who would compute more, which is what a lesson asks for.

A decision: with 1,000 leases and 500 people waiting in SQLite one server has stopped, and the pool gives its place to the next.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from academy import settings as settings_module
from academy.database import Database
from academy.gpus import pool
from academy.gpus.inventory import Device
from academy.gpus.records import Lease, Wait
from academy.people import Person
from academy.settings import Profile, Settings, Text
from benchmarks.report import Line, percentile, write
from benchmarks.week import HOUR, MINUTE, Academy, FirstCome, Pool

SEEDS = int(os.environ.get("SEEDS", "3"))
DECISIONS = int(os.environ.get("DECISIONS", "100"))
LEASES, WAITING, SHARES = 1000, 500, 8
VARIATIONS = {
    "half the load": Academy(load=0.5),
    "twice the load": Academy(load=2.0),
    "nothing cut into shares": Academy(cut=0),
    "no lessons booked": Academy(booked=False),
    "people think half as long": Academy(think=0.5),
    "people think twice as long": Academy(think=2.0),
    "everybody stops the server": Academy(stop=1.0),
    "sharing costs 30%": Academy(slicing=0.7),
    "first come culls after 10 min": Academy(cull=10 * MINUTE),
    "first come culls after 2 h": Academy(cull=2 * HOUR),
    "first come tries ten times as often": Academy(retry=0.1),
}
COLUMNS = ("useful_hours", "held_hours", "class_median_wait_s", "class_p95_wait_s", "other_median_wait_s", "other_p95_wait_s")

Week = dict[str, dict[str, float]]  # side -> its figures


def week(name: str, academy: Academy) -> Week:
    """Both sides of one week, printed as two lines of a table."""
    found = {"ours": Pool(academy).run(), "first come": FirstCome(academy).run()}
    for side, figures in found.items():
        print(f"{name:<36}{side:<12}" + "".join(f"{figures[column]:>12.1f}" for column in COLUMNS), flush=True)
    return found


def useful_ratio(found: Week) -> float:
    return found["ours"]["useful_hours"] / found["first come"]["useful_hours"]


def decisions(folder: Path) -> list[float]:
    """Milliseconds of each decision: a server has stopped and the next in the line gets its place."""
    profile = Profile(title=Text(ko="", en=""), gpu="share", hours=6)
    settings = Settings(academy=settings_module.Academy(data=folder), profiles={"share": profile})
    devices = [Device(f"GPU-{number}", "H100", 81920, SHARES) for number in range(LEASES // SHARES)]
    database, now = Database(f"sqlite:///{folder}/pool.sqlite"), datetime.now(UTC)
    database.upgrade()
    for first, count in ((0, LEASES), (LEASES, WAITING)):
        with database.write() as session:
            for number in range(first, first + count):
                pool.ask(session, settings, Person(login=f"s{number}", name="", enrollments=[]), "", "share", now)
            pool.settle(session, settings, devices, now)
    spent = []
    for number in range(DECISIONS):
        now += timedelta(seconds=1)
        with database.write() as session:
            for wait in session.scalars(select(Wait)):
                wait.seen_at = now
            lease = session.scalars(select(Lease).where(Lease.holder.is_not(None)).limit(1)).one()
            pool.release(session, lease.id, "stopped", now)
            pool.ask(session, settings, Person(login=f"n{number}", name="", enrollments=[]), "", "share", now)
        begin = time.perf_counter()
        with database.write() as session:
            granted = pool.settle(session, settings, devices, now)
        spent.append((time.perf_counter() - begin) * 1000)
        assert len(granted) == 1
    database.close()
    return spent


def main() -> int:
    print(
        f"{'week':<36}{'side':<12}"
        + "".join(f"{column.replace('_wait_s', '_s').replace('_hours', '_h'):>12}" for column in COLUMNS)
    )
    weeks = [week(f"seed {seed}", Academy(seed=seed)) for seed in range(1, SEEDS + 1)]
    varied = {name: week(name, academy) for name, academy in VARIATIONS.items()}
    with tempfile.TemporaryDirectory(prefix="academy-bench-") as folder:
        spent = decisions(Path(folder))
    lines: list[Line] = [
        {"name": "useful_hours_ratio", "value": min(map(useful_ratio, weeks)), "at_least": 1.5},
        {"name": "class_p95_wait_s", "value": max(one["ours"]["class_p95_wait_s"] for one in weeks), "at_most": 60},
        *(
            {"name": f"first_come_{name}", "value": statistics.mean(one["first come"][name] for one in weeks)}
            for name in COLUMNS[2:]
        ),
        {"name": "lowest_ratio_varied", "value": min(map(useful_ratio, varied.values()))},
        {"name": "decision_median_ms", "value": statistics.median(spent), "at_most": 10},
        {"name": "decision_p95_ms", "value": percentile(spent, 0.95)},
    ]
    return write("gpus", {"weeks": weeks, "varied": varied, "decisions_ms": spent}, lines)


if __name__ == "__main__":
    sys.exit(main())
