"""Decides whether an attack was contained, and says how."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

from tests.attacks.case import HONEST, MOST, Case, Seen
from tests.attacks.grader import Grader

Record = Callable[[str, object], None]
PROBE = """
import glob, os, subprocess
seen = []
for root in ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", os.path.expanduser("~"), "/home", "/var/spool"):
    for folder, folders, files in os.walk(root):
        seen += [os.path.join(folder, name) for name in [*folders, *files]]
for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ") + ["/proc/sysvipc/shm", "/proc/sysvipc/sem",
        "/proc/sysvipc/msg", "/proc/net/unix", "/proc/keys", "/proc/locks"]:
    try:
        with open(path, "rb") as file:
            seen.append(file.read(200_000).replace(b"\\0", b" ").decode("utf-8", "replace"))
    except OSError:
        pass
import builtins, json, numpy, site, sys, threading
seen += [str(sorted(vars(module))) for module in (builtins, json, numpy, os, sys)]
seen += [str(sys.path), str(sys.argv), str(sorted(sys.modules)), str(os.environ), str(threading.enumerate())]
print("PROBED", "\\n".join(seen))
"""


def contain(case: Case, grader: Grader, record: Record) -> None:
    """Assert that nothing came of ``case``; what was observed goes to ``record`` for the report."""
    seen = grader.seen(case)
    if case.probe:
        seen.probes = _probes(grader, case)
    _score(case, seen)
    leaked = grader.found_secrets(seen)
    assert not leaked, f"secrets came out: {', '.join(leaked)}"
    for text in case.hides:
        text = grader.fill(case, text)
        for place, content in (("the outputs", seen.outputs), ("the feedback", seen.page)):
            assert text not in content, f"{text!r} stands in {place}"
    if case.shows:
        assert case.shows in seen.outputs, f"the attack did not run: {seen.outputs[-600:]!r}"
    _host(grader, seen)
    if seen.page:
        dangers = active(seen.page)
        assert not dangers, f"the feedback page is active: {', '.join(dangers[:5])}"
    if case.check:
        case.check(seen)
    record("how", _how(case, seen))


def _score(case: Case, seen: Seen) -> None:
    if seen.state == "failed" and not case.graded:
        assert seen.told, "refused without a reason"
        assert seen.score is None
        return
    assert seen.state == "done", f"the job {seen.state}: {seen.told}"
    assert seen.feedback_state == "done", "there is no feedback"
    assert seen.score is not None
    assert 0 <= seen.score <= case.earns, f"it earned {seen.score:g}, and deserves {case.earns:g} at most"
    if case.exactly:
        assert seen.score == case.earns, f"it earned {seen.score:g} and deserves {case.earns:g}: {seen.tests}"


def _probes(grader: Grader, case: Case) -> list[str]:
    """Honest submissions right after the attack, one a place to run, look around; they are graded as if nothing had been."""
    places = range(grader.settings.grading.workers)
    probes = [Case(f"{case.name}-next-{number}", "", case.unit, HONEST[case.unit], first=PROBE) for number in places]
    grader.hand_in(probes)
    return [_probed(grader, case, probe) for probe in probes]


def _probed(grader: Grader, case: Case, probe: Case) -> str:
    found = grader.seen(probe)
    assert found.state == "done", found.told
    assert found.score == MOST[case.unit], f"the next submission earned {found.score}: {found.tests} {found.outputs[-300:]}"
    assert "PROBED" in found.outputs, f"the next submission could not look around: {found.outputs[-300:]}"
    mark = grader.marks[case.name]
    at = found.outputs.find(mark)
    assert at < 0, f"the next submission found what was left: {found.outputs[max(0, at - 100) : at + 100]!r}"
    return found.outputs


def _host(grader: Grader, seen: Seen) -> None:
    assert grader.host_file.read_text() == grader.secrets["host"], "a file of the host was changed"
    heard, grader.listener.heard = grader.listener.heard, []
    assert not heard, "somebody outside heard of it"
    victim, students = grader.victim_score, grader.students()
    strangers = students.keys() - grader.submissions.keys()
    assert not strangers, f"the gradebook knows strangers: {strangers}"
    assert students["victim"] == victim, "somebody else's score changed"
    deadline = time.monotonic() + 30
    while left := grader.left_on_host(seen.mark):
        assert time.monotonic() < deadline, f"left on this machine: {', '.join(left[:5])}"
        time.sleep(0.2)


def _how(case: Case, seen: Seen) -> str:
    if seen.state == "failed":
        parts = [f"refused: {seen.told.splitlines()[0]}"]
    else:
        parts = [f"earned {seen.score:g} of {seen.max_score:g}, deserved {case.earns:g}", f"run {seen.run_seconds:.1f} s"]
        if seen.told:
            parts.append(f"staff were told: {seen.told.splitlines()[0]}")
    if case.probe:
        parts.append("whoever came next got all points and found nothing")
    return "; ".join([*([case.held] if case.held else []), *parts])


_LOADS = re.compile(r"@import|url\(\s*['\"]?\s*(https?:|//)", re.IGNORECASE)


class _Active(HTMLParser):
    """Collects what makes a page more than text and pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.style = False

    def handle_data(self, data: str) -> None:
        if self.style and _LOADS.search(data):
            self.found.append(f"<style>{_LOADS.search(data)}")

    def handle_endtag(self, tag: str) -> None:
        self.style = self.style and tag != "style"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        self.style = tag == "style"
        if tag in ("script", "iframe", "object", "embed", "form", "base", "applet", "portal", "frame", "frameset"):
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            text = "".join(str(value or "").split()).lower()
            if name.startswith("on") or text.startswith(("javascript:", "vbscript:", "data:text/html")):
                self.found.append(f"<{tag} {name}={str(value)[:60]!r}>")
            if tag == "meta" and name == "http-equiv" and text == "refresh":
                self.found.append("<meta refresh>")
            loads = name in ("src", "srcset", "background", "poster", "data") or (tag == "link" and name == "href")
            if (loads and text.startswith(("http:", "https:", "//"))) or (name == "style" and _LOADS.search(text)):
                self.found.append(f"<{tag} {name}={str(value)[:60]!r}>")


def active(page: str) -> list[str]:
    parser = _Active()
    parser.feed(page)
    return parser.found
