"""The ``academy`` command: everything that an operator or an instructor does, from a terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from academy.messages import AcademyError
from academy.settings import Settings, SettingsError, load

app = typer.Typer(no_args_is_help=True, add_completion=False, help="AcademyHub from a terminal.")
people_app = typer.Typer(no_args_is_help=True, help="People: list, import a roster, add, remove.")
images_app = typer.Typer(no_args_is_help=True, help="The images of notebook servers and of the grader.")
app.add_typer(people_app, name="people")
app.add_typer(images_app, name="images")


def main() -> None:
    """Run the command; a failure that a person can mend is one message, not a traceback."""
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
    from grading.worker import main as work

    work(load())


@app.command()
def settings(
    describe: Annotated[bool, typer.Option("--describe", help="Every key with its meaning and default.")] = False,
) -> None:
    """Check the settings and print them."""
    values = load()
    for section, field in Settings.model_fields.items():
        value = getattr(values, section)
        if section == "profiles":
            for name, profile in value.items():
                _print_section(f"profiles.{name}", profile, describe)
        elif field.annotation is not None:
            _print_section(section, value, describe)


def _print_section(title: str, section: object, describe: bool) -> None:
    typer.secho(f"[{title}]", bold=True)
    for key, field in type(section).model_fields.items():  # type: ignore[attr-defined]
        if describe and field.description:
            typer.secho(f"  # {field.description}", dim=True)
        typer.echo(f"  {key} = {getattr(section, key)!s}")


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


@images_app.command("build")
def images_build(
    name: Annotated[list[str] | None, typer.Argument(help="notebook, sandbox; default: both")] = None,
    base: Annotated[str, typer.Option(help="A Debian 12 image to build on; default: pulled, or made with debootstrap.")] = "",
    wheels: Annotated[Path | None, typer.Option(help="A folder of wheels to search beside pip's own configuration.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Build even what is there.")] = False,
) -> None:
    """Build the images that are missing."""
    from academy import images

    names = tuple(name or images.NAMES)
    if unknown := set(names) - set(images.NAMES):
        raise typer.BadParameter(f"no such image: {', '.join(sorted(unknown))}; there are {', '.join(images.NAMES)}")
    for built, tag in images.build(load(), names, base=base, wheels=wheels, force=force).items():
        typer.echo(f"{built:<10} {tag}")


@images_app.command("list")
def images_list() -> None:
    """Print the images' names and whether they are built."""
    from academy import images

    for name in images.NAMES:
        tag = images.image_tag(name)
        typer.echo(f"{name:<10} {tag}  {'built' if images.exists(tag) else 'missing'}")


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
    file: Annotated[typer.FileText, typer.Argument(help="CSV with the columns name, login, role.", encoding="utf-8-sig")],
    course: Annotated[str | None, typer.Option(help="The course for students, assistants and instructors.")] = None,
) -> None:
    """Import a roster; with a bad line nothing is imported."""
    from academy.database import Database
    from academy.messages import message
    from academy.people import RosterError, import_roster, parse_roster
    from grading.records import record

    config = load()
    if course is not None:
        from grading.courses.catalogue import course as find

        find(config, course)
    try:
        rows = parse_roster(file.read(), course)
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
    from academy.people import RosterError, import_roster, parse_roster
    from grading.records import record

    text = io.StringIO()
    csv.writer(text).writerows([("name", "login", "role"), (name or login, login, role)])
    try:
        rows = parse_roster(text.getvalue(), course)
    except RosterError as error:
        _, key, value = error.problems[0]
        raise AcademyError(key, value=value) from error
    with Database(load().database_url).write() as session:
        import_roster(session, rows, course)
        record(session, actor(), "person-added", course or "", login=rows[0].login, role=rows[0].role)
    typer.echo(f"{rows[0].login}: {rows[0].role}{f' of {course}' if course else ''}")


@people_app.command("remove")
def people_remove(
    login: str,
    course: Annotated[str | None, typer.Option(help="Only from this course; default: from the academy.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take a person off the roster; submissions and grades stay."""
    from academy.database import Database
    from academy.people import Person
    from grading.records import record

    with Database(load().database_url).write() as session:
        person = session.get(Person, login)
        if person is None:
            raise AcademyError("person-unknown", login=login)
        where = f"the course {course}" if course else "the academy"
        if not yes:
            typer.confirm(f"Remove {login} ({person.name}) from {where}?", abort=True)
        if course:
            person.enrollments = [e for e in person.enrollments if e.course != course]
        else:
            session.delete(person)
        record(session, actor(), "person-removed", course or "", login=login)
    typer.echo(f"{login} removed from {where}.")


if __name__ == "__main__":
    main()
