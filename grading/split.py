"""Decides where each cell of a submitted notebook runs: with the student's code, or with the tests on the other side.

A test cell that uses ``submission`` runs on the tests side, after the instructor's own cells from the source. Any other test
cell (an ordinary nbgrader notebook) runs with the student's code: in its place, or, if it hides something, once all of the
student's cells have run, unless a later cell changes a name that it uses. Cells that the author marked as demonstrations are
not run: no grade depends on them.
"""

from __future__ import annotations

import ast
import builtins
import re
from dataclasses import dataclass, field

from nbformat import NotebookNode
from nbgrader.utils import is_grade, is_solution

_MAGIC = re.compile(r"^(\s*)[%!?].*$", re.MULTILINE)


@dataclass
class Plan:
    """Indices are of the submitted notebook's cells."""

    student: list[int] = field(default_factory=list)  # in this order, tests that must run in their place among them
    ordinary: list[int] = field(default_factory=list)  # tests that run with the student's code, after all of it
    tests: list[str | int] = field(default_factory=list)  # the tests side: an instructor's cell, or the index of a test

    @property
    def isolated(self) -> list[int]:
        return [step for step in self.tests if isinstance(step, int)]


def is_test(cell: NotebookNode) -> bool:
    return bool(cell.cell_type == "code" and is_grade(cell) and not is_solution(cell))


def split(submitted: NotebookNode, source: NotebookNode | None, everything: bool = False) -> Plan:
    """
    Args:
        everything: demonstrations too.
        submitted: the student's notebook, with its tests already put back by nbgrader.
        source: the instructor's; without it, only what nbgrader locks is known to be the instructor's.
    """
    code = [index for index, cell in enumerate(submitted.cells) if cell.cell_type == "code" and cell.source.strip()]
    tests = [index for index in code if is_test(submitted.cells[index])]
    names = {index: Names(submitted.cells[index].source) for index in code}
    own = (source if source is not None else submitted).cells
    helpers = [cell for cell in own if cell.cell_type == "code" and _instructors(cell, source is not None)]
    known = set(dir(builtins))
    for cell in helpers:
        known |= Names(cell.source).stored
    across = [index for index in tests if "submission" in names[index].loaded]
    known |= {name for index in across for name in names[index].stored}
    if across:  # in a notebook that is meant for two sides, a test that needs nothing of the student's belongs to them too
        across = [index for index in tests if index in across or names[index].loaded - names[index].stored <= known]
    demonstrations = {cell.id for cell in own if cell.get("metadata", {}).get("academy", {}).get("demo")}
    plan = Plan(tests=_with_helpers(submitted, across, own, helpers) if across else [])
    for position, index in enumerate(code):
        cell = submitted.cells[index]
        if index in across or (cell.get("id") in demonstrations and not is_grade(cell) and not everything):
            continue
        hides = "BEGIN HIDDEN TESTS" in cell.source  # what hides nothing may stand where the student saw it stand
        if index in tests and hides and not _needs_its_place(index, code[position + 1 :], tests, names):
            plan.ordinary.append(index)
        else:
            plan.student.append(index)
    return plan


def _instructors(cell: NotebookNode, from_source: bool) -> bool:
    """Whether the cell is the instructor's and helps the tests: no test, no solution, no demonstration."""
    if is_grade(cell) or is_solution(cell) or cell.metadata.get("academy", {}).get("demo"):
        return False
    return from_source or bool(cell.metadata.get("nbgrader", {}).get("locked"))


def _with_helpers(
    submitted: NotebookNode, across: list[int], own: list[NotebookNode], helpers: list[NotebookNode]
) -> list[str | int]:
    """The tests among the instructor's cells, in the order of the source."""
    by_name = {_grade_id(submitted.cells[index]): index for index in across}
    steps: list[str | int] = []
    for cell in own:
        if cell in helpers:
            steps.append(cell.source)
        elif _grade_id(cell) in by_name:
            steps.append(by_name.pop(_grade_id(cell)))
    return [*steps, *by_name.values()]


def _grade_id(cell: NotebookNode) -> str:
    return str(cell.metadata.get("nbgrader", {}).get("grade_id", ""))


def _needs_its_place(test: int, later: list[int], tests: list[int], names: dict[int, Names]) -> bool:
    """Whether a later cell of the student's changes what the test uses, or uses what the test makes."""
    mine = names[test]
    modules = {name for each in names.values() for name in each.imported}
    for theirs in (names[index] for index in later if index not in tests):
        if theirs.broken or mine.broken or (theirs.changed - modules) & mine.loaded or mine.stored & theirs.loaded:
            return True
    return False


class Names:
    """The names that a cell uses and makes, as far as can be told from its text."""

    def __init__(self, source: str) -> None:
        self.loaded: set[str] = set()
        self.stored: set[str] = set()
        self.changed: set[str] = set()  # stored, or handed on in a way that may change the object
        self.imported: set[str] = set()
        self.broken = False
        try:
            tree = ast.parse(_MAGIC.sub(r"\1pass", source))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            self.broken = True
            return
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                if isinstance(node.ctx, ast.Load):
                    self.loaded.add(node.id)
                    if id(node) not in called:
                        self.changed.add(node.id)
                else:
                    self._store(node.id)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self._store(node.name)
            elif isinstance(node, ast.alias):
                name = (node.asname or node.name).partition(".")[0]
                self.stored.add(name)
                self.imported.add(name)
            elif isinstance(node, ast.arg):
                self.stored.add(node.arg)
            elif isinstance(node, ast.ExceptHandler) and node.name:
                self._store(node.name)

    def _store(self, name: str) -> None:
        self.stored.add(name)
        self.changed.add(name)
