"""Every setting of a deployment, typed, documented where it is declared, read from one ``academy.toml``.

Order of precedence: environment (``ACADEMY_SECTION__KEY``), then the file, then the defaults below, which are those of the
trial that ``make run`` starts. The file is ``$ACADEMY_CONFIG``, else ``academy.toml`` in the working directory.
"""

from __future__ import annotations

import os
import tomllib
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

CHECKOUT = Path(__file__).resolve().parent.parent
DOCKER_WAIT = 60  # seconds for which a Docker Engine may say nothing, as while the machine starts

Language = Literal["ko", "en"]
Role = Literal["student", "assistant", "instructor", "founder", "operator"]

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
AbsolutePath = Annotated[Path, AfterValidator(lambda p: p.expanduser().absolute())]


class SettingsError(Exception):
    """The settings cannot be used; the message names every key, its value and what is allowed."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Text(_Section):
    """A text in both languages."""

    ko: str
    en: str

    def __getitem__(self, language: str) -> str:
        return self.ko if language == "ko" else self.en


class Academy(_Section):
    name: Name = Field("academy", description="Deployment name: prefix of its networks, volumes, containers.")
    title: Text = Field(Text(ko="아카데미허브", en="AcademyHub"), description="What pages call the academy.")
    language: Language = Field("ko", description="Language of a page until its reader chooses one.")
    timezone: str = Field("Asia/Seoul", description="Time zone in which pages print times and read due dates.")
    data: AbsolutePath = Field(CHECKOUT / "data", description="Folder with all state: databases, submissions, courses.")
    courses: AbsolutePath = Field(CHECKOUT / "courses", description="Folder of course sources, one folder a course.")


class Hub(_Section):
    address: str = Field("127.0.0.1", description="Address on which the public proxy listens.")
    port: int = Field(8000, ge=1, le=65535, description="Port of the public proxy.")
    hub_port: int = Field(8081, ge=1, le=65535, description="Port of the hub's own API.")
    pages_port: int = Field(8082, ge=1, le=65535, description="Port of the pages and the exchange API.")
    proxy_api_port: int = Field(8001, ge=1, le=65535, description="Port of the proxy's API (loopback only).")
    internal_address: str = Field(
        "", description="Where the hub's API and the pages listen; empty: the gateway of the students' network, or loopback."
    )
    public_url: str = Field("", description="URL that browsers use, e.g. https://hub.example.ac.kr; empty: address:port.")
    idle_hours: float = Field(2.0, gt=0, description="Hours without activity after which a server is stopped.")


class Database(_Section):
    url: str = Field("", description="SQLAlchemy URL of the academy's database; empty: SQLite in the data folder.")
    hub_url: str = Field("", description="SQLAlchemy URL of JupyterHub's database; empty: SQLite in the data folder.")
    gradebook_url: str = Field(
        "",
        description="SQLAlchemy URL of the gradebooks with {course} in it; empty: SQLite in each course's folder.",
    )


class SignIn(_Section):
    provider: Literal["demo", "github", "google", "kakao", "naver", "oidc"] = Field(
        "demo", description="Who says who somebody is; demo: one shared password, for trials."
    )
    client_id: str = Field("", description="Client id that the provider issued.")
    client_secret_file: Path | None = Field(None, description="File with the client secret; mode 0600.")
    url: str = Field("", description="oidc only: issuer URL, e.g. https://login.example.ac.kr/realms/main.")
    username_claim: str = Field("", description="Claim that holds the login; empty: the provider's usual one.")
    open: bool = Field(False, description="True: people who are not on the roster get in too, as students of no course.")
    demo_password_file: Path | None = Field(None, description="demo only: file with the password; empty: generated.")

    @model_validator(mode="after")
    def _complete(self) -> SignIn:
        if self.provider != "demo" and not (self.client_id and self.client_secret_file):
            raise ValueError(f"provider {self.provider!r} needs client_id and client_secret_file")
        if self.provider == "oidc" and not self.url:
            raise ValueError("provider 'oidc' needs url, the issuer's address")
        return self


class Profile(_Section):
    """A kind of notebook server that a person may start."""

    title: Text = Field(description="What people choose it by.")
    description: Text = Field(Text(ko="", en=""), description="What it is good for, in a sentence.")
    cpus: float = Field(1.0, gt=0, description="CPU cores a server may use.")
    memory_mb: int = Field(2048, ge=256, description="Memory in MiB; over it the kernel is ended.")
    hours: float = Field(12.0, gt=0, description="Longest run in hours; the server is then stopped.")
    processes: int = Field(512, ge=64, description="Most processes and threads of a server.")
    roles: list[Role] = Field(
        ["student", "assistant", "instructor", "founder", "operator"],
        description="Who may start it.",
    )
    gpu: Literal["none", "whole", "slice", "share"] = Field(
        "none",
        description="whole: a GPU of its own; slice: a MIG slice; share: one share of a time-sliced GPU. Hidden where none is.",
    )
    gpu_memory_mb: int = Field(0, ge=0, description="Least memory of the GPU or slice, in MiB.")
    weight: float = Field(1.0, ge=0, le=1000, description="GPU-hours that an hour of it costs a voucher, to three decimals.")
    paid: bool = Field(False, description="True: it starts only with a voucher that pays for it.")
    idle_minutes: float = Field(30.0, ge=0, description="Minutes without use of its GPU until the person is warned; 0: never.")
    idle_keeps: int = Field(3, ge=0, description="How often a person may keep a GPU that does nothing.")
    kind: Literal["coursework", "sandbox", "grading"] = Field(
        "coursework",
        description="coursework: the person's own server; sandbox: named servers with a volume of their own and no course; "
        "grading: staff's formgrader server of one course.",
    )
    image: str = Field("", description="Image to start; empty: the notebook image built from this checkout.")


def _profiles() -> dict[Name, Profile]:
    return {
        "cpu": Profile(
            title=Text(ko="CPU 노트북", en="CPU notebook"),
            description=Text(ko="수업과 과제에 맞는 기본 서버예요.", en="The usual server for lessons and assignments."),
            cpus=2,
            memory_mb=4096,
        ),
        "gpu": Profile(
            title=Text(ko="GPU 노트북", en="GPU notebook"),
            description=Text(ko="GPU 하나를 혼자 쓰는 서버예요.", en="A server with one GPU of its own."),
            cpus=4,
            memory_mb=16384,
            hours=6,
            gpu="whole",
        ),
        "sandbox": Profile(
            title=Text(ko="샌드박스", en="Sandbox"),
            description=Text(ko="시제품을 만드는 독립된 서버예요.", en="A separate server to prototype on."),
            cpus=2,
            memory_mb=4096,
            roles=["founder", "operator"],
            kind="sandbox",
        ),
        "sandbox-gpu": Profile(
            title=Text(ko="GPU 샌드박스", en="GPU sandbox"),
            description=Text(ko="GPU 하나가 딸린 독립된 서버예요.", en="A separate server with one GPU."),
            cpus=4,
            memory_mb=16384,
            hours=6,
            roles=["founder", "operator"],
            gpu="whole",
            paid=True,
            kind="sandbox",
        ),
        "grading": Profile(
            title=Text(ko="채점 서버", en="Grading server"),
            description=Text(ko="과목 하나를 채점하는 서버예요.", en="A server to grade one course on."),
            cpus=1,
            memory_mb=2048,
            roles=["assistant", "instructor"],
            kind="grading",
        ),
    }


class Spawner(_Section):
    backend: Literal["auto", "docker", "local"] = Field(
        "auto", description="docker: containers; local: processes, isolates nothing; auto: docker where an engine answers."
    )
    start_timeout: float = Field(120.0, gt=0, description="Seconds until a start that does not become ready is ended.")
    docker_threads: int = Field(8, ge=1, description="Docker calls that may run at the same time.")
    named_servers: int = Field(5, ge=1, description="Most named servers (sandboxes, grading) of one person.")


class GpuDevice(_Section):
    """A GPU or MIG slice that NVML does not tell of: on another node, or of a test."""

    uuid: str = Field(min_length=1, max_length=96, description="What containers ask for it by.")
    model: str = Field("GPU", description="Its name, for people.")
    memory_mb: int = Field(0, ge=0, description="Its memory in MiB.")
    shares: int = Field(1, ge=1, le=64, description="Shares that it is cut into for time-slicing; 1: it is given whole.")
    slice: bool = Field(False, description="True: a MIG slice.")


class Gpus(_Section):
    devices: list[GpuDevice] = Field(default_factory=list, description="The GPUs; empty: those that the driver tells (NVML).")
    shares: int = Field(1, ge=1, le=64, description="Shares that each of the driver's GPUs is cut into; 1: given whole.")
    tiers: list[list[Role | Literal["grading"]]] = Field(
        [["grading", "operator"], ["instructor", "assistant"], ["student", "founder"]],
        description="Who waits in front of whom, from first to last; within a tier, who used GPUs least in the last week.",
    )
    idle_grace_minutes: float = Field(10.0, gt=0, description="Minutes from the warning of an idle GPU to its end.")
    idle_percent: int = Field(3, ge=0, le=100, description="Utilisation in percent up to which a GPU counts as idle.")
    voucher_grace_minutes: float = Field(10.0, ge=0, description="Minutes to save one's work once a voucher is used up.")
    no_show_minutes: float = Field(10.0, gt=0, description="Minutes into a lesson after which places nobody came for are free.")

    @model_validator(mode="after")
    def _once(self) -> Gpus:
        uuids = [device.uuid for device in self.devices]
        if twice := {uuid for uuid in uuids if uuids.count(uuid) > 1}:
            raise ValueError(f"devices name {', '.join(sorted(twice))} more than once")
        return self


class Storage(_Section):
    home_gb: float = Field(20.0, ge=0, description="GiB that a person's home may take; 0: no limit.")
    sandbox_gb: float = Field(50.0, ge=0, description="GiB that each sandbox's volume may take; 0: no limit.")
    team_gb: float = Field(100.0, ge=0, description="GiB that a team's shared folder may take; 0: no limit.")
    warn_percent: float = Field(80.0, gt=0, le=100, description="How full in percent, before people are told.")


class Exchange(_Section):
    max_submission_mb: int = Field(100, ge=1, description="Largest submission in MiB, packed and unpacked.")


class Grading(_Section):
    backend: Literal["auto", "docker", "local"] = Field("auto", description="Where submissions run; as for the spawner.")
    timeout: float = Field(600.0, gt=0, description="Seconds until a submission's run is ended.")
    cell_timeout: float = Field(120.0, gt=0, description="Seconds until one cell is ended.")
    cpus: float = Field(1.0, gt=0, description="CPU cores a run may use.")
    memory_mb: int = Field(2048, ge=256, description="Memory of a run in MiB.")
    processes: int = Field(256, ge=16, description="Most processes and threads of a run.")
    output_kb: int = Field(1024, ge=16, description="Most output of a run in KiB; the rest is cut.")
    workers: int = Field(1, ge=1, description="Submissions graded at the same time.")
    isolation: Literal["shared", "container"] = Field(
        "shared",
        description="shared: runs follow each other in a warm container, each as a new user; container: one for each.",
    )
    staff_gid: int = Field(64100, ge=1, description="Group id that owns course folders when the academy runs as root.")


class Images(_Section):
    base: str = Field("", description="A Debian 12 image to build on; empty: one pulled, or made with debootstrap.")
    torch: Literal["cpu", "cuda"] = Field("cpu", description="Which build of torch the images get; cuda for GPU servers.")
    torch_index: str = Field("", description="Package index (URL) or folder of that build of torch; empty: as pip is set up.")
    wheels: AbsolutePath | None = Field(None, description="Folder of wheels to search beside what pip is set up with.")
    authorities: AbsolutePath | None = Field(
        None, description="Folder of certificate authorities (*.crt, PEM) that the images trust beside Debian's."
    )


class Backup(_Section):
    folder: AbsolutePath = Field(CHECKOUT / "data" / "backups", description="Where backups are kept.")
    keep: int = Field(14, ge=1, description="How many backups are kept.")
    copy_to: AbsolutePath | None = Field(None, description="A second folder for each backup, e.g. on another machine's disk.")


class Settings(BaseSettings):
    """The whole of ``academy.toml``. See each section's class for its keys."""

    model_config = SettingsConfigDict(env_prefix="ACADEMY_", env_nested_delimiter="__", extra="forbid", frozen=True)

    academy: Academy = Academy()
    hub: Hub = Hub()
    database: Database = Database()
    signin: SignIn = SignIn()
    spawner: Spawner = Spawner()
    gpus: Gpus = Gpus()
    storage: Storage = Storage()
    exchange: Exchange = Exchange()
    grading: Grading = Grading()
    images: Images = Images()
    backup: Backup = Backup()
    profiles: dict[Name, Profile] = Field(default_factory=_profiles)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config_file())

    @property
    def data(self) -> Path:
        return self.academy.data

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.data}/academy.sqlite"

    @property
    def hub_database_url(self) -> str:
        return self.database.hub_url or f"sqlite:///{self.data}/jupyterhub.sqlite"

    def gradebook_url(self, course: str) -> str:
        if self.database.gradebook_url:
            return self.database.gradebook_url.format(course=course)
        return f"sqlite:///{self.course_folder(course)}/gradebook.db"

    def course_folder(self, course: str) -> Path:
        """nbgrader's course directory: source, release, submitted, autograded, feedback, gradebook."""
        return self.data / "courses" / course

    @property
    def public_url(self) -> str:
        return (self.hub.public_url or f"http://{self.hub.address}:{self.hub.port}").rstrip("/")

    @cached_property
    def docker(self) -> bool:
        """Whether notebook servers run in containers."""
        return _uses_docker("spawner", self.spawner.backend)

    @cached_property
    def grading_docker(self) -> bool:
        """Whether submissions run in sandbox containers."""
        return _uses_docker("grading", self.grading.backend)

    def secret(self, name: str) -> str:
        """A random secret of this deployment, made on first use in ``data/secrets`` with mode 0600."""
        import secrets
        import tempfile

        path = self.data / "secrets" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:  # of mode 0600
                file.write(secrets.token_hex(32))
                file.flush()
                with suppress(FileExistsError):  # another process was faster
                    os.link(file.name, path)  # whole or not at all
        return path.read_text().strip()


def _uses_docker(section: str, backend: str) -> bool:
    """
    Raises:
        SettingsError: an engine is there and does not answer; nobody loses their isolation because it is slow.
    """
    answers = docker_answers() if backend == "auto" else backend == "docker"
    if answers is None:
        raise SettingsError(
            f"{section}.backend = 'auto': the Docker Engine is there but has not answered for {DOCKER_WAIT:g} seconds. See why "
            "(`systemctl status docker`) and start again; 'local' does without it and isolates nothing (`academy run --local`)."
        )
    return answers


@lru_cache(maxsize=1)
def docker_answers() -> bool | None:
    """Whether a Docker Engine answers on this machine; None where one is there and says nothing."""
    import docker
    import requests

    try:
        client = docker.from_env(timeout=DOCKER_WAIT)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except Exception as error:
        silent = isinstance(error, requests.Timeout) or isinstance(error.__cause__, requests.Timeout)
        return None if silent else False


def config_file() -> Path:
    return Path(os.environ.get("ACADEMY_CONFIG", "academy.toml"))


def load(**overrides: Any) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: an unknown key, a bad value, an unreadable file; the message says which and what is allowed.
    """
    path = config_file()
    if "ACADEMY_CONFIG" in os.environ and not path.is_file():
        raise SettingsError(f"ACADEMY_CONFIG names {path}, but there is no such file.")
    try:
        return Settings(**overrides)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise SettingsError(_explain(error, path)) from error


def _explain(error: ValidationError, path: Path) -> str:
    lines = [f"The settings ({path} and ACADEMY_* variables) cannot be used:"]
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "(file)"
        if problem["type"] == "extra_forbidden":
            section = _section(problem["loc"][:-1])
            allowed = ", ".join(sorted(section.model_fields)) if section else "nothing"
            lines.append(f"  {key}: no such key; allowed here: {allowed}")
        else:
            value = problem["input"]
            shown = "" if isinstance(value, dict | BaseModel) else f" = {value!r}"
            lines.append(f"  {key}{shown}: {problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def _section(location: tuple[int | str, ...]) -> type[BaseModel] | None:
    section: type[BaseModel] = Settings
    for part in location:
        if section is Settings and part == "profiles":
            section = Profile
            continue
        field = section.model_fields.get(str(part))
        if field is None:
            continue  # the name of a profile
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return None
        section = field.annotation
    return section
