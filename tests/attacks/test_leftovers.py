"""What a submission leaves for the next one: files, memory, processes, sockets, patched modules, a patched parent."""

from __future__ import annotations

import pytest

from tests.attacks.case import Case
from tests.attacks.contain import Record, contain
from tests.attacks.grader import Grader

LIMITS = {"workers": 1}  # so that whoever comes next runs in the same place


def leaves(name: str, tried: str, code: str, held: str = "what a run leaves goes with it", unit: str = "isolated") -> Case:
    return Case(name, tried, unit, first=code, shows="LEFT", probe=True, held=held)


CASES = [
    leaves(
        "leave-files",
        "A cell leaves files and folders, hidden ones and odd ones, in every folder that it may write.",
        """
            import os
            written = 0
            for folder, folders, files in os.walk("/"):
                if folder.startswith(("/proc", "/sys")):
                    folders.clear()
                    continue
                for name in ("@MARK@", ".@MARK@", "@MARK@.pth", "conftest.py"):
                    try:
                        with open(os.path.join(folder, name), "w") as file:
                            file.write("@MARK@")
                        written += 1
                    except OSError:
                        break
            assert written
            print("LEFT", written)
        """,
    ),
    leaves(
        "leave-python-start-files",
        "A cell leaves .pth files, usercustomize, sitecustomize, IPython start files and pip's configuration.",
        """
            import os, site, sys
            home = os.path.expanduser("~")
            code = "import builtins; builtins.@MARK@ = 1; print('@MARK@')\\n"
            places = [
                f"{site.getusersitepackages()}/@MARK@.pth", f"{site.getusersitepackages()}/usercustomize.py",
                f"{site.getusersitepackages()}/sitecustomize.py", f"{home}/.ipython/profile_default/startup/00-@MARK@.py",
                f"{home}/.ipython/profile_default/ipython_config.py", f"{home}/.jupyter/jupyter_config.py",
                f"{home}/.pythonrc.py", f"{home}/.profile", f"{home}/.bashrc", f"{home}/.config/matplotlib/matplotlibrc",
                *(f"{folder}/usercustomize.py" for folder in sys.path if folder),
            ]
            for path in places:
                try:
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    with open(path, "a") as file:
                        file.write(code)
                except OSError:
                    pass
            print("LEFT")
        """,
    ),
    leaves(
        "leave-patched-packages",
        "A cell changes installed packages and plants byte code in their __pycache__ folders.",
        """
            import glob, grading, importlib.util, json, marshal, os, struct, sys
            code = compile("import builtins; builtins.@MARK@ = 1", "x", "exec")
            data = importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, 0, 0) + marshal.dumps(code)
            changed = 0
            for module in list(sys.modules.values()):
                path = getattr(module, "__file__", None)
                if path and path.endswith(".py"):
                    for target, content in ((path, b"\\n@MARK@ = 1\\n"), (importlib.util.cache_from_source(path), data)):
                        try:
                            os.chmod(target, 0o666)
                        except OSError:
                            pass
                        try:
                            with open(target, "ab") as file:
                                file.write(content)
                            changed += 1
                        except OSError:
                            pass
            print("LEFT", changed)
        """,
        "the system is read-only",
    ),
    leaves(
        "leave-posix-shared-memory",
        "A cell leaves POSIX shared memory, semaphores and message queues.",
        """
            import ctypes, os
            from multiprocessing import resource_tracker, shared_memory
            resource_tracker.register = lambda *args: None
            kept = shared_memory.SharedMemory("@MARK@", create=True, size=4096)
            kept.buf[:12] = b"@MARK@"[:12]
            libc = ctypes.CDLL(None)
            libc.sem_open(b"/@MARK@", os.O_CREAT, 0o666, 1)
            libc.mq_open(b"/@MARK@", os.O_CREAT | os.O_RDWR, 0o666, None)
            print("LEFT")
        """,
    ),
    leaves(
        "leave-system-v-objects",
        "A cell leaves System V shared memory, semaphores and a message queue, which outlive their maker.",
        """
            import ctypes
            libc = ctypes.CDLL(None)
            libc.shmat.restype = ctypes.c_void_p
            for key in (0x5AFE0001, 0x5AFE0002):
                id = libc.shmget(key, 4096, 0o1666)
                address = libc.shmat(id, None, 0)
                if id >= 0 and address not in (None, 2**64 - 1):
                    ctypes.memmove(address, b"@MARK@", 16)
                libc.semget(key, 1, 0o1666)
                libc.msgget(key, 0o1666)
            print("LEFT")
        """,
    ),
    leaves(
        "leave-a-process",
        "A cell leaves a background process with the marks of its name, environment and open files.",
        """
            import os, subprocess, sys
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)", "@MARK@"], env={"X": "@MARK@"})
            print("LEFT")
        """,
    ),
    leaves(
        "leave-a-daemon",
        "A cell leaves a process that has forked twice, leads its own session and forks away from whoever kills it.",
        """
            import os, signal, sys, time
            if os.fork() == 0:
                os.setsid()
                if os.fork():
                    os._exit(0)
                for number in range(1, 65):
                    try:
                        signal.signal(number, signal.SIG_IGN)
                    except (OSError, ValueError):
                        pass
                with open("/proc/self/comm", "w") as file:
                    file.write("@MARK@"[:15])
                began = time.monotonic()
                while time.monotonic() - began < 90:
                    try:
                        if os.fork():
                            os._exit(0)
                    except OSError:
                        pass
                    time.sleep(0.002)
                os._exit(0)
            print("LEFT")
        """,
    ),
    leaves(
        "leave-a-writer",
        "A cell leaves a process that writes into every folder of a later submission as soon as it appears.",
        """
            import glob, os, time
            if os.fork() == 0:
                os.setsid()
                began = time.monotonic()
                while time.monotonic() - began < 90:
                    tops = ["/tmp", "/dev/shm", *glob.glob("/home/*"), *glob.glob("/home/*/*"), *glob.glob("/tmp/*")]
                    for folder in [*tops, *glob.glob("/proc/[0-9]*/cwd")]:
                        try:
                            with open(folder + "/@MARK@", "w") as file:
                                file.write("@MARK@")
                        except OSError:
                            pass
                    time.sleep(0.01)
                os._exit(0)
            print("LEFT")
        """,
    ),
    leaves(
        "leave-an-abstract-socket",
        "A process stays and listens on abstract sockets and on local ports.",
        """
            import os, socket, time
            kept = []
            for number in range(3):
                listener = socket.socket(socket.AF_UNIX)
                listener.bind(f"\\0@MARK@-{number}")
                listener.listen()
                kept.append(listener)
            local = socket.socket()
            local.bind(("127.0.0.1", 0))
            local.listen()
            if os.fork() == 0:
                os.setsid()
                time.sleep(90)
                os._exit(0)
            print("LEFT")
        """,
    ),
    leaves(
        "leave-timetables",
        "A cell writes crontabs, systemd units, at jobs and login files.",
        """
            import os, subprocess
            home = os.path.expanduser("~")
            places = "/etc/crontab /etc/cron.d/@MARK@ /var/spool/cron/crontabs/jovyan /etc/systemd/system/x.service"
            places += " /etc/profile.d/@MARK@.sh /etc/ld.so.preload /etc/passwd"
            mine = f" {home}/.config/systemd/user/@MARK@.service {home}/.config/autostart/@MARK@.desktop"
            for path in (places + mine).split():
                try:
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    with open(path, "a") as file:
                        file.write("* * * * * touch /tmp/@MARK@\\n")
                except OSError:
                    pass
            for command in (["crontab", "-"], ["at", "now"], ["systemd-run", "touch", "/tmp/@MARK@"]):
                try:
                    subprocess.run(command, input=b"* * * * * touch /tmp/@MARK@\\n", timeout=2)
                except (OSError, subprocess.SubprocessError):
                    pass
            print("LEFT")
        """,
    ),
    leaves(
        "leave-keys-and-locks",
        "A cell leaves keys in the kernel's keyrings, file locks and leases on shared files.",
        """
            import ctypes, fcntl, glob, os, sys, time
            libc = ctypes.CDLL(None, use_errno=True)
            for ring in (-1, -2, -3, -4, -5):
                libc.syscall(248, b"user", b"@MARK@", b"@MARK@", 16, ring)
            kept = []
            packages = glob.glob("/opt/venv/lib/*/site-packages/grading/*.py")
            for path in [sys.executable, os.__file__, *packages, "/tmp", "/dev/null"]:
                try:
                    number = os.open(path, os.O_RDONLY)
                    kept.append(number)
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    pass
            if os.fork() == 0:
                os.setsid()
                time.sleep(90)
                os._exit(0)
            print("LEFT")
        """,
    ),
    leaves(
        "patch-the-parent",
        "A cell writes into its parent's memory, attaches to it with ptrace and injects code into whoever forks the next run.",
        """
            import builtins, ctypes, json, os
            libc = ctypes.CDLL(None, use_errno=True)
            libc.ptrace.argtypes = [ctypes.c_long] * 4
            reached = 0
            for pid in [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]:
                try:
                    with open(f"/proc/{pid}/mem", "r+b", 0) as memory:
                        memory.seek(id(json.dumps) & ~0xFFF)
                        old = memory.read(4096)
                        memory.seek(id(json.dumps) & ~0xFFF)
                        memory.write(b"@MARK@" * 100)
                        reached += 1
                except (OSError, ValueError):
                    pass
                if libc.ptrace(16, pid, 0, 0) == 0:
                    reached += 1
                    libc.ptrace(4, pid, id(json.dumps) & ~0xFFF, 0)
                    libc.ptrace(17, pid, 0, 0)
            builtins.@MARK@ = json.@MARK@ = os.@MARK@ = 1
            print("LEFT", reached)
        """,
        "who forks the next run belongs to somebody else",
    ),
    leaves(
        "patch-modules-in-memory",
        "A cell patches builtins, json, numpy, sys and the checks in its own process for whoever comes after.",
        """
            import builtins, json, numpy, os, sys
            for module in (builtins, json, numpy, os, sys):
                setattr(module, "@MARK@", 1)
            sys.path.insert(0, "/tmp/@MARK@")
            sys.argv.append("@MARK@")
            os.environ["X"] = "@MARK@"
            sys.modules["@MARK@"] = json
            print("LEFT")
        """,
        "each run is a process of its own",
    ),
    leaves(
        "leave-lower-limits",
        "A cell lowers limits, priorities, umask and affinity of every process that it can reach.",
        """
            import os, resource
            for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
                for name in ("RLIMIT_NOFILE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_NPROC", "RLIMIT_FSIZE"):
                    if pid != os.getpid():
                        try:
                            resource.prlimit(pid, getattr(resource, name), (1, 1))
                        except (OSError, ValueError):
                            pass
                try:
                    os.setpriority(os.PRIO_PROCESS, pid, 19)
                    os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
                except OSError:
                    pass
            print("LEFT")
        """,
        "other processes belong to somebody else",
    ),
    leaves(
        "leave-deep-folders",
        "A cell leaves folders thousands deep, ones that may not be read, pipes, links, and names that nobody expects.",
        """
            import os
            for top in ("/tmp", os.path.expanduser("~")):
                os.chdir(top)
                try:
                    for _ in range(3000):
                        os.mkdir("@MARK@")
                        os.chdir("@MARK@")
                except OSError:
                    pass
                os.chdir(top)
                for name in ("@MARK@ \\n", "-rf @MARK@", "@MARK@\\udcff", "@MARK@" * 15):
                    try:
                        os.mkdir(name)
                        os.mkfifo(name + "/pipe")
                        os.symlink("/proc/self/root", name + "/link")
                        os.chmod(name, 0)
                    except OSError:
                        pass
            print("LEFT")
        """,
    ),
    leaves(
        "leave-in-an-ordinary-notebook",
        "In an ordinary notebook a cell leaves files, start files and a process.",
        """
            import os, subprocess, sys
            for folder in ("/tmp", "/dev/shm", "/var/tmp", os.path.expanduser("~"), ".", ".."):
                try:
                    open(folder + "/@MARK@", "w").write("@MARK@")
                except OSError:
                    pass
            os.makedirs(os.path.expanduser("~/.ipython/profile_default/startup"), exist_ok=True)
            open(os.path.expanduser("~/.ipython/profile_default/startup/0.py"), "w").write("print('@MARK@')")
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)", "@MARK@"], start_new_session=True)
            print("LEFT")
        """,
        unit="ordinary",
    ),
]


@pytest.mark.docker
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nothing_is_left(case: Case, grader: Grader, record_property: Record) -> None:
    contain(case, grader, record_property)
