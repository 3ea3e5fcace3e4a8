"""A student, an instructor and a founder do their main job in a browser, against `academy run` as a newcomer starts it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error

from academy.settings import CHECKOUT
from tests.conftest import NO_MODEL, remove_deployment, write_config

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

SHOTS = CHECKOUT / "build" / "screenshots"
SOLVE = """
async ({path, cells, answer}) => {
    const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]+)/)[1];
    const headers = {"X-XSRFToken": xsrf, "Content-Type": "application/json"};
    const url = path + "?content=1";
    const got = await (await fetch(url, {headers})).json();
    for (const cell of got.content.cells) {
        const name = (cell.metadata.nbgrader || {}).grade_id;
        if (name in cells) cell.source = cells[name];
        if (name === "answer") cell.source = answer;
    }
    const put = await fetch(path, {method: "PUT", headers, body: JSON.stringify(
        {type: "notebook", format: "json", content: got.content})});
    return [put.status, got.content.metadata.academy.language, got.content.cells.map(c => c.source).join("\\n")];
}
"""
SOLUTION = {
    "standardize": "def standardize(table):\n    s = table.std(axis=0)\n"
    "    return (table - table.mean(axis=0)) / np.where(s == 0, 1, s)",
    "pairwise-distance": "def pairwise_distance(points, centres):\n"
    "    return np.sqrt(((points[:, None, :] - centres[None, :, :]) ** 2).sum(axis=-1))",
    "nearest": "def nearest(points, centres):\n    return pairwise_distance(points, centres).argmin(axis=1)",
}
AFTER_THE_FIRST = {"1.2", "1.3", "1.6"}
WORDS = {
    "ko": {"language": "한국어", "collect": "제출물 가져오기", "lab": "런처"},
    "en": {"language": "English", "collect": "Collect", "lab": "Launcher"},
}


@dataclass
class Running:
    """An academy that `academy run` started."""

    url: str
    password: str
    config: Path
    output: Path
    operator: str = ""  # the operator's password

    @property
    def deployment(self) -> str:
        name = re.search(r'name = "(\w+)"', self.config.read_text())
        assert name
        return name[1]


def start(folder: Path, backend: str, courses: Collection[str] = (), **sections: dict[str, Any]) -> Iterator[Running]:
    """An academy with some of this repository's courses; without names with all."""
    for course in courses:
        (folder / "courses").mkdir(exist_ok=True)
        (folder / "courses" / course).symlink_to(CHECKOUT / "courses" / course)
    if courses:
        sections["academy"] = {"courses": str(folder / "courses")}
    config = write_config(folder, spawner={"backend": backend}, grading={"backend": backend}, **sections)
    output = folder / "output.txt"
    environment = {**os.environ, **NO_MODEL, "ACADEMY_CONFIG": str(config), "COLUMNS": "200"}
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "academy", "run"], env=environment, stdout=file, stderr=subprocess.STDOUT, cwd=folder
        )
    deadline = time.monotonic() + 300
    while "Ctrl-C" not in output.read_text() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    said = output.read_text()
    try:
        assert "Ctrl-C" in said, said
        password = re.search(r"minji\s+(\S+)", said)
        url = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert password, said
        assert url, said
        operator = re.search(r"operator\s+(\S+)$", said, re.M)
        assert operator, said
        yield Running(url[0], password[1], config, output, operator[1])
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        finally:
            process.kill()
            name = re.search(r'name = "(\w+)"', config.read_text())
            assert name
            remove_deployment(name[1])


@pytest.fixture(scope="module")
def in_containers(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from start(tmp_path_factory.mktemp("docker"), "docker")


@pytest.fixture(scope="module")
def in_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from start(tmp_path_factory.mktemp("local"), "local", ["foundations"])


class Visitor:
    """Somebody with a browser of their own."""

    def __init__(self, browser: Any, academy: Running, login: str, language: str, shots: str) -> None:
        self.academy, self.login, self.language, self.shots = academy, login, language, shots
        self.context = browser.new_context(viewport={"width": 1200, "height": 800}, locale="ko-KR")
        self.page = self.context.new_page()
        self.page.set_default_timeout(90_000)
        self.page.goto(academy.url)
        self.page.fill("input[name=username]", login)
        self.page.fill("input[name=password]", academy.operator if login == "operator" else academy.password)
        self.page.press("input[name=password]", "Enter")
        self.page.wait_for_url(re.compile("/services/academy/"))
        self.press(f".a-languages >> text={WORDS[language]['language']}")
        self.page.wait_for_selector(f"html[lang={language}]")

    def shot(self, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{self.shots}-{self.language}-{name}.png", full_page=True)

    def press(self, button: str) -> None:
        """Press a button and wait for the page that answers."""
        with self.page.expect_navigation():
            self.page.click(button)

    def home(self) -> None:
        self.page.goto(f"{self.academy.url}/services/academy/")

    def open_lab(self, server: str = "") -> None:
        """Start a server on the hub's page, see its progress, and wait for JupyterLab."""
        path = f"{self.login}/{server}".rstrip("/")
        self.page.goto(f"{self.academy.url}/hub/spawn/{path}")
        if "pending" not in self.page.url and "/lab" not in self.page.url:
            self.shot("choose-server")
            self.page.click("main form button:not([formaction])")
        self.page.wait_for_url(re.compile(rf"/user/{path}/lab"))
        self.page.wait_for_selector(f"#jp-main-dock-panel >> text={WORDS[self.language]['lab']}")
        self.shot("lab")

    def close(self) -> None:
        self.context.close()


def journey(browser: Any, academy: Running, login: str, language: str, shots: str) -> None:
    """From signing in to a score with feedback; and the instructor's side of it."""
    student = Visitor(browser, academy, login, language, shots)
    student.shot("home")
    page = student.page
    assert _path(page, "closed") >= AFTER_THE_FIRST
    student.open_lab()
    page.click("text=Nbgrader")
    page.click("text=Assignment List")
    page.click("button:has-text('Fetch') >> nth=0")
    page.wait_for_selector("button:has-text('Submit')")
    path = f"/user/{login}/api/contents/foundations/arrays/arrays.ipynb"
    status, spoken, text = page.evaluate(
        SOLVE, {"path": path, "cells": SOLUTION, "answer": "Because of memory. 메모리 때문이에요."}
    )
    assert (status, spoken) == (200, language)
    assert ("배열이란" in text) == (language == "ko")
    assert "HIDDEN" not in text
    assert "asfortranarray" not in text, "a hidden test reached the student"
    page.click("button:has-text('Submit')")
    page.wait_for_selector("text=/20\\d\\d-\\d\\d-\\d\\d .*UTC/")
    student.shot("submitted")
    student.home()
    assert page.locator("code, .receipt, [title]").filter(has_text=re.compile("[0-9a-f]{8}")).count() > 0, "no receipt"
    student.shot("receipt")

    teacher = Visitor(browser, academy, "teacher", language, shots)
    unit = f"{academy.url}/services/academy/courses/foundations/units/arrays"
    teacher.page.goto(unit)
    teacher.shot("unit")
    assert login in teacher.page.inner_text("main")
    teacher.press("form[action$='/grade'] button >> nth=0")
    _until(lambda: "/ 12" in _row(teacher.page, unit, login) or "/ 15" in _row(teacher.page, unit, login), 180, "no score")
    teacher.shot("graded")
    teacher.page.goto(unit)
    teacher.press("form[action$='/feedback'] button >> nth=0")
    student.home()
    _until(lambda: (student.home(), page.locator("a[href*='/feedback']").count())[1], 120, "no feedback on the home page")
    assert _path(page, "mastered") == {"1.1"}
    assert _path(page, "open") >= AFTER_THE_FIRST
    student.shot("scored")
    page.click("a[href*='/feedback'] >> nth=0")
    page.wait_for_load_state("networkidle")
    student.shot("feedback")
    grades = teacher.context.request.get(f"{academy.url}/services/academy/courses/foundations/grades.csv")
    assert grades.ok
    line = next(line for line in grades.text().splitlines() if login in line)
    assert "12" in line, line
    teacher.close()
    student.close()


def _path(page: Any, state: str) -> set[str]:
    """The units that the picture of the student's path shows in a state."""
    return set(page.locator(f"svg.path g.unit.{state}").evaluate_all("boxes => boxes.map((box) => box.dataset.unit)"))


def _row(page: Any, unit: str, login: str) -> str:
    with contextlib.suppress(Error):  # the page reloads itself while jobs run, and may do so at this very moment
        page.goto(unit)
    return str(page.locator("tr", has_text=login).first.inner_text())


def _until(holds: Any, seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(1)


@pytest.mark.docker
def test_student_and_instructor_in_korean_in_containers(browser: Any, in_containers: Running) -> None:
    journey(browser, in_containers, "minji", "ko", "docker")


@pytest.mark.docker
def test_student_and_instructor_in_english_in_containers(browser: Any, in_containers: Running) -> None:
    journey(browser, in_containers, "junho", "en", "docker")


@pytest.mark.docker
def test_formgrader_opens_for_the_instructor_alone(browser: Any, in_containers: Running) -> None:
    teacher = Visitor(browser, in_containers, "teacher", "ko", "docker")
    teacher.page.goto(f"{in_containers.url}/services/academy/courses/foundations")
    with teacher.context.expect_page() as opened:
        teacher.page.click("form[action$='/formgrader'] button")
    formgrader = opened.value
    formgrader.wait_for_url(re.compile("/user/teacher/grade-foundations/formgrader"), timeout=90_000)
    formgrader.wait_for_selector("text=arrays", timeout=60_000)
    formgrader.screenshot(path=SHOTS / "docker-ko-formgrader.png")
    teacher.close()

    student = Visitor(browser, in_containers, "minji", "ko", "docker")
    answer = student.page.goto(f"{in_containers.url}/user/teacher/grade-foundations/formgrader")
    assert answer.status in (403, 404)
    answer = student.page.goto(f"{in_containers.url}/services/academy/courses/foundations")
    assert answer.status in (403, 404)
    student.close()


@pytest.mark.docker
def test_a_founder_works_in_a_sandbox(browser: Any, in_containers: Running) -> None:
    founder = Visitor(browser, in_containers, "founder", "ko", "docker")
    founder.page.fill("input[name=name]", "proto")
    founder.page.press("input[name=name]", "Enter")
    founder.page.wait_for_url(re.compile("/hub/spawn"))
    founder.open_lab("proto")
    assert founder.page.locator("text=Nbgrader").count() == 0, "a sandbox has no course tools"
    founder.home()
    assert "proto" in founder.page.inner_text("main")
    founder.shot("sandboxes")
    founder.close()


@pytest.mark.docker
def test_a_founder_shows_a_prototype_and_takes_it_back(browser: Any, in_containers: Running) -> None:
    """Chosen people open a program on a port of the sandbox, nobody opens anything else of it."""
    founder = Visitor(browser, in_containers, "founder", "en", "docker")
    guest, stranger = (Visitor(browser, in_containers, login, "ko", "docker") for login in ("minji", "junho"))
    founder.page.fill("input[name=name]", "demo")
    founder.page.press("input[name=name]", "Enter")
    founder.page.wait_for_url(re.compile("/hub/spawn"))
    founder.open_lab("demo")
    labels = (f"label=academyhub.deployment={in_containers.deployment}", "label=academyhub.server=demo")
    listed = ["docker", "ps", "-q", *(f"--filter={label}" for label in labels)]
    [container] = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    program = "mkdir -p /tmp/app && echo 'our prototype' >/tmp/app/index.html && exec python -m http.server 8501 -d /tmp/app"
    subprocess.run(["docker", "exec", "--detach", container, "sh", "-c", program], check=True)
    founder.home()
    founder.page.click("text=Show a prototype")
    founder.page.fill("input[name=port]", "8501")
    founder.press("text=Make the link")
    link = founder.page.inner_text("#address")
    for login in ("nobody", "founder"):
        founder.page.fill("input[name=login]", login)
        founder.press("text=Show to this person")
        assert "nobody else with this login" in founder.page.inner_text("main")
    founder.page.fill("input[name=login]", "minji")
    founder.press("text=Show to this person")
    founder.shot("show")

    server = f"{in_containers.url}/user/founder/demo/"
    guest.page.goto(link)
    guest.shot("shown")
    guest.press("text=열기")
    guest.shot("other-server")
    guest.press("text=계속하기")
    guest.page.wait_for_url(f"{server}proxy/8501/")
    assert "our prototype" in guest.page.content()
    for path in ("lab", "api/contents", "api/terminals", "files/x", "proxy/8501/../../lab", "api/kernels"):
        answer = guest.page.goto(server + path)
        assert answer.status in (403, 404), path
        assert "our prototype" not in guest.page.content()
    assert stranger.page.goto(f"{server}proxy/8501/").status == 403

    founder.press("button:has-text('Take back')")
    assert "minji" not in founder.page.inner_text("main ul.list, main .empty")

    def refused() -> bool:
        return bool(guest.page.goto(f"{server}proxy/8501/").status == 403)

    _until(refused, 60, "a prototype that was taken back can still be opened")
    assert founder.page.goto(f"{server}lab").status == 200
    for visitor in (founder, guest, stranger):
        visitor.close()


def test_without_docker_the_trial_works_and_says_what_it_is(browser: Any, in_processes: Running) -> None:
    assert "isolates nothing" in in_processes.output.read_text()
    visitor = Visitor(browser, in_processes, "teacher", "en", "local")
    assert "isolates nothing" in visitor.page.inner_text("body")
    visitor.close()
    journey(browser, in_processes, "minji", "ko", "local")
