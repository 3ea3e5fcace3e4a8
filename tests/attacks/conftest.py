"""One academy for all attack files of a process that want the same limits: each file's attacks are handed in at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.attacks.grader import Grader


@pytest.fixture(scope="session")
def graders(tmp_path_factory: pytest.TempPathFactory, sandbox_image: None) -> Iterator[Callable[[dict[str, Any]], Grader]]:
    made: dict[str, Grader] = {}

    def get(limits: dict[str, Any]) -> Grader:
        key = json.dumps(limits, sort_keys=True)
        if key not in made:
            made[key] = Grader(tmp_path_factory.mktemp("attacks"), limits)
        return made[key]

    yield get
    for grader in made.values():
        grader.close()


@pytest.fixture(scope="module")
def grader(request: pytest.FixtureRequest, graders: Callable[[dict[str, Any]], Grader]) -> Grader:
    """The academy of this file's ``LIMITS``; the chosen cases of the file are waiting in it or being graded."""
    found = graders(getattr(request.module, "LIMITS", {}))
    here = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    found.hand_in([item.callspec.params["case"] for item in here])
    return found
