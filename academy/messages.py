"""Every message that reaches a person when something fails: what happened, and what to do, in Korean and English.

The texts stand in ``messages.toml`` beside this file, one table a message; ``docs/errors.md`` explains each.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Message:
    """What a person reads: ``text`` says what happened, ``fix`` what to do next."""

    key: str
    text: str
    fix: str

    def __str__(self) -> str:
        end = "" if self.text.endswith((".", "!", "?", ":")) else "."
        return f"{self.text}{end} {self.fix}".strip()


class AcademyError(Exception):
    """Something failed in a way that a person can act on; ``key`` names its message, ``values`` fill it."""

    def __init__(self, key: str, status: int = 400, **values: object) -> None:
        self.key, self.status, self.values = key, status, values
        super().__init__(str(message(key, "en", **values)))

    def message(self, language: str) -> Message:
        return message(self.key, language, **self.values)


@cache
def catalogue() -> dict[str, dict[str, str]]:
    """All messages: key -> {ko, en, ko_fix, en_fix}."""
    return tomllib.loads(Path(__file__).with_name("messages.toml").read_text(encoding="utf-8"))


def message(key: str, language: str, **values: object) -> Message:
    entry = catalogue()[key]
    return Message(key, entry[language].format(**values), entry[f"{language}_fix"].format(**values))
