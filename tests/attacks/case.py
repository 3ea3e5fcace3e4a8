"""An attack as data: what a student hands in, what such work honestly deserves, and how to see that nothing came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

COURSE = "attacks"
HONEST: dict[str, dict[str, str]] = {
    "isolated": {
        "total": "def total(numbers):\n    return sum(numbers)",
        "scale": "def scale(table):\n    return table / table.max()",
        "describe": 'def describe(words):\n    return {"first": words[0], "count": len(words)}',
        "stack": "class Stack:\n    def __init__(self): self.items = []\n    def push(self, item): self.items.append(item)\n"
        "    def pop(self): return self.items.pop()\n    def __len__(self): return len(self.items)",
        "search": "def search(reached, low, high):\n    while low < high:\n        middle = (low + high) // 2\n"
        "        low, high = (low, middle) if reached(middle) else (middle + 1, high)\n    return low",
        "share": "def share():\n    return 2.0",
        "distances": "def distances(values):\n    order, place = np.argsort(values), np.arange(1, len(values) + 1)\n"
        "    ranked, result = values[order], np.empty(len(values))\n    sums = np.cumsum(ranked)\n"
        "    result[order] = ranked * (2 * place - len(values)) + sums[-1] - 2 * sums\n    return result",
    },
    "ordinary": {
        "square": "def square(x):\n    return x * x",
        "centre": "def centre(table):\n    return table - table.mean(axis=0)",
    },
    "tensors": {"double": "def double(tensor):\n    return tensor * 2"},
}
MOST = {"isolated": 13.0, "ordinary": 6.0, "tensors": 2.0}  # what the tests give; written answers come on top

Notebook = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One attack. In its code ``@MARK@`` is a name of its own and ``@PORT@`` a port of this machine where somebody listens."""

    name: str
    tried: str  # one sentence
    unit: str = "isolated"
    cells: Mapping[str, str] = field(default_factory=dict)  # solution cell -> source; the others are not solved
    first: str = ""  # a cell of the student's own before all others
    last: str = ""  # and one after all others
    files: Mapping[str, bytes] = field(default_factory=dict)
    notebook: Callable[[Notebook], Notebook | bytes] | None = None  # changes the notebook at last; bytes: in place of it
    archive: Callable[[bytes, str], bytes] | None = None  # takes the notebook and the mark, gives the tar.gz
    earns: float = 0.0  # the most that this work deserves
    exactly: bool = False  # it deserves no less, either
    graded: bool = True  # False: it may be refused with a reason instead
    shows: str = ""  # in the output of the student's cells: the attack did run
    hides: tuple[str, ...] = ()  # what may stand neither there nor in the feedback
    probe: bool = False  # an honest submission afterwards looks for what was left
    check: Callable[[Seen], None] | None = None  # asserts what else must hold
    held: str = ""  # one clause: what held it, for the report


@dataclass
class Seen:
    """What came of a submission, wherever it came out."""

    case: Case
    state: str  # of the job that graded it
    told: str  # to staff
    score: float | None
    max_score: float | None
    run_seconds: float
    page: str  # the feedback
    feedback_state: str
    outputs: str  # of the cells of the student, as staff see them
    tests: dict[str, str]  # outputs of the test cells
    files: dict[str, bytes]  # that the run left beside the notebook
    history: str
    mark: str
    probes: list[str] = field(default_factory=list)  # what later submissions found


def solved(unit: str = "isolated", **changes: str) -> dict[str, str]:
    """All tasks of a unit solved honestly, but for ``changes``."""
    return {**HONEST[unit], **changes}
