"""A small unit for grading tests, made by code: a function, its visible and hidden tests, a partial score, a written answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, writes
from nbgrader.converters import GenerateAssignment
from nbgrader.coursedir import CourseDirectory

from academy.settings import Settings
from grading.autograde import gradebook, nbgrader_config

COURSE, UNIT = "demo", "squares"
RIGHT = "def square(x):\n    return x * x"
TESTS = """assert square(3) == 9, "square(3) should be 9"
### BEGIN HIDDEN TESTS
hidden_answer = 144
assert square(12) == hidden_answer, "larger numbers"
### END HIDDEN TESTS"""
MOST = 6.0  # 3 for the tests, 1 for the partial score, 2 written


def _cell(make: Any, source: str, grade_id: str, points: float | None = None, solution: bool = False) -> Any:
    metadata: dict[str, Any] = {
        "schema_version": 3,
        "grade_id": grade_id,
        "grade": points is not None,
        "solution": solution,
        "locked": not solution,
        "task": False,
    }
    if points is not None:
        metadata["points"] = points
    return make(source, metadata={"nbgrader": metadata})


def make_unit(settings: Settings, language: str = "ko") -> Path:
    """Write the unit's source, generate its release as nbgrader does; returns the release's notebook."""
    root = settings.course_folder(COURSE)
    source = root / "source" / UNIT / f"{UNIT}.ipynb"
    source.parent.mkdir(parents=True)
    (source.parent / "data.txt").write_text("7")
    cells = [
        new_markdown_cell("# Squares"),
        _cell(new_code_cell, f"### BEGIN SOLUTION\n{RIGHT}\n### END SOLUTION", "square", solution=True),
        _cell(new_code_cell, TESTS, "test-square", points=3),
        _cell(new_code_cell, "float(square(0.5) * 4)", "test-part", points=1),
        _cell(new_markdown_cell, "Why?", "why", points=2, solution=True),
    ]
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    source.write_text(writes(notebook))
    with gradebook(settings, COURSE):
        pass
    config = nbgrader_config(settings, COURSE)
    config.CourseDirectory.assignment_id = UNIT
    GenerateAssignment(coursedir=CourseDirectory(config=config), config=config).start()
    return root / "release" / UNIT / f"{UNIT}.ipynb"


def answer(release: Path, code: str = RIGHT, why: str | None = "Because.", **changes: Any) -> bytes:
    """A student's notebook: the release with ``code`` as solution; changes: grade id -> source, or None to delete the cell."""
    changes = {"square": code, "why": why, **changes}
    notebook = json.loads(release.read_text())
    cells = []
    for cell in notebook["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id", "").replace("-", "_")
        if name in changes:
            if changes[name] is None:
                continue
            cell["source"] = changes[name]
        cells.append(cell)
    notebook["cells"] = cells
    return json.dumps(notebook).encode()
