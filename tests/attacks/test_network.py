"""Whom a submission wants to talk to: the internet, this machine, Docker, the kernel."""

from __future__ import annotations

import textwrap

import pytest

from tests.attacks.case import Case
from tests.attacks.contain import Record, contain
from tests.attacks.grader import Grader


def tries(name: str, tried: str, code: str, held: str = "a sandbox has no network at all") -> Case:
    told = "print('TRIED', *(['@'.join(['REACH', 'ED']), reached] if reached else []))"
    first = f"@TRIES@\n{textwrap.dedent(code).strip()}\n{told}"
    return Case(name, tried, first=first, shows="TRIED", hides=("REACH@ED",), held=held)


CASES = [
    tries(
        "talk-tcp",
        "A cell connects over TCP to this machine, to every gateway it can think of and to the internet.",
        """
            for address in addresses():
                for port in (int("@PORT@"), 22, 53, 80, 443, 8000, 8081, 8082, 2375, 5432):
                    if (address, port) != ("127.0.0.1", 22):
                        attempt(f"{address}:{port}", lambda: socket.create_connection((address, port), 0.3))
        """,
    ),
    tries(
        "talk-udp",
        "A cell sends datagrams to this machine, to broadcast and multicast addresses and to the internet.",
        """
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            for address in [*addresses()[1:], "255.255.255.255", "224.0.0.251"]:
                attempt(f"udp {address}", lambda: sender.sendto(b"@MARK@", (address, int("@PORT@"))))
        """,
    ),
    tries(
        "talk-raw",
        "A cell opens raw, packet, ICMP and ping sockets and sends an echo request.",
        """
            for family, kind, protocol in ((socket.AF_INET, socket.SOCK_RAW, 1), (socket.AF_INET, socket.SOCK_RAW, 255),
                                           (socket.AF_PACKET, socket.SOCK_RAW, 768), (socket.AF_INET6, socket.SOCK_RAW, 58)):
                attempt(f"raw {family}", lambda: socket.socket(family, kind, protocol))
            def ping():
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1) as sender:
                    return sender.sendto(b"\\x08\\0\\xf7\\xff\\0\\0\\0\\0", ("172.17.0.1", 0))
            attempt("ping", ping)
        """,
    ),
    tries(
        "talk-dns",
        "A cell resolves names through the system, through /etc/hosts and by asking name servers itself.",
        """
            for name in "example.org host.docker.internal gateway.docker.internal metadata.google.internal _gateway".split():
                attempt(f"name {name}", lambda: socket.getaddrinfo(name, 80))
            def ask(address):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.settimeout(1)
                    question = b"\\0\\x01\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\x07example\\x03org\\0\\0\\x01\\0\\x01"
                    sender.sendto(question, (address, 53))
                    return sender.recv(512)
            for address in ("127.0.0.11", "8.8.8.8", *addresses()[:3]):
                attempt(f"dns {address}", lambda: ask(address))
        """,
    ),
    tries(
        "talk-metadata",
        "A cell asks the metadata services of clouds for credentials.",
        """
            for address in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16"):
                attempt(f"metadata {address}", lambda: socket.create_connection((address, 80), 0.5))
        """,
    ),
    tries(
        "talk-ipv6",
        "A cell connects over IPv6: loopback, link-local, all nodes and the internet.",
        """
            for address in ("::ffff:172.17.0.1", "fe80::1%lo", "2606:4700:4700::1111", "fd00:ec2::254"):
                attempt(f"v6 {address}", lambda: socket.create_connection((address, int("@PORT@")), 0.5))
            def everybody():
                with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
                    return sender.sendto(b"@MARK@", ("ff02::1", int("@PORT@")))
            attempt("v6 everybody", everybody)
        """,
    ),
    tries(
        "talk-docker",
        "A cell looks for Docker's socket and for any other Unix socket in the file system, and connects.",
        """
            places = "/var/run/docker.sock /run/docker.sock /run/containerd/containerd.sock /run/dbus/system_bus_socket"
            places += " /run/systemd/private /run/systemd/journal/stdout /dev/log /run/snapd.socket"
            places = places.split()
            for folder, folders, files in os.walk("/"):
                if folder.startswith(("/proc", "/sys", "/opt", "/usr")):
                    folders.clear()
                    continue
                for name in files:
                    try:
                        if stat.S_ISSOCK(os.stat(os.path.join(folder, name)).st_mode):
                            places.append(os.path.join(folder, name))
                    except OSError:
                        pass
            def talk(place):
                with socket.socket(socket.AF_UNIX) as sender:
                    sender.settimeout(1)
                    sender.connect(place)
                    sender.sendall(b"GET /containers/json HTTP/1.0\\r\\n\\r\\n")
                    return place
            mine = "ipykernel", "jupyter", "kernel", "pymp-", "ipython"
            for place in places:
                if not any(word in place for word in mine):
                    attempt(f"unix {place}", lambda: talk(place))
        """,
        "no socket of the host is mounted",
    ),
    tries(
        "talk-vsock-and-others",
        "A cell talks to the hypervisor and the kernel through VSOCK, Bluetooth, netlink, TIPC, CAN and other families.",
        """
            def vsock(cid):
                with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sender:
                    sender.settimeout(1)
                    sender.connect((cid, int("@PORT@")))
                    return cid
            for cid in (0, 1, 2, 3):
                attempt(f"vsock {cid}", lambda: vsock(cid))
            def netlink():
                with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sender:
                    sender.settimeout(1)
                    body = struct.pack("=BBHiII", 0, 0, 0, 1, 1, 1)  # bring an interface up
                    sender.send(struct.pack("=IHHII", 16 + len(body), 16, 5, 1, 0) + body)
                    code = struct.unpack_from("=i", sender.recv(4096), 16)[0]
                    if code:
                        raise OSError(-code)
                    return code
            attempt("netlink", netlink)
            for family in (9, 21, 23, 26, 29, 30, 31, 36, 39, 41, 44):
                def other():
                    with socket.socket(family, socket.SOCK_SEQPACKET) as sender:
                        return sender.connect(b"")
                attempt(f"family {family}", other)
        """,
    ),
    tries(
        "talk-with-programs",
        "A cell starts every program that may know the network: curl, wget, ping, nc, ssh, git, pip.",
        """
            commands = [
                "curl -m 2 http://172.17.0.1:@PORT@",
                "wget -T 2 -O - http://172.17.0.1:@PORT@",
                "ping -c 1 -W 1 172.17.0.1",
                "nc -w 1 172.17.0.1 @PORT@",
                "pip download --timeout 1 --retries 0 six -d /tmp/x",
                "bash -c 'echo > /dev/tcp/172.17.0.1/@PORT@'",
            ]
            for command in commands:
                attempt(command, lambda: subprocess.run(command, shell=True, capture_output=True, timeout=6, check=True))
        """,
    ),
    tries(
        "leave-the-container",
        "A cell mounts, unshares, joins namespaces, makes devices, loads modules, writes kernel settings and cgroups.",
        """
            libc = ctypes.CDLL(None, use_errno=True)
            def call(number, *arguments):
                if libc.syscall(number, *arguments) < 0:
                    raise OSError(ctypes.get_errno(), "refused")
                return number
            calls = {
                "mount": (165, b"none", b"/tmp", b"tmpfs", 0, 0),
                "unshare user": (272, 0x10000000),
                "unshare mount": (272, 0x20000),
                "unshare net": (272, 0x40000000),
                "chroot": (161, b"/tmp"),
                "pivot_root": (155, b"/tmp", b"/tmp"),
                "init_module": (175, b"", 0, b""),
                "bpf": (321, 0, 0, 0),
                "perf": (298, 0, 0, -1, -1, 0),
                "kexec": (246, 0, 0, 0, 0),
                "sethostname": (170, b"x", 1),
                "settime": (227, 0, struct.pack("qq", 1, 0)),
                "swapon": (167, b"/tmp/x", 0),
                "userfaultfd": (323, 0),
                "open_by_handle": (304, 0, 0, 0),
                "move_mount": (429, 0, 0, 0, 0, 0),
                "fsopen": (430, b"ext4", 0),
            }
            for name, arguments in calls.items():
                child = os.fork()
                if child == 0:
                    try:
                        call(*arguments)
                        os._exit(0)
                    except OSError:
                        os._exit(1)
                if os.waitpid(child, 0)[1] == 0:
                    reached.append(name)
            attempt("mknod", lambda: os.mknod("/tmp/sda", stat.S_IFBLK | 0o600, os.makedev(8, 0)))
            for pid in (1, os.getppid()):
                for name in ("net", "mnt", "pid", "user"):
                    def join():
                        if os.stat(f"/proc/{pid}/ns/{name}").st_ino == os.stat(f"/proc/self/ns/{name}").st_ino:
                            raise OSError
                        call(308, os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY), 0)
                    attempt(f"join {name} of {pid}", join)
            places = "/proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/kernel/uevent_helper /proc/sys/net/ipv4/ip_forward"
            places += " /dev/mem /dev/kmsg /proc/kcore /dev/fuse /dev/kvm /dev/nvidia0"
            groups = [glob.glob(f"/sys/fs/cgroup/**/{name}", recursive=True)[:5] for name in ("memory.max", "cgroup.procs")]
            for path in [*places.split(), *groups[0], *groups[1], *glob.glob("/sys/fs/cgroup/**/release_agent")]:
                attempt(f"write {path}", lambda: open(path, "r+b"))
            def become(): os.setuid(0)
            attempt("root", become)
            for program in ("sudo -n true", "su -c true", "newgrp root"):
                attempt(program, lambda: subprocess.run(program.split(), timeout=3, check=True, capture_output=True, stdin=-3))
        """,
        "no capability, no new privileges, a read-only system",
    ),
]


@pytest.mark.docker
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nobody_hears_of_it(case: Case, grader: Grader, record_property: Record) -> None:
    contain(case, grader, record_property)
