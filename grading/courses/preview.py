"""A unit's notebook in both languages side by side, as one page that needs no server."""

from __future__ import annotations

import html
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_notebook

from academy.settings import Settings
from grading.courses import build, check
from grading.courses.catalogue import Course, Unit

PAGE = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
{head}
<style>
body {{ background: #fff; margin: 0; padding: 1rem; }}
.pair {{ display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0 1.5rem; border-bottom: 1px solid #e4e7eb; }}
.pair > div {{ overflow-x: auto; }}
.pair h2.language {{ font: 600 .9rem sans-serif; color: #57606a; }}
.about {{ font: .75rem monospace; color: #57606a; grid-column: 1 / -1; padding-top: .4rem; }}
@media (max-width: 60rem) {{ .pair {{ grid-template-columns: minmax(0, 1fr); }} }}
</style></head>
<body class="jp-Notebook" data-jp-theme-light="true" data-jp-theme-name="JupyterLab Light">
<div class="pair"><h2 class="language">한국어</h2><h2 class="language">English</h2></div>
{pairs}
</body></html>
"""


def write(settings: Settings, course: Course, unit: Unit, solved: bool, folder: Path) -> Path:
    """Write the page and return its path.

    Args:
        solved: the source with its solution, run in the grader's sandbox, instead of what students get.

    Raises:
        CourseError: the unit's source is wrong; what students get cannot be made.
    """
    from nbconvert import HTMLExporter

    notebooks = {language: _solved(settings, course, unit, language) for language in build.LANGUAGES} if solved else None
    korean, english = (notebooks or _released(settings, course, unit)).values()
    exporter: Any = HTMLExporter(template_name="basic")  # type: ignore[no-untyped-call]
    pairs = []
    for ko, en in zip(korean.cells, english.cells, strict=True):
        about = ko.metadata.get("nbgrader", {})
        kind = "test" if about.get("grade") and not about.get("solution") else "solution" if about.get("solution") else ""
        points = f" ({about['points']:g})" if about.get("grade") else ""
        sides = [_body(exporter, cell, nb.metadata) for cell, nb in ((ko, korean), (en, english))]
        name = html.escape(f"{ko.id} {kind}{points}".strip())
        pairs.append(f'<div class="pair"><div class="about">{name}</div><div>{sides[0]}</div><div>{sides[1]}</div></div>')
    whole, _ = HTMLExporter().from_notebook_node(new_notebook())  # type: ignore[no-untyped-call]
    head = whole.partition("<head>")[2].partition("</head>")[0]
    styles = "\n".join(f"<style{part.partition('</style>')[0]}</style>" for part in head.split("<style")[1:])
    title = html.escape(f"{unit.number} {unit.title.ko} · {unit.title.en}")
    folder.mkdir(parents=True, exist_ok=True)
    build.write_files(unit, "ko", folder)  # pictures; they are the same in both languages
    page = folder / f"{course.id}-{unit.id}{'-solved' if solved else ''}.html"
    page.write_text(PAGE.format(language="ko", title=title, head=styles, pairs="\n".join(pairs)), encoding="utf-8")
    return page


def _body(exporter: Any, cell: Any, metadata: Any) -> str:
    body, _ = exporter.from_notebook_node(new_notebook(cells=[cell], metadata=metadata))
    return str(body)


def _released(settings: Settings, course: Course, unit: Unit) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="academyhub-preview-") as name:
        aside = check.elsewhere(settings, Path(name))
        build.build(aside, course.id, unit.id)
        paths = {language: build.release(aside, course, unit, language) / f"{unit.id}.ipynb" for language in build.LANGUAGES}
        return {language: nbformat.read(path, as_version=4) for language, path in paths.items()}


def _solved(settings: Settings, course: Course, unit: Unit, language: str) -> Any:
    nb = build.notebook(unit, course.id, language)
    result = check.execute(settings, unit, nb, build.notebook(unit, course.id, language), language, everything=True)
    return nbformat.reads(result.notebook.decode("utf-8"), as_version=4)
