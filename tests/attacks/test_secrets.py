"""What a submission wants to read: tests, solutions, other people's work, the gradebook, tokens."""

from __future__ import annotations

import textwrap

import pytest

from tests.attacks.case import Case, solved
from tests.attacks.contain import Record, contain
from tests.attacks.grader import Grader


def looks(code: str) -> dict[str, str]:
    """A solution that looks around whenever a test calls it, and tells by printing, raising and leaving a file."""
    look = textwrap.indent(textwrap.dedent(code).strip(), "        ")
    told = "    text = report()\n    open('found.txt', 'a').write(text)\n    assert not found, text\n    return sum(numbers)"
    total = f"@LOOK@\ndef total(numbers):\n    try:\n{look}\n    except Exception as error:\n        keep(error)\n{told}"
    return solved(total=total, scale="def scale(table):\n    assert not found, report()\n    return table / table.max()")


def at_once(code: str) -> str:
    """A cell of its own that looks around."""
    return f"@LOOK@\n{textwrap.dedent(code).strip()}\nopen('found.txt', 'a').write(report())"


CASES = [
    Case(
        "read-hidden-tests-in-history",
        "A function prints the kernel's input history and the running cell while a hidden test calls it.",
        cells=looks(
            """
                main = sys.modules['__main__']
                keep([getattr(main, name, '') for name in ('In', '_ih', '_i', '_ii', 'Out', 'canary')])
                keep(vars(main))
                import IPython
                shell = IPython.get_ipython()
                keep(shell.history_manager.input_hist_raw)
                keep(list(shell.history_manager.get_range(raw=True)))
            """
        ),
        earns=13,
        held="the tests are not in the student's process",
    ),
    Case(
        "read-hidden-tests-in-frames",
        "A function walks up the stack of its caller and reads globals, locals and source lines.",
        cells=looks(
            """
                frame = sys._getframe()
                while frame:
                    keep([frame.f_globals, frame.f_locals, frame.f_code.co_consts])
                    keep(''.join(linecache.getlines(frame.f_code.co_filename)))
                    frame = frame.f_back
                for frame in sys._current_frames().values():
                    while frame:
                        keep([frame.f_globals, frame.f_locals, frame.f_code.co_consts])
                        frame = frame.f_back
                keep(linecache.cache)
            """
        ),
        earns=13,
        held="the caller's frames are in another container",
    ),
    Case(
        "read-hidden-tests-with-gc",
        "A function searches every object that the garbage collector knows for tests and solutions.",
        cells=looks(
            """
                for thing in gc.get_objects():
                    if isinstance(thing, (dict, list, tuple)) and len(thing) < 10_000:
                        try:
                            items = thing.values() if isinstance(thing, dict) else thing
                            keep([item for item in items if type(item) in (str, bytes)])
                        except RuntimeError:
                            pass
            """
        ),
        earns=13,
        held="no object of the tests is in the student's process",
    ),
    Case(
        "read-own-memory",
        "A function reads its own process's memory through /proc/self/mem in search of the tests.",
        cells=looks("memory('self')"),
        earns=13,
        held="the tests are not in the student's memory",
    ),
    Case(
        "read-others-memory",
        "A cell and a function read the memory of every process they see, the parent and process 1 first.",
        cells=looks(
            """
                for pid in [name for name in os.listdir('/proc') if name.isdigit()]:
                    memory(pid)
            """
        ),
        first=at_once("""
            for pid in (os.getppid(), 1):
                memory(pid)
        """),
        earns=13,
        shows="LOOKED",
        held="no process that can be read knows a secret",
    ),
    Case(
        "read-environments",
        "A cell reads the environment, command line and files of every process, process 1 among them.",
        first=at_once(
            """
                keep(dict(os.environ))
                names = ('environ', 'cmdline', 'comm', 'status', 'mountinfo', 'cgroup', 'stack', 'auxv')
                for pid in [name for name in os.listdir('/proc') if name.isdigit()]:
                    for name in names:
                        read(f'/proc/{pid}/{name}')
                for path in glob.glob('/proc/[0-9]*/cwd') + glob.glob('/proc/[0-9]*/root'):
                    walk(path + '/')
            """
        ),
        shows="LOOKED",
        held="the sandbox is told the reader's language, and nothing else",
    ),
    Case(
        "read-every-file",
        "A cell reads every file that it can open, in search of tokens, tests, solutions and databases.",
        first=at_once("walk('/')"),
        shows="LOOKED",
        held="the sandbox's image and folders hold no secret",
    ),
    Case(
        "read-the-gradebook",
        "A cell looks for SQLite files, for the academy's settings and for a mounted course folder.",
        first=at_once(
            """
                import sqlite3
                for top in ("/home", "/srv", "/work", "/data", "/tmp", "/var", "/opt/academy", "/root", "/mnt", "/etc", "/run"):
                    for folder, folders, files in os.walk(top):
                        for path in (os.path.join(folder, name) for name in files):
                            if path.endswith((".db", ".sqlite", ".sqlite3", ".toml", ".log")):
                                read(path)
                                try:
                                    with sqlite3.connect(path) as book:
                                        keep(list(book.iterdump()))
                                except Exception:
                                    pass
                read('/proc/self/mountinfo')
            """
        ),
        shows="LOOKED",
        held="no gradebook, settings or course folder is mounted",
    ),
    Case(
        "read-other-submissions",
        "A cell searches homes, temporary folders and other processes' folders for other people's notebooks.",
        first=at_once(
            """
                for top in ('/home', '/tmp', '/var/tmp', '/dev/shm', '/run', '/work', '/data', '/srv', '/root', '/mnt'):
                    walk(top)
                for path in glob.glob('/proc/[0-9]*/fd/*') + glob.glob('/proc/[0-9]*/task/*/fd/*'):
                    keep(os.readlink(path) if os.path.islink(path) else '')
                    if os.path.isfile(path):
                        read(path)
            """
        ),
        shows="LOOKED",
        held="each submission sees its own folder alone",
    ),
    Case(
        "read-open-descriptors",
        "A function reads and peeks at every file descriptor it inherited, sockets and pipes too.",
        cells=looks(
            """
                for name in os.listdir('/proc/self/fd'):
                    number = int(name)
                    try:
                        link = os.readlink(f'/proc/self/fd/{name}')
                        keep(link)
                        if link.startswith('socket:'):
                            keep(socket.socket(fileno=os.dup(number)).recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT))
                        elif link.startswith('/') and os.path.isfile(link):
                            keep(os.pread(number, 1 << 20, 0))
                    except OSError:
                        pass
            """
        ),
        earns=13,
        held="what it inherits carries calls and data, never a test",
    ),
    Case(
        "read-by-ptrace",
        "A cell attaches to its parent and siblings with ptrace and process_vm_readv.",
        first=at_once(
            """
                libc = ctypes.CDLL(None, use_errno=True)
                libc.ptrace.argtypes = [ctypes.c_long] * 4
                attached = []
                for pid in [int(name) for name in os.listdir('/proc') if name.isdigit() and int(name) != os.getpid()]:
                    if libc.ptrace(16, pid, 0, 0) == 0:
                        attached.append(pid)
                        libc.ptrace(17, pid, 0, 0)
                    memory(pid)
                print('ATTACHED', len(attached))
            """
        ),
        shows="LOOKED",
        held="no process within reach knows a secret",
    ),
    Case(
        "read-arguments-as-handles",
        "A function takes the callback it was given apart: globals, closure, code, wrapped function, handle.",
        cells=solved(
            search="""
                @LOOK@
                def search(reached, low, high):
                    names = '''globals closure code wrapped self func dict class defaults kwdefaults module reduce init'''
                    for name in ['_value', *(f'__{name}__' for name in names.split())]:
                        try:
                            thing = getattr(reached, name)
                            keep(thing)
                            keep(dir(thing))
                            keep(getattr(thing, 'co_consts', ''))
                        except BaseException as error:
                            keep(error)
                    text = report()
                    assert not found, text
                    return reached.__globals__['threshold']
            """
        ),
        earns=11,
        held="a callback is a number that only the tests' side can resolve",
    ),
    Case(
        "ask-for-the-tests-names",
        "A function finds whatever carries calls to and fro, and asks it for the tests' own variables.",
        cells=looks(
            """
                for thing in gc.get_objects():
                    if str(type(thing).__module__).startswith("grading"):
                        for ask in (lambda: thing.name("canary"), lambda: thing.request("name", "canary")):
                            try:
                                keep(ask())
                            except Exception as error:
                                keep(error)
            """
        ),
        earns=13,
        held="the student's side may use what it was given, and asks for nothing by name",
    ),
    Case(
        "ask-for-the-tests-answer",
        "A function asks the tests' side for the variable that it is compared with.",
        cells={
            "search": """
                import gc
                def search(reached, low, high):
                    reached(low)
                    for thing in gc.get_objects():
                        if type(thing).__name__ == "Border":
                            return thing.name("threshold")
                    return low
            """
        },
        held="the student's side may use what it was given, and asks for nothing by name",
    ),
    Case(
        "read-hidden-tests-by-message",
        "In an ordinary notebook a function raises its caller's source as the message that feedback shows.",
        unit="ordinary",
        cells=solved(
            "ordinary",
            square="""
                @LOOK@
                def square(x):
                    import IPython
                    keep(IPython.get_ipython().user_ns['In'])
                    keep(sys._getframe(1).f_globals.get('canary', ''))
                    text = report()
                    assert not found, text + base64.b64encode(text.encode()).decode() + text[::-1]
                    return x * x
            """,
        ),
        earns=6,
        held="feedback of a hidden test shows its own message only",
    ),
    Case(
        "read-hidden-tests-by-output",
        "In an ordinary notebook a function prints, displays and warns its caller's source.",
        unit="ordinary",
        cells=solved(
            "ordinary",
            square="""
                @LOOK@
                import warnings
                from IPython.display import display
                def square(x):
                    import IPython
                    keep(IPython.get_ipython().user_ns['In'])
                    text = report()
                    display({'text/plain': text}, raw=True)
                    warnings.warn(text)
                    print(text, file=sys.stderr)
                    os.write(1, text.encode())
                    open('found.txt', 'a').write(text)
                    return x * x
            """,
        ),
        earns=6,
        held="output of a hidden test is shown to staff alone",
    ),
    Case(
        "read-hidden-tests-by-delayed-output",
        "In an ordinary notebook a thread and an update of an earlier cell's display carry a hidden test's source out.",
        unit="ordinary",
        cells=solved(
            "ordinary",
            square="""
                @LOOK@
                from IPython.display import display
                handle = display('nothing', display_id=True)
                def square(x):
                    import IPython
                    keep(IPython.get_ipython().user_ns['In'])
                    handle.update(report())
                    threading.Timer(0.3, report).start()
                    return x * x
            """,
        ),
        last="""
            import time
            time.sleep(0.5)
            square = square
            report()
        """,
        earns=6,
        held="what student cells put out is taken before a test is there",
    ),
    Case(
        "read-messages-file-and-folder",
        "A cell prints every file beside the notebook, tests' data and messages among them.",
        first=at_once("""
            walk(os.getcwd())
            print(sorted(os.listdir()))
        """),
        shows="LOOKED",
        held="only what was released lies beside the notebook",
    ),
]


@pytest.mark.docker
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_secret_comes_out(case: Case, grader: Grader, record_property: Record) -> None:
    contain(case, grader, record_property)


@pytest.mark.docker
def test_two_submissions_at_the_same_time_do_not_meet(grader: Grader) -> None:
    """While one looks for the other's mark for some seconds, the other runs."""
    spy = Case(
        "spy",
        "",
        first="""
            import glob, os, time
            seen, began = set(), time.monotonic()
            while time.monotonic() - began < 8:
                for path in [*glob.glob("/proc/[0-9]*/cmdline"), *glob.glob("/proc/[0-9]*/environ"), "/proc/net/unix"]:
                    try:
                        with open(path, "rb") as file:
                            seen.add(file.read(100_000))
                    except OSError:
                        pass
                for top in ("/tmp", "/dev/shm", "/home", "/run"):
                    for folder, folders, files in os.walk(top):
                        seen.update(os.path.join(folder, name).encode() for name in [*folders, *files])
            print("SPIED", b" ".join(seen).decode("utf-8", "replace"))
        """,
        shows="SPIED",
    )
    victims = [
        Case(
            f"busy-{number}",
            "",
            first="""
                import os, socket, subprocess, sys, time
                for folder in ("/tmp", "/dev/shm", os.path.expanduser("~"), "."):
                    try:
                        open(folder + "/@MARK@", "w").write("@MARK@")
                    except OSError:
                        pass
                listener = socket.socket(socket.AF_UNIX)
                listener.bind("\\0@MARK@")
                subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "@MARK@"])
                time.sleep(4)
            """,
        )
        for number in range(2)
    ]
    grader.hand_in([spy, *victims])
    seen = grader.seen(spy)
    assert "SPIED" in seen.outputs
    for victim in victims:
        contain(victim, grader, lambda name, value: None)
        assert grader.marks[victim.name] not in seen.outputs
