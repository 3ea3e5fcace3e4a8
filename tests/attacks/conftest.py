"""One academy a test file: all its attacks are handed in at once, and each test waits for its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.grader import Grader


@pytest.fixture(scope="module")
def grader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sandbox_image: None) -> Iterator[Grader]:
    limits = getattr(request.module, "LIMITS", {})
    made = Grader(tmp_path_factory.mktemp("attacks"), limits)
    try:
        here = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
        cases = [item.callspec.params["case"] for item in here]
        made.hand_in(cases)
        yield made
    finally:
        made.close()
