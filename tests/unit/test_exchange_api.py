"""The exchange API: who may do what, what is refused and how it is said, what is durable."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from academy.database import Database, now
from academy.people import Person, enrol
from academy.settings import Settings
from grading.exchange import api, callers, store
from grading.exchange.store import Store
from grading.records import Feedback, History, Job, Submission

UNIT = "/courses/demo/units/arrays"
STUDENT = ["access:services!service=academy"]
STAFF = [*STUDENT, "custom:academy:staff"]
TOKENS = {
    "alice": ("alice", STUDENT),
    "bob": ("bob", STUDENT),
    "teacher": ("teacher", STAFF),
    "teacher-coursework": ("teacher", STUDENT),
    "alice-claims-staff": ("alice", STAFF),
    "elsewhere": ("elsewhere", STAFF),
    "sandbox": ("alice", ["users:activity!user=alice"]),
    "stranger": ("stranger", STUDENT),
}


@dataclass
class Academy:
    """An exchange whose hub knows the tokens above."""

    settings: Settings
    database: Database
    client: TestClient
    hub_down: bool = False
    asked: list[str] = field(default_factory=list)

    def __call__(self, who: str, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"token {who}", **options.pop("headers", {})}
        return self.client.request(method, f"/v1{path}", headers=headers, **options)

    def submit(self, who: str, data: bytes, **headers: str) -> httpx.Response:
        return self(who, "POST", f"{UNIT}/submissions", content=data, headers=headers)

    def release(self, **query: str) -> httpx.Response:
        return self("teacher", "PUT", f"{UNIT}/release", params=query, content=work("released"))

    def history(self) -> list[tuple[str, str, str]]:
        with self.database.read() as session:
            return [(row.actor, row.action, row.login) for row in session.scalars(select(History).order_by(History.id))]

    def count(self) -> int:
        with self.database.read() as session:
            return len(session.scalars(select(Submission)).all())

    def hub(self, request: httpx.Request) -> httpx.Response:
        token = request.headers["authorization"].removeprefix("token ")
        self.asked.append(token)
        if self.hub_down:
            raise httpx.ConnectError("no hub")
        if token not in TOKENS:
            return httpx.Response(403, json={"message": "no"})
        name, scopes = TOKENS[token]
        return httpx.Response(200, json={"kind": "user", "name": name, "scopes": scopes})


@pytest.fixture
def academy(config: Callable[..., Settings], tmp_path: Path) -> Iterator[Academy]:
    courses = str(tmp_path / "courses")
    settings = config(academy={"courses": courses}, exchange={"max_submission_mb": 1}, spawner={"backend": "local"})
    database = Database(settings.database_url)
    database.upgrade()
    with database.write() as session:
        for login, course, role in (
            ("alice", "demo", "student"),
            ("bob", "demo", "student"),
            ("teacher", "demo", "instructor"),
            ("elsewhere", "other", "instructor"),
        ):
            person = Person(login=login, name=login.title(), language="en")
            enrol(person, course, role)
            session.add(person)
    app = FastAPI()
    found = Academy(settings, database, TestClient(app, raise_server_exceptions=False))
    app.include_router(api.router(settings, database, httpx.MockTransport(found.hub)), prefix="/v1")
    with found.client:
        yield found
    database.close()


def work(content: str = "mine", name: str = "arrays.ipynb", size: int = 0) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for member, data in ((name, content.encode()), ("data.bin", bytes(size))):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)


def refused(answer: httpx.Response, status: int, key: str) -> str:
    assert (answer.status_code, answer.json()["error"]) == (status, key), answer.text
    return str(answer.json()["message"])


def test_who_am_i(academy: Academy) -> None:
    assert academy("alice", "GET", "/me").json() == {
        "login": "alice",
        "name": "Alice",
        "language": "en",
        "courses": [{"course": "demo", "role": "student", "title": "demo"}],
    }


def test_only_tokens_that_may_reach_the_exchange_of_people_on_the_roster(academy: Academy) -> None:
    refused(academy.client.get("/v1/me"), 401, "exchange-no-token")
    refused(academy("forged", "GET", "/me"), 401, "exchange-no-token")
    refused(academy("sandbox", "GET", "/me"), 403, "exchange-token-scope")
    refused(academy("stranger", "GET", "/me"), 403, "not-on-roster")


def test_a_message_is_in_the_language_of_its_reader(academy: Academy) -> None:
    english = {"Accept-Language": "en"}
    assert "sign-in is missing" in refused(academy.client.get("/v1/me", headers=english), 401, "exchange-no-token")
    assert "로그인 정보가" in refused(academy.client.get("/v1/me"), 401, "exchange-no-token")
    with academy.database.write() as session:
        session.get_one(Person, "bob").language = "ko"
    said = refused(academy("bob", "GET", "/courses/nope/units", headers=english), 404, "exchange-no-course")
    assert "nope 과목을 찾을 수 없어요" in said


def test_the_hub_is_asked_once_a_minute_and_never_again_after_a_failure(
    academy: Academy, monkeypatch: pytest.MonkeyPatch
) -> None:
    academy.hub_down = True
    assert "hub does not answer" in refused(
        academy("alice", "GET", "/me", headers={"Accept-Language": "en"}), 503, "hub-unavailable"
    )
    academy.hub_down = False
    for _ in range(3):
        assert academy("alice", "GET", "/me").status_code == 200
    assert academy.asked == ["alice", "alice"]
    clock = time.monotonic()
    monkeypatch.setattr(callers.time, "monotonic", lambda: clock + 61)
    TOKENS["alice"], kept = ("alice", []), TOKENS["alice"]
    try:
        refused(academy("alice", "GET", "/me"), 403, "exchange-token-scope")
    finally:
        TOKENS["alice"] = kept


def test_release_fetch_withdraw(academy: Academy) -> None:
    refused(academy("alice", "GET", f"{UNIT}/release"), 404, "exchange-not-released")
    assert academy.release(language="ko", due_at="2030-01-01T00:00:00+09:00").status_code == 200
    assert academy("teacher", "PUT", f"{UNIT}/release?language=en", content=work("english")).json()["languages"] == ["en", "ko"]
    unit = academy("alice", "GET", "/courses/demo/units").json()[0]
    assert (unit["unit"], unit["due_at"], unit["languages"]) == ("arrays", "2029-12-31T15:00:00Z", ["en", "ko"])
    for asked, given, content in (("en", "en", "english"), ("ko", "ko", "released"), ("", "ko", "released")):
        answer = academy("alice", "GET", f"{UNIT}/release?language={asked}")
        assert answer.headers["x-academy-language"] == given
        assert answer.content == work(content)
        assert answer.headers["x-content-sha256"] == hashlib.sha256(answer.content).hexdigest()
    assert academy.release().json()["languages"] == [""]
    assert academy("teacher", "DELETE", f"{UNIT}/release").status_code == 204
    refused(academy("alice", "GET", f"{UNIT}/release"), 404, "exchange-not-released")
    assert academy("alice", "GET", "/courses/demo/units").json() == []
    actions = [action for _, action, _ in academy.history()]
    assert actions == ["release", "release", "fetch", "fetch", "fetch", "release", "withdraw"]


def test_submit_gives_a_receipt_with_the_servers_author_and_time(academy: Academy) -> None:
    academy.release()
    data = work()
    forged = {"X-Academy-Language": "en", "X-Forwarded-User": "bob", "Date": "Mon, 01 Jan 2001 00:00:00 GMT"}
    answer = academy("alice", "POST", f"{UNIT}/submissions?login=bob&received_at=2001-01-01", content=data, headers=forged)
    receipt = answer.json()
    assert answer.status_code == 201
    assert (receipt["login"], receipt["sha256"], receipt["size"]) == ("alice", hashlib.sha256(data).hexdigest(), len(data))
    assert abs(datetime.fromisoformat(receipt["received_at"]) - datetime.now(UTC)) < timedelta(minutes=2)
    assert (receipt["late"], receipt["language"], receipt["feedback"], receipt["score"]) == (False, "en", False, None)
    assert Store(academy.settings).read(receipt["sha256"]) == data
    assert academy("alice", "GET", f"/submissions/{receipt['id']}/content").content == data
    assert ("alice", "submit", "alice") in academy.history()


def test_late_work_is_kept_and_marked(academy: Academy) -> None:
    academy.release(due_at=(now() - timedelta(minutes=1)).isoformat())
    assert academy.submit("alice", work()).json()["late"] is True


def test_a_lost_reply_makes_no_second_submission(academy: Academy) -> None:
    academy.release()
    key = {"X-Idempotency-Key": "0123456789abcdef"}
    first, again = academy.submit("alice", work(), **key), academy.submit("alice", work(), **key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    refused(academy.submit("alice", work("other"), **key), 409, "exchange-key-reused")
    assert academy.submit("bob", work(), **key).status_code == 201
    assert academy.submit("alice", work()).status_code == 201
    assert academy.count() == 3


def test_the_same_key_at_the_same_time_makes_one_submission(academy: Academy) -> None:
    academy.release()
    found: list[str] = []
    key = {"X-Idempotency-Key": "0123456789abcdef"}
    threads = [
        threading.Thread(target=lambda: found.append(academy.submit("alice", work(), **key).json()["id"])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == academy.count() == 1


@pytest.mark.parametrize(
    ("data", "status", "key"),
    [
        (b"", 422, "exchange-damaged"),
        (b"not an archive", 422, "exchange-damaged"),
        (work()[:-20], 422, "exchange-damaged"),
        (work(name="notes.txt"), 422, "exchange-no-notebook"),
        (work(name="../arrays.ipynb"), 422, "exchange-bad-name"),
        (bytes(1_100_000), 413, "exchange-too-large"),
        (work(size=40_000_000), 413, "exchange-too-large-unpacked"),
    ],
)
def test_what_cannot_be_graded_is_refused_and_leaves_nothing(academy: Academy, data: bytes, status: int, key: str) -> None:
    academy.release()
    before = sorted(academy.settings.data.glob("blobs/*/*"))
    refused(academy.submit("alice", data), status, key)
    chunked = academy("alice", "POST", f"{UNIT}/submissions", content=iter([data]))
    refused(chunked, status, key)
    assert academy.count() == 0
    assert sorted(academy.settings.data.glob("blobs/*/*")) == before


def test_a_damaged_notebook_is_the_graders_business(academy: Academy) -> None:
    academy.release()
    assert academy.submit("alice", work("{ this is no notebook")).status_code == 201


def test_the_digest_is_compared(academy: Academy) -> None:
    academy.release()
    refused(academy.submit("alice", work(), **{"X-Content-SHA256": "0" * 64}), 422, "exchange-digest")
    assert academy.submit("alice", work(), **{"X-Content-SHA256": hashlib.sha256(work()).hexdigest()}).status_code == 201


def test_submissions_are_for_released_units_of_ones_own_courses(academy: Academy) -> None:
    refused(academy.submit("alice", work()), 404, "exchange-not-released")
    academy.release()
    refused(academy.submit("elsewhere", work()), 404, "exchange-no-course")
    for bad in ("..", "a%2Fb", "-x", "x" * 65, "%EB%8B%A8", "a%00"):
        answer = academy("alice", "POST", f"/courses/demo/units/{bad}/submissions", content=work())
        assert answer.status_code in (404, 405, 422), bad
    assert academy.count() == 0


def test_not_too_often(academy: Academy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "SUBMISSIONS_PER_HOUR", 2)
    academy.release()
    for _ in range(2):
        assert academy.submit("alice", work()).status_code == 201
    assert "2 times an hour" in refused(academy.submit("alice", work()), 429, "exchange-too-often")
    assert academy.submit("bob", work()).status_code == 201


def test_another_student_finds_nothing_whatever_they_call(academy: Academy) -> None:
    academy.release()
    mine = academy.submit("alice", work("secret of alice")).json()
    page = work("page of alice", name="arrays.html")
    assert academy("teacher", "PUT", f"/submissions/{mine['id']}/feedback?score=1&max_score=2", content=page).status_code == 200
    with academy.database.read() as session:
        before = session.get_one(Submission, mine["id"])
    calls = [
        ("GET", "/me"),
        ("GET", "/courses/demo/units"),
        ("GET", "/courses/demo/submissions"),
        ("GET", f"{UNIT}/submissions"),
        ("GET", f"{UNIT}/submissions?login=alice"),
        ("GET", "/courses/demo/submissions?login=alice&newest=1"),
        ("GET", f"/submissions/{mine['id']}/content"),
        ("GET", f"/submissions/{mine['id']}/feedback"),
        ("PUT", f"/submissions/{mine['id']}/feedback?score=0"),
        ("PUT", f"{UNIT}/release"),
        ("DELETE", f"{UNIT}/release"),
        ("POST", f"{UNIT}/execute"),
        *(
            (method, f"/submissions/{mine['id']}{tail}")
            for method in ("PUT", "DELETE", "PATCH", "POST")
            for tail in ("", "/content")
        ),
        *((method, f"{UNIT}/submissions") for method in ("PUT", "DELETE", "PATCH")),
    ]
    for who in ("bob", "elsewhere"):
        for method, path in calls:
            answer = academy(who, method, path, content=work("forged", name="arrays.html") if method != "GET" else None)
            assert mine["id"] not in answer.text, (who, method, path)
            assert b"alice" not in answer.content, (who, method, path)
            if method != "GET" or mine["id"] in path:
                assert answer.status_code in (403, 404, 405), (who, method, path, answer.text)
    missing = academy("bob", "GET", f"/submissions/{'0' * 28}/content")
    hidden = academy("bob", "GET", f"/submissions/{mine['id']}/content")
    assert (missing.status_code, missing.content) == (hidden.status_code, hidden.content)
    with academy.database.read() as session:
        after = session.get_one(Submission, mine["id"])
        for name in ("login", "sha256", "size", "received_at", "late", "course", "unit"):
            assert getattr(after, name) == getattr(before, name)
    assert academy.count() == 1
    assert academy("alice", "GET", f"/submissions/{mine['id']}/feedback").content == page


def test_staff_need_the_role_and_the_scope(academy: Academy) -> None:
    academy.release()
    mine = academy.submit("alice", work()).json()
    for who, status, key in (
        ("alice-claims-staff", 403, "exchange-staff-only"),
        ("teacher-coursework", 403, "exchange-staff-server"),
    ):
        refused(academy(who, "PUT", f"{UNIT}/release", content=work()), status, key)
        refused(academy(who, "DELETE", f"{UNIT}/release"), status, key)
        refused(academy(who, "POST", f"{UNIT}/execute", content=work()), status, key)
    refused(academy("teacher-coursework", "GET", f"/submissions/{mine['id']}/content"), 404, "exchange-no-submission")
    assert academy("teacher-coursework", "GET", f"{UNIT}/submissions").json() == []
    refused(
        academy("alice-claims-staff", "PUT", f"/submissions/{mine['id']}/feedback", content=work()), 403, "exchange-staff-only"
    )
    refused(academy("elsewhere", "GET", f"{UNIT}/submissions"), 404, "exchange-no-course")


def test_staff_see_everybody_and_the_newest(academy: Academy) -> None:
    academy.release()
    for who in ("alice", "bob", "alice"):
        academy.submit(who, work(who + str(academy.count())))
    assert [row["login"] for row in academy("teacher", "GET", f"{UNIT}/submissions").json()] == ["alice", "bob", "alice"]
    newest = academy("teacher", "GET", f"{UNIT}/submissions?newest=1").json()
    assert {row["login"] for row in newest} == {"alice", "bob"}
    chosen = next(row for row in newest if row["login"] == "alice")
    assert academy("teacher", "GET", f"/submissions/{chosen['id']}/content").content == work("alice2")
    assert ("teacher", "collect", "alice") in academy.history()


def test_feedback_and_score_are_seen_once_released(academy: Academy) -> None:
    academy.release()
    mine = academy.submit("alice", work()).json()
    refused(academy("alice", "GET", f"/submissions/{mine['id']}/feedback"), 404, "exchange-no-feedback")
    path = f"/submissions/{mine['id']}/feedback"
    refused(academy("teacher", "PUT", path, content=work()), 422, "exchange-no-page")
    page = work("<p>", name="arrays.html")
    assert academy("teacher", "PUT", f"{path}?score=3.5&max_score=5", content=page).status_code == 200
    assert academy("alice", "GET", path).content == page
    receipt = academy("alice", "GET", "/courses/demo/units").json()[0]["submissions"][0]
    assert (receipt["feedback"], receipt["score"], receipt["max_score"]) == (True, 3.5, 5.0)
    assert receipt["feedback_at"]
    refused(academy("teacher", "PUT", f"{path}?score=nan", content=page), 422, "exchange-bad-request")


def test_execute_waits_for_a_worker(academy: Academy) -> None:
    def worker() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with academy.database.write() as session:
                if job := session.scalar(select(Job).where(Job.state == "queued")):
                    assert Store(academy.settings).read(job.payload_sha256 or "") == work(outcome)
                    job.state = outcome
                    job.result_sha256 = Store(academy.settings).put(b"executed") if outcome == "done" else None
                    job.error = "no image"
                    return
            time.sleep(0.05)

    for outcome in ("done", "failed"):
        thread = threading.Thread(target=worker)
        thread.start()
        answer = academy("teacher", "POST", f"{UNIT}/execute", content=work(outcome))
        thread.join()
        if outcome == "done":
            assert (answer.status_code, answer.content) == (200, b"executed")
        else:
            assert "no image" in refused(answer, 500, "exchange-execute-failed")


def test_execute_gives_up_when_no_worker_runs(academy: Academy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "QUEUE_SECONDS", 0.3)
    refused(academy("teacher", "POST", f"{UNIT}/execute", content=work()), 504, "exchange-execute-timeout")
    with academy.database.read() as session:
        assert session.scalars(select(Job.state)).all() == ["cancelled"]


def test_no_success_without_disk_or_database(academy: Academy, monkeypatch: pytest.MonkeyPatch) -> None:
    academy.release()
    with monkeypatch.context() as patch:
        patch.setattr(store, "RESERVE_BYTES", 1 << 60)
        refused(academy.submit("alice", work()), 507, "exchange-disk-full")
    with academy.database.write() as session:
        session.execute(text("ALTER TABLE submissions RENAME TO away"))
    refused(academy.submit("alice", work()), 503, "exchange-database-down")
    with academy.database.write() as session:
        session.execute(text("ALTER TABLE away RENAME TO submissions"))
    assert academy.count() == 0
    assert ("alice", "submit", "alice") not in academy.history()
    assert academy.submit("alice", work()).status_code == 201


def test_content_that_rotted_on_disk_is_never_given_out(academy: Academy) -> None:
    academy.release()
    mine = academy.submit("alice", work()).json()
    path = Store(academy.settings).path(mine["sha256"])
    path.chmod(0o640)
    path.write_bytes(b"rotten")
    refused(academy("alice", "GET", f"/submissions/{mine['id']}/content"), 500, "exchange-content-damaged")


def test_history_cannot_be_changed(academy: Academy) -> None:
    academy.release()
    for statement in ("UPDATE history SET actor = 'x'", "DELETE FROM history"):
        with pytest.raises(DBAPIError), academy.database.write() as session:
            session.execute(text(statement))
    assert academy.history() == [("teacher", "release", "")]


def test_a_browser_session_reads_and_changes_nothing(academy: Academy) -> None:
    with academy.database.read() as session:
        teacher = session.get_one(Person, "teacher")
    app: Any = academy.client.app
    app.dependency_overrides[api.browser_caller] = lambda: callers.Caller("teacher", teacher, True, "en", browser=True)
    assert academy.client.get("/v1/me").json()["login"] == "teacher"
    refused(academy.client.delete(f"/v1{UNIT}/release"), 401, "exchange-no-token")


def test_every_call_is_described(academy: Academy) -> None:
    paths = academy.client.get("/openapi.json").json()["paths"]
    assert len(paths) == 8
    for path, calls in paths.items():
        for call in calls.values():
            assert call["summary"], path
            assert "404" in call["responses"]


def test_a_closed_unit_is_neither_listed_nor_given_to_a_student(academy: Academy) -> None:
    folder = academy.settings.academy.courses / "demo"
    for unit in ("first", "arrays"):
        (folder / unit).mkdir(parents=True)
        (folder / unit / f"{unit}.py").write_text("# %%\n")
    title = 'title = { ko = "과목", en = "Unit" }'
    units = [("first", "7.1", "[]"), ("arrays", "7.2", '["7.1"]')]
    text = [f'[[units]]\nid = "{id}"\nnumber = "{n}"\n{title}\nhours = 1\nafter = {after}' for id, n, after in units]
    (folder / "course.toml").write_text("\n".join([title, *text]), encoding="utf-8")
    academy.release()

    def listed(who: str) -> list[str]:
        return [unit["unit"] for unit in academy(who, "GET", "/courses/demo/units").json()]

    assert listed("alice") == []
    assert "Master first: 7.1 Unit" in refused(academy("alice", "GET", f"{UNIT}/release"), 403, "unit-locked")
    assert listed("teacher") == ["arrays"]
    assert academy("teacher", "GET", f"{UNIT}/release").status_code == 200
    with academy.database.write() as session:
        mastered = Submission(course="demo", unit="first", login="alice", sha256="0" * 64, size=1)
        session.add(mastered)
        session.flush()
        session.add(Feedback(submission_id=mastered.id, sha256="1" * 64, score=7, max_score=10, released_by="teacher"))
    assert listed("alice") == ["arrays"]
    assert academy("alice", "GET", f"{UNIT}/release").status_code == 200
    assert listed("bob") == []
    assert academy.submit("bob", work()).status_code == 201  # what is handed in is kept, and shown from then on
    assert listed("bob") == ["arrays"]
