"""Runs a submitted notebook: the student's cells in one sandbox, the tests in another; takes back plain, capped data.

This process is the only one that is trusted. It owns the clock and the cells' order, never runs or unpickles what a student
wrote, and keeps of every output only types that it knows. Tests that must run with the student's code (ordinary notebooks) run
among probes that have to fail: if one passes, somebody has tampered with the tests, and a person should look.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import copy
import io
import json
import math
import random
import re
import secrets
import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import nbformat
from nbformat import NotebookNode

from academy.messages import message
from academy.settings import Settings
from grading import sandbox, warm
from grading.exchange.archive import pack
from grading.split import Plan, is_test, split
from grading.timing import picture

Outcome = Literal["ok", "timeout", "killed", "memory", "crashed", "output-capped"]

MIMETYPES = {"text/plain", "text/html", "text/markdown", "text/latex", "image/png", "image/jpeg", "image/svg+xml"}
MAX_OUTPUTS = 1000  # of one cell
STUCK_SECONDS = 5.0  # from an interrupt until a cell must have ended
MOST_PROBES = 4  # of one test
_dice = random.SystemRandom()
PROBE_SECONDS = 2.0  # for the probes of a test, beyond what they should take
_HIDDEN = re.compile(r"^[^\n]*BEGIN HIDDEN TESTS.*?(?:^[^\n]*END HIDDEN TESTS[^\n]*(?:\n|\Z)|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Result:
    """What came out of a run: the notebook that went in, with outputs."""

    outcome: Outcome
    notebook: bytes
    seconds: float
    detail: str = ""  # for staff
    cut: bool = False  # some output was left out
    flags: list[str] = field(default_factory=list)  # what a person should look at
    gates: list[dict[str, Any]] = field(default_factory=list)  # measured figures
    phases: dict[str, float] = field(default_factory=dict)  # name -> seconds


class Ended(Exception):
    """A run ended before its time; says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome: Outcome = outcome


def run(
    settings: Settings,
    folder: Path,
    notebook: str,
    language: str = "",
    timeout: float | None = None,
    source: Path | None = None,
    slot: int = 0,
    tell: Callable[[str], None] = lambda _: None,
    everything: bool = False,
    gpu: str = "",
) -> Result:
    """Execute ``folder/notebook``, errors or not. ``folder`` itself is not changed.

    Args:
        source: the instructor's folder of the unit, with a notebook of the same name; without it tests that use ``submission``
            know the locked cells only.
        tell: gets the name of each phase as it begins.
        gpu: UUID of the device that both sides see; nobody else may use it meanwhile.
        everything: run demonstrations too, which no grade depends on.

    Raises:
        AcademyError: a sandbox cannot be started (image missing, Docker down).
    """
    language = language or settings.academy.language
    sent: Any = nbformat.read(folder / notebook, as_version=4)
    original = nbformat.read(source / notebook, as_version=4) if source and (source / notebook).is_file() else None
    work = _Run(settings, sent, split(sent, original, everything), language, timeout or settings.grading.timeout, slot, tell)
    work.gpu = gpu
    began = time.monotonic()
    try:
        work.all(_packed(folder), _packed(source) if source and work.plan.isolated else b"")
    except Ended as ended:
        work.outcome = ended.outcome
    work.tell("")
    work.merge()
    seconds = time.monotonic() - began
    data = nbformat.writes(sent).encode()
    return Result(work.outcome, data, seconds, work.detail, work.cut, work.flags, work.gates, work.phases)


def _packed(folder: Path) -> bytes:
    """What lies beside the notebooks; they themselves hold hidden tests by now, or solutions."""
    buffer = io.BytesIO()
    pack(folder, buffer, lambda _, names: [name for name in names if name.endswith(".ipynb")])
    return buffer.getvalue()


class _Run:
    """One notebook on its way through the sandboxes."""

    def __init__(
        self, settings: Settings, sent: Any, plan: Plan, language: str, timeout: float, slot: int, tell: Callable[[str], None]
    ) -> None:
        self.settings, self.sent, self.plan, self.language, self.slot = settings, sent, plan, language, slot
        self.timeout, self.deadline = timeout, time.monotonic() + timeout
        self.left = settings.grading.output_kb * 1024
        self.tell_caller, self.phase, self.phase_began = tell, "", 0.0
        self.gpu = ""
        self.outcome: Outcome = "ok"
        self.detail = ""
        self.cut = False
        self.exposed = False  # the student's process has seen a hidden test: nothing that it says is shown any more
        self.flags: list[str] = []
        self.gates: list[dict[str, Any]] = []
        self.phases: dict[str, float] = {}
        self.outputs: dict[int, list[NotebookNode]] = {}
        self.done: dict[int, dict[str, Any]] = {}
        self.took: dict[int, float] = {}  # seconds of each cell
        self.probed = False  # the tests that ran with the student's code were looked into

    def tell(self, phase: str) -> None:
        """A phase begins, and the one before has ended; "" when the last has."""
        if self.phase:
            self.phases[self.phase] = round(time.monotonic() - self.phase_began, 3)
        self.phase, self.phase_began = phase, time.monotonic()
        if phase:
            self.tell_caller(phase)

    def all(self, archive: bytes, source: bytes) -> None:
        try:
            self.sides(archive, source)
        except Ended:
            if not self.probed:
                self.doubt()
            raise

    def sides(self, archive: bytes, source: bytes) -> None:
        crossing = bool(self.plan.isolated)
        self.tell("student cells")
        with self.side("student", crossing) as student:
            student.files(archive)
            for index in self.plan.student:
                self.cell(student, index)
            self.tell("tests")
            if crossing:
                with self.side("tests", crossing, student) as tests:
                    tests.files(source or archive)
                    self.isolated(tests)
            self.ordinary(student)

    @contextlib.contextmanager
    def side(self, side: sandbox.Side, crossing: bool, other: _Talk | None = None) -> Iterator[_Talk]:
        began = time.monotonic()
        with sandbox.box(self.settings, side, self.slot, self.gpu) as box:
            self.deadline += time.monotonic() - began  # a cold box is not the student's fault
            ours, theirs = socket.socketpair()
            talk = _Talk(self, box, ours, other)
            given = [theirs]
            if crossing and other is None:
                talk.border, mine = socket.socketpair()
                given.append(mine)
            elif other is not None and other.border is not None:
                given.append(other.border.dup())
            try:
                box.start(side, given, self.language)
                yield talk
            except sandbox.BoxLost as error:
                self.detail = self.detail or f"the {side} sandbox is gone: {error} {box.last_words()}"[-500:]
                raise Ended("killed") from error
            finally:
                ours.close()
                if talk.border is not None:
                    with contextlib.suppress(OSError):
                        talk.border.shutdown(socket.SHUT_RDWR)
                    talk.border.close()
                with contextlib.suppress(sandbox.BoxLost):
                    if not talk.gone:
                        box.finish()

    def cell(self, talk: _Talk, index: int) -> dict[str, Any]:
        """Run one cell and keep its outputs."""
        cell, began = self.sent.cells[index], time.monotonic()
        done, outputs = talk.cell(cell.source, history=not is_test(cell))
        self.took[index] = time.monotonic() - began
        if talk.other is None:  # the student's process
            if self.exposed and done["evalue"] not in told_by(cell.source):
                done["evalue"] = ""
            outputs = [output for output in map(_silent, outputs) if output] if self.exposed else outputs
            self.exposed |= is_test(cell) and bool(hidden_lines(cell.source))
        self.keep(index, outputs)
        if done["status"] == "error" and not any(o.output_type == "error" for o in self.outputs[index]):
            self.outputs[index].append(_error(done["ename"], done["evalue"]))
        self.done[index] = done
        return done

    def keep(self, index: int, outputs: list[Any]) -> None:
        kept: list[NotebookNode] = []
        for output in outputs[:MAX_OUTPUTS]:
            size = len(json.dumps(output, default=str))
            clean = clean_output(output, small=size > self.left)
            if clean is None or size > self.left:
                self.cut = True
            if clean is not None:
                self.left -= min(size, self.left)
                kept.append(clean)
        self.outputs[index] = kept

    def isolated(self, tests: _Talk) -> None:
        for step in self.plan.tests:
            if isinstance(step, str):
                tests.cell(step)  # what fails here was about the student's own names; a test that needs it fails too
            else:
                told = len(tests.gates)
                self.cell(tests, step)
                self.outputs[step] += map(_picture, tests.gates[told:])
        self.gates = tests.gates
        for gate in self.gates:
            if gate["impossible"]:
                self.flags.append(f"gate {gate['name']}: faster than the machine allows")

    def ordinary(self, student: _Talk) -> None:
        """The tests that run with the student's code; probes among them must fail, or pass, as they ought to."""
        tests = self.beside()
        if not tests:
            return
        sources = "".join(self.sent.cells[index].source for index in tests)
        for index in sorted(self.plan.ordinary, key=lambda index: bool(hidden_lines(self.sent.cells[index].source))):
            self.probe(student, sources)
            self.cell(student, index)
        # our doubts do not cost the student's time, but have an end
        self.deadline += min(2 * self.timeout, sum(PROBE_SECONDS + 3 * MOST_PROBES * self.took[index] for index in tests))
        for _ in range(MOST_PROBES):
            self.probe(student, sources)
        for index in tests:
            cell = self.sent.cells[index]
            if self.done[index]["status"] == "ok" and self.contradicted(student, cell.source):
                self.tampered(f"{cell.metadata.nbgrader.grade_id} passes whatever it asks for")
        if self.flags:
            self.refuse(tests)
        self.probed = True

    def beside(self) -> list[int]:
        """The tests that run in the student's process."""
        return [index for index in self.plan.student if is_test(self.sent.cells[index])] + self.plan.ordinary

    def doubt(self) -> None:
        """The run ended before its tests were looked into: whoever ends it in time would never be found out."""
        passed = [index for index in self.beside() if self.done.get(index, {}).get("status") == "ok"]
        if passed:
            self.flags.append("the run ended before its tests were looked into")
            self.refuse(passed)

    def probe(self, student: _Talk, sources: str) -> None:
        """One cell whose end is known beforehand, in random order."""
        a, b = _dice.sample(range(1000, 10_000), 2)
        must_fail = [f"assert {a} == {b}", f"assert [{a}, {b}] == [{b}, {a}]", f"assert not {a}", f"raise ValueError({a})"]
        must_pass = [f"assert {a} == {a}", f"assert {a} != {b}", f"x_{secrets.token_hex(4)} = {a}"]
        if "numpy" in sources or "np." in sources:
            must_fail.append(f"import numpy as np\nnp.testing.assert_allclose([{a}], [{b}])")
            must_fail.append(f"import numpy as np\nassert np.array_equal(np.array([{a}]), np.array([{b}]))")
        if "torch" in sources:
            must_fail.append(f"import torch\nassert torch.equal(torch.tensor([{a}]), torch.tensor([{b}]))")
        wanted = _dice.random() < 0.3
        text = _dice.choice(must_pass if wanted else must_fail)
        done, outputs = student.cell(text)
        said = any(isinstance(output, dict) and output.get("output_type") == "execute_result" for output in outputs)
        if (done["status"] == "ok") is not wanted or said:
            self.tampered("a probe that must fail passed" if not wanted else "a probe that must pass failed")

    def contradicted(self, student: _Talk, source: str) -> bool:
        """Whether a contradiction and the test itself pass; once might be because of what ran before, or by turns."""

        def passes(text: str) -> bool:
            return bool(student.cell(text)[0]["status"] == "ok")

        return any(
            all(map(passes, (probe, source, source, probe))) and not (reached and passes(reached))
            for probe, reached in must_fail(source)
        )

    def tampered(self, how: str) -> None:
        text = f"the tests were tampered with ({how})"
        if text not in self.flags:
            self.flags.append(text)

    def refuse(self, tests: list[int]) -> None:
        """Tests that nobody can believe earn nothing by themselves."""
        text = str(message("grading-flagged", self.language))
        for index in tests:
            self.outputs[index] = [_error("Flagged", text)]

    def merge(self) -> None:
        """Put the outputs into the notebook that was sent. A cell without an answer gets the reason as its error."""
        limits = self.settings.grading
        values = {"seconds": f"{self.timeout:g}", "megabytes": limits.memory_mb}
        why = "killed" if self.outcome == "ok" else self.outcome
        reason = str(message(f"grading-{why}", self.language, **values))
        ename = {"killed": "Killed", "timeout": "Timeout", "memory": "OutOfMemory"}.get(why, why.title())
        wanted = {*self.plan.student, *self.plan.ordinary, *self.plan.isolated}
        last = max(self.outputs, default=-1)
        told = False
        for index, cell in enumerate(self.sent.cells):
            if cell.cell_type != "code":
                continue
            cell.outputs, cell.execution_count = self.outputs.get(index, []), None
            graded = bool(cell.metadata.get("nbgrader", {}).get("grade"))
            if index in wanted and index not in self.outputs and (graded or not told):
                told = True
                cell.outputs = [_error(ename, reason)]
            if self.cut and index == last:
                text = str(message("grading-output-cut", self.language, kilobytes=limits.output_kb))
                cell.outputs.append(nbformat.v4.new_output("stream", name="stdout", text=f"\n{text}\n"))
            if is_test(cell):
                self.only_the_hint(index, cell)
                make_scorable(cell)

    def only_the_hint(self, index: int, cell: NotebookNode) -> None:
        """Of a hidden test that failed, its error says the hint alone; what it said is kept beside it, for staff."""
        done = self.done.get(index)
        if done is None or done["status"] != "error":
            return
        hidden = hidden_lines(cell.source)
        if not hidden:
            return
        public = str(message("grading-hidden-test", self.language))
        if index in self.plan.isolated:
            if done["line"] and done["line"] not in hidden:
                return
            said = [hint for hint in done["hints"] if hint and hint in done["evalue"]]
            if done["student"]:
                public = str(message("grading-hidden-error", self.language, error=_known(done["ename"])))
            elif said:
                public = said[-1]
        elif done["evalue"] in told_by(cell.source):  # nothing else that comes from the student's process is believed
            public = done["evalue"]
        for position, output in enumerate(cell.outputs):
            if output.output_type == "error":
                detail = f"{output.ename}: {output.evalue}\n"
                cell.outputs[position] = _error(_known(output.ename), public)
                cell.outputs.insert(0, nbformat.v4.new_output("stream", name="stdout", text=detail))
                break


class _Talk:
    """The supervisor's end of a run in one box."""

    def __init__(self, work: _Run, box: sandbox.Box, sock: socket.socket, other: _Talk | None) -> None:
        self.work, self.box, self.sock, self.other = work, box, sock, other
        self.border: socket.socket | None = None
        self.gates: list[dict[str, Any]] = []
        self.gone = False
        self.data = b""
        self.budget = 4 * work.settings.grading.output_kb * 1024 + (1 << 20)  # bytes that may come, kept or not

    def files(self, archive: bytes) -> None:
        try:
            warm.send(self.sock, {"op": "files", "size": len(archive)})
            self.sock.sendall(archive)
        except OSError:
            self.lost()

    def cell(self, source: str, history: bool = False) -> tuple[dict[str, Any], list[Any]]:
        """How a cell ended, and its outputs, as they came.

        Args:
            history: whether later cells see its text, as in ``In``; never that of a test.

        Raises:
            Ended: the run is over.
        """
        outputs: list[Any] = []
        limit = self.work.settings.grading.cell_timeout
        until, interrupted = time.monotonic() + limit, False
        try:
            warm.send(self.sock, {"op": "cell", "source": source, "history": history})
        except OSError:
            self.lost()
        while True:
            frame = self.frame(min(until, self.work.deadline))
            if frame is None:
                if time.monotonic() >= self.work.deadline:
                    raise Ended("timeout")
                if interrupted:
                    self.work.detail = "a cell did not stop when it was interrupted"
                    raise Ended("timeout")
                interrupted, until = True, time.monotonic() + STUCK_SECONDS
                for talk in (self.other, self):
                    if talk is not None:
                        talk.box.order("interrupt")
            elif "output" in frame:
                outputs.append(frame["output"])
            elif "service" in frame and self.other is not None:
                warm.send(self.sock, self.serve(frame["service"]))
            elif isinstance(frame.get("done"), dict):
                self.work.cut |= frame.get("cut") is True
                if interrupted:
                    text = str(message("grading-cell-timeout", self.work.language, seconds=f"{limit:g}"))
                    outputs = [output for output in outputs if _kind(output) != "error"]
                    return _done({"status": "error", "ename": "CellTimeoutError", "evalue": text}), outputs
                return _done(frame["done"]), outputs

    def serve(self, order: Any) -> dict[str, Any]:
        """What the tests side may ask: the student's CPU clock; to note a gate's figure."""
        if not isinstance(order, dict):
            return {}
        if "clock" in order and self.other is not None:
            return self.other.box.order("clock")
        if isinstance(gate := order.get("gate"), dict) and len(self.gates) < 100:
            numbers = {key: float(gate[key]) for key in ("ratio", "low", "high", "at_least")}
            flags = {key: gate[key] is True for key in ("passed", "impossible")}
            self.gates.append({"name": str(gate["name"])[:100], **numbers, **flags})
        return {}

    def frame(self, until: float) -> dict[str, Any] | None:
        """The next message, or None when the time is over."""
        while True:
            if len(self.data) >= 4:
                (size,) = warm.FRAME.unpack(self.data[:4])
                if size > self.budget:
                    raise Ended("output-capped")
                if len(self.data) >= 4 + size:
                    raw, self.data = self.data[4 : 4 + size], self.data[4 + size :]
                    try:
                        found = json.loads(raw)
                    except (ValueError, RecursionError):
                        found = None
                    if isinstance(found, dict):
                        return found
                    continue
            left = until - time.monotonic()
            if left <= 0:
                return None
            if not select.select([self.sock], [], [], min(left, 1.0))[0]:
                self.look()
                continue
            try:
                part = self.sock.recv(1 << 16)
            except OSError:
                part = b""
            if not part:
                self.lost()
            self.budget -= len(part)
            if self.budget < 0:
                raise Ended("output-capped")
            self.data += part

    def look(self) -> None:
        """Processes that a run left behind may keep its sockets open: ask whether the run itself still lives."""
        if self.box.order("alive")["alive"] is not True:
            self.lost()
        if self.other is not None and self.other.border and self.other.box.order("alive")["alive"] is not True:
            self.other.border.shutdown(socket.SHUT_RDWR)

    def lost(self) -> None:
        """The run's process has ended by itself. Raises Ended with the reason."""
        self.gone = True
        said = self.box.finish(ended=True)
        if said["memory"]:
            raise Ended("memory")
        self.work.detail = f"signal {said['signal']}" if said["signal"] else "Python ended"
        raise Ended("killed" if said["signal"] else "crashed")


def _done(said: dict[str, Any]) -> dict[str, Any]:
    """How a cell ended, in the types that we want: it comes from a process that we do not trust."""
    line, hints = said.get("line"), said.get("hints")
    return {
        "status": "ok" if said.get("status") == "ok" else "error",
        "ename": str(said.get("ename", ""))[:200],
        "evalue": str(said.get("evalue", ""))[:10_000],
        "line": line if type(line) is int else 0,
        "student": said.get("student") is True,
        "hints": [hint for hint in hints if isinstance(hint, str)][-100:] if isinstance(hints, list) else [],
    }


def _kind(output: Any) -> Any:
    return output.get("output_type") if isinstance(output, dict) else None


def _silent(output: Any) -> dict[str, Any] | None:
    """What is kept of an output that may tell what a hidden test said: that it is an error, or points."""
    if _kind(output) == "error":
        return {"output_type": "error", "ename": _known(output.get("ename")), "evalue": ""}
    if _kind(output) == "execute_result":
        data = output.get("data")
        text = data.get("text/plain") if isinstance(data, dict) else None
        with contextlib.suppress(TypeError, ValueError):
            return {"output_type": "execute_result", "data": {"text/plain": repr(float(str(text)))}}
    return None


def _picture(gate: dict[str, Any]) -> NotebookNode:
    """A gate's figure, drawn here from what was recorded; feedback shows it even where the test itself is hidden."""
    svg = picture(**{key: gate[key] for key in ("name", "ratio", "low", "high", "at_least")})
    return nbformat.v4.new_output("display_data", data={"image/svg+xml": svg}, metadata={"academy": "gate"})


def _known(ename: object) -> str:
    """The name of an exception that every Python has; a class of one's own may be called after a secret."""
    kind = getattr(builtins, str(ename), None)
    return str(ename) if isinstance(kind, type) and issubclass(kind, BaseException) else "Exception"


def _error(ename: str, evalue: str) -> NotebookNode:
    return nbformat.v4.new_output("error", ename=ename, evalue=evalue, traceback=[f"{ename}: {evalue}"])


def hidden_lines(source: str) -> set[int]:
    """The numbers of the lines of a test cell that students do not see."""
    found: set[int] = set()
    for match in _HIDDEN.finditer(source):
        first = source.count("\n", 0, match.start()) + 1
        found |= set(range(first, first + match[0].count("\n") + 1))
    return found


def told_by(source: str) -> set[str]:
    """The messages that a test's asserts give."""
    with contextlib.suppress(SyntaxError, ValueError, RecursionError):
        asserts = [node.msg for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
        return {node.value for node in asserts if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return set()


def must_fail(source: str) -> list[tuple[str, str]]:
    """Variants of a test that no honest solution passes: one of its checks expects something else, or the opposite.

    With each stands a text that fails if that check, in a loop or a branch, is reached at all; "" where it surely is.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    probes = []
    for number, node in enumerate(tree.body):
        if not _checks(node):
            continue
        changed, reached = (kind().visit(copy.deepcopy(node)) for kind in (_Contradicted, _Reached))
        texts = ["\n".join(map(ast.unparse, [*tree.body[:number], end])) for end in (changed, reached)]
        probes.append((texts[0], "" if isinstance(node, ast.Assert | ast.Expr) else texts[1]))
    return _dice.sample(probes, min(MOST_PROBES, len(probes)))


def _checks(node: ast.stmt) -> bool:
    """Whether a statement of a test checks something, where a failure is not caught again."""
    parts = list(ast.walk(node))
    caught = any(isinstance(part, ast.Try | ast.With | ast.FunctionDef | ast.ClassDef | ast.While) for part in parts)
    return not caught and any(isinstance(part, ast.Assert) or _is_assertion(part) for part in parts)


def _is_assertion(node: ast.AST) -> bool:
    """A call such as ``np.testing.assert_allclose(found, expected)``."""
    if not (isinstance(node, ast.Call) and len(node.args) >= 2):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return bool(re.match(r"assert_?(equal|almost|array|all|close|count|list|tuple|dict)", name, re.IGNORECASE))


class _Contradicted(ast.NodeTransformer):
    """Turns each check of a statement into one that cannot hold if the original does."""

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        test = node.test
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
            sides = [test.left, test.comparators[0]]
            literal = [_other(side) for side in sides]
            if literal[1] is not None:
                test.comparators[0] = literal[1]
            elif literal[0] is not None:
                test.left = literal[0]
            else:
                test.comparators[0] = ast.parse("object()", mode="eval").body
        else:
            node.test = ast.UnaryOp(ast.Not(), test)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if _is_assertion(node):
            other = _other(node.args[1])
            node.args[1] = other if other is not None else ast.parse("object()", mode="eval").body
        return node


class _Reached(ast.NodeTransformer):
    """Turns each check of a statement into an error."""

    def visit_Assert(self, node: ast.stmt) -> ast.stmt:
        return ast.parse("raise AssertionError").body[0]

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        return self.visit_Assert(node) if any(map(_is_assertion, ast.walk(node))) else node


def _other(node: ast.expr) -> ast.expr | None:
    """Another value of a literal's kind; None for what is no literal."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    step = _dice.randrange(1000, 9999)

    def changed(value: object) -> object:
        if isinstance(value, bool) or value is None:
            return step
        if isinstance(value, int | float | complex):
            return value + step if value == value else step
        if isinstance(value, str):
            return f"{value}{step}"
        if isinstance(value, list | tuple):
            return type(value)([changed(item) for item in value] or [step])
        return step

    return ast.parse(repr(changed(value)), mode="eval").body


def clean_output(output: Any, small: bool) -> NotebookNode | None:
    """One output in the form that nbformat wants, of the types we know. ``small``: only what decides about points."""
    kind = _kind(output)
    most = 2000 if small else 10_000_000
    if kind == "error":
        lines = output.get("traceback")
        traceback = [str(line)[:most] for line in lines[:200]] if isinstance(lines, list) and not small else []
        return nbformat.v4.new_output(
            "error", ename=str(output.get("ename"))[:200], evalue=str(output.get("evalue"))[:most], traceback=traceback
        )
    if kind == "stream" and not small:
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return nbformat.v4.new_output("stream", name=name, text=_text(output.get("text")))
    if kind in ("display_data", "execute_result") and (kind == "execute_result" or not small):
        data = output.get("data")
        data = data if isinstance(data, dict) else {}
        kept = {key: _text(value)[:most] for key, value in data.items() if key in MIMETYPES}
        if small:
            kept = {"text/plain": kept.get("text/plain", "")}
        return nbformat.v4.new_output(kind, data=kept)
    return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def make_scorable(cell: NotebookNode) -> None:
    """Nbgrader reads a test cell's score from its outputs; leave nothing there that it misreads.

    It takes any stderr for a failure, and a result that is negative, not a number or over the maximum for an error or for full
    points.
    """
    points = float(cell.metadata.nbgrader.get("points") or 0)
    for output in cell.outputs:
        if output.output_type == "stream":
            output.name = "stdout"
        elif output.output_type == "execute_result":
            text = output.data.get("text/plain", "")
            if not text:
                output.output_type = "display_data"
                output.pop("execution_count", None)
                continue
            with contextlib.suppress(ValueError):
                value = float(text)
                clamped = 0.0 if math.isnan(value) else min(max(value, 0.0), points)
                if clamped != value:
                    output.data = NotebookNode({"text/plain": repr(clamped)})
