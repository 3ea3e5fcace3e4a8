"""Text as tokens, one for each byte of UTF-8, and the text that the models are trained on."""

from __future__ import annotations

from collections.abc import Iterable
from pydoc_data.topics import topics
from typing import Any

VOCABULARY = 256
END = 255  # of a document; no text in UTF-8 has this byte


def encode(text: str) -> list[int]:
    return list(text.encode("utf-8"))


def decode(tokens: Iterable[Any]) -> str:
    """The text of integers or of a 1-d tensor; bytes that are no UTF-8, as a model may write, become U+FFFD."""
    return bytes(token for token in map(int, tokens) if token != END).decode("utf-8", "replace")


def documents() -> tuple[list[int], list[int]]:
    """Tokens to train on and tokens to validate on: Python's documentation of its language, every tenth topic held out.

    Topics repeat one another, so a paragraph of a held-out topic is taken out of the others too.
    """
    names = sorted(topics)
    held = {paragraph for name in names[5::10] for paragraph in topics[name].split("\n\n")}
    learnt: list[int] = []
    held_out: list[int] = []
    for index, name in enumerate(names):
        if index % 10 == 5:
            held_out += [*encode(topics[name]), END]
        else:
            kept = [paragraph for paragraph in topics[name].split("\n\n") if paragraph not in held]
            learnt += [*encode("\n\n".join(kept)), END]
    return learnt, held_out
