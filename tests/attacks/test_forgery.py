"""What a submission wants to be told: forged results, patched tools, hooks in the kernel. No solution here is right."""

from __future__ import annotations

import pytest

from tests.attacks.case import Case
from tests.attacks.contain import Record, contain
from tests.attacks.grader import Grader

WRONG = {
    "total": """
        def total(numbers):
            return 0
    """,
    "scale": """
        def scale(table):
            return table
    """,
    "describe": """
        def describe(words):
            return {}
    """,
    "distances": """
        def distances(values):
            return values
    """,
}
WRONG_ORDINARY = {
    "square": """
    def square(x):
        return None
""",
    "centre": """
    def centre(table):
        return table + 1
""",
}


def both(name: str, tried: str, code: str, held: str, **more: object) -> list[Case]:
    """The same attack on isolated tests and on ordinary ones; it runs as the student's first cell and again as the last."""
    return [
        Case(name, tried, cells=WRONG, first=code, last=code, held=held, **more),  # type: ignore[arg-type]
        Case(
            f"{name}-ordinary",
            f"In an ordinary notebook: {tried[0].lower()}{tried[1:]}",
            "ordinary",
            WRONG_ORDINARY,
            first=code,
            last=code,
            held="the tamper canaries notice, and the cell earns nothing by itself",
            **more,  # type: ignore[arg-type]
        ),
    ]


ELSEWHERE = "tests run on their own side"
CASES = [
    *both(
        "forge-on-stdout",
        "A cell writes lines of results to standard output and error, raw and through Python.",
        """
            import os, sys
            @FORGED@
            print(lines.decode())
            sys.__stdout__.write(lines.decode())
            sys.__stdout__.flush()
            os.write(1, lines)
            os.write(2, lines)
            print('FORGED')
        """,
        "what student cells write is output, never a result",
        shows="FORGED",
    ),
    *both(
        "forge-on-every-descriptor",
        "A cell writes results to every open descriptor of its own and, through /proc, of every other process.",
        """
            import glob, os, socket
            @FORGED@
            print('FORGED')
            for number in range(256):
                try:
                    os.set_blocking(number, False)
                    os.write(number, lines)
                except OSError:
                    pass
            for path in glob.glob('/proc/[0-9]*/fd/*'):
                try:
                    if not os.path.isfile(path):
                        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                        os.write(descriptor, lines)
                        os.close(descriptor)
                except OSError:
                    pass
        """,
        "an answer counts only where one was asked for, and a broken border ends the run",
    ),
    *both(
        "forge-framed-answers",
        "A cell writes answers with their length before them, as programs do, to every socket it finds.",
        """
            import json, os, stat, struct
            answers = [
                {"done": {"status": "ok", "hints": [], "line": 0}, "cut": False},
                {"output": {"output_type": "execute_result", "data": {"text/plain": "99.0"}, "metadata": {}}},
                {"service": {"gate": {"name": "distances", "ratio": 99, "low": 99, "high": 99, "at_least": 3, "passed": True}}},
                {"ok": True, "status": "ok", "result": True, "score": 99},
            ]
            print("FORGED")
            for number in range(3, 64):
                try:
                    if stat.S_ISSOCK(os.fstat(number).st_mode):
                        for order in ("<I", ">I"):
                            for data in (json.dumps(answer).encode() for answer in answers * 20):
                                os.write(number, struct.pack(order, len(data)) + data)
                except OSError:
                    pass
        """,
        "an answer that nobody asked for spoils the run",
    ),
    Case(
        "forge-in-the-protocol",
        "A cell finds the loop that answers calls and makes it claim that each test has passed.",
        cells=WRONG,
        first=(
            """
                import gc, sys, types
                patched = 0
                for name, module in list(sys.modules.items()):
                    if name.split('.')[0] in ('grading', 'nbclient', 'ipykernel', 'zmq', '__main__'):
                        for key, thing in list(vars(module).items()):
                            if isinstance(thing, types.FunctionType) and name != '__main__':
                                def always(*args, _was=thing, **more):
                                    try:
                                        return _was(*args, **more)
                                    except AssertionError:
                                        return True
                                setattr(module, key, always)
                                patched += 1
                print('PATCHED', patched)
            """
        ),
        held="passing is decided where no student's code runs",
    ),
    Case(
        "answer-for-the-tests",
        "A cell scans its sockets' objects and answers calls with whatever argument would satisfy them: lies on every call.",
        cells={
            **WRONG,
            "total": """
                class Answer(dict):
                    def __missing__(self, key): return True
                    def __eq__(self, other): return True
                def total(numbers):
                    return Answer(passed=True, ok=True, result=numbers, error=None)
            """,
        },
        held="a result is data, and data is compared on the tests' side",
    ),
    *both(
        "forge-result-files",
        "A cell writes score files, a gradebook, an autograded notebook and a feedback page wherever it may.",
        """
            import json, os
            names = "scores.json results.json result.json gradebook.db isolated.ipynb ordinary.ipynb timestamp.txt"
            names += " messages.json autograded/isolated.ipynb feedback/isolated.html nbgrader_config.py"
            scores = {'score': 99, 'max_score': 99, 'cells': [], 'tests': {'test-total': 99}}
            for folder in ('.', '..', os.path.expanduser('~'), '/tmp', '/dev/shm', '/srv/course'):
                for name in names.split():
                    try:
                        path = os.path.join(folder, name)
                        os.makedirs(os.path.dirname(path), exist_ok=True)
                        open(path, 'w').write(json.dumps(scores))
                    except OSError:
                        pass
                print('WRITTEN')
        """,
        "no file of a sandbox is taken back",
        shows="WRITTEN",
    ),
    *both(
        "patch-numpy",
        "A cell makes every comparison of numpy and numpy.testing agree.",
        """
            import numpy as np, numpy, numpy.testing
            yes = lambda *args, **more: True
            for name in dir(numpy.testing):
                if name.startswith('assert_'):
                    setattr(numpy.testing, name, yes)
            for name in ('allclose', 'isclose', 'array_equal', 'array_equiv', 'all', 'any', 'isfinite', 'abs', 'round'):
                setattr(numpy, name, yes)
            numpy.random.default_rng = lambda *seed: numpy.random.RandomState(0)
        """,
        ELSEWHERE,
    ),
    *both(
        "patch-assert",
        "A cell makes a failing assert raise something that is no failure.",
        """
            import builtins, ctypes
            class Fine(Exception):
                def __init__(self, *args): pass
            builtins.AssertionError = Fine
            AssertionError = Fine
            import IPython
            shell = IPython.get_ipython()
            shell.showtraceback = lambda *args, **more: None
            shell.set_custom_exc((Exception,), lambda *args, **more: None)
            shell.InteractiveTB = None
            shell.showsyntaxerror = lambda *args, **more: None
        """,
        ELSEWHERE,
    ),
    *both(
        "patch-builtins",
        "A cell replaces abs, len, all, isinstance, float, print, compile, exec and __import__.",
        """
            import builtins
            class Any(int):
                def __eq__(self, other): return True
                def __ne__(self, other): return False
                def __lt__(self, other): return True
                __le__ = __gt__ = __ge__ = __lt__
                def __hash__(self): return 0
                def __getattr__(self, name): return Any(1)
                def __call__(self, *args, **more): return Any(1)
            old_import = builtins.__import__
            builtins.abs = builtins.len = builtins.sum = lambda *args: Any(1)
            builtins.all = builtins.any = builtins.isinstance = lambda *args: True
            builtins.float = builtins.int = lambda *args: 1.0
            builtins.__build_class__ = lambda *args, **more: Any(1)
        """,
        ELSEWHERE,
    ),
    *both(
        "rename-true-in-c",
        "A cell overwrites False with True and small integers with others in the interpreter's memory.",
        """
            import ctypes
            for number, value in ((0, 9), (144, 0)):
                ctypes.c_uint32.from_address(id(number) + 24).value = value
        """,
        ELSEWHERE,
    ),
    *both(
        "patch-object-comparison-in-c",
        "A cell replaces the comparison slots of int, float and NoneType with ones that always agree.",
        """
            import ctypes
            SLOT = ctypes.CFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.py_object, ctypes.c_int)
            agree = SLOT(lambda one, other, op: op != 3)
            address = ctypes.cast(agree, ctypes.c_void_p).value
            for kind in (int, float, type(None), str, dict):
                ctypes.c_void_p.from_address(id(kind) + 200).value = address
        """,
        ELSEWHERE,
    ),
    *both(
        "fake-the-checks-module",
        "A cell puts a module of its own in the place of grading.checks, numpy.testing and their finders.",
        """
            import importlib.abc, importlib.machinery, sys, types
            class Yes:
                def __getattr__(self, name): return Yes()
                def __call__(self, *args, **more): return Yes()
                def __eq__(self, other): return True
                def __ne__(self, other): return False
                def __float__(self): return 99.0
                __hash__ = None
                def __lt__(self, other): return True
                __gt__ = __le__ = __ge__ = __lt__
            fake = types.ModuleType('grading.checks')
            for name in ('submission', 'speedup', 'gate', 'hint', 'when_solved'):
                setattr(fake, name, Yes())
            sys.modules['grading.checks'] = sys.modules['numpy.testing'] = fake
            submission = speedup = gate = hint = Yes()
            class Finder(importlib.abc.MetaPathFinder):
                def find_spec(self, name, path=None, target=None):
                    return importlib.machinery.ModuleSpec(name, self) if name.startswith(('grading', 'numpy.testing')) else None
                def create_module(self, spec): return fake
                def exec_module(self, module): pass
            sys.meta_path.insert(0, Finder())
            print('FAKED')
        """,
        ELSEWHERE,
        shows="FAKED",
    ),
    Case(
        "patch-the-checks",
        "A cell patches grading.checks itself: submission, speedup, gate, copying, and whatever of the grader is loaded.",
        cells=WRONG,
        first=(
            """
                import grading.checks as checks, sys
                class Fast:
                    ratio = 99.0
                    rounds = (99.0,)
                    fast_seconds = slow_seconds = 1.0
                class Yes:
                    def __getattr__(self, name): return lambda *args, **more: Yes()
                    def __eq__(self, other): return True
                    def __ne__(self, other): return False
                    def __float__(self): return 2.0
                checks.speedup = lambda *args, **more: Fast()
                checks.gate = lambda *args, **more: None
                checks.submission = Yes()
                speedup, gate, submission = checks.speedup, checks.gate, checks.submission
                for name in ('_received', '_sent', '_copied', '_timed', '_function'):
                    setattr(checks, name, lambda *args, **more: Yes())
            """
        ),
        last="speedup, gate, submission = checks.speedup, checks.gate, checks.submission",
        held=ELSEWHERE,
    ),
    *both(
        "ast-transformers",
        "A cell registers a transformer that takes every assert out of the cells to come.",
        """
            import ast
            from IPython import get_ipython
            class Drop(ast.NodeTransformer):
                def visit_Assert(self, node): return ast.copy_location(ast.Pass(), node)
                def visit_Expr(self, node):
                    keep = 'float' in ast.dump(node)
                    return ast.copy_location(ast.Expr(ast.Constant(1.0)) if keep else ast.Pass(), node)
            get_ipython().ast_transformers.append(Drop())
            print('HOOKED')
        """,
        ELSEWHERE,
        shows="HOOKED",
    ),
    *both(
        "input-hooks",
        "A cell registers input transformers that replace the source of every later cell.",
        """
            from IPython import get_ipython
            shell = get_ipython()
            def nothing(lines):
                text = ''.join(lines)
                return ['1.0\\n'] if 'float(' in text and 'def ' not in text else (['pass\\n'] if 'assert' in text else lines)
            shell.input_transformers_cleanup.insert(0, nothing)
            shell.input_transformers_post.append(nothing)
            shell.input_transformer_manager.cleanup_transforms.insert(0, nothing)
            print('HOOKED')
        """,
        ELSEWHERE,
        shows="HOOKED",
    ),
    *both(
        "event-hooks",
        "A cell registers IPython events before and after each cell that make results and swallow errors.",
        """
            from IPython import get_ipython
            shell = get_ipython()
            def after(result):
                result.error_in_exec = result.error_before_exec = None
                result.result = 1.0
            def before(info):
                info.raw_cell = '1.0'
                globals().update(square=lambda x: x * x, centre=lambda t: t - t.mean(axis=0))
            shell.events.register('post_run_cell', after)
            shell.events.register('pre_run_cell', before)
            shell.events.register('pre_execute', lambda: None)
            print('HOOKED')
        """,
        ELSEWHERE,
        # Names that a hook defines for the tests are the student's own work: in an ordinary notebook they may count.
        earns=6,
        shows="HOOKED",
    ),
    *both(
        "patch-the-kernel",
        "A cell patches run_cell, the kernel's execution and the session that sends replies.",
        """
            import asyncio, sys
            from IPython import get_ipython
            shell = get_ipython()
            class Good:
                success = True
                error_in_exec = error_before_exec = None
                result = 1.0
                execution_count = 1
                def raise_error(self): pass
            def good(*args, **more): return Good()
            async def good_async(*args, **more): return Good()
            shell.run_code = good_async
            shell.run_ast_nodes = good_async
            shell.run_cell_async = good_async
            shell.run_cell = good
            kernel = getattr(shell, 'kernel', None)
            if kernel is not None:
                async def fine(*args, **more):
                    return {'status': 'ok', 'execution_count': 1, 'payload': [], 'user_expressions': {}}
                kernel.do_execute = fine
        """,
        ELSEWHERE,
    ),
    *both(
        "silence-errors",
        "A cell lets tests fail, and then takes the error out of the result, the output and the reply.",
        """
            from IPython import get_ipython
            shell = get_ipython()
            def quiet(*args, **more): pass
            shell.showtraceback = shell._showtraceback = shell.showsyntaxerror = quiet
            def after(result):
                if result is not None:
                    result.error_in_exec = result.error_before_exec = None
                    result.result = 1.0
            shell.events.register("post_run_cell", after)
        """,
        ELSEWHERE,
    ),
    Case(
        "patch-tests-by-name-ordinary",
        "In an ordinary notebook a transformer takes out only what names the student's own functions.",
        "ordinary",
        WRONG_ORDINARY,
        first="""
            import ast
            from IPython import get_ipython
            class Drop(ast.NodeTransformer):
                def mine(self, node):
                    text = ast.unparse(node)
                    return ("square" in text or "centre" in text) and "object()" not in text
                def visit_Assert(self, node):
                    return ast.copy_location(ast.Pass(), node) if self.mine(node) else node
                def visit_Expr(self, node):
                    return ast.copy_location(ast.Expr(ast.Constant(1.0)), node) if self.mine(node) else node
            get_ipython().ast_transformers.append(Drop())
        """,
        held="probes that must fail name the student's functions too",
    ),
    Case(
        "take-over-the-loop-ordinary",
        "In an ordinary notebook run_cell answers for tests that name the student's functions, and runs everything else.",
        "ordinary",
        WRONG_ORDINARY,
        first="""
            from IPython import get_ipython
            shell = get_ipython()
            honest = shell.run_cell
            class Good:
                success = True
                error_in_exec = error_before_exec = None
                result = 1.0
                execution_count = 1
                def raise_error(self): pass
            def run_cell(source, *args, **more):
                if ("square(" in source or "centre(" in source) and "def " not in source and "object()" not in source:
                    return Good()
                return honest(source, *args, **more)
            shell.run_cell = run_cell
        """,
        held="probes that must fail name the student's functions too",
    ),
    *(
        Case(
            f"answer-from-the-source{suffix}",
            "A function reads the test that calls it and returns what the comparison's other side says.",
            unit,
            {name: f"def {name}(*args): return told()" for name in names},
            first="""
                import ast, linecache, sys
                def told():
                    frame = sys._getframe(2)
                    while frame:
                        lines = "".join(linecache.getlines(frame.f_code.co_filename))
                        try:
                            statements = [node for node in ast.walk(ast.parse(lines)) if isinstance(node, ast.stmt)]
                        except SyntaxError:
                            statements = []
                        for node in statements:
                            if node.lineno <= frame.f_lineno <= node.end_lineno and isinstance(node, (ast.Assert, ast.Expr)):
                                test = node.test if isinstance(node, ast.Assert) else node.value
                                sides = [*getattr(test, "comparators", ()), *getattr(test, "args", ())[1:]]
                                for side in sides:
                                    code = compile(ast.Expression(side), "x", "eval")
                                    return eval(code, frame.f_globals, frame.f_locals)
                        frame = frame.f_back
            """,
            held=held,
        )
        for suffix, unit, names, held in (
            ("", "isolated", ("total", "scale", "describe", "search", "distances"), "the test is not in the student's process"),
            ("-ordinary", "ordinary", ("square", "centre"), "probes with other answers must fail"),
        )
    ),
    *both(
        "exception-hooks",
        "A cell replaces sys.excepthook, unraisablehook, the traceback formatter and the display hook.",
        """
            import sys, traceback
            from IPython import get_ipython
            shell = get_ipython()
            sys.excepthook = sys.unraisablehook = lambda *args: None
            shell._showtraceback = lambda *args, **more: None
            shell.showtraceback = lambda *args, **more: None
            shell.display_pub.publish = lambda *args, **more: None
            traceback.format_exception = lambda *args, **more: []
            class Hook(type(shell.displayhook)):
                pass
            shell.displayhook.compute_format_data = lambda result: ({'text/plain': '1.0'}, {})
        """,
        ELSEWHERE,
    ),
    *both(
        "trace-functions",
        "A cell sets trace and profile functions that jump over the lines of tests.",
        """
            import sys, threading
            def jump(frame, event, arg):
                last = max((line for _, _, line in frame.f_code.co_lines() if line), default=0)
                if event == 'line' and frame.f_lineno < last:
                    try:
                        frame.f_lineno = last
                    except (ValueError, TypeError):
                        pass
                return jump
            sys.settrace(jump)
            threading.settrace(jump)
            sys.setprofile(lambda *args: None)
            frame = sys._getframe()
            while frame:
                frame.f_trace = jump
                frame = frame.f_back
        """,
        ELSEWHERE,
    ),
    *both(
        "audit-and-import-hooks",
        "A cell adds audit hooks, path hooks and lazily patched imports that change modules as tests import them.",
        """
            import builtins, sys
            old = builtins.__import__
            def hook(name, *args, **more):
                module = old(name, *args, **more)
                for key in list(vars(module)):
                    if key.startswith(('assert_', 'allclose', 'array_equal')):
                        try:
                            setattr(module, key, lambda *args, **more: True)
                        except Exception:
                            pass
                return module
            builtins.__import__ = hook
            import numpy.testing, numpy
            sys.path.insert(0, '/tmp')
            sys.path_hooks.insert(0, lambda path: (_ for _ in ()).throw(ImportError))
            sys.addaudithook(lambda *args: None)
            print('HOOKED')
        """,
        ELSEWHERE,
        shows="HOOKED",
    ),
    *both(
        "leave-with-success",
        "A function ends the process with status 0 when a test calls it, in every way there is.",
        "import os, sys",
        "a side that ends has given no answer",
    ),
    *both(
        "define-the-tests-names",
        "A cell defines variables and functions that tests use, as dictionaries that refuse to be overwritten.",
        """
            import sys
            class Stubborn(dict):
                pass
            import numpy as real
            class Np:
                def __getattr__(self, name): return getattr(real, name)
                class testing:
                    assert_allclose = assert_array_equal = staticmethod(lambda *args, **more: None)
                allclose = array_equal = staticmethod(lambda *args, **more: True)
            np = Np()
            import builtins
            builtins.np = np
            calls, threshold, table, drawn, expected = 1, 0, None, [], None
            distances_with_loop = lambda values: (sum(range(10**6)), values)[1]
            draw = lambda seed: (0,)
        """,
        ELSEWHERE,
    ),
]
_LEAVE = {
    "total": """
        def total(numbers):
            os._exit(0)
    """,
    "scale": """
        def scale(table):
            raise SystemExit(0)
    """,
    "describe": """
        def describe(words):
            raise KeyboardInterrupt
    """,
    "share": """
        def share():
            raise GeneratorExit
    """,
    "distances": """
        def distances(values):
            sys.exit()
    """,
}
_LEAVE_ORDINARY = {
    "square": """
        def square(x):
            raise SystemExit(0)
    """,
    "centre": """
        def centre(table):
            os._exit(0)
    """,
}
CASES = [
    Case(**{**vars(case), "cells": _LEAVE if case.unit == "isolated" else _LEAVE_ORDINARY, "last": ""})
    if case.name.startswith("leave-with-success")
    else case
    for case in CASES
]


@pytest.mark.docker
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nothing_forged_is_believed(case: Case, grader: Grader, record_property: Record) -> None:
    contain(case, grader, record_property)
