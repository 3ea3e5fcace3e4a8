"""What every benchmark writes and prints: the machine, the raw runs, and lines that hold or do not."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NotRequired, TypedDict

CHECKOUT = Path(__file__).resolve().parent.parent


class Line(TypedDict):
    """One measured value and its bound; ``write`` fills in ``holds``."""

    name: str
    value: float
    at_least: NotRequired[float]
    at_most: NotRequired[float]
    holds: NotRequired[bool]


def write(name: str, runs: Any, lines: Sequence[Line]) -> int:
    """Write ``build/bench/NAME.json``, print the lines as a table; returns the exit status (1: a line does not hold)."""
    judged = [{**line, "holds": _holds(line)} for line in lines]
    path = CHECKOUT / "build" / "bench" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(), "at": datetime.now(UTC).isoformat(), "runs": runs, "lines": judged}
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\n{'line':<28}{'value':>12}{'bound':>14}  holds")
    for line in judged:
        bound = f">= {line['at_least']}" if "at_least" in line else f"<= {line['at_most']}" if "at_most" in line else ""
        print(f"{line['name']:<28}{line['value']:>12.3f}{bound:>14}  {'yes' if line['holds'] else 'NO'}")
    print(f"written to {path.relative_to(CHECKOUT)}")
    return 0 if all(line["holds"] for line in judged) else 1


def _holds(line: Line) -> bool:
    return line["value"] >= line.get("at_least", line["value"]) and line["value"] <= line.get("at_most", line["value"])


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    info: dict[str, Any] = {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory_kb": _field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
    }
    try:
        import docker

        info["docker"] = docker.from_env(version="auto", timeout=5).version()["Version"]
    except Exception:  # noqa: BLE001, RUF100 - the figures are worth having without it
        info["docker"] = None
    return info


def _field(path: str, key: str) -> str:
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith(key):
            return line.split(":", 1)[1].strip()
    return ""


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: ``percentile(values, 0.95)``."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -(-int(share * 100) * len(ordered) // 100) - 1))]
