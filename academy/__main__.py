"""``python -m academy`` is the ``academy`` command."""

from academy.cli import main

main()
