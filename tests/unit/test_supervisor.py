"""What the supervisor makes of a run: where cells go, what it believes, what a student reads. No sandbox is started."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook, new_output

from academy.settings import Settings
from grading import autograde, supervisor
from grading.autograde import HideTests, SafePages
from grading.split import Names, split
from grading.supervisor import Ended, _picture, _Run, _Talk, clean_output, hidden_lines, make_scorable, must_fail, told_by


def cell(source: str, kind: str = "", points: float = 1, **metadata: Any) -> Any:
    flags = {"test": (True, True, False), "solution": (False, False, True), "locked": (False, True, False)}
    if kind:
        grade, locked, solution = flags[kind]
        about = {"grade": grade, "locked": locked, "solution": solution, "task": False, "grade_id": source, "points": points}
        metadata["nbgrader"] = {"schema_version": 3, **about}
    return new_code_cell(source, metadata=metadata)


def notebook(*cells: Any) -> Any:
    return new_notebook(cells=list(cells))


# --- where cells run


def test_a_test_that_asks_for_the_submission_runs_on_the_other_side_with_the_instructors_cells() -> None:
    source = notebook(
        cell("import numpy as np", "locked"),
        cell("def helper(): pass"),
        cell("def f(): return 1", "solution"),
        cell("plot(f())", academy={"demo": True}),
        cell("assert submission.f() == 1", "test"),
    )
    submitted = notebook(
        *source.cells[:2], cell("def f(): return 2", "solution"), source.cells[3], cell("own()"), source.cells[4]
    )
    plan = split(submitted, source)
    assert plan.student == [0, 1, 2, 4]  # no demonstration, no test
    assert plan.tests == ["import numpy as np", "def helper(): pass", 5]
    assert plan.ordinary == []
    assert split(submitted, source, everything=True).student == [0, 1, 2, 3, 4]


def test_without_a_source_only_locked_cells_are_the_instructors() -> None:
    submitted = notebook(cell("import os", "locked"), cell("evil = 1"), cell("assert submission.f()", "test"))
    assert split(submitted, None).tests == ["import os", 2]


HIDES = "### BEGIN HIDDEN TESTS\n"


def test_ordinary_tests_that_hide_nothing_run_in_their_place() -> None:
    plan = split(notebook(cell("x = 1", "solution"), cell("assert x == 1", "test"), cell("y = 2", "solution")), None)
    assert (plan.student, plan.ordinary) == ([0, 1, 2], [])


def test_others_run_after_all_cells_of_the_student() -> None:
    plan = split(notebook(cell("x = 1", "solution"), cell(HIDES + "assert x == 1", "test"), cell("y = 2", "solution")), None)
    assert (plan.student, plan.ordinary, plan.tests) == ([0, 2], [1], [])


@pytest.mark.parametrize(
    "later", ["x = 2", "x.append(1)", "x += 1", "del x", "for x in []: pass", "print(made)", "def broken(:"]
)
def test_but_in_their_place_where_a_later_cell_changes_what_they_use(later: str) -> None:
    test = cell(HIDES + "made = 3\nassert x == [1]", "test")
    plan = split(notebook(cell("x = [1]", "solution"), test, cell(later, "solution")), None)
    assert (plan.student, plan.ordinary) == ([0, 1, 2], [])


def test_modules_and_called_functions_are_not_changed_by_being_used() -> None:
    first = cell("import numpy as np\ndef f(): return np.ones(2)", "solution")
    plan = split(
        notebook(first, cell(HIDES + "assert np.all(f() == 1)", "test"), cell("z = np.zeros(3); f()", "solution")), None
    )
    assert plan.ordinary == [1]


def test_names_survive_magics_and_nonsense() -> None:
    assert Names("%matplotlib inline\n!ls\nx = y").loaded == {"y"}
    assert Names("def (").broken


# --- what is believed


class Box:
    """Stands for a sandbox whose process is alive; what it says comes over the socket."""

    def order(self, op: str) -> dict[str, Any]:
        return {"alive": True}

    def finish(self, ended: bool = False) -> dict[str, Any]:
        return {"memory": False, "signal": 0, "clean": True}


@pytest.fixture
def work(config: Callable[..., Settings]) -> Callable[..., _Run]:
    limits = {"backend": "local", "cell_timeout": 60, "timeout": 120, "output_kb": 16}  # no test here waits for its end
    settings = config(grading=limits, academy={"language": "en"})

    def make(*cells: Any) -> _Run:
        sent = notebook(*cells)
        return _Run(settings, sent, split(sent, None), "en", settings.grading.timeout, 0, lambda _: None)

    return make


def say(sock: socket.socket, frames: list[bytes]) -> None:
    with contextlib.suppress(OSError):
        for data in frames:
            sock.sendall(len(data).to_bytes(4, "little") + data)
        sock.shutdown(socket.SHUT_WR)


def ran(work: _Run, index: int, *frames: Any) -> list[Any]:
    """The outputs of a cell for which the sandbox sent these messages."""
    ours, theirs = socket.socketpair()
    talk = _Talk(work, Box(), ours, None)  # type: ignore[arg-type]
    sent = [frame if isinstance(frame, bytes) else json.dumps(frame).encode() for frame in frames]
    thread = threading.Thread(target=say, args=(theirs, sent))
    thread.start()
    try:
        work.cell(talk, index)
    except Ended as ended:
        work.outcome = ended.outcome
    finally:
        ours.close()
        thread.join()
        theirs.close()
    work.merge()
    nbformat.validate(work.sent)
    return list(work.sent.cells[index].outputs)


DONE = {"done": {"status": "ok"}}
FAILED = {"done": {"status": "error", "ename": "AssertionError", "evalue": "", "line": 0, "hints": []}}


def test_a_graded_cell_without_an_answer_earns_nothing(work: Callable[..., _Run]) -> None:
    [output] = ran(work(cell("x", "test")), 0)
    assert (output.output_type, output.ename) == ("error", "Crashed")


def test_an_error_that_is_only_reported_still_counts(work: Callable[..., _Run]) -> None:
    [output] = ran(work(cell("x", "test")), 0, FAILED)
    assert output.output_type == "error"


def test_output_is_capped_in_size_and_in_all(work: Callable[..., _Run]) -> None:
    big = {"output": {"output_type": "stream", "name": "stdout", "text": "x" * 9000}}
    run = work(cell("x"))
    outputs = ran(run, 0, big, big, big, DONE)
    assert [output.text for output in outputs][:1] == ["x" * 9000]
    assert "was over 16 KB" in outputs[-1].text
    flood = work(cell("x"))
    ran(flood, 0, *[b"\xff" * 200_000] * 6)
    assert flood.outcome == "output-capped"


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 3), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(
                ["output", "output_type", "data", "text/plain", "text", "ename", "done", "status", "hints", "line"]
            ),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=12,
)


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.binary(max_size=200), anything, st.just(b"[" * 5000)), max_size=6))
def test_anything_at_all_becomes_a_valid_notebook(work: Callable[..., _Run], frames: list[Any]) -> None:
    ran(work(cell("x", "test"), cell("y")), 0, *frames)


def test_unknown_types_and_scripts_are_dropped() -> None:
    data = {"application/javascript": "alert()", "text/plain": "ok"}
    kept = clean_output({"output_type": "display_data", "data": data, "metadata": {"x": 1}}, small=False)
    assert kept is not None
    assert (kept.data, kept.metadata) == ({"text/plain": "ok"}, {})
    assert clean_output({"output_type": "evil"}, small=False) is None
    assert clean_output("text", small=False) is None


# --- what counts, and what a student reads


@pytest.mark.parametrize(
    ("text", "kept"), [("2", "2"), ("99", "3.0"), ("-5", "0.0"), ("nan", "0.0"), ("inf", "3.0"), ("'fine'", "'fine'")]
)
def test_a_test_cells_result_is_between_nothing_and_its_points(text: str, kept: str) -> None:
    test = cell("x", "test", points=3)
    test.outputs = [new_output("execute_result", data={"text/plain": text}, execution_count=1)]
    make_scorable(test)
    assert test.outputs[0].data["text/plain"] == kept


def test_stderr_of_a_test_is_no_failure() -> None:
    test = cell("x", "test")
    test.outputs = [new_output("stream", name="stderr", text="careful")]
    make_scorable(test)
    assert test.outputs[0].name == "stdout"


HIDDEN = (
    "assert submission.f(1)\n### BEGIN HIDDEN TESTS\nsecret = 41\nassert submission.f(secret), hint('k')\n### END HIDDEN TESTS"
)


def failed(run: _Run, evalue: str, line: int, **more: Any) -> Any:
    run.done[0] = {"status": "error", "ename": "AssertionError", "evalue": evalue, "line": line, "student": False, "hints": []}
    run.done[0] |= more
    run.outputs[0] = [new_output("error", ename="AssertionError", evalue=evalue, traceback=["line 3: secret = 41"])]
    run.merge()
    return next(output for output in run.sent.cells[0].outputs if output.output_type == "error")


def test_of_a_hidden_test_a_student_reads_the_hint_alone(work: Callable[..., _Run]) -> None:
    make = lambda: work(cell(HIDDEN, "test"))  # noqa: E731
    assert failed(make(), "Look at zero\nACTUAL 41", 4, hints=["Look at zero"]).evalue == "Look at zero"
    assert failed(make(), "assert 41 == 3", 4).evalue.startswith("A hidden test did not pass")
    told = failed(make(), "the input was 41", 4, student=True, ename="ValueError")
    assert "raised ValueError" in told.evalue
    assert "41" not in json.dumps(told)
    assert failed(make(), "seen: f(1)", 1).evalue == "seen: f(1)"  # the visible part tells what it tells


def test_an_ordinary_hidden_test_tells_only_its_own_words(work: Callable[..., _Run]) -> None:
    source = "### BEGIN HIDDEN TESTS\nassert x == 41, 'Look again'\n### END HIDDEN TESTS"
    assert failed(work(cell(source, "test")), "Look again", 2).evalue == "Look again"
    assert failed(work(cell(source, "test")), "assert x == 41", 0).evalue.startswith("A hidden test")
    assert told_by(source) == {"Look again"}


def test_a_gates_picture_stands_in_the_feedback_of_a_hidden_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autograde, "_run", SimpleNamespace(get=lambda: SimpleNamespace(language="en")))
    gate = {"name": "a<b", "ratio": 7.5, "low": 6.0, "high": 9.0, "at_least": 3.0, "passed": True, "impossible": False}
    drawn = _picture(gate)
    ElementTree.fromstring(drawn.data["image/svg+xml"])
    said = nbformat.v4.new_output("stream", name="stdout", text="41")
    test = cell(HIDDEN, "test")
    test.outputs = [said, drawn]
    nb = nbformat.v4.new_notebook(cells=[test])
    shown, _ = HideTests().preprocess_cell(test, {}, 0)
    assert shown.outputs == [drawn]
    page, _ = SafePages(sanitize_html=True, template_name="classic").from_notebook_node(nb)
    assert 'src="data:image/svg+xml;base64,' in page
    assert "<svg" not in page.split("<body")[1]


def test_hidden_lines() -> None:
    assert hidden_lines(HIDDEN) == {2, 3, 4, 5}
    assert hidden_lines("a\n### BEGIN HIDDEN TESTS\nb") == {2, 3}
    assert hidden_lines("assert x") == set()


CHECKS = """
import numpy as np
y = f(2)
assert y == 4, "twice two"
assert 9 == f(3)
assert f(1) < 3
assert isinstance(f(2), int)
assert f(4) == f(-4)
np.testing.assert_allclose([f(1), f(2)], [1, 4])
for x in range(3):
    assert f(x) == x * x
"""


def test_probes_fail_for_whoever_passes_the_test_honestly() -> None:
    honest: dict[str, Any] = {"f": lambda x: x * x}
    exec(CHECKS, honest)
    seen = set()
    for _ in range(60):
        for probe, reached in must_fail(CHECKS):
            assert bool(reached) is ("for x" in probe)
            seen.add(re.sub(r"[0-9]{4,}", "N", probe.splitlines()[-1]))
            with pytest.raises((AssertionError, TypeError)):
                exec(probe, dict(honest))
    assert len(seen) >= 7
    assert must_fail("not python (") == []
    assert must_fail("try:\n    f(1)\nexcept ValueError:\n    pass\nelse:\n    assert False") == []


def test_probes_pass_for_liars_and_that_is_how_they_are_found_out() -> None:
    liar = type("Liar", (), {"__eq__": lambda *_: True})
    assert any(passes(probe, {"f": lambda _: liar()}) for probe, _ in must_fail("assert f(2) == 4"))


@pytest.mark.parametrize(
    "source",
    [
        "for x in [x for x in range(5) if f(x) != x * x]:\n    assert x is None",
        "if f(2) != 4:\n    assert False",
        "if f(2) != 4:\n    np.testing.assert_equal(f(2), 4)",
    ],
)
def test_a_check_that_is_not_reached_says_nothing(source: str) -> None:
    [(probe, reached)] = must_fail(source)
    assert passes(probe, {"f": lambda x: x * x})
    assert passes(reached, {"f": lambda x: x * x})
    assert not passes(reached, {"f": lambda x: 0, "np": None})


def test_a_probe_uses_up_what_the_test_uses_up() -> None:
    for probe, _ in must_fail("it = iter([1])\nassert next(it) == 1\nassert next(it, None) is None") * 5:
        assert not passes(probe, {})


def passes(source: str, names: dict[str, Any]) -> bool:
    try:
        exec(source, names)
    except Exception:
        return False
    return True


def test_a_flag_takes_all_ordinary_points(work: Callable[..., _Run]) -> None:
    run = work(cell("x = 1", "solution"), cell("assert x", "test"))
    run.outputs = {0: [], 1: []}
    run.tampered("a probe that must fail passed")
    run.refuse([1])
    run.merge()
    assert run.sent.cells[1].outputs[0].ename == "Flagged"
    assert supervisor.MOST_PROBES > 0
