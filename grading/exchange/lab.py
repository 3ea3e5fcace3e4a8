"""The server extension behind the Assignment List and Validate: nbgrader is imported by the first request that needs it.

Importing nbgrader takes as long as starting the rest of the server, and everybody who opens a notebook waits for the start.
"""

from __future__ import annotations

from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.routing import PathMatches, Router, Rule
from tornado.web import Application


class _FirstUse(Router):
    """Answers nothing itself: it loads nbgrader's handlers, and tornado finds them further down its list of rules."""

    def __init__(self, app: Any) -> None:
        self.app, self.loaded = app, False

    def find_handler(self, request: HTTPServerRequest, **_: Any) -> None:
        if not self.loaded:
            self.loaded = True
            from grading.exchange import plugin

            plugin.load_handlers(self.app)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "grading.exchange.lab"}]


def _load_jupyter_server_extension(app: Any) -> None:
    paths = PathMatches(app.web_app.settings["base_url"] + r"(assignments(/\w+)?|courses|nbgrader_version)$")
    # not app.web_app's own method, which takes every target for a handler class
    Application.add_handlers(app.web_app, ".*$", [Rule(paths, _FirstUse(app))])
