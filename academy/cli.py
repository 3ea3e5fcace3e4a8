"""The ``academy`` command: everything that an operator or an instructor does, from a terminal."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel

from academy.gpus import cli as gpus_cli
from academy.messages import AcademyError
from academy.settings import Settings, SettingsError, load
from academy.vouchers import cli as vouchers_cli
from grading.courses import cli as courses_cli

if TYPE_CHECKING:
    from academy.people import Person

app = typer.Typer(no_args_is_help=True, add_completion=False, help="AcademyHub from a terminal.")
people_app = typer.Typer(no_args_is_help=True, help="People: list, import a roster, add, remove.")
images_app = typer.Typer(no_args_is_help=True, help="The images of notebook servers and of the grader.")
app.add_typer(people_app, name="people")
app.add_typer(images_app, name="images")
app.add_typer(courses_cli.app, name="courses")
app.command("gpus")(gpus_cli.show)
app.add_typer(vouchers_cli.app, name="vouchers")
app.add_typer(vouchers_cli.teams_app, name="teams")


def main() -> None:
    """Run the command; a failure that a person can mend is one message, not a traceback."""
    # so that what is started here, local sandboxes among it, finds programs of this environment by their names
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    from academy.backup import BackupError
    from academy.images import ImageError
    from academy.run import RunError

    try:
        app()
    except SettingsError as error:
        sys.exit(_say(error, 2))
    except (AcademyError, BackupError, ImageError, RunError) as error:
        sys.exit(_say(error, 1))


def _say(error: Exception, code: int) -> int:
    typer.secho(str(error), fg="red", err=True)
    return code


def actor() -> str:
    """Who the history names for what is done from the terminal."""
    return f"terminal:{os.environ.get('SUDO_USER') or os.environ.get('USER') or 'root'}"


@app.command()
def run(
    docker: Annotated[
        bool | None, typer.Option("--docker/--local", help="Containers, or processes that isolate nothing.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Public port; the inner ports follow it (+1, +2, +3).")] = None,
) -> None:
    """Set up what is missing and start the whole academy on this machine."""
    from academy.run import run as start

    # by the environment, so that the parts that this one starts see the same settings
    if docker is not None:
        for section in ("SPAWNER", "GRADING"):
            os.environ[f"ACADEMY_{section}__BACKEND"] = "docker" if docker else "local"
    if port is not None:
        for offset, key in enumerate(("PORT", "PROXY_API_PORT", "HUB_PORT", "PAGES_PORT")):
            os.environ[f"ACADEMY_HUB__{key}"] = str(port + offset)
    start(load())


@app.command()
def prepare() -> None:
    """Set up what is missing and start nothing: database, secrets, images, networks, courses (for systemd)."""
    from rich.console import Console

    from academy import network
    from academy.run import prepare as make

    config = load()
    make(config, Console(highlight=False))
    if config.docker:
        for which in ("students", "sandboxes"):
            typer.echo(f"network {which} {network.ensure_network(config, which)}")


@app.command()
def hub() -> None:
    """Run the hub alone, in the foreground."""
    from academy.run import exec_hub

    exec_hub(load())


@app.command()
def pages() -> None:
    """Run the pages and the exchange alone, in the foreground."""
    from academy.run import serve_pages

    serve_pages(load())


@app.command()
def worker() -> None:
    """Run a grading worker alone, in the foreground."""
    from academy.run import work

    work(load())


@app.command()
def pool() -> None:
    """Run the keeper of the GPU pool alone, in the foreground."""
    from academy.run import keep_pool

    keep_pool(load())


@app.command()
def settings(
    describe: Annotated[bool, typer.Option("--describe", help="Every key with its meaning and default.")] = False,
) -> None:
    """Check the settings and print them."""
    values = load()
    for name in Settings.model_fields:
        value = getattr(values, name)
        sections = {f"profiles.{key}": profile for key, profile in value.items()} if name == "profiles" else {name: value}
        for title, section in sections.items():
            typer.secho(f"[{title}]", bold=True)
            _print_section(section, describe)


def _print_section(section: BaseModel, describe: bool) -> None:
    for key, field in type(section).model_fields.items():
        if describe:
            default = "required" if field.is_required() else f"default: {_shown(field.get_default(call_default_factory=True))}"
            typer.secho(f"  # {field.description or key} ({default})", dim=True)
        value = getattr(section, key)
        typer.echo(f"  # {key} is not set" if value is None else f"  {key} = {_shown(value)}")


def _shown(value: object) -> str:
    """A value as ``academy.toml`` writes it; the password of a database's URL is left out."""
    if isinstance(value, BaseModel):
        return "{ " + ", ".join(f"{key} = {_shown(part)}" for key, part in value.model_dump().items()) + " }"
    if isinstance(value, bool) or value is None:
        return "not set" if value is None else str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(_shown(part) for part in value) + "]"
    if isinstance(value, int | float):
        return str(value)
    return json.dumps(re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", str(value)), ensure_ascii=False)


@app.command()
def backup(
    output: Annotated[Path | None, typer.Option(help="Folder to write to; default: backup.folder of the settings.")] = None,
) -> None:
    """Write one archive of databases, submissions, courses and secrets; the academy may run meanwhile."""
    from academy.backup import back_up

    back_up(load(), output, typer.echo)


@app.command()
def restore(
    archive: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An archive that `academy backup` wrote.")],
    yes: Annotated[bool, typer.Option("--yes", help="Replace what is there; it is kept aside.")] = False,
) -> None:
    """Put an archive's state back; the academy must be stopped."""
    from academy import backup

    try:
        kept = backup.restore(load(), archive, replace=yes, report=typer.echo)
    except backup.TargetNotEmpty as error:
        if not sys.stdin.isatty():
            raise
        typer.echo(str(error))
        typer.confirm("Replace it?", abort=True)
        kept = backup.restore(load(), archive, replace=True, report=typer.echo)
    typer.echo(f"Restored.{f' What was there before lies in {kept}.' if kept else ''} Start the academy again.")


@app.command()
def health(
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check every part, then start a server, run a notebook, submit and grade; exits 1 when something is broken."""
    import json
    from dataclasses import asdict

    from academy.health import Check, examine

    def show(check: Check) -> None:
        if not as_json:
            state, colour = ("ok", None) if check.ok else ("FAIL", "red")
            typer.secho(f"{state:<5}{check.name:<18}{check.seconds:7.2f} s", fg=colour)
            for line in (check.reason, check.fix):
                if line:
                    typer.echo(f"     {line}")

    checks = examine(show)
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], ensure_ascii=False, indent=1))
    raise typer.Exit(0 if all(check.ok for check in checks) else 1)


@images_app.command("build")
def images_build(
    name: Annotated[list[str] | None, typer.Argument(help="notebook, sandbox; default: both")] = None,
    base: Annotated[str | None, typer.Option(help="A Debian 12 image to build on; default: pulled, or made.")] = None,
    torch: Annotated[str | None, typer.Option(help="cpu or cuda: which build of torch the images get.")] = None,
    torch_index: Annotated[str | None, typer.Option(help="Index (URL) or folder of that build of torch.")] = None,
    wheels: Annotated[Path | None, typer.Option(help="A folder of wheels to search beside what pip is set up with.")] = None,
    ca: Annotated[Path | None, typer.Option(help="A folder of certificate authorities (*.crt) that the images trust.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Build even what is there.")] = False,
) -> None:
    """Build the images that are missing; options stand for the settings' section [images]."""
    from academy import images

    names = tuple(name or images.NAMES)
    if unknown := set(names) - set(images.NAMES):
        raise typer.BadParameter(f"no such image: {', '.join(sorted(unknown))}; there are {', '.join(images.NAMES)}")
    given = {"base": base, "torch": torch, "torch_index": torch_index, "wheels": wheels, "authorities": ca}
    config = load()
    wanted = load(images={**config.images.model_dump(), **{key: value for key, value in given.items() if value is not None}})
    for built, tag in images.build(wanted, names, typer.echo, force=force).items():
        typer.echo(f"{built:<10} {tag}")
        if tag != images.image_tag(built, config):
            typer.echo("  Servers start it when the section [images] of academy.toml says what these options say.")


@images_app.command("list")
def images_list() -> None:
    """Print the images' names and whether they are built."""
    from academy import images

    config = load()
    for name in images.NAMES:
        tag = images.image_tag(name, config)
        typer.echo(f"{name:<10} {tag}  {'built' if images.exists(tag) else 'missing'}")


@images_app.command("freeze")
def images_freeze() -> None:
    """Resolve the images' requirements anew and write the versions that the next build installs."""
    from academy import images

    typer.echo(f"{images.freeze(load())} is written. Build, test, then commit it.")


@people_app.command("list")
def people_list(course: Annotated[str | None, typer.Option(help="Only this course.")] = None) -> None:
    """Print people, their roles and courses."""
    from sqlalchemy import select

    from academy.database import Database
    from academy.people import Person, members

    with Database(load().database_url).read() as session:
        everybody = members(session, course) if course else list(session.scalars(select(Person).order_by(Person.login)))
        for person in everybody:
            courses = ", ".join(f"{e.course}: {e.role}" for e in person.enrollments)
            typer.echo(f"{person.login:<20} {person.name:<20} {person.role or '-':<10} {courses}")


@people_app.command("import")
def people_import(
    file: Annotated[typer.FileBinaryRead, typer.Argument(help="CSV (UTF-8) with the columns name, login, role.")],
    course: Annotated[str | None, typer.Option(help="The course for students, assistants and instructors.")] = None,
) -> None:
    """Import a roster; with a bad line nothing is imported."""
    from academy.database import Database
    from academy.messages import message
    from academy.people import RosterError, decode_roster, import_roster, parse_roster
    from grading.records import record

    config = load()
    if course is not None:
        from grading.courses.catalogue import course as find

        find(config, course)
    try:
        rows = parse_roster(decode_roster(file.read()), course)
    except RosterError as error:
        for line, key, value in error.problems:
            typer.secho(f"line {line}: {message(key, config.academy.language, value=value)}", fg="red", err=True)
        typer.secho("Nothing was imported.", err=True)
        raise typer.Exit(1) from error
    with Database(config.database_url).write() as session:
        added, changed = import_roster(session, rows, course)
        record(session, actor(), "roster", course or "", rows=len(rows), added=added, changed=changed)
    typer.echo(f"{len(rows)} people: {added} added, {changed} changed.")


@people_app.command("add")
def people_add(
    login: str,
    role: Annotated[str, typer.Option(help="student, assistant, instructor, founder, operator")],
    name: Annotated[str, typer.Option(help="The name that pages show; default: the login.")] = "",
    course: Annotated[str | None, typer.Option(help="The course for students, assistants and instructors.")] = None,
) -> None:
    """Add one person, or give them a role."""
    import csv
    import io

    from academy.database import Database
    from academy.people import COURSE_ROLES, Person, RosterError, import_roster, normal_login, parse_roster
    from grading.records import record

    config = load()
    if course is not None:
        from grading.courses.catalogue import course as find

        find(config, course)
    with Database(config.database_url).write() as session:
        known = session.get(Person, normal_login(login))
        text = io.StringIO()
        csv.writer(text).writerows([("name", "login", "role"), (name or (known.name if known else login), login, role)])
        try:
            rows = parse_roster(text.getvalue(), course)
        except RosterError as error:
            _, key, value = error.problems[0]
            raise AcademyError(key, value=value) from error
        import_roster(session, rows, course)
        record(session, actor(), "person-added", course or "", login=rows[0].login, role=rows[0].role)
    typer.echo(f"{rows[0].login}: {rows[0].role}{f' of {course}' if course and rows[0].role in COURSE_ROLES else ''}")


@people_app.command("remove")
def people_remove(
    login: str,
    course: Annotated[str | None, typer.Option(help="Only from this course; default: from the academy.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take a person off the roster; submissions and grades stay."""
    from academy.database import Database
    from academy.people import Person, normal_login
    from grading.records import record

    login = normal_login(login)
    database = Database(load().database_url)
    with database.read() as session:
        person = _listed(session.get(Person, login), login, course)
    where = f"the course {course}" if course else "the academy"
    if not yes:  # asked outside of the transaction: others write meanwhile
        typer.confirm(f"Remove {login} ({person.name}) from {where}?", abort=True)
    with database.write() as session:
        person = _listed(session.get(Person, login), login, course)
        if course:
            person.enrollments = [e for e in person.enrollments if e.course != course]
        else:
            session.delete(person)
        record(session, actor(), "person-removed", course or "", login=login)
    typer.echo(f"{login} removed from {where}.")


def _listed(person: Person | None, login: str, course: str | None) -> Person:
    if person is None:
        raise AcademyError("person-unknown", login=login)
    if course and person.role_in(course) is None:
        raise AcademyError("person-not-enrolled", login=login, course=course)
    return person


CourseArgument = Annotated[str, typer.Argument(help="The course's id.", show_default=False)]
UnitArgument = Annotated[str, typer.Argument(help="The unit's id or number, e.g. arrays or 1.1.", show_default=False)]
StudentOption = Annotated[list[str] | None, typer.Option("--student", help="Only this login; can be given again.")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done, or only queue it.")]


@app.command()
def release(
    course: CourseArgument,
    unit: UnitArgument,
    due: Annotated[str, typer.Option(help="Due date, e.g. '2026-12-01 18:00', in the academy's time zone.")] = "",
) -> None:
    """Release a unit to the students of a course; again to change it or its due date."""
    from academy.database import Database
    from grading import operations

    config = load()
    unit = operations.find_unit(config, course, unit)
    due_at = operations.parse_due(due, config) if due else None
    with Database(config.database_url).write() as session:
        done = operations.release_unit(session, config, course, unit, due_at, actor())
    languages = ", ".join(filter(None, done.blobs)) or "one language"
    typer.echo(f"{course} {unit} is released ({languages}), due {due_at.isoformat(' ', 'minutes') if due_at else 'never'}.")


@app.command()
def withdraw(course: CourseArgument, unit: UnitArgument) -> None:
    """Take a released unit back; submissions stay."""
    from academy.database import Database
    from grading import operations

    config = load()
    unit = operations.find_unit(config, course, unit)
    with Database(config.database_url).write() as session:
        operations.withdraw_unit(session, course, unit, actor())
    typer.echo(f"{course} {unit} is withdrawn.")


@app.command()
def submissions(course: CourseArgument, unit: UnitArgument) -> None:
    """Print every student's newest submission, grade and feedback of a unit."""
    from zoneinfo import ZoneInfo

    from academy.database import Database
    from grading import operations

    config = load()
    unit = operations.find_unit(config, course, unit)
    zone = ZoneInfo(config.academy.timezone)
    with Database(config.database_url).write() as session:
        operations.refresh_grades(session, config, course, unit)
        for row in operations.unit_overview(session, course, unit):
            sent = row.submission.received_at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S") if row.submission else "-"
            late = "late" if row.submission and row.submission.late else ""
            score = f"{row.grade.score:g}/{row.grade.max_score:g}" if row.grade else "-"
            state = row.job.state if row.job else ""
            manual = "manual grading pending" if row.grade and row.grade.needs_manual else ""
            feedback = "feedback released" if row.feedback else ""
            notes = ", ".join(filter(None, [late, state, manual, feedback]))
            typer.echo(f"{row.login:<20} {row.name:<20} {sent:<20} {score:>10}  {notes}")
            if row.job and row.job.error:
                typer.secho(f"  {row.job.error}", fg="yellow")


@app.command()
def collect(course: CourseArgument, unit: UnitArgument) -> None:
    """Copy every student's newest submission to where nbgrader and formgrader look for it."""
    from academy.database import Database
    from grading import operations

    config = load()
    unit = operations.find_unit(config, course, unit)
    with Database(config.database_url).write() as session:
        collected = operations.collect(session, config, course, unit, actor())
    typer.echo(f"{len(collected)} submissions collected.")


@app.command()
def grade(course: CourseArgument, unit: UnitArgument, student: StudentOption = None, wait: WaitOption = True) -> None:
    """Autograde every student's newest submission of a unit; works here if no worker runs."""
    _queue("request_grading", course, unit, student, wait)


@app.command()
def feedback(course: CourseArgument, unit: UnitArgument, student: StudentOption = None, wait: WaitOption = True) -> None:
    """Make and release the feedback of every graded submission of a unit."""
    _queue("request_feedback", course, unit, student, wait)


@app.command()
def cancel(course: CourseArgument, unit: UnitArgument, student: StudentOption = None) -> None:
    """Take a unit's submissions that wait or are being graded out of the queue; recorded scores stay."""
    from academy.database import Database
    from grading import operations

    config = load()
    unit = operations.find_unit(config, course, unit)
    with Database(config.database_url).write() as session:
        cancelled = operations.cancel_jobs(session, course, unit, actor(), student)
    typer.echo(f"{len(cancelled)} cancelled.")


@app.command()
def extend(
    course: CourseArgument,
    unit: UnitArgument,
    login: Annotated[str, typer.Argument(help="The student.")],
    until: Annotated[str, typer.Option(help="New due date, e.g. 2026-12-08 18:00; the academy's time zone.")] = "",
    reason: Annotated[str, typer.Option(help="Why; stands in the history.")] = "",
    revoke: Annotated[bool, typer.Option("--revoke", help="Take the extension back.")] = False,
) -> None:
    """Give one student more time for a unit."""
    from academy.database import Database
    from grading import operations

    config = load()
    unit = operations.find_unit(config, course, unit)
    with Database(config.database_url).write() as session:
        if revoke:
            operations.revoke_extension(session, config, course, unit, login, actor())
        else:
            due_at = operations.parse_due(until, config)
            operations.grant_extension(session, config, course, unit, login, due_at, reason, actor())
    typer.echo(f"{login}: the extension is revoked." if revoke else f"{login} has until {until}.")


@app.command()
def regrades(course: CourseArgument) -> None:
    """List a course's regrade requests that wait for an answer; they are answered on the unit's page."""
    from academy.database import Database
    from grading import operations

    with Database(load().database_url).read() as session:
        for row in operations.open_regrades(session, course):
            typer.echo(f"{row.asked_at:%Y-%m-%d %H:%M} {row.unit} {row.login}: {row.text}")


@app.command()
def similarity(course: CourseArgument, unit: UnitArgument) -> None:
    """Show which submissions of a unit have code in common, the closest first."""
    from academy.database import Database
    from grading import operations
    from grading import similarity as report

    config = load()
    unit = operations.find_unit(config, course, unit)
    for pair in report.similarity(config, Database(config.database_url), course, unit):
        typer.echo(f"{pair.first} {pair.first_share:.0%}  {pair.second} {pair.second_share:.0%}  {len(pair.pieces)} pieces")


def _queue(what: str, course: str, unit: str, students: list[str] | None, wait: bool) -> None:
    from rich.progress import Progress

    from academy.database import Database
    from grading import operations, worker
    from grading.records import Job, Submission

    config = load()
    unit = operations.find_unit(config, course, unit)
    database = Database(config.database_url)
    with database.write() as session:
        ids = [job.id for job in getattr(operations, what)(session, course, unit, actor(), students)]
    if not wait or not ids:
        typer.echo(f"{len(ids)} submissions queued.")
        return
    with Progress() as bar:
        task = bar.add_task(f"{course} {unit}", total=len(ids))
        worker.work_off(config, ids, lambda done: bar.update(task, completed=done))
    with database.read() as session:
        jobs = [job for id in ids if (job := session.get(Job, id))]
        failed = [job for job in jobs if job.state != "done"]
        for job in jobs:
            submission = session.get(Submission, job.submission_id)
            if job.error and submission:
                typer.secho(f"{submission.login}: {job.error}", fg="red" if job.state == "failed" else "yellow", err=True)
    typer.echo(f"{len(jobs) - len(failed)} of {len(jobs)} done.")
    if failed:
        raise typer.Exit(1)


@app.command()
def export(
    course: CourseArgument,
    output: Annotated[Path | None, typer.Option(help="File to write; default: the terminal.")] = None,
) -> None:
    """Print a course's grades as CSV, points given by hand included."""
    from grading import operations

    text = operations.export_grades(load(), course)
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8-sig", newline="")
        typer.echo(f"{len(text.splitlines()) - 1} lines written to {output}.")


if __name__ == "__main__":
    main()
