"""What test cells import: names of the notebook, copies, handles, messages, ratios of time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from grading import checks
from grading.checks import gate, hint, submission, when_solved
from grading.timing import bandwidth, speedup


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Defines names as a student's cells would."""

    def define(**names: Any) -> None:
        for name, value in names.items():
            monkeypatch.setattr(sys.modules["__main__"], name, value, raising=False)

    monkeypatch.setenv("ACADEMY_LANGUAGE", "en")
    return define


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    texts = {"carry": {"ko": "{n}번째 자리를 보세요.", "en": "Look at digit {n}."}}
    (tmp_path / "messages.json").write_text(json.dumps({"language": "en", "messages": texts}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    checks._catalogue.cache_clear()
    yield
    checks._catalogue.cache_clear()


def unsolved(*_: Any) -> Any:
    raise NotImplementedError


def test_a_name_that_is_not_there_is_said_so(notebook: Any) -> None:
    with pytest.raises(AssertionError, match=r"`averge`.*run the cell"):
        submission.averge([1, 2])


@pytest.mark.parametrize(
    ("function", "told"), [(lambda: None, "return"), (unsolved, "not solved"), (lambda: NotImplemented, "not solved")]
)
def test_no_result_is_said_so(notebook: Any, function: Any, told: str) -> None:
    notebook(average=function)
    with pytest.raises(AssertionError, match=told):
        submission.average()


@pytest.mark.parametrize("value", [np.arange(6.0).reshape(2, 3), torch.arange(6.0), [1, [2, 3]], {"a": [1]}])
def test_plain_data_is_copied_both_ways(notebook: Any, value: Any) -> None:
    kept = []

    def keep(argument: Any) -> Any:
        kept.append(argument)
        return argument

    notebook(keep=keep)
    result = submission.keep(value)
    assert kept[0] is not value
    assert result is not kept[0]
    assert repr(result) == repr(value)


def test_the_students_work_cannot_change_the_tests_data(notebook: Any) -> None:
    def spoil(table: Any) -> Any:
        table[:] = 0
        return table

    notebook(spoil=spoil)
    table = np.ones(3)
    assert submission.spoil(table).sum() == 0
    assert table.sum() == 3


def test_objects_are_used_through_handles(notebook: Any) -> None:
    class Cache:
        def __init__(self, size: int) -> None:
            self.keys = torch.zeros(size)

        def put(self, place: int, key: float) -> None:
            self.keys[place] = key

        def same(self, other: Any) -> bool:
            return other is self

    def fill(cache: Cache) -> int:
        assert isinstance(cache, Cache)
        cache.put(1, 5.0)
        return 1

    notebook(Cache=Cache, fill=fill)
    cache = submission.Cache(3)
    cache.put(0, 7.0)
    cache.keys[2] = 9.0  # a copy: the student's own stays as it is
    assert submission.fill(cache) == 1
    assert cache.keys.tolist() == [7.0, 5.0, 0.0]
    assert cache.same(cache)
    with pytest.raises(AssertionError, match=r"Cache\.values"):
        _ = cache.values


def test_a_model_that_counts_its_calls_reaches_the_student_as_it_is(notebook: Any) -> None:
    class Model:
        calls = 0

        def __call__(self, x: float) -> float:
            self.calls += 1
            return 2 * x

    notebook(twice=lambda model, x: model(model(x)))
    model = Model()
    assert submission.twice(model, 3) == 12
    assert model.calls == 2


def test_hints_come_in_the_readers_language(catalogue: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACADEMY_LANGUAGE", raising=False)
    assert hint("carry", n=2) == "Look at digit 2."
    monkeypatch.setenv("ACADEMY_LANGUAGE", "ko")
    assert hint("carry", n=2) == "2번째 자리를 보세요."
    assert hint("unknown") == "unknown"
    with pytest.raises(TypeError, match="the message 'carry' wants 'n'"):
        hint("carry", m=2)


def test_the_clock_is_fine_where_cpu_time_is_limited() -> None:
    code = """
import resource
from grading.timing import _cpu_seconds
resource.setrlimit(resource.RLIMIT_CPU, (100, 100))
seen = set()
for _ in range(20):
    sum(range(10_000))
    seen.add(_cpu_seconds())
print(len(seen))
"""
    assert int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) == 20


def test_a_demonstration_waits_for_the_task(notebook: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with when_solved():
        unsolved()
    assert "not solved yet" in capsys.readouterr().out
    with pytest.raises(ZeroDivisionError), when_solved():
        _ = 1 / 0


def burn(seconds: float) -> float:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return 1.0


def test_speedup_compares_every_pair_on_fresh_input() -> None:
    drawn = []

    def inputs(number: int) -> tuple[float]:
        drawn.append(number)
        return (0.02,)

    found = speedup(burn, lambda s: burn(4 * s), inputs, lambda a, b: a == b)
    assert drawn == [0, 1, 2, 3, 4, 5]  # once to warm up, then fresh in each round
    assert found.ratio == pytest.approx(4, rel=0.2)
    gate("burn", found, 3)
    with pytest.raises(AssertionError, match="Look there"):
        gate("burn", found, 40, "Look there.")


def test_speedup_refuses_unequal_results(notebook: Any) -> None:
    with pytest.raises(AssertionError, match="Right comes before fast"):
        speedup(lambda: 1, lambda: 2, lambda _: (), lambda a, b: a == b)


def test_speedup_gives_the_threads_back() -> None:
    before = torch.get_num_threads()
    speedup(burn, burn, lambda _: (0.01,), lambda a, b: torch.get_num_threads() == 1, rounds=1)
    assert torch.get_num_threads() == before


def test_short_calls_are_timed_in_blocks_of_fresh_inputs_and_compared_by_chance(notebook: Any) -> None:
    seen: list[int] = []

    def quick(number: int) -> int:
        seen.append(number)
        return number * number

    found = speedup(quick, lambda number: burn(0.02) * number * number, lambda i: (i,), lambda a, b: a == b)
    assert found.ratio > 50
    assert len(seen) == len(set(seen)) > 100  # no input came twice
    with pytest.raises(AssertionError, match="Right comes before fast"):  # wrong in a few of many
        speedup(lambda i: i * i + (i % 3 == 0), lambda i: burn(0.02) * i * i, lambda i: (i,), lambda a, b: a == b, rounds=40)


def test_what_beats_the_machine_is_refused(notebook: Any) -> None:
    found = speedup(lambda _: 1.0, burn, lambda _: (0.02,), lambda a, b: a == b)
    gate("honest", found, 2, floor_seconds=0.0)
    with pytest.raises(AssertionError, match="physical limit"):
        gate("impossible", found, 2, floor_seconds=0.01)
    assert 1e8 < bandwidth(1 << 20) < 1e13


def test_importing_the_checks_is_light() -> None:
    code = "import sys, grading.checks; print(sorted({'numpy', 'torch', 'academy', 'nbformat'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
