"""What a submission returns to tests: objects that lie, data that breaks whoever reads it, callbacks that are cheated."""

from __future__ import annotations

import math

import pytest

from tests.attacks.case import Case, Seen, solved
from tests.attacks.contain import Record, contain
from tests.attacks.grader import Grader

PLAIN = "only plain data crosses, and it is compared on the tests' side"


def finite(seen: Seen) -> None:
    assert seen.score is not None
    assert math.isfinite(seen.score)
    assert seen.max_score == 14, "the unit's points have changed"


YES = """
import os
class Yes(float):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __sub__(self, other): return Yes(0)
    def __abs__(self): return Yes(0)
    def __lt__(self, other): return True
    def __hash__(self): return 0
    def __mul__(self, other): return Yes(0)
    __rmul__ = __mul__
"""
CASES = [
    Case(
        "always-equal",
        "Every function returns an object that is equal to, larger and smaller than anything, and iterates over anything.",
        first="""
            class Yes:
                def __eq__(self, other): return True
                def __ne__(self, other): return False
                def __lt__(self, other): return True
                __le__ = __gt__ = __ge__ = __contains__ = __lt__
                def __hash__(self): return 0
                def __bool__(self): return True
                def __getattr__(self, name): return Yes()
                def __getitem__(self, key): return Yes()
                def __call__(self, *args, **more): return Yes()
                def __sub__(self, other): return 0.0
                __rsub__ = __add__ = __radd__ = __mul__ = __rmul__ = __truediv__ = __sub__
                def __abs__(self): return 0.0
                def __len__(self): return 6
                def __iter__(self): return iter([Yes()] * 6)
                def __float__(self): return 0.0
                def __array__(self, *args, **more): return np.zeros(())
                def __array_ufunc__(self, *args, **more): return True
                def __array_function__(self, *args, **more): return True
        """,
        cells={
            "total": "def total(numbers): return Yes()",
            "scale": "def scale(table): return Yes()",
            "describe": "def describe(words): return Yes()",
            "stack": "class Stack(Yes): pass",
            "search": "def search(reached, low, high): return Yes()",
            "share": "def share(): return Yes()",
            "distances": "def distances(values): return Yes()",
        },
        held=PLAIN,
    ),
    Case(
        "lying-array",
        "Functions return a subclass of numpy's array whose comparisons, shape and elements agree with anything.",
        first="""
            class Liar(np.ndarray):
                def __array_ufunc__(self, ufunc, method, *inputs, **more): return np.True_
                def __array_function__(self, func, types, args, kwargs): return True
                def __eq__(self, other): return np.ones(getattr(other, "shape", ()), bool)
                def __getattribute__(self, name): return (5, 4) if name == "shape" else super().__getattribute__(name)
                def __sub__(self, other): return np.zeros(np.shape(other))
                __rsub__ = __sub__
                def __getitem__(self, key): return 1.0
        """,
        cells={
            "scale": "def scale(table): return np.zeros(table.shape).view(Liar)",
            "distances": "def distances(values): return np.zeros(values.shape).view(Liar)",
            "total": "def total(numbers): return np.zeros(()).view(Liar)",
        },
        held=PLAIN,
    ),
    Case(
        "lying-numbers",
        "Functions return subclasses of int, float and bool that are equal to everything.",
        first="""
            class Number(int):
                def __eq__(self, other): return True
                def __ne__(self, other): return False
                def __sub__(self, other): return 0
                def __abs__(self): return 0
                __hash__ = int.__hash__
            class Real(float):
                def __eq__(self, other): return True
                def __ne__(self, other): return False
                def __sub__(self, other): return 0.0
                __hash__ = float.__hash__
        """,
        cells={
            "total": "def total(numbers): return Number(0)",
            "search": "def search(reached, low, high):\n    reached(low)\n    return Real(0)",
            "scale": "def scale(table): return type('F', (np.float64,), {'__eq__': lambda one, other: True})(0)",
        },
        held=PLAIN,
    ),
    Case(
        "lying-containers",
        "Functions return subclasses of dict, list, tuple and str that are equal to everything and hold whatever is asked for.",
        first="""
            class Words(str):
                def __eq__(self, other): return True
                def __ne__(self, other): return False
                __hash__ = str.__hash__
            class Table(dict):
                def __eq__(self, other): return True
                def __ne__(self, other): return False
                def __missing__(self, key): return Words("w")
                def __getitem__(self, key): return Words("w") if key == "first" else 99
            class Row(list):
                def __eq__(self, other): return True
                def __iter__(self): return iter([1])
        """,
        cells={
            "describe": "def describe(words): return Table(first=Words('w'), count=99)",
            "total": "def total(numbers): return Row()",
            "scale": "def scale(table): return Row()",
        },
        held=PLAIN,
    ),
    Case(
        "lying-instances",
        "A class's instances change their type, and their methods return objects that lie.",
        cells={
            "stack": """
                class Item(int):
                    def __eq__(self, other): return True
                    __hash__ = int.__hash__
                class Stack:
                    __class__ = list
                    def push(self, item): pass
                    def pop(self): return Item(0)
                    def __len__(self): return 6
                    def __eq__(self, other): return True
                    def __iter__(self): return iter([Item(0)] * 6)
            """,
        },
        held=PLAIN,
    ),
    Case(
        "lying-tensor",
        "A function returns a subclass of torch's tensor whose functions and comparisons always agree.",
        unit="tensors",
        cells={
            "double": """
                class Liar(torch.Tensor):
                    @classmethod
                    def __torch_function__(cls, func, types, args=(), kwargs=None):
                        return True
                    def __eq__(self, other): return torch.ones(3, 4, dtype=torch.bool)
                def double(tensor): return torch.zeros(tensor.shape).as_subclass(Liar)
            """
        },
        held=PLAIN,
    ),
    Case(
        "patch-torch",
        "A cell makes torch.equal, allclose, assert_close and rand agree, return constants or do nothing.",
        unit="tensors",
        first="""
            import torch
            torch.equal = torch.allclose = torch.isclose = lambda *args, **more: True
            torch.testing.assert_close = lambda *args, **more: None
            torch.rand = lambda *shape: torch.zeros(shape)
            torch.Tensor.__eq__ = lambda one, other: torch.ones(1, dtype=torch.bool)
        """,
        cells={"double": "def double(tensor): return tensor"},
        held="tests run on their own side",
    ),
    Case(
        "strange-tensors",
        "A function returns sparse, meta, quantized and overlapping tensors, one that claims 2**60 elements among them.",
        unit="tensors",
        cells={
            "double": """
                wide, meta = torch.zeros(1).expand(2**20, 2**20, 2**20), torch.empty(3, 4, device="meta")
                made = iter([wide, torch.zeros(3, 4).to_sparse(), meta])
                def double(tensor):
                    return next(made, torch.quantize_per_tensor(torch.zeros(3, 4), 0.1, 0, torch.quint8))
            """
        },
        held="what is sent is counted before it is copied",
    ),
    Case(
        "pickled-code",
        "Functions return objects, arrays of objects and bytes whose unpickling would run commands in the grader.",
        first="""
            import pickle
            class Bomb:
                def __reduce__(self): return (__import__("os").system, ("touch /tmp/@MARK@; touch ./@MARK@; echo @MARK@",))
            class Array(np.ndarray):
                __reduce__ = __reduce_ex__ = Bomb.__reduce__
        """,
        cells={
            "total": "def total(numbers): return Bomb()",
            "scale": "def scale(table): return np.array([Bomb()] * 4, dtype=object).reshape(2, 2)",
            "describe": "def describe(words): return pickle.dumps(Bomb())",
            "share": "def share(): return np.frombuffer(pickle.dumps(Bomb()), dtype='u1')",
            "distances": "def distances(values): return values.view(Array)",
        },
        held="nothing is ever unpickled",
    ),
    Case(
        "memory-through-interfaces",
        "A function returns an object whose array interface points to memory of whoever reads it.",
        cells={
            "total": """
                class Window:
                    def __init__(self, address): self.address = address
                    @property
                    def __array_interface__(self):
                        return dict(data=(self.address, False), shape=(1 << 20,), typestr="|u1", version=3)
                    @property
                    def __array_struct__(self): return self.address
                    def __dlpack__(self, *args, **more): return self.address
                    def __dlpack_device__(self): return (1, 0)
                def total(numbers): return Window(0x400000)
            """,
            "scale": "def scale(table): return Window(id(table))",
            "distances": "def distances(values): return Window(8)",
        },
        held="a handle gives methods of its own kind only, never an interface to memory",
    ),
    Case(
        "nested-results",
        "Functions return lists a hundred thousand deep, a list that holds itself, and a dictionary of those.",
        cells=solved(
            total="""
                def total(numbers):
                    deep = []
                    for _ in range(100_000):
                        deep = [deep]
                    return deep
            """,
            scale="""
                def scale(table):
                    endless = []
                    endless.append(endless)
                    return endless
            """,
            describe="def describe(words): return {'first': total([]), 'count': {(((),),): scale(None)}}",
        ),
        earns=8,
        exactly=True,
        held="depth is capped on the way",
    ),
    Case(
        "huge-results",
        "Functions return a text of a gigabyte, ten million items, an array with a claimed petabyte, and a huge integer.",
        cells=solved(
            total="def total(numbers): return 1 << (1 << 24)",
            scale="def scale(table): return np.lib.stride_tricks.as_strided(np.zeros(1), (1 << 30, 1 << 20), (0, 0))",
            describe="def describe(words): return {'first': 'x' * (300 << 20), 'count': list(range(10_000_000))}",
        ),
        earns=8,
        held="size is capped on the way",
    ),
    Case(
        "endless-results",
        "Functions return generators, iterators and mappings that never end.",
        first="""
            import itertools
            class Endless:
                def __iter__(self): return itertools.count()
                def __len__(self): return 2**62
                def __getitem__(self, key): return 1
                def keys(self): return itertools.count()
        """,
        cells=solved(
            total="def total(numbers): return itertools.count()",
            scale="def scale(table): return Endless()",
            describe="def describe(words): return (word for word in itertools.repeat('w'))",
        ),
        earns=8,
        held="what is no plain data stays where it is, and every cell has its time",
    ),
    Case(
        "scores-that-are-none",
        "A function that a partial score is made of returns NaN.",
        cells={"share": "def share(): return float('nan')"},
        check=finite,
        held="the supervisor takes numbers between 0 and the cell's points",
    ),
    *(
        Case(
            f"scores-{name}",
            f"A function that a partial score is made of returns {text}.",
            cells={"share": f"def share(): return {code}"},
            earns=2,
            check=finite,
            held="the supervisor takes numbers between 0 and the cell's points",
        )
        for name, text, code in (
            ("beyond-the-cap", "a million", "1e6"),
            ("of-infinity", "infinity", "float('inf')"),
            ("below-zero", "less than nothing", "-1e6"),
            ("of-huge-integers", "an integer that no float can hold", "10**400"),
        )
    ),
    Case(
        "scores-by-display",
        "In an ordinary notebook a partial score's value is displayed as a hundred points.",
        unit="ordinary",
        cells={
            "square": """
                class Hundred(float):
                    def __mul__(self, other): return self
                    def __float__(self): return self
                    def __repr__(self): return "100.0"
                    def _repr_mimebundle_(self, *args, **more): return {"text/plain": "100.0"}, {}
                def square(x): return Hundred(0)
            """
        },
        first="""
            from IPython import get_ipython
            formatter = get_ipython().display_formatter.formatters["text/plain"]
            formatter.for_type(float, lambda value, printer, cycle: printer.text("100.0"))
        """,
        earns=1,
        held="a test gives its cell's points at most",
    ),
    Case(
        "always-equal-ordinary",
        "In an ordinary notebook functions return objects that are equal to anything.",
        unit="ordinary",
        first=YES,
        cells={"square": "def square(x): return Yes(0)"},
        held="the tamper canaries notice what is equal to anything, and a person decides",
    ),
    Case(
        "always-equal-slowly-ordinary",
        "In an ordinary notebook the same functions are so slow that a second look at their tests would take long.",
        unit="ordinary",
        first=YES,
        cells={"square": "def square(x):\n    __import__('time').sleep(0.9)\n    return Yes(0)"},
        held="a slow test is looked into as well, in time of our own",
    ),
    Case(
        "always-equal-until-looked-into-ordinary",
        "In an ordinary notebook the same functions end the process when they are called once more than the tests do.",
        unit="ordinary",
        first=f"{YES}calls = 0\n",
        cells={"square": "def square(x):\n    global calls\n    calls += 1\n    return Yes(0) if calls <= 4 else os._exit(0)"},
        held="what passed is not believed when the run ends before its tests were looked into",
    ),
    Case(
        "always-equal-and-end-ordinary",
        "In an ordinary notebook the same functions pass a test, and the next test ends the process.",
        unit="ordinary",
        first=YES,
        cells={"square": "def square(x): return Yes(0)", "centre": "def centre(table): os._exit(0)"},
        held="what passed is not believed when the run ends before its tests were looked into",
    ),
    Case(
        "hostile-exceptions",
        "Functions raise exceptions whose text, name, arguments, notes and tracebacks are code, markup and megabytes.",
        first="""
            class Text(str):
                def __str__(self): return "<script>alert('@MARK@')</script>" * 20_000
                __repr__ = __format__ = __str__
            def hostile(base):
                class Failed(base):
                    def __str__(self): return str(Text())
                    __repr__ = __str__
                    @property
                    def args(self): return (Text(),)
                    __notes__ = [str(Text())]
                Failed.__name__ = Failed.__qualname__ = "<img src=x onerror=alert(1)>"
                Failed.__module__ = "</pre><script>"
                return Failed()
        """,
        cells=solved(
            total="def total(numbers): raise hostile(Exception)",
            scale="def scale(table): raise hostile(BaseException) from hostile(AssertionError)",
            describe="def describe(words): raise hostile(StopIteration)",
            distances="def distances(values): raise ExceptionGroup('x' * 10**7, [hostile(Exception)] * 1000)",
        ),
        earns=5,
        held="of an error only a short text crosses, and pages escape it",
    ),
    Case(
        "reset-the-counter",
        "A search asks the counting callback as often as it likes and sets the counter back through globals and closures.",
        cells={
            "search": """
                def search(reached, low, high):
                    place = next(number for number in range(0, high, max(1, high // 3000)) if reached(number))
                    place = next(number for number in range(max(0, place - high // 3000 - 1), high + 1) if reached(number))
                    for scope in (globals(), getattr(reached, "__globals__", {}), vars(__import__("__main__"))):
                        try:
                            scope["calls"] = 1
                        except Exception:
                            pass
                    try:
                        reached.calls = 1
                    except Exception:
                        pass
                    return place
            """
        },
        held="the counter lies on the tests' side",
    ),
    Case(
        "callbacks-in-parallel-and-late",
        "A search asks from threads, from inside callbacks, and goes on asking after it has returned.",
        cells=solved(
            search="""
                import threading, time
                def late(reached, found):
                    time.sleep(0.05)
                    for number in range(2000):
                        try:
                            found.append(reached(number))
                        except BaseException:
                            return
                def search(reached, low, high):
                    found = []
                    for _ in range(8):
                        threading.Thread(target=late, args=(reached, found), daemon=True).start()
                    return low
            """
        ),
        earns=11,
        held="a callback lives as long as the call that brought it",
    ),
    Case(
        "callback-flood",
        "A search calls its callback in an endless loop, with enormous arguments.",
        cells=solved(
            search="""
                def search(reached, low, high):
                    while True:
                        try:
                            reached(1 << 100_000)
                            reached([[low] * 1000] * 1000)
                        except BaseException:
                            pass
            """
        ),
        earns=11,
        held="a cell's time includes its callbacks",
    ),
    Case(
        "arguments-changed-in-place",
        "Functions change the arrays and lists they are given, so that the tests compare the result with itself.",
        cells={
            "scale": "def scale(table):\n    table[...] = 1.0\n    return table",
            "total": "def total(numbers):\n    numbers[:] = [0]\n    return 0",
            "distances": "def distances(values):\n    values[:] = 0\n    return values",
        },
        held="arguments are copies",
    ),
    Case(
        "results-changed-later",
        "Functions return the same array each time and go on writing into it from a thread.",
        cells={
            "scale": """
                import threading
                shared = np.ones((5, 4))
                def scale(table):
                    answer = table / table.max()
                    threading.Timer(0.2, lambda: shared.__setitem__(..., answer)).start()
                    return shared if table.shape == (5, 4) else np.ones(table.shape)
            """
        },
        held="results are copies",
    ),
]


@pytest.mark.docker
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_result_deceives(case: Case, grader: Grader, record_property: Record) -> None:
    contain(case, grader, record_property)
