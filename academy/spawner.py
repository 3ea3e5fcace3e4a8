"""The spawners: ``AcademySpawner`` gives each server a locked-down container, ``LocalSpawner`` a process for a trial."""

from __future__ import annotations

import asyncio
import errno
import html
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from subprocess import DEVNULL, STDOUT, TimeoutExpired
from typing import Any, ClassVar

import docker
import requests
from docker.errors import APIError, DockerException
from dockerspawner import DockerSpawner
from jupyterhub import orm
from jupyterhub.roles import grant_role
from jupyterhub.spawner import LocalProcessSpawner, Spawner, SpawnException
from jupyterhub.utils import maybe_future, utcnow
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from academy import images, network, profiles, storage
from academy.database import Database, now
from academy.gpus import LABEL, inventory, pool
from academy.gpus.line import LOOK, Granted, Line, said
from academy.messages import AcademyError, message
from academy.people import Person
from academy.settings import CHECKOUT, Profile, Settings, Text
from academy.vouchers import ledger
from academy.vouchers.records import Team

API_SCOPE = "access:services!service=academy"
STAFF_SCOPE = "custom:academy:staff"
STAFF_ROLE = "academy-staff"
COURSE_FOLDER = "/srv/course"  # in a grading server's container
POLL = 0.05  # seconds between two looks whether the server answers
INSPECT = 0.5  # seconds between two looks whether it is still alive
TELL = 0.5  # seconds until a refusal, so that the person's page listens by then
STOP_GRACE = 5  # seconds from SIGTERM to SIGKILL
KILLED = 137  # the exit code of a container that SIGKILL ended
TOLD_WHY = 2  # seconds that Docker may take to say that it was for its memory

STEPS = {
    "profile": (5, Text(ko="서버 종류를 확인하고 있어요.", en="Checking the kind of server.")),
    "image": (15, Text(ko="이미지를 확인하고 있어요.", en="Checking the image.")),
    "container": (30, Text(ko="컨테이너를 시작하고 있어요.", en="Starting the container.")),
    "process": (30, Text(ko="노트북 프로세스를 시작하고 있어요.", en="Starting the notebook process.")),
    "notebook": (60, Text(ko="노트북이 켜지기를 기다리고 있어요.", en="Waiting for the notebook.")),
    "ready": (95, Text(ko="준비됐어요. 곧 열려요.", en="Ready. Opening it.")),
}


class SpawnFailed(SpawnException):
    """A server did not start; the person reads what happened and what to do, in their language."""

    def __init__(self, key: str, language: str, status_code: int = 500, log: str = "", **values: object) -> None:
        text = message(key, language, **values)
        markup = f"<strong>{html.escape(text.text)}</strong> {html.escape(text.fix)}"
        logged = f"{message(key, 'en', **values).text} {log}".strip()
        super().__init__(str(text), reason=key, message_html=markup, log_message=logged, status_code=status_code)
        self.key = key
        # the hub's progress events and JSON errors read these two names
        self.jupyterhub_message, self.jupyterhub_html_message = str(text), markup


def spawner_class(settings: Settings) -> type[Spawner]:
    """The spawner of this deployment."""
    base = AcademySpawner if settings.docker else LocalSpawner
    return type(base.__name__, (base,), {"academy": settings, "database": Database(settings.database_url)})


class _Server(Spawner):
    """What both spawners share: who may start what, the environment, progress, readiness, limits in time."""

    academy: Settings
    database: Database
    person: Person
    profile_key: str = ""
    gpu: str = ""
    lease: str = ""  # the GPU pool's, where it has a GPU
    _line: ClassVar[Line | None] = None
    _refused: SpawnFailed | None = None
    _usable: dict[str, Profile]
    _steps: tuple[dict[str, Any], ...] = ()
    _ready = False
    _clearing: asyncio.Task[str] | None = None  # a start that clears away what it began
    _callbacks: list[Any]
    user_options: dict[str, Any]

    @property
    def language(self) -> str:
        person = getattr(self, "person", None)
        return (person and person.language) or self.academy.academy.language

    @property
    def profile(self) -> Profile:
        return self.academy.profiles[self.profile_key]

    @property
    def kind(self) -> profiles.Kind:
        return profiles.kind_of(self.name)

    @property
    def course(self) -> str:
        return profiles.course_of(self.name)

    def failure(self, key: str, status_code: int = 500, log: str = "", **values: object) -> SpawnFailed:
        return SpawnFailed(key, self.language, status_code, log, **values)

    def read_person(self, login: str) -> Person:
        """The person with their roles as the roster has them now."""
        with self.database.read() as session:
            return session.get(Person, login) or Person(login=login, name=login, enrollments=[])

    async def options_form(self, _: Spawner) -> str:
        """The choice of a profile; no form where there is nothing to choose."""
        from academy.pages.hub import profile_cards

        self.person = await asyncio.to_thread(self.read_person, self.user.name)
        devices = await asyncio.to_thread(inventory.devices, self.academy)
        choices = profiles.profiles_for(self.academy, self.person, self.name, devices=devices)
        paid = any(profile.paid for profile in choices.values())
        accounts = await asyncio.to_thread(self._accounts) if paid else []
        return profile_cards(choices, self.language, accounts) if len(choices) > 1 or paid else ""

    def _accounts(self) -> list[ledger.Account]:
        """The vouchers that can pay now."""
        with self.database.read() as session:
            at = now()
            is_open = [one for one in ledger.vouchers_of(session, self.person) if one.starts_at <= at < one.ends_at]
            return ledger.accounts(session, is_open)

    def options_from_form(self, form_data: dict[str, list[str]]) -> dict[str, str]:
        return self._chosen(form_data)

    def apply_user_options(self, _: Spawner, options: dict[str, Any]) -> None:
        """Of what a form or an API request says, only the profile and who pays count; ``start`` decides whether they may."""
        self.user_options = self._chosen(options)

    def _chosen(self, options: Mapping[str, Any]) -> dict[str, str]:
        voucher = profiles.chosen(options, "voucher")
        return {"profile": profiles.chosen(options), **({"voucher": voucher} if voucher else {})}

    def server_token_scopes(self, _: Spawner) -> list[str]:
        """What the server's own token may do; the hub cuts it down to what its owner holds."""
        scopes = ["users:activity!user", "access:servers!server"]
        if self.kind != "sandbox":
            scopes.append(API_SCOPE)
        if self.kind == "grading" and self.read_person(self.user.name).staff_of(self.course):
            self._know_staff_group()
            scopes.append(STAFF_SCOPE)
        return scopes

    def _know_staff_group(self) -> None:
        """A course that is newer than the hub: its staff hold the staff scope from now on."""
        role, group = orm.Role.find(self.db, STAFF_ROLE), orm.Group.find(self.db, f"formgrade-{self.course}")
        if role is not None and group is not None:
            grant_role(self.db, group, role)

    async def choose(self) -> None:
        """Decide the profile.

        Raises:
            SpawnFailed: the person may not have this server, or its GPU is missing.
        """
        self.person = await asyncio.to_thread(self.read_person, self.user.name)
        if self.kind == "grading" and not self.person.staff_of(self.course):
            known = (self.academy.academy.courses / self.course).is_dir() or self.academy.course_folder(self.course).is_dir()
            raise self.failure("spawn-not-staff" if known else "spawn-course-unknown", 403, course=self.course)
        devices = await asyncio.to_thread(inventory.devices, self.academy)
        wanted = profiles.chosen(self.user_options)
        allowed = profiles.profiles_for(self.academy, self.person, self.name)
        usable = self._usable = profiles.profiles_for(self.academy, self.person, self.name, devices)
        if wanted in allowed and wanted not in usable:
            raise self.failure("spawn-gpu-missing", 503)
        key = wanted or next(iter(usable), "")
        if key not in usable:
            raise self.failure("spawn-profile-not-allowed", 403, profile=key or self.name)
        self.profile_key, self.gpu, self.lease = key, "", ""
        self.user_options = self.orm_spawner.user_options = {**self.user_options, "profile": key}

    async def run_pre_spawn_hook(self) -> None:
        """What may take long and is no fault of the server's: its time does not run yet."""
        await self._cleared()
        await maybe_future(super().run_pre_spawn_hook())
        self._steps, self._refused = (), None
        self.step("profile")
        try:
            await self.choose()
            if self.profile.gpu != "none":
                await self._wait_for_gpu()
        except SpawnFailed as error:
            self._refused = error  # `start` raises it: of one that is raised here the hub keeps no trace for the person
        # the hub counts from before the wait in the line; the longest run and idleness count from here
        self.orm_spawner.started = self.orm_spawner.last_activity = utcnow(with_tz=False)

    async def _wait_for_gpu(self) -> None:
        """Stand in the line until the pool gives one. Whoever stops the start leaves it; a hub that ends does not."""
        without = next((key for key, profile in self._usable.items() if profile.gpu == "none"), "")
        place = None
        try:
            await self.line.join(self.person, self.name, self.profile_key, str(self.user_options.get("voucher", "")))
            while not isinstance(found := await self.line.look(self.holder), Granted):
                if found and found != place:
                    self.tell(10, said(found, self.academy), waiting=True, without=without)
                    place = found
                await asyncio.sleep(LOOK)
        except AcademyError as error:
            values: dict[str, Any] = error.values
            raise self.failure(error.key, error.status, **values) from error
        self.lease, self.gpu = found.lease, found.device

    @property
    def line(self) -> Line:
        cls = type(self)
        if cls._line is None:
            cls._line = Line(self.academy, self.database)
        return cls._line

    @property
    def holder(self) -> str:
        return pool.holder_of(self.user.name, self.name)

    async def _give_back(self, why: str) -> None:
        if self.lease or (self.profile_key and self.profile.gpu != "none"):
            await self.line.give_back(self.holder, self.lease, why)
            self.lease = ""

    @property
    def volume(self) -> str:
        """What is the person's home on this server: a volume, or a folder below the data."""
        raise NotImplementedError

    def team_volume(self, team: Team) -> str:
        raise NotImplementedError

    async def _know_volumes(self) -> list[Team]:
        """Tell the academy's account of storage which volumes this server has; returns the teams whose folders it gets."""
        # read here: the user and the spawner are rows of the hub's session, which other threads must not touch
        login, server, kind, volume = self.user.name, self.name, self.kind, self.volume

        def run() -> list[Team]:
            with self.database.write() as session:
                if kind != "grading":
                    storage.know(session, volume, login, server)
                teams = storage.teams_of(session, login) if kind == "sandbox" else []
                for team in teams:
                    storage.know(session, self.team_volume(team), None, team_id=team.id)
            return teams

        return await asyncio.to_thread(run)

    def get_env(self) -> dict[str, str]:
        env: dict[str, str] = super().get_env()
        env["ACADEMY_LANGUAGE"] = self.language
        env["OMP_NUM_THREADS"] = str(max(1, int(self.profile.cpus)))
        env["NVIDIA_VISIBLE_DEVICES"] = self.gpu or "void"
        if self.kind == "sandbox":  # a Gradio that is shown does not see from where
            env["GRADIO_ROOT_PATH"] = f"{env['JUPYTERHUB_SERVICE_PREFIX']}proxy/7860"
        else:
            env["ACADEMY_API_URL"] = f"{network.pages_url(self.academy)}/api/v1"
        if self.kind == "grading":
            env["ACADEMY_COURSE"] = self.course
            env["ACADEMY_COURSE_FOLDER"] = self.course_folder()
            env["ACADEMY_GRADEBOOK_URL"] = self._gradebook_url()
        return env

    def course_folder(self) -> str:
        """The course folder as a grading server sees it."""
        raise NotImplementedError

    def _gradebook_url(self) -> str:
        if self.academy.database.gradebook_url:
            return self.academy.gradebook_url(self.course)
        return f"sqlite:///{self.course_folder()}/gradebook.db"

    def step(self, name: str) -> None:
        """Tell whoever waits for this server what happens now."""
        self.tell(*STEPS[name])

    def tell(self, percent: int, text: Text, **more: Any) -> None:
        self._steps = (*self._steps, {"progress": percent, "message": text[self.language], **more})

    async def _generate_progress(self) -> AsyncIterator[dict[str, Any]]:
        """As the hub's own, without its English first line."""
        async for event in self.progress():
            yield event

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        shown = 0
        while self._spawn_pending:
            for event in self._steps[shown:]:
                yield event
                shown += 1
            await asyncio.sleep(0.1)

    async def start(self) -> str:
        """Start the server and return its URL once it answers.

        One that is cancelled ends at once, for the hub gives it a second and then fails to stop the server; what was begun is
        cleared away after that, and ``poll`` waits for it.

        Raises:
            SpawnFailed: it did not start; what was begun is cleared away.
        """
        self._ready, self._clearing = False, None
        if self._refused is not None:
            await asyncio.sleep(TELL)  # whoever asks for progress while the hub clears a start away would read "not starting"
            raise self._refused
        starting = asyncio.create_task(self._start())
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if self._clearing is None:
                self._clearing = starting
                starting.cancel()
            raise

    async def _start(self) -> str:
        limit = self.academy.spawner.start_timeout
        try:
            async with asyncio.timeout(limit):
                url = await self.launch()
                self.step("notebook")
                await self.wait_ready(url)
        except TimeoutError as error:
            raise self.failure("spawn-timeout", 504, seconds=f"{limit:g}", log=await self.last_words()) from error
        finally:
            if not self._ready:
                self._clearing = asyncio.current_task()
                await asyncio.shield(self.discard())
                await asyncio.shield(self._give_back("failed"))
        if self.lease:
            await self.line.started(self.lease, self.running_as)
        self.step("ready")
        return url

    async def _cleared(self) -> None:
        """Wait until nothing is left of a start that came to nothing."""
        if self._clearing is not None:
            await asyncio.wait([self._clearing])

    async def launch(self) -> str:
        """Begin the server and return its URL; it need not answer yet."""
        raise NotImplementedError

    async def alive(self) -> bool:
        """Whether a server that was launched still runs."""
        raise NotImplementedError

    async def obituary(self) -> SpawnFailed:
        """Why a launched server ended before it answered."""
        raise NotImplementedError

    async def discard(self) -> None:
        """Remove what a start that came to nothing has left."""
        raise NotImplementedError

    async def last_words(self) -> str:
        """The end of the server's log."""
        raise NotImplementedError

    @property
    def running_as(self) -> str:
        """The container's id, or the process's."""
        raise NotImplementedError

    async def wait_ready(self, url: str) -> None:
        """Until the server answers: the hub's own poll waits up to 5 s between two looks, this one 50 ms."""
        client = AsyncHTTPClient(force_instance=True)
        request = HTTPRequest(f"{url}{self.server.base_url}api", connect_timeout=1, request_timeout=2)
        inspected = time.monotonic()
        try:
            while not self._ready:
                try:
                    reply = await client.fetch(request, raise_error=False)
                    self._ready = reply.code in range(200, 500)
                except (OSError, HTTPClientError):
                    self._ready = False
                if not self._ready and time.monotonic() - inspected > INSPECT:
                    if not await self.alive():
                        raise await self.obituary()
                    inspected = time.monotonic()
                if not self._ready:
                    await asyncio.sleep(POLL)
        finally:
            client.close()

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "profile": self.profile_key, "gpu": self.gpu, "lease": self.lease}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.profile_key, self.gpu, self.lease = (state.get(key, "") for key in ("profile", "gpu", "lease"))

    def overdue(self) -> bool:
        """Whether the server has run for as long as its profile allows; counts on through a restart of the hub."""
        profile, started = self.academy.profiles.get(self.profile_key), self.orm_spawner.started
        if profile is None or started is None or self._start_pending:
            return False
        return (datetime.now(UTC) - started.replace(tzinfo=UTC)).total_seconds() > profile.hours * 3600

    async def poll(self) -> Any:  # the hub demands both of every subclass of its own
        await self._cleared()
        return await super().poll()

    async def stop(self, now: bool = False) -> None:
        await super().stop(now)

    async def run_post_stop_hook(self) -> None:
        """Also after a start that was stopped while it waited, for which ``stop`` is not called."""
        await maybe_future(super().run_post_stop_hook())
        await self._give_back("stopped")

    async def poll_and_notify(self) -> Any:
        """The hub's regular look at a running server; ends one that is overdue the way the hub ends one that died."""
        if not self._callbacks:  # the hub still tells the proxy of it: polling that ended now would never begin again
            return await self.poll()
        if not self.overdue():
            return await super().poll_and_notify()
        self.log.info("%s has run for %g hours, the most of its profile: stopping it", self._log_name, self.profile.hours)
        self.stop_polling()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            await maybe_future(callback())
        return 0


class AcademySpawner(_Server, DockerSpawner):
    """A container a server: no capabilities, limits on everything, a network without neighbours, a volume of its own."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.escape = profiles.slug
        self.prefix = self.academy.academy.name
        self.name_template = "{prefix}-{username}--{servername}" if self.name else "{prefix}-{username}"
        self.pull_policy = "skip"  # images are built here; a missing one is an error with a name, not a wait
        self.remove = True
        self.use_internal_ip = True
        self.cmd = ["jupyterhub-singleuser"]

    @property
    def executor(self) -> ThreadPoolExecutor:
        """Threads for Docker calls: on the stock spawner's one, a slow stop makes every start wait."""
        cls = type(self)
        if cls._executor is None:
            cls._executor = ThreadPoolExecutor(self.academy.spawner.docker_threads, "docker")
        return cls._executor

    def course_folder(self) -> str:
        return COURSE_FOLDER

    @property
    def volume(self) -> str:
        """The volume that is the person's home on this server."""
        name, login = self.academy.academy.name, profiles.slug(self.user.name)
        if self.kind == "coursework":
            return f"{name}-home-{login}"
        if self.kind == "grading":
            return f"{name}-grade-{login}--{self.course}"
        return f"{name}-sandbox-{login}--{profiles.slug(self.name)}"

    @property
    def _labels(self) -> dict[str, str]:
        labels = {"deployment": self.academy.academy.name, "user": self.user.name, "server": self.name}
        return {f"academyhub.{key}": value for key, value in labels.items()}

    async def launch(self) -> str:
        self.step("image")
        self.image = self.profile.image or await asyncio.to_thread(images.image_tag, "notebook", self.academy)
        self.object_id = ""
        try:
            await self._prepare()
            self.step("container")
            if self.lease:
                self._ask_for_gpu(await self.docker("info"))
            await self._create()
            await self.start_object()
            ip, port = await self.get_ip_and_port()
        except (DockerException, requests.RequestException) as error:
            raise self._explain(error) from error
        if not ip:
            raise await self.obituary()
        return f"http://{ip}:{port}"

    async def _prepare(self) -> None:
        """Networks, the home volume, the course folder, and the container's configuration."""
        which: network.Network = "sandboxes" if self.kind == "sandbox" else "students"
        self.network_name = network.network_name(self.academy, which)
        await self._wait_in_thread(network.ensure_network, self.academy, which)
        profile, teams = self.profile, await self._know_volumes()
        self.mem_limit, self.cpu_limit = f"{profile.memory_mb}M", profile.cpus
        await self._make_volume(
            self.volume, self._labels, self.academy.storage.sandbox_gb if self.name else self.academy.storage.home_gb
        )
        self.volumes = {self.volume: "/home/jovyan"}
        for team in teams:
            volume = self.team_volume(team)
            if await self._make_volume(volume, {"academyhub.deployment": self.prefix}, self.academy.storage.team_gb):
                await self._own(volume)
            self.volumes = {**self.volumes, volume: f"/home/jovyan/teams/{team_folder(team)}"}
        self.extra_create_kwargs = {"labels": {**self._labels, "academyhub.profile": self.profile_key}}
        self.extra_host_config = {
            "auto_remove": False,  # a container that died at its start is asked why, then removed by us
            "init": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "pids_limit": profile.processes,
            "memswap_limit": self.mem_limit,
            "shm_size": f"{min(1024, profile.memory_mb // 2)}M",  # torch's loaders share batches there
            "log_config": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        }
        if self.kind == "grading":
            folder = self.academy.course_folder(self.course)
            gid = await asyncio.to_thread(share_course_folder, self.academy, folder)
            self.volumes = {**self.volumes, str(folder): COURSE_FOLDER}
            self.extra_host_config = {**self.extra_host_config, "group_add": [gid]}

    def team_volume(self, team: Team) -> str:
        return f"{self.academy.academy.name}-team-{team.id}"

    async def _make_volume(self, name: str, labels: dict[str, str], gigabytes: float) -> bool:
        """A volume of at most this size, where the engine's disk can hold it to that; whether it is new."""
        try:
            await self.docker("inspect_volume", name)
            return False
        except docker.errors.NotFound:
            pass
        try:
            size = {"size": str(int(gigabytes * storage.GB))} if gigabytes else {}
            await self.docker("create_volume", name, driver_opts=size, labels=labels)
        except APIError as error:
            if "quota" not in str(error.explanation):
                raise
            await self.docker("create_volume", name, labels=labels)  # people are told, the disk does not stop them
        return True

    async def _own(self, volume: str) -> None:
        """A new volume is root's where the image has no such folder: make it its users'."""
        mounted = self.client.create_host_config(binds={volume: {"bind": "/volume", "mode": "rw"}}, network_mode="none")
        command = {"entrypoint": ["chown", "jovyan:users", "/volume"], "user": "root", "host_config": mounted}
        made = await self.docker("create_container", self.image, **command)
        try:
            await self.docker("start", made["Id"])
            await self.docker("wait", made["Id"])
        finally:
            await self.docker("remove_container", made["Id"], force=True)

    async def _wait_in_thread(self, function: Any, *args: Any) -> Any:
        return await asyncio.wrap_future(self.executor.submit(function, *args))

    def _ask_for_gpu(self, engine: dict[str, Any]) -> None:
        """The device that the lease names and no other."""
        self.extra_host_config = {**self.extra_host_config, **inventory.asked(engine, self.gpu)}
        labels = {**self.extra_create_kwargs["labels"], LABEL: self.lease, "academyhub.gpu": self.gpu}
        self.extra_create_kwargs = {"labels": labels}

    @property
    def running_as(self) -> str:
        return str(self.object_id)

    async def _create(self) -> None:
        """Create the container, and know it even if whoever waits gives up meanwhile."""
        if await self.get_object():
            await self.remove_object()  # left by a hub that died in the middle of a start
        creation: asyncio.Future[Any] = asyncio.ensure_future(self.create_object())
        try:
            created = await asyncio.shield(creation)
        except asyncio.CancelledError:
            await asyncio.wait([creation])
            raise
        self.object_id = created[self.object_id_key]

    async def alive(self) -> bool:
        return await self.poll() is None

    async def obituary(self) -> SpawnFailed:
        words, until = await self.last_words(), time.monotonic() + TOLD_WHY
        state = await self._state()
        while state.get("ExitCode") == KILLED and not state.get("OOMKilled") and time.monotonic() < until:
            await asyncio.sleep(POLL)
            state = await self._state()
        if state.get("OOMKilled"):
            return self.failure("spawn-memory", megabytes=self.profile.memory_mb)
        if "No space left on device" in words or "Disk quota exceeded" in words:
            return self.failure("spawn-home-full", log=words)
        return self.failure("spawn-exited", code=state.get("ExitCode", "?"), log=words)

    async def _state(self) -> dict[str, Any]:
        """What Docker says of the container; empty where there is none."""
        found: dict[str, Any] = await self.get_object() or {}
        return found.get("State", {})

    async def last_words(self) -> str:
        try:
            text: bytes = await self.docker("logs", self.object_name, tail=20) if self.object_id else b""
        except (DockerException, requests.RequestException):
            return ""
        return text.decode(errors="replace")[-2000:]

    def _explain(self, error: Exception) -> SpawnFailed:
        """The engine's error as a sentence for the person."""
        if not isinstance(error, APIError):
            return self.failure("spawn-docker-down", 503, log=str(error))
        reason = str(error.explanation or error)
        if "no space left on device" in reason or "disk quota exceeded" in reason:
            return self.failure("spawn-disk-full", 507, log=reason)
        if "No such image" in reason:
            return self.failure("spawn-image-missing", image=self.image, log=reason)
        if self.gpu and ("device driver" in reason or "nvidia" in reason or "device" in reason):
            return self.failure("spawn-gpu-missing", 503, log=reason)
        return self.failure("spawn-refused", log=reason)

    async def discard(self) -> None:
        try:
            await self.docker("remove_container", self.object_name, force=True, v=True)
        except docker.errors.NotFound:
            pass
        except (DockerException, requests.RequestException) as error:
            self.log.warning("The container %s could not be removed: %s", self.object_name, error)
        self.object_id = ""

    async def poll(self) -> Any:
        """None while the container runs; one that ended by itself is removed. An engine that is silent ends nothing."""
        await self._cleared()
        if not self.object_id:
            return 0
        try:
            status = await super().poll()
        except requests.RequestException as error:
            self.log.warning("Docker does not say whether %s runs: %s", self.object_name, error)
            return None
        if status is not None and self.object_id and not self._start_pending:
            await self.remove_object()
            self.object_id = ""
        return status

    async def stop_object(self) -> None:
        try:
            await self.docker("stop", self.container_id, timeout=STOP_GRACE)
        except docker.errors.NotFound:
            self.log.debug("%s was gone already", self.object_name)

    async def remove_object(self) -> None:
        try:
            await self.docker("remove_container", self.object_id or self.object_name, force=True, v=True)
        except APIError as error:
            if error.status_code not in (404, 409):  # gone, or going
                raise


class LocalSpawner(_Server, LocalProcessSpawner):
    """A process of this machine a server, all under one user: for one person's trial, isolates nothing."""

    def course_folder(self) -> str:
        return str(self.academy.course_folder(self.course))

    def make_preexec_fn(self, name: str) -> Any:
        return None

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        jupyter = CHECKOUT / "images" / "notebook" / "jupyter"
        binaries = str(Path(sys.executable).parent)
        env.update(
            HOME=str(self.home),
            USER=self.user.name,
            SHELL="/bin/bash",
            PATH=f"{binaries}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            JUPYTER_CONFIG_PATH=f"{jupyter / self.kind}{os.pathsep}{jupyter / 'common'}",
            JUPYTER_PATH=str(CHECKOUT / "images" / "notebook" / "share" / "jupyter"),
            MATPLOTLIBRC=str(CHECKOUT / "images" / "python" / "matplotlibrc"),  # Hangul in plots
            CUDA_VISIBLE_DEVICES=self.gpu,
        )
        return env

    def _env_keep_default(self) -> list[str]:
        return ["LANG", "LC_ALL", "LD_LIBRARY_PATH"]

    @property
    def volume(self) -> str:
        login = profiles.slug(self.user.name)
        return f"homes/{login}--{profiles.slug(self.name)}" if self.name else f"homes/{login}"

    def team_volume(self, team: Team) -> str:
        return f"teams/{team.id}"

    @property
    def home(self) -> Path:
        return self.academy.data / self.volume

    def _share_teams(self, teams: list[Team]) -> None:
        (self.home / "teams").mkdir(exist_ok=True)
        for team in teams:
            folder, link = self.academy.data / self.team_volume(team), self.home / "teams" / team_folder(team)
            folder.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(folder)

    @property
    def log_file(self) -> Path:
        return self.academy.data / "logs" / f"server-{self.home.name}.log"

    async def launch(self) -> str:
        self.step("process")
        try:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            if teams := await self._know_volumes():
                self._share_teams(teams)
            if self.kind == "grading":
                await asyncio.to_thread(share_course_folder, self.academy, self.academy.course_folder(self.course))
            self.cmd = [sys.executable, str(CHECKOUT / "images" / "notebook" / "server.py")]
            self.args = ["--allow-root"] if os.geteuid() == 0 else []
            self.port = network.free_port()
            with self.log_file.open("wb") as log:  # a file of its own: the server outlives the hub and its pipes
                self.popen_kwargs = {"cwd": self.home, "stdin": DEVNULL, "stdout": log, "stderr": STDOUT}
                ip, port = await LocalProcessSpawner.start(self)
        except OSError as error:
            raise self._explain(error) from error
        return f"http://{ip}:{port}"

    def _explain(self, error: OSError) -> SpawnFailed:
        if error.errno == errno.ENOSPC:
            return self.failure("spawn-disk-full", 507, log=str(error))
        return self.failure("spawn-refused", log=str(error))

    @property
    def running_as(self) -> str:
        return f"pid:{self.pid}"

    async def alive(self) -> bool:
        return self.proc is not None and self.proc.poll() is None

    async def obituary(self) -> SpawnFailed:
        words = await self.last_words()
        if "No space left on device" in words:
            return self.failure("spawn-home-full", log=words)
        return self.failure("spawn-exited", code=self.proc.returncode if self.proc else "?", log=words)

    async def last_words(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")[-2000:] if self.log_file.exists() else ""

    async def discard(self) -> None:
        if self.proc is not None:  # not with the hub's own stop, which would ask `poll`
            self.proc.terminate()
            try:
                await asyncio.to_thread(self.proc.wait, STOP_GRACE)
            except TimeoutExpired:
                self.proc.kill()
                await asyncio.to_thread(self.proc.wait)
        self.pid = 0


def team_folder(team: Team) -> str:
    """What a team's folder is called in its members' sandboxes."""
    return re.sub(r"[\x00-\x1f/:\\]", "_", team.name).strip(". ") or team.id


def share_course_folder(settings: Settings, folder: Path) -> int:
    """Make a course's folder writable for the group that grading servers join; returns the group's id."""
    gid = settings.grading.staff_gid if os.geteuid() == 0 else os.getgid()
    folder.mkdir(parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_gid != gid or found.st_mode & 0o7777 != 0o2770:
        os.chown(folder, -1, gid)
        folder.chmod(0o2770)
    return gid
