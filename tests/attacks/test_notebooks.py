"""What a submission does to the notebook itself: metadata, cells, magics, markup that reaches whoever reads the feedback."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.attacks.case import HONEST, MOST, Case, Notebook
from tests.attacks.contain import Record, contain
from tests.attacks.grader import Grader, code_cell

ALL, ORDINARY = MOST["isolated"], MOST["ordinary"]
REPAIRED = "cells are put back from the source"
WRONG_SQUARE = {"square": "def square(x): return 9", "centre": "def centre(table): return table + 1"}


def cells_of(notebook: Notebook, *kinds: str) -> list[dict[str, Any]]:
    """The cells with nbgrader metadata of which one of ``kinds`` is true."""
    return [cell for cell in notebook["cells"] if any(cell["metadata"].get("nbgrader", {}).get(kind) for kind in kinds)]


def more_points(notebook: Notebook) -> Notebook:
    for cell in cells_of(notebook, "grade", "solution"):
        cell["metadata"]["nbgrader"].update(points=1000, grade=True, locked=False, checksum="0" * 32, schema_version=99)
    mine = code_cell("1000.0", "mine")
    mine["metadata"]["nbgrader"] = {
        "grade": True, "grade_id": "mine", "points": 1000, "solution": False, "locked": True, "schema_version": 3, "task": False
    }  # fmt: skip
    notebook["cells"].append(mine)
    notebook["metadata"]["nbgrader"] = {"score": 1000, "max_score": 1000}
    return notebook


def scores_in_outputs(notebook: Notebook) -> Notebook:
    result = {"output_type": "execute_result", "execution_count": 1, "data": {"text/plain": "1000.0"}, "metadata": {}}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [result], 1
    return notebook


def without_tests(notebook: Notebook) -> Notebook:
    tests = [cell["id"] for cell in cells_of(notebook, "grade") if cell["cell_type"] == "code"]
    notebook["cells"] = [cell for cell in notebook["cells"] if cell["id"] not in tests]
    return notebook


def empty(notebook: Notebook) -> Notebook:
    return {**notebook, "cells": []}


def doubled_tests(notebook: Notebook) -> Notebook:
    for cell in cells_of(notebook, "grade"):
        twin = copy.deepcopy(cell)
        twin["source"], twin["id"] = "1000.0", f"{cell['id']}-twin"
        notebook["cells"] = [twin, *notebook["cells"], copy.deepcopy(twin) | {"id": f"{cell['id']}-late"}]
    return notebook


def turned_around(notebook: Notebook) -> Notebook:
    return {**notebook, "cells": notebook["cells"][::-1]}


def first_the_tests(notebook: Notebook) -> Notebook:
    tests = cells_of(notebook, "grade")
    return {**notebook, "cells": tests + [cell for cell in notebook["cells"] if cell not in tests]}


def retyped(notebook: Notebook) -> Notebook:
    for number, cell in enumerate(cells_of(notebook, "grade")):
        if cell["cell_type"] == "code":
            cell["cell_type"] = ("markdown", "raw")[number % 2]
            del cell["outputs"], cell["execution_count"]
        else:
            cell.update(cell_type="code", outputs=[], execution_count=None, source="1000.0")
    return notebook


def swapped_ids(notebook: Notebook) -> Notebook:
    """Each test is called by another test's name, and solutions by tests' names."""
    graded = cells_of(notebook, "grade", "solution")
    names = [cell["metadata"]["nbgrader"]["grade_id"] for cell in graded]
    for cell, name in zip(graded, names[1:] + names[:1], strict=True):
        cell["metadata"]["nbgrader"]["grade_id"] = name
    return notebook


def same_ids(notebook: Notebook) -> Notebook:
    for cell in notebook["cells"]:
        cell["id"] = "same"
    return notebook


def tagged(notebook: Notebook) -> Notebook:
    tags = ["skip-execution", "raises-exception", "remove-cell", "remove_cell", "hide-input", "remove-output", "nbgrader-skip"]
    for cell in notebook["cells"]:
        cell["metadata"].update(tags=tags, deletable=True, editable=True, execution={"skip": "true"}, trusted=True)
    notebook["metadata"]["execution"] = {"timeout": 10**9, "allow_errors": True}
    return notebook


def kernel(**about: Any) -> Any:
    def change(notebook: Notebook) -> Notebook:
        notebook["metadata"]["kernelspec"] = {"name": "python3", "display_name": "x", **about}
        notebook["metadata"]["language_info"] = {"name": "bash", "file_extension": ".sh", "nbconvert_exporter": "script"}
        return notebook

    return change


def korean_cells(notebook: Notebook) -> Notebook:
    """Somebody mixed both languages' notebooks: text cells of another, and all of the cells once more."""
    texts = [{**copy.deepcopy(cell), "source": "# 다른 언어"} for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    return {**notebook, "cells": [*texts, *notebook["cells"], *copy.deepcopy(notebook["cells"])]}


MARKUP = """
<script>document.title = 'owned'</script><img src=x onerror="alert(1)"><svg onload=alert(1)><script>alert(2)</script></svg>
<iframe src="javascript:alert(1)"></iframe><a href="javascript:alert(1)">x</a><a href=" java&#x0A;script:alert(1)">x</a>
<form action="https://example.org"><input name=x><button formaction="javascript:alert(1)">x</button></form>
<object data="data:text/html,<script>alert(1)</script>"></object><embed src="https://example.org/x.swf">
<meta http-equiv="refresh" content="0; url=https://example.org"><base href="https://example.org/"><link rel=import href=x>
<style>@import 'https://example.org/x.css'; body { background: url(https://example.org/y) }</style>
<math><mtext></mtext><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;"></mglyph></math>
<img src="https://example.org/seen?@MARK@"><scr<script>ipt>alert(3)</scr</script>ipt><SCRIPT/x>alert(4)</SCRIPT >
[x](javascript:alert(5)) ![x](javascript:alert(6)) <javascript:alert(7)> [x](data:text/html;base64,PHNjcmlwdD4=)
$$\\href{javascript:alert(8)}{x} \\unicode{<img src=x onerror=alert(9)>}$$ </pre></div></body></html><script>alert(10)
"""


def markup_everywhere(notebook: Notebook) -> Notebook:
    picture = {"x.svg": {"image/svg+xml": "PHN2ZyBvbmxvYWQ9ImFsZXJ0KDEpIi8+"}}
    notebook["cells"].append({"cell_type": "markdown", "id": "a", "metadata": {}, "source": MARKUP, "attachments": picture})
    raw = {"format": "text/html", "raw_mimetype": "text/html"}
    notebook["cells"].append({"cell_type": "raw", "id": "b", "metadata": raw, "source": MARKUP})
    for cell in cells_of(notebook, "solution"):
        if cell["cell_type"] == "markdown":
            cell["source"] = MARKUP + "![x](attachment:x.svg)"
            cell["attachments"] = picture
    notebook["metadata"].update(title="</title><script>alert(1)</script>", authors=[{"name": "<script>alert(1)</script>"}])
    notebook["metadata"]["widgets"] = {
        "application/vnd.jupyter.widget-state+json": {"state": {}, "x": "</script><script>alert(1)"}
    }
    return notebook


def broken(data: bytes) -> Any:
    return lambda notebook: data


def in_python(text: str) -> dict[str, str]:
    return {"total": f"{text}\ndef total(numbers):\n    return 0"}


EMPTY = b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
MAGICS = """
    %%javascript
    document.title = "owned"; Jupyter.notebook.kernel.execute("total = 1")
"""
CASES = [
    Case(
        "points-of-my-own",
        "The notebook says that every cell gives a thousand points, and has more such cells.",
        cells=HONEST["isolated"],
        notebook=more_points,
        earns=ALL,
        exactly=True,
        held="points come from the gradebook",
    ),
    Case(
        "points-of-my-own-ordinary",
        "The same in an ordinary notebook whose solutions are wrong.",
        "ordinary",
        WRONG_SQUARE,
        notebook=more_points,
        earns=1,
        held="points come from the gradebook",
    ),
    Case(
        "points-in-outputs",
        "Every cell is handed in with an output that says a thousand points.",
        notebook=scores_in_outputs,
        exactly=True,
        held="outputs handed in are cleared",
    ),
    Case(
        "points-in-outputs-ordinary",
        "The same in an ordinary notebook, and a cell ends the run before the tests.",
        "ordinary",
        WRONG_SQUARE,
        notebook=scores_in_outputs,
        first="import os\nos.kill(os.getpid(), 9)",
        held="outputs handed in are cleared",
    ),
    Case(
        "tests-deleted",
        "All test cells are deleted.",
        cells=HONEST["isolated"],
        notebook=without_tests,
        earns=ALL,
        exactly=True,
        held=REPAIRED,
    ),
    Case(
        "tests-deleted-wrong",
        "All test cells are deleted from an ordinary notebook with wrong solutions.",
        "ordinary",
        WRONG_SQUARE,
        notebook=without_tests,
        earns=1,
        held=REPAIRED,
    ),
    Case("everything-deleted", "The notebook has no cell at all.", notebook=empty, exactly=True, graded=False, held=REPAIRED),
    Case(
        "tests-doubled",
        "Each test cell has twins before and behind it whose source is a score.",
        notebook=doubled_tests,
        held="of cells with the same name one counts, with the source's own code",
    ),
    Case(
        "tests-doubled-ordinary",
        "The same in an ordinary notebook.",
        "ordinary",
        WRONG_SQUARE,
        notebook=doubled_tests,
        earns=1,
        held="of cells with the same name one counts, with the source's own code",
    ),
    Case(
        "tests-before-solutions",
        "Test cells stand before the solutions.",
        cells=HONEST["isolated"],
        notebook=first_the_tests,
        earns=ALL,
        held="tests run after all of the student's cells, or fail",
    ),
    Case(
        "cells-turned-around",
        "The notebook's cells stand in the opposite order, solutions wrong.",
        "ordinary",
        WRONG_SQUARE,
        notebook=turned_around,
        earns=1,
        held=REPAIRED,
    ),
    Case(
        "tests-retyped",
        "Test cells have become text, and written answers code that displays a score.",
        notebook=retyped,
        graded=False,
        held=REPAIRED,
    ),
    Case(
        "tests-retyped-ordinary",
        "The same in an ordinary notebook with wrong solutions.",
        "ordinary",
        WRONG_SQUARE,
        notebook=retyped,
        earns=1,
        graded=False,
        held=REPAIRED,
    ),
    Case("names-swapped", "Cells carry each other's names.", notebook=swapped_ids, graded=False, held=REPAIRED),
    Case(
        "same-cell-ids",
        "All cells have the same id.",
        cells=HONEST["isolated"],
        notebook=same_ids,
        earns=ALL,
        graded=False,
        held="cells are known by their grade id",
    ),
    Case(
        "tags-that-skip",
        "Cells carry tags and metadata that skip, allow or remove.",
        notebook=tagged,
        exactly=True,
        held="metadata of the student is not read",
    ),
    Case(
        "languages-mixed",
        "The notebook holds the cells of both languages, all of them twice.",
        cells=HONEST["isolated"],
        notebook=korean_cells,
        earns=ALL,
        held=REPAIRED,
    ),
    *(
        Case(
            f"kernel-{name}",
            f"The notebook asks for {text}.",
            notebook=kernel(**about),
            cells=HONEST["isolated"],
            earns=ALL,
            exactly=True,
            held="the kernel is the source's",
        )
        for name, text, about in (
            ("of-another-language", "a kernel of another language", {"name": "bash", "language": "bash"}),
            ("that-does-not-exist", "a kernel that does not exist", {"name": "no-such-kernel-x", "language": "x"}),
            ("with-a-command", "a kernel with a command and a path", {"name": "../../x", "argv": ["touch", "x"]}),
        )
    ),
    Case(
        "magic-javascript",
        "Cells use magics that run scripts in a reader's browser.",
        first=MAGICS,
        last=f"%%html\n{MARKUP}",
        held="pages are sanitised",
    ),
    Case(
        "magic-shell",
        "Cells use shell commands, scripts, files and extensions.",
        first="%%bash\ntouch /tmp/@MARK@; cat /proc/1/environ; (sleep 100 &) ; echo TRIED",
        last="!touch ~/@MARK@\n%load_ext autoreload\n%autoreload 2\n%cd /\n%env X=@MARK@\n%reset -f\n%xdel np",
        shows="TRIED",
        held="magics reach no further than code does",
        probe=True,
    ),
    Case(
        "magic-around-tests",
        "A last cell opens captures and defines magics that would swallow what follows.",
        "ordinary",
        WRONG_SQUARE,
        last="""
            from IPython.core.magic import register_line_magic, register_cell_magic
            from IPython import get_ipython
            shell = get_ipython()
            register_cell_magic(lambda line, cell: 1.0)
            shell.run_line_magic("xmode", "Minimal")
            shell.automagic = True
            shell.run_line_magic("alias_magic", "assert pass")
            shell.magics_manager.magics["line"]["assert"] = shell.magics_manager.magics["line"]["np"] = lambda line: None
            shell.autocall = 2
            from IPython.utils.capture import capture_output
            capture_output().__enter__()
         """,
        earns=1,
        held="the tamper canaries notice",
    ),
    Case(
        "markup-in-text",
        "Text cells, written answers, attachments and metadata hold scripts and every other active markup.",
        notebook=markup_everywhere,
        held="pages are sanitised",
    ),
    Case(
        "markup-in-outputs",
        "Cells display HTML, SVG, Markdown, LaTeX, JavaScript, widgets and colour codes that are active.",
        first=f"""
            from IPython.display import display
            text = {MARKUP!r}
            for kind in ("text/html", "image/svg+xml", "text/markdown", "text/latex", "application/javascript", "text/plain",
                         "application/vnd.jupyter.widget-view+json", "application/json", "application/pdf", "image/png"):
                display({{kind: text, "text/plain": text}}, raw=True)
                display({{kind: text}}, raw=True, metadata={{kind: {{"width": "1' onload='alert(1)", "isolated": True}}}})
            print(text, "\\x1b[31m\\x1b]8;;javascript:alert(1)\\x07x\\x1b]8;;\\x07")
         """,
        held="pages are sanitised",
    ),
    Case(
        "markup-in-source",
        "Source, errors and names of cells hold markup.",
        first=f"x = {MARKUP!r}",
        last=f"raise type('<script>alert(1)</script>', (Exception,), {{}})({MARKUP!r})",
        held="source and errors are escaped",
    ),
    *(
        Case(
            f"damaged-{name}",
            f"The notebook is {text}.",
            notebook=broken(data),
            graded=False,
            held="what cannot be read is refused with a reason",
        )
        for name, text, data in (
            ("json", "cut off in the middle", b'{"cells": ['),
            ("nesting", "a hundred thousand brackets", b"[" * 100_000 + b"]" * 100_000),
            (
                "depth-in-metadata",
                "valid, with metadata ten thousand levels deep",
                EMPTY.replace(b"{}", b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
            ),
            ("numbers", "full of numbers that are none", EMPTY.replace(b"{}", b'{"x": NaN, "y": 1' + b"0" * 5000 + b"}")),
            ("version", "of a version that does not exist", b'{"cells": [], "metadata": {}, "nbformat": 99}'),
            ("old-version", "of nbformat 1", b'{"cells": [], "metadata": {}, "nbformat": 1, "nbformat_minor": 0}'),
            ("encoding", "in another encoding", json.dumps({"cells": []}).encode("utf-16")),
            ("types", "of the wrong types everywhere", b'{"cells": {"a": 1}, "metadata": [], "nbformat": "4"}'),
            ("zeros", "a megabyte of zeros", bytes(1 << 20)),
        )
    ),
    Case(
        "fifty-megabytes-handed-in",
        "The notebook is handed in with outputs of fifty megabytes.",
        cells=HONEST["isolated"],
        notebook=lambda notebook: {
            **notebook,
            "cells": [
                {**cell, "outputs": [{"output_type": "stream", "name": "stdout", "text": "x" * 51_000_000}]}
                if cell["id"] == "total"
                else cell
                for cell in notebook["cells"]
            ],
        },
        earns=ALL,
        graded=False,
        held="outputs handed in are cleared, or the notebook is refused with a reason",
    ),
    Case(
        "many-cells",
        "The notebook has thousands of cells.",
        cells=HONEST["isolated"],
        notebook=lambda notebook: {**notebook, "cells": [*[code_cell("1", f"m{n}") for n in range(3000)], *notebook["cells"]]},
        earns=ALL,
        graded=False,
        held="the whole run has its time",
    ),
]


@pytest.mark.docker
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_notebook_says_nothing_about_its_score(case: Case, grader: Grader, record_property: Record) -> None:
    contain(case, grader, record_property)
