"""Runs every attack and writes build/attacks.json; ends with an error unless every one was contained: ``make attacks``."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from academy.settings import CHECKOUT
from tests.attacks.case import Case

HERE = Path(__file__).parent
REPORT = CHECKOUT / "build" / "attacks.json"


def all_cases() -> dict[str, Case]:
    """The attacks by the id of their test; controls, which attack nobody, are not among them.

    Raises:
        ValueError: two attacks have the same name.
    """
    found: dict[str, Case] = {}
    for path in sorted(HERE.glob("test_*.py")):
        if path.stem == "test_controls":
            continue
        for case in importlib.import_module(f"tests.attacks.{path.stem}").CASES:
            if case.name in found:
                raise ValueError(f"two attacks are called {case.name}")
            found[case.name] = case
    return found


class Report:
    """A pytest plugin that keeps how each attack ended."""

    def __init__(self) -> None:
        self.ends: dict[str, tuple[bool, str]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        name = report.nodeid.rpartition("[")[2].rstrip("]")
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.ends[name] = (False, str(crash.message if crash else report.longrepr).splitlines()[0][:500])
        elif report.when == "call" and report.passed:
            self.ends[name] = (True, str(dict(report.user_properties).get("how", "")))

    def rows(self, cases: dict[str, Case]) -> list[dict[str, Any]]:
        ends = {name: self.ends.get(name, (False, "it did not run")) for name in cases}
        return [
            {"name": name, "tried": case.tried, "contained": ends[name][0], "how": ends[name][1]}
            for name, case in cases.items()
        ]


def main() -> int:
    cases, report = all_cases(), Report()
    status = int(
        pytest.main(["-q", "--no-header", "--tb=line", "--dist", "loadfile", *sys.argv[1:], str(HERE)], plugins=[report])
    )
    rows = report.rows(cases)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    table = Table("attack", "contained", "how", title=None)
    for row in rows:
        table.add_row(row["name"], "yes" if row["contained"] else "[bold red]NO[/]", row["how"])
    Console().print(table)
    contained = sum(row["contained"] for row in rows)
    print(f"{contained} of {len(rows)} attacks contained; {REPORT.relative_to(CHECKOUT)}")
    return status or int(contained < len(rows))


if __name__ == "__main__":
    sys.exit(main())
