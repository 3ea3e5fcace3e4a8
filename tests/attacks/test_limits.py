"""What a submission uses up: time, memory, disk, processes, output; and what it does to other processes."""

from __future__ import annotations

import pytest

from tests.attacks.case import HONEST, MOST, Case, Seen, solved
from tests.attacks.contain import Record, contain
from tests.attacks.grader import Grader

LIMITS = {"timeout": 16, "cell_timeout": 5, "memory_mb": 700, "processes": 64}


def in_time(seen: Seen) -> None:
    """With cold sandboxes on a busy machine, too; whoever is not stopped runs for ten minutes or for ever."""
    assert seen.run_seconds < 150, f"it ran for {seen.run_seconds:.0f} s"


def small(seen: Seen) -> None:
    in_time(seen)
    assert len(seen.page) < 4 << 20, f"the page has {len(seen.page) >> 20} MB"
    assert len(seen.outputs) < 3 << 20, f"the outputs have {len(seen.outputs) >> 20} MB"


def bomb(name: str, tried: str, code: str, held: str, unit: str = "isolated", **more: object) -> Case:
    return Case(name, tried, unit, first=code, check=small, held=held, **more)  # type: ignore[arg-type]


def called(name: str, tried: str, code: str, held: str, **more: object) -> Case:
    """The same while a test calls; what else is right keeps its points."""
    return Case(name, tried, cells=solved(total=code), earns=11, check=small, held=held, **more)  # type: ignore[arg-type]


STUBBORN = """
    import time
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            pass
"""
TIME = "the clock is the supervisor's"
CASES = [
    bomb("endless-loop", "A cell loops without end and catches every interrupt.", STUBBORN, TIME),
    bomb(
        "endless-loop-ordinary", "In an ordinary notebook a cell loops without end in C.", "max(iter(int, 1))", TIME, "ordinary"
    ),
    called(
        "endless-loop-in-a-call",
        "A function that a test calls loops without end and catches every interrupt.",
        """
            def total(numbers):
                while True:
                    try:
                        while True:
                            pass
                    except BaseException:
                        pass
        """,
        TIME,
    ),
    called(
        "sleep-in-a-call",
        "A function sleeps for a day with all signals blocked.",
        """
            import signal, time
            def total(numbers):
                signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
                time.sleep(86400)
        """,
        TIME,
    ),
    bomb(
        "exit-that-hangs",
        "A cell registers exit handlers, destructors and threads that never end, and ends the process.",
        """
            import atexit, sys, threading, time
            atexit.register(time.sleep, 86400)
            threading.Thread(target=time.sleep, args=(86400,)).start()
            class Slow:
                def __del__(self): time.sleep(86400)
            kept = Slow()
            sys.exit(0)
        """,
        TIME,
    ),
    bomb(
        "fork-bomb",
        "A cell forks without end.",
        """
            import os
            while True:
                try:
                    os.fork()
                except OSError:
                    pass
        """,
        "the number of processes is limited",
    ),
    bomb(
        "thread-bomb",
        "A cell starts threads without end.",
        """
            import threading, time
            while True:
                try:
                    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
                except RuntimeError:
                    time.sleep(0.01)
        """,
        "the number of threads is limited",
    ),
    bomb(
        "memory-bomb",
        "A cell takes memory without end.",
        """
            kept = []
            while True:
                kept.append(bytearray(b"x" * 10_000_000))
        """,
        "memory is limited",
    ),
    called(
        "memory-bomb-in-a-call",
        "A function that a test calls takes memory without end, in many processes.",
        """
            import os
            def total(numbers):
                for _ in range(4):
                    os.fork()
                kept = []
                while True:
                    try:
                        kept.append(bytearray(b"x" * 10_000_000))
                    except MemoryError:
                        pass
        """,
        "memory is limited for all of its processes together",
    ),
    bomb(
        "shared-memory-bomb",
        "A cell fills /dev/shm, memory files and System V segments.",
        """
            import ctypes, os
            libc = ctypes.CDLL(None)
            for _ in range(4000):
                id = libc.shmget(0, 1 << 20, 0o1600)
                address = libc.shmat(id, None, 0)
            files = []
            try:
                while True:
                    number = os.memfd_create("x")
                    files.append(number)
                    os.write(number, b"x" * (1 << 24))
            except OSError:
                pass
            with open("/dev/shm/@MARK@", "wb") as file:
                while True:
                    file.write(b"x" * (1 << 20))
        """,
        "memory is limited, whatever it is called",
    ),
    *(
        bomb(
            f"disk-bomb-{name}",
            f"A cell fills {folder} with a file, with a sparse one and with small ones.",
            f"""
                import os
                top = os.path.expanduser("{folder}")
                try:
                    with open(top + "/@MARK@-sparse", "wb") as file:
                        file.truncate(1 << 45)
                except OSError as error:
                    print(error)
                try:
                    with open(top + "/@MARK@", "wb") as file:
                        for _ in range(4000):
                            file.write(b"x" * (1 << 20))
                except OSError as error:
                    print(error)
                try:
                    for number in range(100_000):
                        open(top + f"/@MARK@-{{number}}", "w").close()
                except OSError as error:
                    print(error)
            """,
            "folders that can be written are small, in memory, and gone afterwards",
        )
        for name, folder in (("home", "~"), ("temporary", "/tmp"))
    ),
    bomb(
        "descriptor-bomb",
        "A cell opens files, pipes and sockets without end.",
        """
            import os, socket
            kept = []
            for _ in range(200_000):
                try:
                    kept.append(os.pipe())
                    kept.append(socket.socketpair())
                except OSError:
                    pass
        """,
        "descriptors and memory are limited",
    ),
    bomb(
        "endless-output",
        "A cell prints without end, through Python and straight to the descriptors.",
        """
            import os, sys
            while True:
                print("x" * 100_000)
                sys.stderr.write("y" * 100_000)
                os.write(1, b"z" * 65536)
                os.write(2, b"z" * 65536)
        """,
        "output is capped",
    ),
    called(
        "endless-output-in-a-call",
        "A function that a test calls prints, displays and writes without end.",
        """
            import os
            from IPython.display import HTML, display
            def total(numbers):
                while True:
                    print("x" * 100_000)
                    display(HTML("<b>" * 100_000))
                    os.write(1, b"z" * 65536)
        """,
        "output is capped",
    ),
    bomb(
        "fifty-megabytes-of-output",
        "A cell prints fifty megabytes, a million lines and ten thousand displays.",
        """
            from IPython.display import display
            print("x" * 50_000_000)
            for number in range(10_000):
                display({"text/html": f"<b>{number}</b>" * 10, "image/png": "A" * 10_000}, raw=True)
            print("\\n" * 1_000_000)
        """,
        "output is capped",
    ),
    bomb(
        "crash-the-interpreter",
        "A cell overflows the stack, reads address 0 and raises an abort.",
        """
            import ctypes, faulthandler, os, sys
            sys.setrecursionlimit(10**9)
            faulthandler.disable()
            if os.fork() == 0:
                os.abort()
            def deeper(): return deeper()
            try:
                deeper()
            except BaseException:
                pass
            ctypes.string_at(0)
        """,
        "a process that is gone has given no answer",
    ),
    called(
        "crash-in-a-call",
        "A function that a test calls crashes its process.",
        "import ctypes\ndef total(numbers): return ctypes.string_at(0)",
        "a process that is gone has given no answer",
    ),
    bomb(
        "signals-to-others",
        "A cell sends stop and kill signals to its parent, to process 1, to its group and to everybody.",
        """
            import os, signal
            for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGKILL):
                for pid in (os.getppid(), 1, -os.getpgid(os.getppid()), *range(2, 400)):
                    if pid != os.getpid():
                        try:
                            os.kill(pid, number)
                        except OSError:
                            pass
            os.kill(-1, signal.SIGKILL)
        """,
        "the supervisor is out of reach, and what was killed gave no answer",
        probe=True,
    ),
    bomb(
        "stop-the-parent",
        "A cell stops its parent process and sleeps.",
        """
            import os, signal, time
            os.kill(os.getppid(), signal.SIGSTOP)
            time.sleep(600)
        """,
        TIME,
        probe=True,
    ),
    bomb(
        "sleeping-processes",
        "A cell leaves processes behind that sleep, in sessions of their own, deaf to signals.",
        """
            import os, signal, subprocess, sys
            code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
            for _ in range(5):
                subprocess.Popen([sys.executable, "-c", code, "@MARK@"], start_new_session=True)
            print("SLEEPING")
        """,
        "when a run ends, all its processes end",
        shows="SLEEPING",
        probe=True,
    ),
    Case(
        "keep-pipes-open",
        "A process in a session of its own keeps every inherited descriptor open and never ends.",
        cells=HONEST["isolated"],
        last="""
            import os, time
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(600)
                os._exit(0)
        """,
        earns=MOST["isolated"],
        exactly=True,
        check=in_time,
        held="nobody waits for a descriptor to close",
    ),
    bomb(
        "slow-to-compile",
        "Cells that the parser chokes on: a hundred thousand brackets, operators and nested blocks.",
        """
            for text in ("(" * 100_000, "-" * 1_000_000 + "1", "[" * 90 + "]" * 90, "x" + ".x" * 1_000_000, "1" * 10_000_000):
                try:
                    compile(text, "x", "exec")
                except (SyntaxError, RecursionError, MemoryError, ValueError):
                    pass
        """,
        TIME,
    ),
]


@pytest.mark.docker
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nothing_is_used_up(case: Case, grader: Grader, record_property: Record) -> None:
    contain(case, grader, record_property)


@pytest.mark.docker
def test_honest_work_afterwards_gets_its_points(grader: Grader) -> None:
    case = Case("afterwards", "", cells=HONEST["isolated"], earns=MOST["isolated"], exactly=True)
    grader.hand_in([case])
    contain(case, grader, lambda name, value: None)
