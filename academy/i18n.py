"""The languages of the pages: gettext catalogues compiled when they are loaded, and dates as a reader of each expects them."""

from __future__ import annotations

import gettext
from datetime import datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfo

from babel.dates import format_datetime, format_timedelta
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

LANGUAGES = {"ko": "한국어", "en": "English"}
LANGUAGE_COOKIE = "academy_language"  # path /: the hub's pages read it too
LOCALE = Path(__file__).with_name("locale")


@cache
def translations(language: str) -> gettext.NullTranslations:
    """The catalogue of a language; English stands in the source and needs none."""
    path = LOCALE / language / "LC_MESSAGES" / "academy.po"
    if not path.is_file():
        return gettext.NullTranslations()
    with path.open("rb") as file:
        catalogue = read_po(file, locale=language)
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def translate(language: str, text: str, **values: object) -> str:
    """A text in a language, with ``%(name)s`` filled in."""
    translated = translations(language).gettext(text)
    return translated % values if values else translated


def mark(text: str) -> str:
    """Mark a text for the catalogue where it is translated later."""
    return text


def known(language: str | None, fallback: str) -> str:
    """The language if the pages have it, else the fallback."""
    return language if language in LANGUAGES else fallback


def show_time(moment: datetime, language: str, timezone: str) -> str:
    """Date and time of day in a time zone, e.g. ``2026년 3월 2일 (월) 23:59`` or ``Mon, 2 Mar 2026, 23:59``."""
    pattern = "y년 M월 d일 (E) HH:mm" if language == "ko" else "EEE, d MMM y, HH:mm"
    return format_datetime(moment, pattern, tzinfo=ZoneInfo(timezone), locale=language)


def show_distance(moment: datetime, now: datetime, language: str) -> str:
    """How far away a moment is, e.g. ``in 3 days``, ``3일 후``."""
    return format_timedelta(moment - now, add_direction=True, locale=language, threshold=1.2)


def field_time(moment: datetime | None, timezone: str) -> str:
    """A moment as a ``datetime-local`` field wants it; the empty text for none."""
    return "" if moment is None else moment.astimezone(ZoneInfo(timezone)).strftime("%Y-%m-%dT%H:%M")
