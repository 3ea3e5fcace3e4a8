"""A real hub starts real servers, in containers and as processes; what fails says so in the person's language."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from sqlalchemy import select

from academy import network, storage
from academy import settings as settings_module
from academy.database import Database, now
from academy.gpus.records import Held
from academy.images import image_tag
from academy.settings import Settings
from academy.vouchers import teams
from tests.conftest import until, write_config
from tests.integration.hub import Hub, Visitor

GPU = "GPU-00000000-0000-0000-0000-000000000000"  # that this machine does not have
BEHAVIOURS = {
    "answers": "exec python -m http.server 8888 --directory /tmp",
    "exits": "echo the last words; exit 3",
    "full": "cat /etc/passwd > /dev/full",  # what writing into a home without room says
    "eats": "exec python -c \"x = [b'x' * 2**20 for _ in range(10**6)]\"",
    "hangs": "exec sleep 600",
    "deaf": "trap '' TERM INT; python -m http.server 8888 --directory /tmp & while true; do wait; done",
}


def text(title: str) -> dict[str, str]:
    return {"ko": title, "en": title}


def build(client: Any, tag: str, command: str) -> None:
    """The notebook image with something else in the server's place."""
    dockerfile = f"FROM {image_tag('notebook')}\nENTRYPOINT {json.dumps(['sh', '-c', command])}\n"
    client.images.build(fileobj=io.BytesIO(dockerfile.encode()), tag=tag, rm=True)


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    client = docker.from_env()
    yield client
    client.close()


class Wire:
    """A socket between the hub and the Docker Engine that can be cut, and keeps back orders to stop or remove a container."""

    def __init__(self, path: Path) -> None:
        self.path, self.cut = path, False
        self.kept = b"/stop?t="  # which orders
        self.stops: list[bytes] = []  # what came
        self.go = threading.Event()  # they pass
        self.go.set()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            here, _ = self.listener.accept()
            if self.cut:
                here.close()
                continue
            there = socket.socket(socket.AF_UNIX)
            there.connect("/var/run/docker.sock")
            for source, target in ((here, there), (there, here)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while not self.cut and (data := source.recv(65536)):
                if self.kept in data[:200]:
                    self.stops.append(data)
                    self.go.wait()
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with tempfile.TemporaryDirectory() as folder:
        yield Wire(Path(folder) / "docker.sock")


@pytest.fixture(scope="module")
def hub(engine: Any, wire: Wire, images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub whose profiles start the real image, and images that misbehave in one way each."""
    folder = tmp_path_factory.mktemp("spawn")
    (folder / "courses" / "demo").mkdir(parents=True)
    profiles: dict[str, Any] = {"cpu": {"title": text("CPU"), "memory_mb": 1024, "image": image_tag("notebook")}}
    for name, command in BEHAVIOURS.items():
        build(engine, f"academyhub-test-{name}:1", command)
        profiles[name] = {"title": text(name), "memory_mb": 256, "image": f"academyhub-test-{name}:1"}
    profiles["short"] = {**profiles["answers"], "hours": 10 / 3600}  # counted from its start, which may take seconds
    profiles["no-image"] = {"title": text("none"), "image": "academyhub-test-missing:1"}
    profiles["gpu"] = {**profiles["answers"], "gpu": "whole"}
    profiles["grading"] = {**profiles["answers"], "kind": "grading"}
    profiles["sandbox"] = {**profiles["answers"], "kind": "sandbox", "roles": ["founder"]}
    config = write_config(
        folder,
        profiles=profiles,
        academy={"courses": str(folder / "courses")},
        spawner={"backend": "docker", "start_timeout": 90.0},
        gpus={"devices": [{"uuid": GPU}]},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACADEMY_CONFIG", str(config))
        patch.setenv("DOCKER_HOST", f"unix://{wire.path}")
        patch.setenv("NO_PROXY", "*")
        running = Hub(settings_module.load(), "--AcademySpawner.poll_interval=1")
        yield running
        running.stop()


@pytest.fixture(scope="module")
def people(hub: Hub) -> Callable[[str], Visitor]:
    known: dict[str, Visitor] = {}

    def visitor(name: str) -> Visitor:
        if name not in known:
            known[name] = hub.login(name)
        return known[name]

    return visitor


def container(engine: Any, hub: Hub, user: str, server: str = "") -> Any:
    name = hub.settings.academy.name
    marks = [f"academyhub.deployment={name}", f"academyhub.user={user}", f"academyhub.server={server}"]
    found = engine.containers.list(all=True, filters={"label": marks}, ignore_removed=True)
    return found[0] if found else None


def environment(box: Any) -> dict[str, str]:
    return dict(line.split("=", 1) for line in box.attrs["Config"]["Env"])


def address(box: Any) -> str:
    return str(next(iter(box.attrs["NetworkSettings"]["Networks"].values()))["IPAddress"])


def reaches(box: Any, host: str, port: int) -> bool:
    code = f"import socket; socket.create_connection(({host!r}, {port}), 2)"
    return box.exec_run(["python", "-c", code]).exit_code == 0


def scopes(hub: Hub, token: str) -> set[str]:
    reply = httpx.get(f"{hub.url}/hub/api/user", headers={"Authorization": f"token {token}"}, timeout=60)
    assert reply.status_code == 200, reply.text
    return set(reply.json()["scopes"])


@pytest.mark.docker
class TestContainers:
    def test_a_student_with_a_korean_login_gets_jupyterlab(self, hub: Hub, engine: Any, people: Any) -> None:
        student = people("홍길동")
        events = student.run(profile="cpu")
        percents = [event["progress"] for event in events]
        assert percents == sorted(percents)
        assert events[0]["message"] == "서버 종류를 확인하고 있어요."
        box = container(engine, hub, "홍길동")
        env = environment(box)
        assert env["ACADEMY_LANGUAGE"] == "ko"
        assert env["ACADEMY_API_URL"] == f"{network.pages_url(hub.settings)}/api/v1"
        assert env["NVIDIA_VISIBLE_DEVICES"] == "void"
        assert box.labels["academyhub.profile"] == "cpu"
        url = f"http://{address(box)}:8888{env['JUPYTERHUB_SERVICE_PREFIX']}api"
        assert httpx.get(url, timeout=60).json()["version"]

        # a crash of the hub and a new start leave it running, known, and reachable
        hub.kill()
        hub.restart()
        student.http.cookies.clear()
        again = hub.login("홍길동")
        until(lambda: again.servers()[""]["ready"])
        server = again.servers()[""]
        assert server["user_options"] == {"profile": "cpu"}
        box.reload()
        assert box.status == "running"
        assert again.http.get(f"{server['url']}api").json()["version"]
        again.stop()
        assert container(engine, hub, "홍길동") is None

        # a file of the home is there on the next start
        volume = engine.volumes.get(next(mount["Name"] for mount in box.attrs["Mounts"]))
        assert volume.attrs["Labels"]["academyhub.user"] == "홍길동"

    def test_servers_are_locked_down_and_apart(self, hub: Hub, engine: Any) -> None:
        alice, bob, founder = (hub.login(name) for name in ("alice", "bob", "founder"))
        alice.run(profile="answers")
        bob.run(profile="answers")
        founder.run("trial")
        mine, theirs, sandbox = (
            container(engine, hub, "alice"),
            container(engine, hub, "bob"),
            container(engine, hub, "founder", "trial"),
        )
        host = mine.attrs["HostConfig"]
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert (host["PidsLimit"], host["Memory"], host["MemorySwap"], host["Init"]) == (512, 256 << 20, 256 << 20, True)
        assert host["CpuQuota"] == 100_000
        status = mine.exec_run(["cat", "/proc/self/status"]).output.decode()
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        assert "uid=1000(jovyan)" in mine.exec_run(["id"]).output.decode()
        assert mine.exec_run(["ls", "/var/run/docker.sock"]).exit_code != 0

        assert reaches(mine, address(mine), 8888)
        for source in (mine, sandbox):
            for target in (mine, theirs, sandbox):
                assert source is target or not reaches(source, address(target), 8888)
        hub_address = network.internal_address(hub.settings)
        for source in (mine, sandbox):
            assert reaches(source, hub_address, hub.settings.hub.hub_port)
            assert not reaches(source, hub_address, hub.settings.hub.proxy_api_port)
        assert environment(theirs)["ACADEMY_LANGUAGE"] == "en"
        assert "ACADEMY_API_URL" not in environment(sandbox)
        assert environment(sandbox)["GRADIO_ROOT_PATH"] == "/user/founder/trial/proxy/7860"
        homes = {box.attrs["Mounts"][0]["Name"] for box in (mine, theirs, sandbox)}
        name = hub.settings.academy.name
        assert homes == {f"{name}-home-alice", f"{name}-home-bob", f"{name}-sandbox-founder--trial"}

        # tokens: what a server may do follows from what it is for
        student, trial = (scopes(hub, environment(box)["JUPYTERHUB_API_TOKEN"]) for box in (mine, sandbox))
        assert "access:services!service=academy" in student
        assert "custom:academy:staff" not in student
        assert not [scope for scope in trial if scope.startswith(("access:services", "custom:"))]
        assert not [scope for scope in student | trial if scope.startswith(("tokens", "servers", "admin", "list:"))]
        for visitor, server in ((alice, ""), (bob, ""), (founder, "trial")):
            visitor.stop(server)

    def test_a_team_shares_a_folder_and_what_it_takes_is_measured(self, hub: Hub, engine: Any) -> None:
        founder, mate, stranger = (hub.login(name) for name in ("founder", "mate", "stranger"))
        database = Database(hub.settings.database_url)
        with database.write() as session:
            team = teams.make(session, "별빛: 서울/1", "founder", "founder", now())
            teams.invite(session, team.id, "mate", "founder", now())
            teams.join(session, team.id, "mate", now())
            teams.invite(session, team.id, "stranger", "founder", now())  # who does not accept
        for visitor in (founder, mate, stranger):
            visitor.run("team")
        boxes = {name: container(engine, hub, name, "team") for name in ("founder", "mate", "stranger")}
        folder = "/home/jovyan/teams/별빛_ 서울_1"
        assert boxes["founder"].exec_run(["sh", "-c", f"head -c 3000000 /dev/zero > '{folder}/model.bin'"]).exit_code == 0
        assert (
            boxes["mate"].exec_run(["sh", "-c", f"wc -c < '{folder}/model.bin' && touch '{folder}/mine'"]).output
            == b"3000000\n"
        )
        assert boxes["stranger"].exec_run(["ls", "/home/jovyan/teams"]).exit_code != 0
        storage.measure(hub.settings, database, now())
        with database.write() as session:
            found = {volume.server or volume.team_id: volume for volume in storage.volumes_of(session, "mate")}
            assert found.keys() == {"team", team.id}
            assert 3_000_000 <= found[team.id].used < 3_200_000
            assert found["team"].used < 1_000_000
            assert json.loads(found[team.id].biggest) == []
            teams.remove(session, team.id, "mate", "founder")
        tight = hub.settings.model_copy(update={"storage": hub.settings.storage.model_copy(update={"team_gb": 0.003})})
        storage.measure(tight, database, now() + storage.EVERY + timedelta(seconds=1))  # by the engine's own account this time
        with database.read() as session:
            [shared] = [one for one in storage.volumes_of(session, "founder") if one.team_id]
            [(path, size), *_] = json.loads(shared.biggest)
            assert path == "model.bin"
            assert 3_000_000 <= size < 3_200_000
        mate.stop("team")
        mate.run("team")  # out of the team: the folder is not there any more
        assert b"model.bin" not in container(engine, hub, "mate", "team").exec_run(["ls", "-R", "/home/jovyan"]).output
        for visitor in (founder, mate, stranger):
            visitor.stop("team")
        engine.volumes.get(f"{hub.settings.academy.name}-team-{team.id}").remove()
        with database.write() as session:
            storage.measure_again(session, "founder")
        storage.measure(hub.settings, database, now())
        with database.read() as session:
            assert not [one for one in storage.volumes_of(session, "founder") if one.team_id]
        database.close()

    def test_staff_get_their_course_and_students_cannot_act_as_staff(self, hub: Hub, engine: Any) -> None:
        teacher = hub.login("teacher")
        teacher.run("grade-demo")
        box = container(engine, hub, "teacher", "grade-demo")
        env = environment(box)
        assert "custom:academy:staff" in scopes(hub, env["JUPYTERHUB_API_TOKEN"])
        assert (env["ACADEMY_COURSE"], env["ACADEMY_GRADEBOOK_URL"]) == ("demo", "sqlite:////srv/course/gradebook.db")
        assert box.exec_run(["sh", "-c", "umask 002; mkdir /srv/course/source; touch /srv/course/source/a"]).exit_code == 0
        made = hub.settings.course_folder("demo") / "source" / "a"
        assert made.stat().st_gid == hub.settings.course_folder("demo").stat().st_gid
        assert made.stat().st_mode & 0o060 == 0o060  # the worker outside writes it too
        # the teacher's own server is a student's: code fetched from students cannot act as staff
        teacher.run(profile="answers")
        own = environment(container(engine, hub, "teacher"))
        assert "custom:academy:staff" not in scopes(hub, own["JUPYTERHUB_API_TOKEN"])
        teacher.stop()

        hub.kill()  # the scope survives a restart of the hub
        hub.restart()
        assert "custom:academy:staff" in scopes(hub, env["JUPYTERHUB_API_TOKEN"])
        hub.login("teacher").stop("grade-demo")

        student = hub.login("bob")
        for wanted in (["custom:academy:staff"], ["inherit", "custom:academy:staff"], ["servers!user=alice"], ["admin:users"]):
            assert student.token(scopes=wanted).status_code in (400, 403), wanted
        granted = student.token(note="all I may have").json()["token"]
        assert "custom:academy:staff" not in scopes(hub, granted)
        assert student.api("POST", "/users/alice/server", json={}).status_code in (403, 404)
        assert student.refused("grade-demo").startswith("Only the instructors and assistants of demo")  # spawn-not-staff
        assert student.token(roles=["academy-staff"]).status_code in (400, 403)

    def test_a_server_ends_at_its_profile_s_longest_run(self, hub: Hub, engine: Any) -> None:
        student = hub.login("alice")
        student.run(profile="short")
        until(lambda: student.servers() == {})
        assert container(engine, hub, "alice") is None

    def test_a_start_that_is_cancelled_leaves_nothing(self, hub: Hub, engine: Any) -> None:
        student = hub.login("alice")
        assert student.start(profile="hangs").status_code == 202
        until(lambda: container(engine, hub, "alice"))
        student.stop()
        until(lambda: container(engine, hub, "alice") is None)

    def test_a_start_that_takes_long_to_clear_away_is_stopped_for_good(
        self, hub: Hub, engine: Any, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The hub gives a cancelled start a second to end; Docker takes as long as we like to remove the container."""
        student, replies = hub.login("alice"), list[int]()
        assert student.start(profile="hangs").status_code == 202
        until(lambda: container(engine, hub, "alice"))
        monkeypatch.setattr(wire, "kept", b"DELETE /")
        wire.go.clear()
        stop = threading.Thread(target=lambda: replies.append(student.api("DELETE", student.path()).status_code))
        try:
            stop.start()
            until(lambda: replies or student.servers()[""]["pending"] == "stop")
        finally:
            wire.go.set()
        stop.join()
        assert replies[0] in (202, 204), hub.tail()
        until(lambda: student.servers() == {})
        assert container(engine, hub, "alice") is None
        student.run(profile="answers")
        student.stop()

    def test_slow_stops_do_not_hold_up_a_start(self, hub: Hub, engine: Any, wire: Wire) -> None:
        """While three servers are being stopped, which takes as long as we like, another one's container is created."""
        visitors = [hub.login(name) for name in ("alice", "bob", "teacher")]
        other = hub.login("홍길동")
        for visitor in visitors:
            visitor.run(profile="deaf")
        began, before = int(time.time()), len(wire.stops)
        wire.go.clear()
        try:
            for visitor in visitors:  # each on a thread: the hub answers when the server is gone
                threading.Thread(target=visitor.api, args=("DELETE", visitor.path())).start()
            until(lambda: len(wire.stops) - before == len(visitors))
            other.run(profile="answers")
        finally:
            wire.go.set()
        until(lambda: not any(visitor.servers() for visitor in visitors))
        mark = {"label": f"academyhub.deployment={hub.settings.academy.name}", "type": "container", "event": ["create", "die"]}
        events = engine.events(since=began, until=int(time.time()) + 1, decode=True, filters=mark)
        order = [(event["Action"], event["Actor"]["Attributes"]["academyhub.user"]) for event in events]
        order = [event for event in order if event[0] == "die" or event[1] == "홍길동"]  # `since` is in whole seconds
        assert order[0] == ("create", "홍길동")
        assert sorted(order[1:]) == [("die", "alice"), ("die", "bob"), ("die", "teacher")]
        other.stop()

    @pytest.mark.parametrize(
        ("key", "profile", "expected"),
        [
            ("spawn-image-missing", "no-image", "The server image academyhub-test-missing:1 is missing. Ask an operator"),
            ("spawn-exited", "exits", "The server ended while it started (exit code 3). Try again."),
            ("spawn-home-full", "full", "The notebook could not start because your home folder is full. Ask an operator"),
            ("spawn-memory", "eats", "The server used up its 256 MB of memory while it started. Choose"),
            ("spawn-gpu-missing", "gpu", "The GPU for this server cannot be found. Start a server without"),
            ("spawn-profile-not-allowed", "sandbox", "You may not start this server: sandbox Choose another"),
        ],
    )
    def test_a_failure_says_what_to_do(self, hub: Hub, engine: Any, key: str, profile: str, expected: str) -> None:
        student = hub.login("bob")
        assert student.refused(profile=profile).startswith(expected), key
        assert f"reason={key}" in hub.tail(60)
        assert container(engine, hub, "bob") is None
        with contextlib.closing(Database(hub.settings.database_url)) as database, database.read() as session:
            assert session.scalars(select(Held)).all() == []  # a failed start gives its GPU back

    def test_a_start_that_takes_too_long_ends(self, hub: Hub, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ACADEMY_SPAWNER__START_TIMEOUT", "4")
        hub.kill()
        try:
            hub.restart()
            expected = "The server did not become ready within 4 seconds. Try again."  # spawn-timeout
            assert hub.login("bob").refused(profile="hangs").startswith(expected)
            assert container(engine, hub, "bob") is None
        finally:  # the next tests' servers have more time again
            monkeypatch.undo()
            hub.kill()
            hub.restart()

    def test_failures_are_in_the_person_s_language(self, hub: Hub) -> None:
        assert hub.login("alice").refused(profile="no-image") == (
            "서버 이미지 academyhub-test-missing:1이(가) 없어요. 운영자에게 `academy images build`를 실행해 달라고 해 주세요."
        )

    def test_unknown_courses_and_sandboxes_are_refused(self, hub: Hub) -> None:
        teacher, student = hub.login("teacher"), hub.login("홍길동")
        assert "nowhere 과목이 없어요." in teacher.refused("grade-nowhere")  # spawn-course-unknown
        assert "trial" in student.refused("trial")

    def test_a_full_disk_is_named_and_a_full_home_starts(self, hub: Hub, engine: Any) -> None:
        """A home without room for what the image puts there, and one with room for nothing else."""
        student = hub.login("bob")
        with self.home(engine, hub, "bob", "size=4k"):
            assert student.refused(profile="answers").startswith("The server could not start because the disk is full.")
            assert "reason=spawn-disk-full" in hub.tail(60)
        with self.home(engine, hub, "bob", "size=1m,nr_inodes=5"):
            student.run(profile="cpu")
            student.stop()

    @contextlib.contextmanager
    def home(self, engine: Any, hub: Hub, user: str, limits: str) -> Iterator[None]:
        name = f"{hub.settings.academy.name}-home-{user}"
        with contextlib.suppress(docker.errors.NotFound):
            engine.volumes.get(name).remove(force=True)
        options = {"type": "tmpfs", "device": "tmpfs", "o": f"{limits},uid=1000"}
        volume = engine.volumes.create(
            name, driver="local", driver_opts=options, labels={"academyhub.deployment": hub.settings.academy.name}
        )
        yield
        volume.remove(force=True)

    def test_docker_that_does_not_answer_is_named_and_comes_back(self, hub: Hub, wire: Wire) -> None:
        student = hub.login("bob")
        wire.cut = True
        try:
            assert student.refused(profile="answers").startswith("Docker, which runs the servers, does not answer.")
            assert "reason=spawn-docker-down" in hub.tail(80)
        finally:
            wire.cut = False
        student.run(profile="answers")
        student.stop()

    def test_the_start_page_offers_what_fits(self, hub: Hub) -> None:
        page = hub.login("bob").http.get("/hub/spawn/bob").text
        assert 'value="answers"' in page
        assert 'value="sandbox"' not in page


def test_a_local_server_survives_its_hub(config: Callable[..., Settings]) -> None:
    """Without Docker: a process a server, found again by a hub that was killed and started anew."""
    settings = config(spawner={"backend": "local"})
    hub = Hub(settings)
    try:
        student = hub.login("홍길동")
        events = student.run()
        assert "노트북 프로세스를 시작하고 있어요." in [event["message"] for event in events]
        url = student.servers()[""]["url"]
        hub.kill()
        hub.restart()
        again = hub.login("홍길동")
        until(lambda: again.servers()[""]["ready"])
        assert again.http.get(f"{url}api").json()["version"]
        again.stop()
        assert again.servers() == {}
        assert again.start().status_code == 202
        again.stop()  # in the middle of its start
        until(lambda: again.servers() == {})
        assert "이 서버를 시작할 수 없어요: gpu" in again.refused(profile="gpu") or "GPU" in again.refused(profile="gpu")
    finally:
        hub.stop()
