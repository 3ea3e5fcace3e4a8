"""What `academy run` is made of: ending what will not end, being interrupted."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from academy import run

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""
SWALLOWED = """
import signal
from academy.run import _Stop

class Callback:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

try:
    with _Stop().at_once():
        Callback()
        print("goes on")
except KeyboardInterrupt:
    print("interrupted")
"""


def test_what_ignores_its_end_is_gone_when_it_has_been_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "NOTEBOOK_STOP_TIMEOUT", 0.2)
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        run._end([psutil.Process(process.pid)])
        assert not psutil.pid_exists(process.pid)


def test_an_interrupt_in_a_callback_of_pythons_prints_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True, timeout=120)
    assert (done.stdout.split("\n")[:2], done.stderr, done.returncode) == (["goes on", "interrupted"], "", 0)
