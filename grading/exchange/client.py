"""A small client of the exchange API for notebook servers: typed, streaming, and honest about failures.

Goes into the notebook image: imports nothing but the standard library and ``archive``. Reads and replacements are repeated when
the connection breaks or the service is away for a moment. A submission is repeated too, under one idempotency key, so that a
lost reply makes neither a second submission nor a false alarm.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

from grading.exchange import archive

Ignore = Callable[[str, list[str]], list[str]]

CONNECT_SECONDS = 15.0
ANSWER_SECONDS = 120.0
EXECUTE_SECONDS = 2 * 3600.0
PAUSES = (0.5, 1.5, 4.0)  # between attempts
TRANSIENT = {502, 503, 504}
MAX_ANSWER_BYTES = 4 << 20  # of JSON
UNPACKED_BYTES = 2 << 30  # of an archive from the service; it has smaller limits of its own

MESSAGES = {
    "unreachable": {
        "ko": "아카데미 서비스에 연결하지 못했어요. 보낸 내용이 저장되었는지 알 수 없으니, 잠시 뒤에 다시 시도해 주세요.",
        "en": "The academy does not answer, so nothing is known to be stored. Try again in a moment.",
    },
    "not-configured": {
        "ko": "이 서버에는 아카데미 주소나 토큰이 없어요. 홈에서 수업용 서버를 다시 시작해 주세요.",
        "en": "This server has no address or token of the academy. Start your coursework server again from the home page.",
    },
    "damaged": {
        "ko": "받은 파일이 손상되었어요. 다시 시도해 주세요.",
        "en": "What arrived is damaged. Try again.",
    },
    "unexpected": {
        "ko": "아카데미 서비스가 알 수 없는 답을 보냈어요 (HTTP {status}). 계속되면 운영자에게 알려 주세요.",
        "en": "The academy gave an answer that makes no sense (HTTP {status}). Tell an operator if it lasts.",
    },
    "name": {
        "ko": "과목이나 단원의 이름으로 쓸 수 없어요: {name}",
        "en": "Not usable as the name of a course or unit: {name}",
    },
}


class ClientError(Exception):
    """A call failed; the text is for the person who made it. ``status`` is 0 when no answer came."""

    def __init__(self, key: str, text: str, status: int = 0) -> None:
        self.key, self.text, self.status = key, text, status
        super().__init__(text)


@dataclass(frozen=True)
class Receipt:
    """The proof that a submission arrived."""

    id: str
    course: str
    unit: str
    login: str
    sha256: str
    size: int
    received_at: str  # ISO 8601, UTC
    late: bool
    language: str
    score: float | None
    max_score: float | None
    feedback: bool
    feedback_at: str | None


@dataclass(frozen=True)
class Unit:
    """A unit that can be fetched now."""

    course: str
    unit: str
    due_at: str | None
    languages: list[str]
    released_at: str
    submissions: list[Receipt]


@dataclass(frozen=True)
class Membership:
    course: str
    role: str
    title: str


@dataclass(frozen=True)
class Me:
    """Who the server's owner is."""

    login: str
    name: str
    language: str
    courses: list[Membership]


class Client:
    """Calls to one academy's exchange, as the owner of a token."""

    def __init__(self, url: str, token: str, language: str = "ko", pauses: tuple[float, ...] = PAUSES) -> None:
        self.language = language if language in ("ko", "en") else "ko"
        self._token, self._pauses = token, pauses
        parts = urlsplit(url)
        self._secure, self._host, self._path = parts.scheme == "https", parts.netloc, parts.path.rstrip("/")
        if not (self._host and token):
            raise self._error("not-configured")

    @classmethod
    def from_environment(cls) -> Client:
        """As the hub started this server.

        Raises:
            ClientError: it did not say where the exchange is.
        """
        env = os.environ
        return cls(env.get("ACADEMY_API_URL", ""), env.get("JUPYTERHUB_API_TOKEN", ""), env.get("ACADEMY_LANGUAGE", "ko"))

    def me(self) -> Me:
        answer = self._json("GET", "/me")
        return Me(answer["login"], answer["name"], answer["language"], [_build(Membership, row) for row in answer["courses"]])

    def units(self, course: str) -> list[Unit]:
        rows = self._json("GET", f"/courses/{self._name(course)}/units")
        return [Unit(**{**_known(Unit, row), "submissions": [_build(Receipt, r) for r in row["submissions"]]}) for row in rows]

    def submissions(
        self, course: str, unit: str | None = None, login: str | None = None, newest: bool = False
    ) -> list[Receipt]:
        """Own receipts; as staff everybody's. Oldest first."""
        path = f"/courses/{self._name(course)}" + (f"/units/{self._name(unit)}" if unit else "") + "/submissions"
        query = {"newest": "1" if newest else "0", **({"login": login} if login else {})}
        return [_build(Receipt, row) for row in self._json("GET", path, query=query)]

    def fetch(self, course: str, unit: str, folder: Path) -> str:
        """Unpack a release into an empty folder; returns its language."""
        return self._download(f"{self._unit(course, unit)}/release", folder, {"language": self.language})["x-academy-language"]

    def submit(
        self, course: str, unit: str, folder: Path, language: str = "", ignore: Ignore | None = None, key: str = ""
    ) -> Receipt:
        """Hand a folder in; returns when the academy has it on disk. ``key``: the same again after an earlier failure."""
        headers = {"X-Academy-Language": language, "X-Idempotency-Key": key or uuid.uuid4().hex}
        with _packed(folder, ignore) as file:
            return _build(Receipt, self._upload("POST", f"{self._unit(course, unit)}/submissions", file, {}, headers))

    def release(
        self, course: str, unit: str, folder: Path, language: str, due_at: str = "", ignore: Ignore | None = None
    ) -> None:
        query = {"language": language, **({"due_at": due_at} if due_at else {})}
        with _packed(folder, ignore) as file:
            self._upload("PUT", f"{self._unit(course, unit)}/release", file, query)

    def withdraw(self, course: str, unit: str) -> None:
        self._json("DELETE", f"{self._unit(course, unit)}/release")

    def content(self, submission: str, folder: Path) -> None:
        """Unpack what was handed in into an empty folder."""
        self._download(f"/submissions/{self._name(submission)}/content", folder)

    def release_feedback(self, submission: str, folder: Path, score: float | None, max_score: float | None) -> Receipt:
        scores = {"score": score, "max_score": max_score}
        query = {name: repr(float(value)) for name, value in scores.items() if value is not None}
        with _packed(folder, lambda parent, names: [name for name in names if not name.endswith(".html")]) as file:
            return _build(Receipt, self._upload("PUT", f"/submissions/{self._name(submission)}/feedback", file, query))

    def feedback(self, submission: str, folder: Path) -> None:
        self._download(f"/submissions/{self._name(submission)}/feedback", folder)

    def execute(self, course: str, unit: str, folder: Path, result: Path) -> None:
        """Run a prepared notebook in the academy's sandbox and unpack what comes out; waits for a worker. Not repeated."""
        with _packed(folder, None) as file, tempfile.TemporaryFile() as answer:
            self._attempt("POST", f"{self._unit(course, unit)}/execute", {}, {}, file, answer, EXECUTE_SECONDS)
            self._unpack(answer, result)

    def _unit(self, course: str, unit: str) -> str:
        return f"/courses/{self._name(course)}/units/{self._name(unit)}"

    def _name(self, name: str) -> str:
        if not name or name in (".", ".."):
            raise self._error("name", name=name)
        return quote(name, safe="")

    def _json(self, method: str, path: str, query: dict[str, str] | None = None) -> Any:
        with tempfile.SpooledTemporaryFile(MAX_ANSWER_BYTES) as answer:
            self._call(method, path, query or {}, {}, None, answer)
            return self._parsed(answer)

    def _upload(
        self, method: str, path: str, file: IO[bytes], query: dict[str, str], headers: dict[str, str] | None = None
    ) -> Any:
        sent = {"X-Content-SHA256": hashlib.file_digest(file, "sha256").hexdigest(), **(headers or {})}  # type: ignore[arg-type]
        with tempfile.SpooledTemporaryFile(MAX_ANSWER_BYTES) as answer:
            self._call(method, path, query, sent, file, answer)
            return self._parsed(answer)

    def _download(self, path: str, folder: Path, query: dict[str, str] | None = None) -> dict[str, str]:
        with tempfile.TemporaryFile() as answer:
            headers = self._call("GET", path, query or {}, {}, None, answer)
            self._unpack(answer, folder)
        return headers

    def _unpack(self, answer: IO[bytes], folder: Path) -> None:
        answer.seek(0)
        try:
            archive.unpack(answer, folder, UNPACKED_BYTES)
        except archive.ArchiveError as error:
            raise self._error("damaged") from error

    def _parsed(self, answer: IO[bytes]) -> Any:
        answer.seek(0)
        data = answer.read()
        try:
            return json.loads(data) if data else None
        except ValueError:
            raise self._error("unexpected", status=200) from None

    def _call(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: IO[bytes] | None, answer: IO[bytes]
    ) -> dict[str, str]:
        """One call, repeated while the connection breaks or the service is away."""
        for pause in (*self._pauses, None):
            try:
                return self._attempt(method, path, query, headers, body, answer, ANSWER_SECONDS)
            except ClientError as error:
                if pause is None or (error.status and error.status not in TRANSIENT):
                    raise
            time.sleep(pause)
        raise AssertionError

    def _attempt(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        headers: dict[str, str],
        body: IO[bytes] | None,
        answer: IO[bytes],
        seconds: float,
    ) -> dict[str, str]:
        """Send, and put the answer's body into ``answer``; returns its headers in lower case."""
        answer.seek(0)
        answer.truncate()
        all_headers = {"Authorization": f"token {self._token}", "Accept-Language": self.language, **headers}
        if body is not None:
            all_headers["Content-Length"] = str(body.seek(0, os.SEEK_END))
            all_headers["Content-Type"] = "application/gzip"
            body.seek(0)
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, timeout=CONNECT_SECONDS, blocksize=1 << 16)
        target = self._path + path + (f"?{urlencode(query)}" if query else "")
        try:
            with contextlib.closing(connection):
                connection.connect()
                connection.sock.settimeout(seconds)
                # a service that refuses an upload early answers all the same
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.request(method, target, body, all_headers)
                reply = connection.getresponse()
                if reply.status >= 400:
                    raise self._refused(reply.status, reply.read(MAX_ANSWER_BYTES))
                expected = reply.headers.get("X-Content-SHA256")
                shutil.copyfileobj(reply, answer, 1 << 20)
        except (OSError, http.client.HTTPException) as error:
            raise self._error("unreachable") from error
        if expected:
            answer.seek(0)
            if hashlib.file_digest(answer, "sha256").hexdigest() != expected:  # type: ignore[arg-type]
                raise self._error("damaged")
        return {name.lower(): value for name, value in reply.headers.items()}

    def _refused(self, status: int, body: bytes) -> ClientError:
        try:
            said = json.loads(body)
            return ClientError(str(said["error"]), str(said["message"]), status)
        except (ValueError, KeyError, TypeError):
            error = self._error("unexpected", status=status)
            error.status = status
            return error

    def _error(self, key: str, **values: object) -> ClientError:
        return ClientError(key, MESSAGES[key][self.language].format(**values))


@contextlib.contextmanager
def _packed(folder: Path, ignore: Ignore | None) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        archive.pack(folder, file, ignore)
        file.seek(0)
        yield file


def _known(kind: Any, row: dict[str, Any]) -> dict[str, Any]:
    """Without what a newer service may add."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in row.items() if name in names}


def _build(kind: Any, row: dict[str, Any]) -> Any:
    return kind(**_known(kind, row))
