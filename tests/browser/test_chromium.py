"""The browser of these tests sees pages as from another machine."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from academy.images import image_tag

pytestmark = [pytest.mark.browser, pytest.mark.docker, pytest.mark.timeout(120)]

REQUESTS = 12  # twice what Chromium has under way with one server: half of them wait for a connection
SECONDS = 4  # of an answer; a container's interface gets its address within two of its start
PAGE = f"""<script>
document.results = Promise.allSettled([...Array({REQUESTS}).keys()].map(async (i) => (await fetch("/slow" + i)).text()));
</script>"""


class Slow(BaseHTTPRequestHandler):
    """A page that asks for twelve slow answers at once."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        slow = self.path.startswith("/slow")
        time.sleep(SECONDS if slow else 0)
        body = b"answer" if slow else PAGE.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def slow() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_container_that_starts_fails_no_request(browser: Any, sandbox_image: None, slow: str) -> None:
    page = browser.new_page()
    page.goto(slow)
    command = ["docker", "run", "--rm", "--entrypoint", "sleep", image_tag("sandbox"), str(SECONDS)]
    container = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    results = page.evaluate("document.results")
    page.close()
    assert container.wait(30) == 0  # so it had started, and gave this machine an interface
    assert [result["status"] for result in results] == ["fulfilled"] * REQUESTS
