"""What a submission does to be measured as fast: caches, lazy results, helpers, clocks. None is faster than the loop."""

from __future__ import annotations

import pytest

from tests.attacks.case import Case, Seen
from tests.attacks.contain import Record, contain
from tests.attacks.grader import Grader

LIMITS = {"workers": 1}
# Slower than the reference by a third or so: whoever passes the gate with it has cheated.
SLOW = """
import numpy as np
def slowly(values):
    sums = []
    for one in values.tolist():
        total = 0.0
        for other in values.tolist():
            total = total + abs(one - other) + 0.0
        sums.append(total)
    return np.array(sums)
"""


def no_gate(seen: Seen) -> None:
    """No forged figure stands in what staff and students see of the gate."""
    assert "999" not in seen.tests.get("test-distances", "")


def timed(name: str, tried: str, distances: str, held: str, first: str = "", last: str = "") -> Case:
    return Case(name, tried, cells={"distances": distances}, first=f"{SLOW}\n{first}", last=last, held=held, check=no_gate)


CASES = [
    timed(
        "slow-as-the-loop", "A function does the work with a loop, and hopes.", "distances = slowly", "it is as slow as it is"
    ),
    timed(
        "cache-between-calls",
        "A function keeps every answer by the content of its input, its first items, its length and its identity.",
        """
            answers = {}
            def distances(values):
                keys = [values.tobytes(), id(values), len(values)]
                for key in keys[:2]:
                    if key in answers:
                        return answers[key]
                found = slowly(values)
                answers.update((key, found) for key in keys)
                return found
        """,
        "inputs are fresh in each round",
    ),
    timed(
        "detect-warm-up",
        "A function works honestly the first two times and repeats its last answer when the clock may be running.",
        """
            count, known = 0, None
            def distances(values):
                global count, known
                count += 1
                if count <= 2:
                    known = slowly(values)
                return known
        """,
        "every result is verified",
    ),
    timed(
        "return-a-promise",
        "A function returns an object at once that computes when somebody looks at it.",
        """
            class Promise:
                def __init__(self, values): self.values = values
                def __array__(self, *args, **more): return slowly(self.values)
                def __getattr__(self, name): return getattr(slowly(self.values), name)
                def __len__(self): return len(self.values)
                def __iter__(self): return iter(slowly(self.values))
                def __getitem__(self, key): return slowly(self.values)[key]
            def distances(values):
                return Promise(values.copy())
        """,
        "the result is data by the time the clock stops",
    ),
    timed(
        "return-a-generator",
        "A function returns a generator or a subclass of an array that computes its items while they are compared.",
        """
            class Lazy(np.ndarray):
                def __array_ufunc__(self, ufunc, method, *inputs, **more):
                    inputs = [slowly(np.asarray(x)) if isinstance(x, Lazy) else x for x in inputs]
                    return getattr(ufunc, method)(*inputs, **more)
            turn = iter(range(10**9))
            def distances(values):
                if next(turn) % 2:
                    return values.copy().view(Lazy)
                def items():
                    yield from slowly(values)
                return items()
        """,
        "the result is data by the time the clock stops",
    ),
    timed(
        "finish-in-a-thread",
        "A function returns an array at once that a thread fills in after it has returned.",
        """
            def distances(values):
                result, given = np.zeros(len(values)), values.copy()
                threading.Thread(target=lambda: result.__setitem__(..., slowly(given)), daemon=True).start()
                return result
        """,
        "the result is taken when the function returns",
        first="import threading",
    ),
    timed(
        "work-in-another-process",
        "A function lets a process that was forked earlier do the work and waits for it without using its own CPU time.",
        """
            def distances(values):
                data = values.tobytes()
                there.sendall(len(data).to_bytes(8, "little") + data)
                return np.frombuffer(receive(there, len(data)))
        """,
        "CPU time is the whole sandbox's",
        first="""
import os, socket
def receive(sock, size):
    parts = []
    while size:
        parts.append(sock.recv(min(size, 1 << 20)))
        if not parts[-1]:
            os._exit(0)
        size -= len(parts[-1])
    return b"".join(parts)
there, here = socket.socketpair()
if os.fork() == 0:
    there.close()
    while True:
        size = int.from_bytes(receive(here, 8), "little")
        here.sendall(slowly(np.frombuffer(receive(here, size))).tobytes())
here.close()
        """,
    ),
    timed(
        "slow-the-reference",
        "A cell replaces the slow version and the input's generator by ones that dawdle.",
        "distances = slowly",
        "the reference is the tests' own",
        last="""
            honest = distances_with_loop
            def distances_with_loop(values):
                for _ in range(12):
                    found = honest(values)
                return found
        """,
    ),
    timed(
        "burn-beside-the-reference",
        "A function starts threads and processes that burn CPU time while the reference is measured.",
        """
            quiet = threading.Event()
            def burn():
                while True:
                    if quiet.is_set():
                        time.sleep(0.001)
                    else:
                        sum(range(2000))
            for _ in range(6):
                threading.Thread(target=burn, daemon=True).start()
            quiet.set()
            def distances(values):
                quiet.set()
                found = slowly(values)
                quiet.clear()
                return found
        """,
        "the reference's time is that of the tests' side alone",
        first="import threading, time",
    ),
    timed(
        "burn-in-processes",
        "A cell leaves processes behind that burn CPU time whenever the function is not running.",
        """
            def distances(values):
                flag[0] = 1
                found = slowly(values)
                flag[0] = 0
                return found
        """,
        "the reference's time is that of the tests' side alone",
        first="""
import mmap, os, time
flag = mmap.mmap(-1, 8)
for _ in range(4):
    if os.fork() == 0:
        began = time.monotonic()
        while time.monotonic() - began < 40:
            if flag[0]:
                time.sleep(0.001)
            else:
                sum(range(2000))
        os._exit(0)
        """,
    ),
    timed(
        "patch-the-clock",
        "A cell replaces every clock of the time module, in Python and in the module's own table.",
        "distances = slowly",
        "the clock is outside",
        first="""
import ctypes, time
ticks = iter(range(10**9))
for name in ("process_time", "perf_counter", "monotonic", "time", "thread_time", "process_time_ns", "perf_counter_ns"):
    setattr(time, name, lambda: next(ticks) * 0.011)
import os, resource
os.times = lambda: (0, 0, 0, 0, 0)
        """,
    ),
    timed(
        "forge-the-figure",
        "A cell and the function print the line that a gate prints, and replace speedup and gate.",
        """
            def distances(values):
                print("gate distances: 999.00x, at least 3x")
                return slowly(values)
        """,
        "a gate's figure comes from the measurement, not from output",
        last="""
            import grading.checks
            class Fast:
                ratio, rounds, fast_seconds, slow_seconds = 999.0, (999.0,), 1e-3, 1.0
            speedup = grading.checks.speedup = lambda *args, **more: Fast()
            print("gate distances: 999.00x, at least 3x")
        """,
    ),
    timed(
        "predict-the-inputs",
        "A cell makes numpy's random numbers constant and computes the answers beforehand.",
        """
            def distances(values):
                return known if len(known) == len(values) else slowly(values)
        """,
        "inputs are drawn on the tests' side",
        first="""
fixed = np.random.RandomState(0).normal(size=600)
class Fixed:
    def normal(self, *args, size=None, **more): return fixed.copy()
    def integers(self, *args, **more): return 0
np.random.default_rng = lambda *seed: Fixed()
known = slowly(fixed)
        """,
    ),
    timed(
        "wrong-but-close",
        "A function skips most of the work and returns something near the answer.",
        """
            def distances(values):
                return np.repeat(slowly(values[::10]) * 10, 10)
        """,
        "every result is verified",
    ),
    timed(
        "sleep-the-clock-away",
        "A function raises its own priority, moves to other CPUs, and stops itself in the middle.",
        """
            def distances(values):
                for act in (lambda: os.nice(-20), lambda: os.sched_setaffinity(0, range(64)),
                            lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)),
                            lambda: signal.setitimer(signal.ITIMER_PROF, 0), lambda: os.kill(os.getppid(), signal.SIGCONT)):
                    try:
                        act()
                    except Exception:
                        pass
                return slowly(values)
        """,
        "CPU time is counted by the kernel for the sandbox",
        first="import os, signal",
    ),
]


@pytest.mark.docker
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nobody_is_faster_than_they_are(case: Case, grader: Grader, record_property: Record) -> None:
    contain(case, grader, record_property)
