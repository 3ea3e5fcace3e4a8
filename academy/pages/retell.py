"""Messages that were stored as text, told again in their reader's language."""

from __future__ import annotations

import re
from functools import cache, lru_cache

from academy.messages import catalogue

LONGEST = 2000  # characters: no message of ours is longer
_VALUE = re.compile(r"\\\{(\w+)\\\}")


def retell(text: str, language: str) -> str:
    """A text line by line, each in ``language`` where it is one of the academy's messages; anything else stays as it is."""
    return "\n".join(_line(line, language) for line in text.splitlines())


@lru_cache(maxsize=1024)
def _line(line: str, language: str) -> str:
    if len(line) > LONGEST:
        return line
    for key, pattern in _patterns():
        if found := pattern.fullmatch(line):
            entry, values = catalogue()[key], found.groupdict()
            return f"{entry[language]} {entry[f'{language}_fix']}".strip().format(**values)
    return line


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """What each message looks like in each language, those with most words of their own first."""
    found = []
    for key, entry in catalogue().items():
        wanted = _names(entry["ko"] + entry["ko_fix"]) | _names(entry["en"] + entry["en_fix"])
        for language in ("ko", "en"):
            template = f"{entry[language]} {entry[f'{language}_fix']}".strip()
            if _names(template) == wanted and "\n" not in template:
                found.append((len(template), key, re.compile(_pattern(template))))
    return [(key, pattern) for _, key, pattern in sorted(found, key=lambda item: -item[0])]


def _names(template: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", template))


def _pattern(template: str) -> str:
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        name = match.group(1)
        again = name in seen
        seen.add(name)
        return f"(?P={name})" if again else f"(?P<{name}>.*)"

    return _VALUE.sub(group, re.escape(template))
