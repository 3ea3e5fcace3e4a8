"""The ``academy`` command: everything that an operator or an instructor does, from a terminal."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="AcademyHub from a terminal.")
