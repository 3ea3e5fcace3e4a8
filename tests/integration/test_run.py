"""`academy run` without Docker, as a newcomer starts, interrupts and starts it again."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from academy.network import free_port
from academy.spawner import API_SCOPE
from grading.exchange.client import Client, Receipt
from tests.integration.trial import Trial, Visitor

pytestmark = pytest.mark.timeout(300)

BANNER = {
    "ko": "사용자끼리 전혀 격리되지 않아요",
    "en": "isolates nothing",
}
COURSE = """title = { ko = "연습", en = "Practice" }
units = [{ id = "double", number = "1.1", title = { ko = "두 배", en = "Double" }, hours = 1 }]
"""
UNIT = """# %% id="double" kind="solution"
def double(number):
    ### BEGIN SOLUTION
    return 2 * number
    ### END SOLUTION

# %% id="test-double" kind="test" points=1
assert double(21) == 42
"""
RESTART_SECONDS = 90  # far more than it takes, but the machine may be busy


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """A running academy with one course; a test that stops it starts it again."""
    trial = Trial(tmp_path_factory.mktemp("trial"))
    unit = trial.courses / "practice" / "double"
    unit.mkdir(parents=True)
    (unit.parent / "course.toml").write_text(COURSE, encoding="utf-8")
    (unit / "double.py").write_text(UNIT, encoding="utf-8")
    try:
        trial.start()
        yield trial
    finally:
        trial.end()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Trial]:
    """An academy without courses that nobody has started yet."""
    trial = Trial(tmp_path)
    yield trial
    trial.end()


def test_a_start_prints_the_address_the_people_and_their_passwords(trial: Trial) -> None:
    assert httpx.get(f"{trial.url}/hub/login", timeout=60).status_code == 200
    for role, login in {"instructor": "teacher", "student": "minji", "founder": "founder", "operator": "operator"}.items():
        assert re.search(rf"^  {role} +\S+ +{login} +\S+$", trial.said, re.MULTILINE), trial.said
    assert trial.password("minji") == trial.password("teacher") != trial.password("operator")
    for login in ("minji", "teacher", "operator"):
        visitor = Visitor(trial.url, login, trial.password(login))
        assert visitor.http.get("/services/academy/").status_code == 200
        visitor.close()


def test_it_says_that_local_processes_isolate_nothing(trial: Trial) -> None:
    """In the terminal, on the hub's pages and on ours."""
    visitor = Visitor(trial.url, "junho", trial.password("junho"))
    signing_in = httpx.get(f"{trial.url}/hub/login", timeout=60)
    for text in BANNER.values():
        assert text in trial.said
    for page in (signing_in.text, visitor.home):
        assert "격리" in page[page.index('class="a-banner"') :][:400]
    visitor.close()
    english = httpx.get(f"{trial.url}/hub/login", cookies={"academy_language": "en"}, timeout=60).text
    assert BANNER["en"] in english[english.index('class="a-banner"') :][:400]


def test_a_second_run_of_one_data_folder_is_refused(trial: Trial) -> None:
    address = trial.url
    second = trial.command("run", "--port", str(free_port()))
    assert second.returncode == 1, second.stderr
    assert f"The academy in {trial.data} runs already, at {address}. Stop it first." in second.stderr
    assert "Traceback" not in second.stderr
    health = httpx.get(f"{trial.url}/services/academy/health", timeout=60)
    assert health.status_code == 200, "the first one was disturbed"


@pytest.mark.parametrize("key", ["port", "hub_port"])
def test_a_port_in_use_is_named_with_what_to_do(empty: Trial, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = empty.command("run", **{f"ACADEMY_HUB__{key.upper()}": str(port)})
    assert refused.returncode == 1, refused.stderr
    assert f"Port {port} of 127.0.0.1 (hub.{key}) cannot be used: Address already in use." in refused.stderr
    assert "Stop what uses it, or choose other ports with `academy run --port" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert empty.processes() == {}


def test_ctrl_c_ends_everything_and_the_next_start_has_lost_nothing(trial: Trial, tmp_path: Path) -> None:
    url, password = trial.url, trial.password("minji")
    minji = Visitor(url, "minji", password)
    token = minji.token("self", API_SCOPE, "access:servers!user=minji")
    receipt = _submit(url, token, tmp_path / "unit")
    added = trial.command("people", "add", "newcomer", "--role", "student", "--course", "practice")
    assert added.returncode == 0, added.stderr
    _work_on_a_notebook(url, token)
    assert any("ipykernel" in command for command in trial.processes().values())

    assert trial.stop() == 0
    assert trial.said.rstrip().endswith("Stopping ..."), trial.said
    assert trial.processes() == {}
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)

    seconds = trial.start()
    assert seconds < RESTART_SECONDS, trial.said
    assert (trial.url, trial.password("minji")) == (url, password)
    assert "Released" not in trial.said
    assert _client(url, token).submissions("practice", "double") == [receipt], "the token or the submission is gone"
    _client(url, token).content(receipt.id, tmp_path / "content")
    assert (tmp_path / "content" / "double.ipynb").read_bytes() == (tmp_path / "unit" / "double.ipynb").read_bytes()
    assert minji.http.get("/services/academy/").status_code == 200, "the session is gone"
    minji.close()
    newcomer = Visitor(url, "newcomer", password)
    assert "연습" in newcomer.home
    newcomer.close()


def _client(url: str, token: str) -> Client:
    return Client(f"{url}/services/academy/api/v1", token, "ko")


def _submit(url: str, token: str, folder: Path) -> Receipt:
    client = _client(url, token)
    client.fetch("practice", "double", folder)
    return client.submit("practice", "double", folder, "ko")


def _work_on_a_notebook(url: str, token: str) -> None:
    """Start minji's server and a kernel in it."""
    with httpx.Client(base_url=url, headers={"Authorization": f"token {token}"}, timeout=60) as http:
        assert http.post("/hub/api/users/minji/server").status_code in (201, 202)
        deadline = time.monotonic() + 120
        while not http.get("/hub/api/users/minji").json()["servers"].get("", {}).get("ready"):
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.2)
        assert http.post("/user/minji/api/kernels", json={"name": "python3"}).status_code == 201


@pytest.mark.parametrize(("moment", "times"), [("Building the courses", 1), ("Starting the hub", 2)])
def test_ctrl_c_during_a_start(empty: Trial, moment: str, times: int) -> None:
    """Once, and twice as an impatient person does it."""
    empty.begin()
    empty.wait_for(moment)
    for _ in range(times):
        empty.interrupt()
        time.sleep(0.3)
    assert empty.ended() in (0, 130, -signal.SIGINT), empty.said  # the last where it came as Python was ending already
    assert "Traceback" not in empty.said
    assert empty.processes() == {}
