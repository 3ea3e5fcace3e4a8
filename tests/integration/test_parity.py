"""Ordinary nbgrader notebooks get the scores that stock nbgrader gives, cell by cell.

Stock is nbgrader's own command with its own configuration and gradebook. Notebooks are nbgrader's example course and what
teachers write: names used directly, helpers, partial credit, files, magics, plots, answers in words, code that fails. The one
exception: a test that writes to stderr has not failed here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat
import nbgrader
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell
from nbgrader.api import Gradebook
from nbgrader.converters import GenerateAssignment
from nbgrader.coursedir import CourseDirectory
from nbgrader.utils import determine_grade, is_grade, is_solution

from academy.messages import AcademyError
from academy.settings import Settings, load
from grading import autograde
from tests.conftest import remove_deployment, write_config

pytestmark = pytest.mark.timeout(900)  # stock nbgrader starts a kernel for each notebook, and again for each student

COURSE = "parity"
EXAMPLE = Path(nbgrader.__file__).parent / "docs" / "source" / "user_guide"  # what `nbgrader quickstart` copies
KINDS = {  # kind -> grade, solution, locked, task
    "locked": (False, False, True, False),
    "solution": (False, True, False, False),
    "test": (True, False, True, False),
    "manual": (True, True, False, False),
    "task": (False, False, True, True),
}

# A line "# %% kind name points" begins a cell: kinds as above, or markdown, raw, code. Markdown cells say so before the kind.
NOTEBOOKS = {
    "credit": """
# %% solution share
def share(x):
    ### BEGIN SOLUTION
    return x / 4
    ### END SOLUTION
# %% test float 4
share(10)
# %% test integer 3
int(share(8))
# %% test nothing 2
share(0)
# %% test whole 2
assert share(4) == 1
# %% test printed 2
print("1.0")
share(6)
# %% test text 2
"half"
# %% test truth 2
share(4) == 1
# %% test none 2
None
# %% test silent 2
share(2);
# %% test shown 2
display(0.5)
# %% test shown-first 3
display({"a": 1})
share(2)
# %% test numpy 1
import numpy as np
np.float64(share(2))
# %% test item 1
np.float64(share(2)).item()
# %% test tensor 1
np.array(share(2))
# %% test every 5
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.ast_node_interactivity = "all"
share(4)
share(8)
# %% test every-off 1
InteractiveShell.ast_node_interactivity = "last_expr"
share(1) + 0.25
# %% test zero-points 0
assert share(4) == 1
# %% test exponent 1
1e-1
# %% test list 2
[1.0]
""",
    "helpers": '''
# %% code
import csv
import inspect
import os

import helpers
# %% locked load
def load(name="data.csv"):
    with open(name) as file:
        return [float(row["value"]) for row in csv.DictReader(file)]

TOLERANCE = 1e-6
values = load()
# %% solution mean
def mean(values):
    """The mean."""
    ### BEGIN SOLUTION
    return sum(values) / len(values)
    ### END SOLUTION
# %% code
def close(a, b):
    return abs(a - b) < TOLERANCE
# %% test mean-right 2
assert close(mean(values), 2.0), "the mean of the file"
### BEGIN HIDDEN TESTS
assert close(mean([5]), 5), "one value"
### END HIDDEN TESTS
# %% test twice-right 1
assert helpers.twice(mean(values)) == 4
# %% test source-read 1
assert "sum" in inspect.getsource(mean) and mean.__doc__
# %% test folder 1
assert os.path.exists("sub/more.txt") and open("sub/more.txt").read() == "넷"
# %% test environment 1
assert os.environ["NBGRADER_EXECUTION"] == "autograde"
# %% solution write
### BEGIN SOLUTION
with open("out.txt", "w") as file:
    file.write(f"{mean(values)}\\n")
### END SOLUTION
# %% test written 1
assert open("out.txt").read() == "2.0\\n"
# %% test main 1
import sys
assert __name__ == "__main__" and sys.modules["__main__"].mean is mean
# %% test documented 1
%run helpers.py
assert ran == mean([1, 3])
''',
    "order": """
# %% solution first
### BEGIN SOLUTION
x = 1
numbers = [1, 2]
### END SOLUTION
# %% test first-right 1
assert x == 1
# %% test extends 1
numbers.append(3)
assert len(numbers) == 3
# %% solution second
### BEGIN SOLUTION
x = x + 1
numbers = numbers + [4]
def f():
    return "second"
### END SOLUTION
# %% test second-right 2
assert x == 2 and f() == "second"
# %% test extended 1
assert numbers == [1, 2, 3, 4]
# %% test gives 1
given = 5
import random
random.seed(3)
# %% solution third
### BEGIN SOLUTION
x = given * 2
drawn = random.random()
def f():
    return "third"
### END SOLUTION
# %% test third-right 2
assert x == 10 and f() == "third"
# %% test drawn-right 1
random.seed(3)
assert drawn == random.random()
# %% test deletes 1
del x
# %% test gone 1
try:
    x
except NameError:
    pass
else:
    raise AssertionError("x is still there")
# %% test out 1
Out and In and _ih[-1].startswith("Out")
# %% solution lists
### BEGIN SOLUTION
numbers = [1, 2]
table = {"a": 1}
### END SOLUTION
# %% test lists-right 1
assert numbers == [1, 2] and table == {"a": 1}
# %% solution grows
### BEGIN SOLUTION
numbers.append(3)
table["b"] = 2
### END SOLUTION
# %% test grown 1
assert numbers == [1, 2, 3] and len(table) == 2
# %% code
import numpy as np
array = np.zeros(3)
scale = 2
# %% solution scaled
def scaled(x):
    ### BEGIN SOLUTION
    return x * scale
    ### END SOLUTION
# %% test scaled-right 1
assert scaled(3) == 6
# %% test zeros 1
assert array.sum() == 0
# %% code
scale = 5
array[0] = 7
# %% test scaled-again 1
assert scaled(3) == 15 and array.sum() == 7
# %% solution file
### BEGIN SOLUTION
open("log.txt", "w").write("first")
### END SOLUTION
# %% test file-right 1
assert open("log.txt").read() == "first"
# %% code
open("log.txt", "w").write("second")
# %% solution stream
def stream():
    ### BEGIN SOLUTION
    yield from "abc"
    ### END SOLUTION
letters = stream()
# %% test stream-first 1
assert next(letters) == "a"
# %% code
second = next(letters)
# %% test stream-third 1
assert second == "b" and next(letters) == "c"
# %% solution account
class Account:
    ### BEGIN SOLUTION
    rate = 1
    def __init__(self):
        self.balance = 0
    def add(self, amount):
        self.balance += amount * self.rate
    ### END SOLUTION
account = Account()
account.add(5)
# %% test account-right 1
assert account.balance == 5
# %% code
account.add(5)
Account.rate = 10
# %% test account-later 1
account.add(1)
assert account.balance == 20
# %% code
for i in range(3):
    pass
# %% test loop-variable 1
assert i == 2
# %% code
values = [i := 7]
# %% test walrus 1
assert i == 7
# %% code
import os
os.mkdir("deeper")
place = os.getcwd()
# %% test place-right 1
assert os.getcwd() == place
# %% code
os.chdir("deeper")
# %% test deeper 1
assert os.getcwd() != place and not os.path.exists("data.csv")
# %% code
os.chdir("..")
exec("made = 1")
globals()["other"] = 1
# %% test made-right 1
assert made == 1 and other == 1
# %% code
exec("made = 2")
globals()["other"] = 2
# %% test made-later 1
assert made == 2 and other == 2
# %% code
from math import sqrt
# %% test sqrt-right 1
assert sqrt(9) == 3
# %% code
from cmath import *
# %% test sqrt-later 1
assert sqrt(-1) == 1j
# %% code
np.random.seed(0)
first = np.random.rand()
# %% test seeded 1
np.random.seed(0)
assert np.random.rand() == first
# %% code
after = np.random.rand()
# %% test after-right 1
np.random.seed(0)
np.random.rand()
assert np.random.rand() == after
# %% code
import warnings
warnings.simplefilter("error")
# %% test strict 1
try:
    warnings.warn("x")
except UserWarning:
    pass
else:
    raise AssertionError
# %% code
warnings.simplefilter("ignore")
# %% test lenient 1
warnings.warn("x")
""",
    "words": """
# %% markdown
# 생각해 보기
# %% markdown manual why 2
YOUR ANSWER HERE
# %% manual plot 3
### BEGIN SOLUTION
import matplotlib.pyplot as plt
plt.plot([1, 2], [3, 4])
plt.show()
### END SOLUTION
# %% markdown manual untouched 1
YOUR ANSWER HERE
# %% manual stub 1
### BEGIN SOLUTION
1 / 0
### END SOLUTION
# %% markdown task essay 2
Describe your project below.
# %% raw
raw text
# %% code
%matplotlib inline
import matplotlib.pyplot as plt
figure, axes = plt.subplots()
# %% solution draw
### BEGIN SOLUTION
axes.plot([1, 2, 3], [1, 4, 9], label="제곱")
axes.set_xlabel("x")
### END SOLUTION
# %% test axes-right 2
assert axes.get_xlabel() == "x"
assert list(axes.lines[0].get_ydata()) == [1, 4, 9]
# %% test drawn 2
plt.plot([1, 2])
plt.show()
# %% test figure-result 2
plt.plot([1, 2])
# %% test figure-last 2
figure
""",
    "shell": """
# %% solution square
def square(x):
    ### BEGIN SOLUTION
    return x * x
    ### END SOLUTION
# %% code
%timeit -n 2 -r 2 square(3)
# %% code
%%time
squares = [square(x) for x in range(5)]
# %% solution shell
### BEGIN SOLUTION
files = !ls
!echo 하나
### END SOLUTION
# %% test shell-right 1
assert "data.csv" in files
# %% test cell-magic 1
%%capture shown
print(square(4))
# %% test captured 1
assert shown.stdout == "16\\n"
# %% test bash 1
%%bash
echo ok > made.txt
# %% test bash-made 1
assert open("made.txt").read() == "ok\\n"
# %% test bash-fails 1
!false
# %% test bash-raises 1
%%bash
exit 3
# %% solution later
import asyncio

async def later(x):
    ### BEGIN SOLUTION
    await asyncio.sleep(0.01)
    return x + 1
    ### END SOLUTION
# %% test awaited 2
assert await later(1) == 2
# %% test gathered 1
assert await asyncio.gather(later(1), later(2)) == [2, 3]
# %% test written-file 1
%%writefile module_made_here.py
answer = 42
# %% test imports-file 1
import module_made_here
assert module_made_here.answer == 42
# %% test timing 1
%timeit -n 1 -r 1 square(3)
# %% test asks 1
square(int(input()))
# %% test shell-object 1
assert get_ipython().user_ns["square"](2) == 4
# %% test thread 1
import threading
results = []
thread = threading.Thread(target=lambda: results.append(square(5)))
thread.start()
thread.join()
assert results == [25]
# %% test child 1
import subprocess, sys
assert subprocess.run([sys.executable, "-c", "print(7)"], capture_output=True, text=True).stdout == "7\\n"
# %% test fork 1
import multiprocessing
with multiprocessing.get_context("fork").Pool(1) as pool:
    assert pool.map(square, [1, 2, 3]) == [1, 4, 9]
# %% code
import asyncio
import contextlib
import io
import sys
# %% solution greet
def greet(name="you"):
    '''
    >>> greet("me")
    hello me
    '''
    ### BEGIN SOLUTION
    print("hello", name)
    ### END SOLUTION
# %% test redirected 1
with contextlib.redirect_stdout(io.StringIO()) as text:
    greet()
assert text.getvalue() == "hello you\n"
# %% test captured-output 1
from IPython.utils.capture import capture_output
with capture_output() as shown:
    greet()
assert shown.stdout == "hello you\n"
# %% test documented 1
import doctest
doctest.testmod()
assert doctest.testmod().failed == 0
# %% test units 1
import unittest

class Greeting(unittest.TestCase):
    def test_greet(self):
        with contextlib.redirect_stdout(io.StringIO()) as text:
            greet("all")
        self.assertEqual(text.getvalue(), "hello all\n")

suite = unittest.defaultTestLoader.loadTestsFromTestCase(Greeting)
assert unittest.TextTestRunner(stream=sys.stdout).run(suite).wasSuccessful()
# %% test units-main 1
unittest.main(argv=[""], exit=False)
# %% solution depth
def depth(n):
    ### BEGIN SOLUTION
    return 0 if n == 0 else 1 + depth(n - 1)
    ### END SOLUTION
# %% test deep 1
assert depth(900) == 900
# %% test deeper 1
assert depth(1500) == 1500
# %% test limit 1
import sys
sys.setrecursionlimit(12_000)
assert depth(10_000) == 10_000
# %% test endless 1
try:
    depth(-1)
except RecursionError:
    pass
# %% solution task
### BEGIN SOLUTION
async def work():
    await asyncio.sleep(0)
    return 3
task = asyncio.create_task(work())
### END SOLUTION
# %% test task-right 1
assert await task == 3
# %% test running 1
assert asyncio.get_running_loop().is_running()
# %% test run-inside 1
asyncio.run(work())
# %% solution tracked
### BEGIN SOLUTION
from dataclasses import dataclass

@dataclass
class Point:
    x: int
    y: int = 0
### END SOLUTION
# %% test pickled 1
import pickle
assert pickle.loads(pickle.dumps(Point(1))) == Point(1)
# %% test pooled 1
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(1) as pool:
    assert list(pool.map(depth, [1, 2])) == [1, 2]
# %% test alarm 1
import signal

def late(*_):
    raise TimeoutError

signal.signal(signal.SIGALRM, late)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    while True:
        pass
except TimeoutError:
    pass
# %% code
%load_ext autoreload
%autoreload 2
%config InlineBackend.figure_format = "retina"
%precision 2
# %% test precise 1
0.123456
# %% test precise-off 1
%precision
0.5
# %% test env 1
%env ACADEMY_TEST_VALUE=3
import os
assert os.environ["ACADEMY_TEST_VALUE"] == "3"
# %% test html-magic 1
%%html
<b>1</b>
# %% test python 1
%%python3
print(3)
# %% test who 1
names = %who_ls function
assert "greet" in names
# %% test line 1
total = %sx echo 3
assert total == ["3"]
# %% test time-magic 1
%time value = depth(3)
assert value == 3
# %% test unknown 1
%no_such_magic
# %% test help 1
greet?
# %% test help-off 1
assert get_ipython().find_line_magic("time")
# %% test plots 1
import matplotlib.pyplot as plt
assert plt.get_fignums() == [] and "inline" in plt.get_backend()
# %% code
plt.plot([1, 2])
figure = plt.gcf()
# %% test closed 1
assert plt.get_fignums() == [] and len(figure.axes[0].lines) == 1
# %% test last 2
depth(1) + 0.5
# %% test remembered 1
assert _ == 1.5
# %% test sleeping 1
import threading, time
done = threading.Event()
threading.Timer(0.01, done.set).start()
assert done.wait(5)
# %% test temporary 1
import tempfile, sqlite3
with tempfile.TemporaryDirectory() as folder:
    with contextlib.closing(sqlite3.connect(folder + "/x.db")) as base:
        assert base.execute("select 1").fetchone() == (1,)
# %% test annotated 1
import typing
assert typing.get_type_hints(Point) == {"x": int, "y": int}
# %% test reset 1
display("x", display_id="one").update("y")
# %% test exception-group 1
from IPython.display import Markdown
Markdown("0.5")
""",
    "noise": """
# %% code
import logging
import sys
import warnings
# %% solution tell
def tell():
    ### BEGIN SOLUTION
    return 1
    ### END SOLUTION
# %% test stdout 1
print("a" * 2000)
assert tell() == 1
# %% test stderr 1
print("look", file=sys.stderr)
assert tell() == 1
# %% test warns 1
warnings.warn("old")
assert tell() == 1
# %% test logs 2
logging.warning("careful")
1.5
# %% test warns-fails 1
warnings.warn("old")
assert tell() == 2
# %% test raises 1
raise KeyError("always")
# %% test after 1
assert tell() == 1
# %% test expects 1
try:
    tell("too", "many")
except TypeError:
    pass
# %% test leaves 1
sys.exit()
# %% test leaves-loudly 1
raise SystemExit(2)
# %% test still-here 1
assert tell() == 1
# %% test empty 1
# %% test comment 1
# nothing to do
# %% test quiet 1
assert type(tell()) is int
# %% test html 1
from IPython.display import HTML, clear_output
HTML("<b>2</b>")
# %% test cleared 1
print("1")
clear_output()
# %% test unicode 1
assert "한글".encode().decode() == "한글", "\\u2713"
# %% test bytes-out 6
sys.stdout.write("plain")
# %% test group 1
raise ExceptionGroup("several", [ValueError(1), KeyError(2)])
""",
    "checks": """
# %% code
import builtins
import inspect
import os
import random
from unittest import mock

import numpy as np
# %% solution ask
def ask():
    ### BEGIN SOLUTION
    return int(input("n? ")) * 2
    ### END SOLUTION
# %% test ask-mocked 1
with mock.patch("builtins.input", return_value="4"), mock.patch("builtins.print") as printed:
    assert ask() == 8
    printed.assert_not_called()
# %% test ask-replaced 1
kept, builtins.input = builtins.input, lambda prompt="": "5"
assert ask() == 10
builtins.input = kept
# %% solution double
def double(x):
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION
# %% test by-parts 3
points = 0
for x in (1, 2, 3):
    try:
        assert double(x) == 2 * x
        points += 1
    except Exception:
        pass
points
# %% test no-check 1
double(3);
# %% test prints-only 1
print(double(3))
# %% test always 1
assert True
assert double(1) == 2 or True
# %% test loop-empty 1
wrong = [x for x in range(5) if double(x) != 2 * x]
for x in wrong:
    assert x is None, x
# %% test branch 1
if double(1) != 2:
    assert False, "double"
else:
    assert double(2) == 4
# %% test branch-alone 1
if double(1) != 2:
    assert False, "double"
# %% test all-empty 1
assert all(x > 0 for x in [])
np.testing.assert_allclose([], [])
# %% solution cases
### BEGIN SOLUTION
cases = {3: 6, 4: 8}
### END SOLUTION
# %% code
def check(function, cases):
    assert cases, "no cases"
    for given, expected in cases.items():
        assert function(given) == expected, given
# %% test by-helper 1
check(double, cases)
check(double, {0: 0, -1: -2})
# %% solution counter
def counter():
    ### BEGIN SOLUTION
    counter.calls = getattr(counter, "calls", 0) + 1
    return counter.calls
    ### END SOLUTION
# %% test counts 1
assert counter() == 1
assert counter() == 2
# %% solution queue
### BEGIN SOLUTION
queue = [3, 1, 2]
open("result.txt", "w").write("done")
### END SOLUTION
# %% test pops 1
assert queue.pop() == 2
assert queue.pop(0) == 3
# %% test removes 1
assert os.path.exists("result.txt")
os.remove("result.txt")
assert not os.path.exists("result.txt")
# %% test iterates 1
numbers = iter([1, 2])
assert next(numbers) == 1
assert next(numbers) == 2
assert next(numbers, None) is None
# %% test raises-right 1
try:
    double(None)
except TypeError:
    pass
else:
    raise AssertionError("double(None) should raise")
# %% test defined 1
assert "double" in globals() and callable(double) and double.__module__ == "__main__"
assert list(inspect.signature(double).parameters) == ["x"]
# %% test tree 1
import ast
assert any(isinstance(node, ast.Return) for node in ast.walk(ast.parse(inspect.getsource(double))))
# %% test arrays 2
x = np.arange(6).reshape(2, 3)
np.testing.assert_array_equal(double(x), x + x)
assert (double(x) == x * 2).all() and double(x).shape == (2, 3)
# %% test random-right 1
random.seed(1)
assert 0 <= double(random.random()) <= 2
# %% test messages 1
assert double(2) == 4, f"double(2) gave {double(2)}"; assert not None
# %% test function-inside 1
def inner():
    assert double(5) == 10
    return True

assert inner()
# %% test never-called 1
def unused():
    assert double(5) == 11
# %% test record 1
import warnings
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    warnings.warn("x")
assert len(seen) == 1
# %% test timed 1
result = %timeit -o -q -n 1 -r 1 double(2)
assert result.best < 1
# %% test overrides 1
assert double == 4 or double is double
# %% test not-equal 1
assert double(2) != 5 and double(2) is not None
# %% test nested 1
assert [double(n) for n in range(3)] == [0, 2, 4] and {"a": double(1)} == {"a": 2}
# %% test lambda-right 1
assert (lambda f: f(2))(double) == 4
# %% test class-source 1
class Box:
    def __init__(self, x):
        self.x = double(x)

assert Box(2).x == 4 and vars(Box(1)) == {"x": 2}
# %% test bare-raise 1
if double(2) != 4:
    raise ValueError("double(2)")
# %% test compares-floats 1
assert abs(double(0.1) - 0.2) < 1e-12
assert round(double(1.005), 1) == 2.0
# %% test text-out 1
assert str(double(2)) == "4" and f"{double(2):>3}" == "  4"
""",
    "mixed": """
# %% locked setup
import numpy as np

from grading.checks import hint, submission

LIMIT = 1e-9
# %% locked close
def close(a, b):
    return np.allclose(a, b, atol=LIMIT)
# %% solution norm
def norm(x):
    ### BEGIN SOLUTION
    return np.sqrt((x * x).sum(axis=-1))
    ### END SOLUTION
# %% code
table = np.array([[3.0, 4.0], [6.0, 8.0]])
print(close(table, table))
# %% test norm-apart 2
assert close(submission.norm(table), [5, 10]), hint("norm")
### BEGIN HIDDEN TESTS
assert submission.norm(np.ones(4)) == 2
### END HIDDEN TESTS
# %% test norm-direct 1
assert close(norm(table), [5, 10])
# %% solution unit
class Unit:
    ### BEGIN SOLUTION
    def __init__(self, x):
        self.x = x
        self.calls = 0

    def length(self):
        self.calls += 1
        return float(norm(self.x))
    ### END SOLUTION
# %% test unit-apart 2
unit = submission.Unit(np.array([3.0, 4.0]))
assert unit.length() == 5 and unit.calls == 1
# %% test unit-direct 1
assert Unit(np.array([0.0, 2.0])).length() == 2
# %% test part-apart 4
float(submission.norm(np.array([0.0, 1.5])))
# %% test part-direct 4
float(norm(np.array([0.0, 1.5])))
""",
}
FILES = {
    "data.csv": "name,value\na,1\nb,2\nc,3\n",
    "helpers.py": "ran = 2\n\n\ndef twice(x):\n    return 2 * x\n",
    "sub/more.txt": "넷",
}
# Student -> notebook -> cell -> what it becomes (None: deleted; "": as released). "right" hands in the solutions.
STUDENTS: dict[str, dict[str, dict[str, str | None]]] = {
    "right": {"words": {"why": "넘파이가 빨라요. $x^2$", "untouched": "", "stub": "", "essay": "My project"}},
    "wrong": {
        "credit": {"share": "def share(x):\n    return x // 4 + 0.0"},
        "helpers": {"mean": "def mean(values):\n    return values[0", "load": "def load(): return []", "write": "1 / 0"},
        "order": {
            "first": "x = 2\nnumbers = (1, 2)",
            "third": "import os\nraise RuntimeError('여기')\nx = 10",
            "lists": "numbers = [2]\ntable = {}",
            "scaled": "def scaled(x):\n    return x",
            "stream": "def stream(",
        },
        "words": {"why": "", "plot": "import matplotlib.pyplot as plt\nplt.plot([1, 2], [3])", "draw": "axes.set_xlabel('y')"},
        "shell": {
            "square": "def square(x):\n    return x + x",
            "shell": "files = []\ninput('?')",
            "later": "def later(x) return",
            "greet": "def greet(name='you'):\n    '''>>> greet('me')\n    hello'''\n    print(name)",
            "task": "task = 1",
        },
        "checks": {"ask": "def ask():\n    return 0", "double": "def double(x):\n    return x ** 2", "cases": "cases = {}"},
        "mixed": {"norm": "def norm(x):\n    return abs(x).sum(axis=-1)", "unit": "class Unit: pass"},
        "noise": {"tell": "import warnings\ndef tell():\n    warnings.warn('mine')\n    return True"},
    },
    "half": {"credit": {"share": ""}, "order": {"second": "def f():\n    return 'second'\nx += 1\nraise SystemExit"}},
}
HANDED_IN = {"half": ["credit", "order"]}  # the others are missing


def cells(text: str) -> list[Any]:
    made: list[Any] = []
    for part in text.split("# %% ")[1:]:
        head, _, source = part.partition("\n")
        kind, *rest = head.split()
        make: Any = {"markdown": new_markdown_cell, "raw": new_raw_cell}.get(kind, new_code_cell)
        if kind == "markdown" and rest:
            kind, *rest = rest
        cell = make(source.rstrip("\n"))
        if kind in KINDS:
            grade, solution, locked, task = KINDS[kind]
            cell.metadata.nbgrader = {"schema_version": 3, "grade_id": rest[0], "grade": grade, "solution": solution}
            cell.metadata.nbgrader |= {"locked": locked, "task": task}
            if grade or task:
                cell.metadata.nbgrader["points"] = float(rest[1])
        made.append(cell)
    return made


def write_source(folder: Path) -> None:
    for name, text in NOTEBOOKS.items():
        notebook = new_notebook(cells=cells(text))
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        folder.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, folder / f"{name}.ipynb")
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")


def write_submission(release: Path, folder: Path, login: str) -> None:
    """A student's folder as JupyterLab leaves it: outputs of an earlier run, execution counts in any order."""
    shutil.copytree(release, folder)
    for path in sorted(folder.glob("*.ipynb")):
        if path.stem not in HANDED_IN.get(login, NOTEBOOKS):
            path.unlink()
            continue
        solution = {c.metadata.nbgrader.grade_id: c.source for c in cells(NOTEBOOKS[path.stem]) if "nbgrader" in c.metadata}
        changes = STUDENTS[login].get(path.stem, {})
        notebook: Any = nbformat.read(path, as_version=4)
        for number, cell in enumerate(notebook.cells):
            about = cell.metadata.get("nbgrader", {})
            name = about.get("grade_id", "")
            if name in changes:
                cell.source = changes[name] or cell.source
            elif about.get("solution"):
                cell.source = solution[name]
            if cell.cell_type == "code":
                cell.execution_count = 99 - number
                cell.outputs = [new_output("stream", name="stderr", text="of an earlier run")]
        notebook.cells.insert(2, new_code_cell("my_own_cell = 1\nprint(my_own_cell)"))
        nbformat.write(notebook, path)
    (folder / "notes.txt").write_text("mine")
    (folder / "data.csv").write_text("value\n100\n")  # changed; the teacher's is put back


@dataclass(frozen=True)
class Cell:
    """What a gradebook knows of one graded cell of one student."""

    score: float | None
    most: float
    manual: bool

    def __str__(self) -> str:
        return f"{self.score}/{self.most:g}{' by hand' * self.manual}"


@dataclass(repr=False)
class Graded:
    """What a side made of a course: (assignment, login, notebook, cell) -> Cell; and what it says of answers."""

    cells: dict[tuple[str, str, str, str], Cell]
    comments: dict[tuple[str, str, str, str], str | None]
    totals: dict[tuple[str, str], float]
    warned: set[tuple[str, str, str, str]] = field(default_factory=set)  # cells that stock failed for stderr alone
    flags: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # what ours would have a person look at


def read(url: str, course: str) -> Graded:
    graded = Graded({}, {}, {})
    with Gradebook(url, course) as book:
        for assignment in book.assignments:
            for submission in book.assignment_submissions(assignment.name):
                key = (assignment.name, submission.student.id)
                graded.totals[key] = submission.score
                for notebook in submission.notebooks:
                    for grade in notebook.grades:
                        cell = Cell(grade.auto_score, grade.max_score, bool(grade.needs_manual_grade))
                        graded.cells[(*key, notebook.name, grade.name)] = cell
                    for comment in notebook.comments:
                        graded.comments[(*key, notebook.name, comment.name)] = comment.auto_comment
    return graded


def forgive_stderr(stock: Graded, root: Path) -> None:
    """The one exception: what stock takes for a failure because it was written to stderr counts for what else came out."""
    for path in root.glob("autograded/*/*/*.ipynb"):
        notebook: Any = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type != "code" or not is_grade(cell) or is_solution(cell):
                continue
            kept = [output for output in cell.outputs if output.get("name") != "stderr"]
            if kept != cell.outputs:
                key = (path.parts[-2], path.parts[-3], path.stem, cell.metadata.nbgrader.grade_id)
                cell.outputs = kept
                forgiven = replace(stock.cells[key], score=determine_grade(cell)[0])
                if forgiven != stock.cells[key]:
                    stock.warned.add(key)
                stock.cells[key] = forgiven


def stock_command(root: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "nbgrader", *arguments]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=800, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def our_course(settings: Settings, source: Path) -> None:
    """The same sources in a course folder of ours, as formgrader's button makes an assignment."""
    root = settings.course_folder(COURSE)
    shutil.copytree(source, root / "source")
    with autograde.gradebook(settings, COURSE):
        pass
    for unit in ("ps1", "everyday"):
        config = autograde.nbgrader_config(settings, COURSE)
        config.CourseDirectory.assignment_id = unit
        GenerateAssignment(coursedir=CourseDirectory(config=config), config=config).start()


@contextlib.contextmanager
def same_place() -> Iterator[None]:
    """nbgrader changes the working directory and the umask."""
    folder, mask = os.getcwd(), os.umask(0o022)
    try:
        yield
    finally:
        os.chdir(folder)
        os.umask(mask)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory, sandbox_image: None) -> Iterator[tuple[Graded, Graded]]:
    """(stock, ours): both courses graded, at the same time."""
    folder = tmp_path_factory.mktemp("parity")
    root = folder / "stock"
    shutil.copytree(EXAMPLE / "source" / "ps1", root / "source" / "ps1")
    shutil.copy(EXAMPLE / "source" / "header.ipynb", root / "source")
    write_source(root / "source" / "everyday")
    config = f'c = get_config()\nc.CourseDirectory.course_id = "{COURSE}"\n'
    config += "c.Execute.timeout = 120\nc.Execute.iopub_timeout = 60\n"  # no cell takes that long, on a busy machine either
    (root / "nbgrader_config.py").write_text(f'{config}c.IncludeHeaderFooter.header = "source/header.ipynb"\n')
    limits = {"backend": "docker", "timeout": 480, "cell_timeout": 120, "memory_mb": 1000}
    with pytest.MonkeyPatch.context() as patch, same_place():
        patch.setenv("ACADEMY_CONFIG", str(write_config(folder, grading=limits)))
        settings = load()
        our_course(settings, root / "source")
        for unit in ("ps1", "everyday"):
            stock_command(root, "generate_assignment", unit)
        shutil.copytree(EXAMPLE / "submitted", root / "submitted")
        for login in STUDENTS:
            write_submission(root / "release" / "everyday", root / "submitted" / login / "everyday", login)
        shutil.copytree(root / "submitted", settings.course_folder(COURSE) / "submitted")
        submitted = sorted((path.parent.name, path.name) for path in (root / "submitted").glob("*/*"))
        flags: dict[tuple[str, str], list[str]] = {}
        try:
            with ThreadPoolExecutor(1) as pool:
                stock = [pool.submit(stock_command, root, "autograde", unit) for unit in ("ps1", "everyday")]
                for login, unit in submitted:
                    with contextlib.suppress(AcademyError):  # its scores are missing then, and the comparison fails
                        flags[unit, login] = autograde.grade(settings, COURSE, unit, login)["flags"]
            for run in stock:
                run.result()
            urls = f"sqlite:///{root}/gradebook.db", autograde.gradebook_url(settings, COURSE)
            made = read(urls[0], COURSE), read(urls[1], COURSE)
            forgive_stderr(made[0], root)
            made[1].flags = flags
            yield made
        finally:
            remove_deployment(settings.academy.name)


def assert_same(stock: dict[Any, Any], ours: dict[Any, Any]) -> None:
    keys = sorted(key for key in {*stock, *ours} if stock.get(key) != ours.get(key))
    assert not keys, "\n" + "\n".join(f"{'/'.join(key[1:])}: stock {stock.get(key)}, ours {ours.get(key)}" for key in keys)


@pytest.mark.docker
def test_nbgraders_example_course_gets_the_same_scores(sides: tuple[Graded, Graded]) -> None:
    stock, ours = ({key: cell for key, cell in side.cells.items() if key[0] == "ps1"} for side in sides)
    assert {key[1] for key in stock} == {"bitdiddle", "hacker"}
    assert len(stock) == 18
    assert_same(stock, ours)
    assert {cell.score for cell in stock.values()} >= {0.0, None}
    totals = [{key: total for key, total in side.totals.items() if key[0] == "ps1"} for side in sides]
    assert totals[0] == totals[1]


@pytest.mark.docker
@pytest.mark.parametrize("notebook", NOTEBOOKS)
@pytest.mark.parametrize("login", STUDENTS)
def test_every_cell_gets_the_same_score(sides: tuple[Graded, Graded], login: str, notebook: str) -> None:
    stock, ours = (
        {key: cell for key, cell in side.cells.items() if key[:3] == ("everyday", login, notebook)} for side in sides
    )
    assert stock
    assert_same(stock, ours)


@pytest.mark.docker
def test_honest_work_is_not_flagged(sides: tuple[Graded, Graded]) -> None:
    assert len(sides[1].flags) == 2 + len(STUDENTS)
    assert {key: flags for key, flags in sides[1].flags.items() if flags} == {}


@pytest.mark.docker
def test_stderr_alone_costs_nothing(sides: tuple[Graded, Graded]) -> None:
    warned = {key[1:] for key in sides[0].warned}
    assert {("right", "noise", name) for name in ("stderr", "warns", "logs")} <= warned
    assert {key[1] for key in warned} == {"noise"}, "the exception hides more than it is meant to"


@pytest.mark.docker
def test_the_notebooks_tell_right_from_wrong(sides: tuple[Graded, Graded]) -> None:
    """The comparison means something: each notebook has tests that the solution passes and mistakes fail, and odd scores."""
    stock = sides[0].cells
    for name in NOTEBOOKS:
        pairs = [
            (cell.score, stock[("everyday", "wrong", name, key[3])].score)
            for key, cell in stock.items()
            if key[:3] == ("everyday", "right", name)
        ]
        assert any(right and not wrong for right, wrong in pairs), name
    scores = {key[3]: cell.score for key, cell in stock.items() if key[:3] == ("everyday", "right", "credit")}
    assert (scores["float"], scores["integer"], scores["nothing"], scores["text"]) == (2.5, 2, 0, 2)


@pytest.mark.docker
def test_answers_left_empty_are_told_apart_alike(sides: tuple[Graded, Graded]) -> None:
    assert_same(sides[0].comments, sides[1].comments)
    assert "No response." in sides[0].comments.values()
