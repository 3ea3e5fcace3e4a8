"""What a unit measures, written down: its record on one machine, and its calibration on a GPU.

``record.md`` holds what the solution's cells print, so that every figure in a text can be traced to a run. ``calibration.toml``
names the gates that the solution passed on a GPU; only those are graded.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.utils import is_grade, is_solution

from academy.database import now
from academy.gpus import inventory
from academy.gpus.plan import suits
from academy.messages import AcademyError
from academy.settings import Settings
from grading.courses import build, check
from grading.courses.catalogue import Course, CourseError, Unit

_MODEL = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Figure:
    """What a gate reached on a GPU, as ratios."""

    at_least: float
    ratios: tuple[float, ...]
    runs: int

    @property
    def median(self) -> float:
        return statistics.median(self.ratios) if self.ratios else 0.0

    @property
    def lowest(self) -> float:
        return min(self.ratios, default=0.0)

    @property
    def holds(self) -> bool:
        """Whether it held in every run."""
        return len(self.ratios) == self.runs and self.lowest >= self.at_least


def machine() -> str:
    """The processor, how many of its cores there are here, and the versions that figures depend on."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    model = found[1].strip() if (found := _MODEL.search(text)) else platform.processor() or platform.machine()
    return f"{model}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}{_torch()}"


def _torch() -> str:
    try:
        return f", torch {version('torch')}"
    except PackageNotFoundError:  # a server whose torch is in its images
        return ""


def record(settings: Settings, course: Course, unit: Unit) -> Path:
    """Run the solution, demonstrations too, and write what it printed and what its gates reached into ``record.md``.

    Raises:
        CourseError: a cell fails.
    """
    nb = build.notebook(unit, course.id, "en")
    result = check.execute(settings, unit, nb, build.notebook(unit, course.id, "en"), "en", everything=True)
    done: Any = nbformat.reads(result.notebook.decode("utf-8"), as_version=4)
    lines = [f"# What {unit.number} {unit.title.en} measured", "", f"- Machine: {machine()}", f"- Date: {now():%Y-%m-%d}", ""]
    lines += ["Written by `academy courses record`; the solution ran in the grader's sandbox, on one core.", ""]
    for cell in (cell for cell in done.cells if cell.cell_type == "code" and not is_grade(cell) and not is_solution(cell)):
        if failed := [output.evalue for output in cell.outputs if output.output_type == "error"]:
            raise CourseError("course-file-wrong", file=unit.source, problem=f"cell {cell.id} fails: {failed[0]}")
        printed = "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")
        if printed.strip():
            lines += [f"## {cell.id}", "", "```text", *map(str.rstrip, printed.rstrip().splitlines()), "```", ""]
    if result.gates:
        lines += ["## Gates", "", "| gate | reached | spread of five rounds | at least |", "|---|---|---|---|"]
        for gate in result.gates:
            spread = f"{gate['low']:.2f}x - {gate['high']:.2f}x"
            lines.append(f"| {gate['name']} | {gate['ratio']:.2f}x | {spread} | {gate['at_least']:g}x |")
        lines.append("")
    path = unit.folder / build.RECORD
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def gpu_gates(course: Course, unit: Unit) -> list[str]:
    """The names of the gates that want a GPU."""
    return [
        name for cell in build.notebook(unit, course.id, "ko").cells if build.wants_gpu(cell) for name in check.gate_names(cell)
    ]


def calibrate(settings: Settings, course: Course, unit: Unit, runs: int) -> dict[str, Figure]:
    """Try the unit's GPU gates with the solution; those that held every time go into ``calibration.toml``.

    Raises:
        AcademyError: there is no GPU here, or the sandbox's torch cannot use it.
    """
    device = next((device for device in inventory.devices(settings) if suits(device, "whole")), None)
    if device is None:
        raise AcademyError("courses-no-gpu", 409)
    names = gpu_gates(course, unit)
    found = check.gate_figures(settings, course, unit, runs, gpu=device.uuid)
    figures = {}
    for name in names:
        mine = [gate for gate in found if gate["name"] == name]
        if not mine:
            raise AcademyError("courses-gpu-unused", 409, gate=name)
        figures[name] = Figure(mine[0]["at_least"], tuple(gate["ratio"] for gate in mine), runs)
    write_calibration(unit, figures, f"{device.model}; {machine()}")
    return figures


def write_calibration(unit: Unit, figures: dict[str, Figure], machine: str) -> None:
    """Write the gates that hold; take away the file where none does."""
    path = unit.folder / build.CALIBRATION
    lines = ["# Written by `academy courses calibrate`: the solution's figures on a GPU. What stands here is graded."]
    for name, figure in figures.items():
        if figure.holds:
            lines += ["", f'["{name}"]', f"median = {figure.median:.3f}", f"lowest = {figure.lowest:.3f}"]
            lines += [f"at_least = {figure.at_least:g}", f"runs = {figure.runs}"]
            lines += [f'machine = "{machine}"', f"date = {now():%Y-%m-%d}"]
    if len(lines) == 1:
        path.unlink(missing_ok=True)
    else:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
