"""Which submissions of a unit have code in common, by copydetect's fingerprints (winnowing); for staff only.

What the unit itself gives out does not count, nor do names, comments and layout.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import nbformat

from academy.database import Database
from academy.settings import Settings
from grading.exchange.store import Store
from grading.records import newest_submissions

AT_LEAST = 0.3  # of either side; pairs with less in common are left out
MOST_PAIRS = 100
MOST_CODE = 200_000  # characters of one submission


@dataclass(frozen=True)
class Piece:
    """Code that both have, as each wrote it."""

    first: str
    second: str


@dataclass(frozen=True)
class Pair:
    """Two students and what their submissions have in common; shares are of each one's own code."""

    first: str
    second: str
    first_share: float
    second_share: float
    pieces: list[Piece]

    @property
    def most(self) -> float:
        return max(self.first_share, self.second_share)


def similarity(settings: Settings, database: Database, course: str, unit: str) -> list[Pair]:
    """The pairs of a unit's newest submissions that have most in common, the closest first."""
    from copydetect import CodeFingerprint, compare_files

    store = Store(settings)
    with database.read() as session:
        newest = newest_submissions(session, course, unit)
    with tempfile.TemporaryDirectory(prefix="academy-similarity-") as scratch:
        folder = Path(scratch)
        given = _given(settings.course_folder(course) / "source" / unit)
        prints = {}
        for login, submission in newest.items():
            place = folder / submission.id
            place.mkdir()
            try:
                store.unpack(submission.sha256, place)
            except Exception:  # noqa: S112  damaged: the grader says so
                continue
            code = place.with_suffix(".py")
            code.write_text(_code(place, given)[:MOST_CODE], encoding="utf-8")
            prints[login] = CodeFingerprint(str(code), 12, 4, language="python")
        pairs = []
        for first, second in combinations(sorted(prints), 2):
            _, shares, slices = compare_files(prints[first], prints[second])
            if max(shares) >= AT_LEAST:
                pieces = _pieces(prints[first].raw_code, prints[second].raw_code, slices)
                pairs.append(Pair(first, second, float(shares[0]), float(shares[1]), pieces))
    return sorted(pairs, key=lambda pair: (-pair.most, pair.first, pair.second))[:MOST_PAIRS]


def _given(source: Path) -> set[str]:
    """The code cells that every student gets."""
    found: set[str] = set()
    for path in source.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and not cell.metadata.get("nbgrader", {}).get("solution"):
                found.add(cell.source.strip())
    return found


def _code(folder: Path, given: set[str]) -> str:
    """A submission's own code: tests and the unit's cells are left out."""
    parts = []
    for path in sorted(folder.rglob("*.ipynb")):
        try:
            cells = nbformat.read(path, as_version=4).cells
        except Exception:  # noqa: S112  not a notebook
            continue
        for cell in cells:
            about = cell.metadata.get("nbgrader", {})
            test = isinstance(about, dict) and about.get("grade") and not about.get("solution")
            if cell.cell_type == "code" and not test and cell.source.strip() not in given:
                parts.append(cell.source)
    parts += [path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.rglob("*.py"))]
    return "\n\n".join(parts) + "\n"


def _pieces(first: str, second: str, slices: Any) -> list[Piece]:
    mine, theirs = slices
    if not len(mine):
        return []
    spans = zip(mine[0], mine[1], theirs[0], theirs[1], strict=True)
    return [Piece(first[int(a) : int(b)], second[int(c) : int(d)]) for a, b, c, d in spans]
