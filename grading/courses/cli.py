"""``academy courses``: list, start a unit, build, look, prove, record what it measures, calibrate on a GPU."""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from academy.settings import CHECKOUT, Settings, load
from grading import sandbox
from grading.courses import build, catalogue
from grading.courses.catalogue import Course, Unit

app = typer.Typer(no_args_is_help=True)
WIDE = 160  # columns of the table where there is no terminal to ask
AllCourses = Annotated[str | None, typer.Argument(help="Default: all courses.")]
AllUnits = Annotated[str | None, typer.Argument(help="Id or number. Default: all units.")]
OneCourse = Annotated[str, typer.Argument(help="The course's folder.")]
OneUnit = Annotated[str, typer.Argument(help="The unit's id or number.")]


@app.callback()
def courses(context: typer.Context) -> None:
    """Courses as files: list, start, build, look at, prove, measure."""
    context.call_on_close(sandbox.close_all)  # what a command started to run units in


@app.command("list")
def list_() -> None:
    """Print courses and units, and what is wrong with them."""
    config = load()
    for course in catalogue.courses(config):
        typer.secho(f"{course.id}  {course.title.ko} · {course.title.en}", bold=True)
        for unit in course.units:
            typer.echo(f"  {unit.number:<5} {unit.id:<24} {unit.title.ko} · {unit.title.en}")
        for coming in course.coming:
            typer.secho(f"  {coming.number:<5} {'(coming)':<24} {coming.title.ko} · {coming.title.en}", dim=True)
    wrong = [str(problem) for problem in catalogue.problems(config)]
    for course in catalogue.courses(config):
        for unit in course.units:
            wrong += [f"{course.id}/{unit.id}: {problem}" for problem in catalogue.path_problems(config, course, unit)]
    for problem in wrong:
        typer.secho(problem, fg="red", err=True)
    if wrong:
        raise typer.Exit(1)


@app.command()
def new(
    course: Annotated[str, typer.Argument(help="The course's folder; it is made when there is none.")],
    unit: Annotated[str, typer.Argument(help="The new unit's id: lowercase letters, digits, hyphens.")],
    number: Annotated[str, typer.Option(help="What people call it, e.g. 1.7. Default: the next, or the first to come.")] = "",
    ko: Annotated[str, typer.Option(help="Title in Korean. Default: the id.")] = "",
    en: Annotated[str, typer.Option(help="Title in English. Default: the id.")] = "",
) -> None:
    """Start a unit from a template that already passes the check; then make it yours."""
    from grading.courses import new

    config = load()
    if not (config.academy.courses / course).is_dir():
        typer.echo(f"There is no course {course} yet; it begins with this unit.")
    folder = new.unit(config, course, unit, number, ko, en)
    typer.echo(f"{folder} is made. Look at it and prove it:")
    typer.echo(f"  academy courses preview {course} {unit}\n  academy courses check {course} {unit}")


@app.command("build")
def build_(course: AllCourses = None, unit: AllUnits = None) -> None:
    """Write nbgrader's sources and releases of what has changed, in both languages."""
    config = load()
    built = build.build(config, course, unit)
    typer.echo("\n".join(f"{c}/{u} built in {config.course_folder(c)}" for c, u in built) or "Nothing has changed.")


@app.command()
def preview(
    course: OneCourse,
    unit: OneUnit,
    solved: Annotated[bool, typer.Option(help="With the solution, and with what its cells print and draw.")] = False,
    browser: Annotated[bool, typer.Option(help="Open it in a browser; else only say where the page is.")] = True,
) -> None:
    """Open the student's notebook in both languages side by side."""
    from grading.courses import preview

    config, console = load(), Console()
    found = catalogue.course(config, course)
    with console.status(f"{unit}: running it" if solved else unit):
        page = preview.write(config, found, found.unit(unit), solved, CHECKOUT / "build" / "preview")
    console.print(str(page), soft_wrap=True)
    if browser and not webbrowser.open(page.as_uri()):
        console.print("There is no browser here; open this file in one.")


@app.command()
def check(
    course: AllCourses = None,
    unit: AllUnits = None,
    gate_runs: Annotated[int, typer.Option(min=0, help="How often each gate is tried with all cores busy; 0: not.")] = 20,
) -> None:
    """Prove units: the solution earns all points, the empty release none, every mistake is caught, every gate holds."""
    from grading.courses import check

    config, console = load(), Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    table = Table(Column("unit", no_wrap=True), "tasks", "points", "hidden tests", "mistakes caught", "gates", "seconds", "")
    records = []
    for found, wanted in _units(config, course, unit):
        with console.status(wanted.id) as status:
            tell = status.update if console.is_terminal else console.print
            record = check.check(config, found, wanted, tell, gate_runs)
        records.append(record)
        caught = f"{record.mistakes_caught} of {record.mistakes}"
        gates = "\n".join(map(_gate, record.gates)) or "-"
        counts = [f"{record.tasks}", f"{record.points:g}", f"{record.hidden_tests}", caught, gates, f"{record.seconds:.0f}"]
        table.add_row(record.unit, *counts, "ok" if record.ok else "[red]failed[/red]")
    console.print(table)
    problems = [f"{record.unit}: {problem}" for record in records for problem in record.problems]
    problems += [str(problem) for problem in catalogue.problems(config)]
    for problem in problems:
        console.print(problem, style="red", markup=False)
    output = CHECKOUT / "build" / "courses.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps([r.as_dict() for r in records], ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if problems:
        raise typer.Exit(1)


def _gate(gate: dict[str, float]) -> str:
    told = f"{gate['name']} {gate['ratio']:.1f}x of {gate['at_least']:g}x"
    return f"{told} ({gate['held']} of {gate['runs']}, lowest {gate['lowest']:.1f}x)" if "held" in gate else told


@app.command()
def record(course: AllCourses = None, unit: AllUnits = None) -> None:
    """Run units with their solution and write what they measured, and on which machine, into each unit's record.md."""
    from grading.courses import measure

    config, console = load(), Console()
    for found, wanted in _units(config, course, unit):
        with console.status(f"{wanted.id}: running it"):
            path = measure.record(config, found, wanted)
        console.print(str(path), soft_wrap=True)


@app.command()
def calibrate(
    course: AllCourses = None,
    unit: AllUnits = None,
    runs: Annotated[int, typer.Option(min=1, help="How often each gate must hold.")] = 20,
) -> None:
    """Try the gates that want a GPU on one of this machine's; those that hold are graded from then on."""
    from grading.courses import measure

    config, console = load(), Console()
    for found, wanted in _units(config, course, unit):
        if not measure.gpu_gates(found, wanted):
            continue
        with console.status(f"{wanted.id}: {runs} runs on the GPU"):
            figures = measure.calibrate(config, found, wanted, runs)
        for name, figure in figures.items():
            told = "graded from now on" if figure.holds else "not graded: it did not hold every time"
            console.print(
                f"{wanted.id}: {name} {figure.median:.2f}x, lowest {figure.lowest:.2f}x of {figure.at_least:g}x; {told}"
            )


def _units(config: Settings, course: str | None, unit: str | None) -> Iterator[tuple[Course, Unit]]:
    for found in [catalogue.course(config, course)] if course else catalogue.courses(config):
        for wanted in [found.unit(unit)] if unit else found.units:
            yield found, wanted
