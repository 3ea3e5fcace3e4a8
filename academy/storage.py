"""How much room homes, sandboxes and teams' folders take: measured, shown, warned about; held to where the disk can do that.

Docker holds a volume to its size where its data lies on XFS with project quotas; elsewhere a quota is what people are told.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, Text, delete, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from academy import images
from academy.database import Base, Database, UTCDateTime, now
from academy.people import LOGIN_LENGTH
from academy.settings import Settings
from academy.vouchers.records import Member, Team

log = logging.getLogger(__name__)

GB = 1 << 30  # bytes
EVERY = timedelta(minutes=15)
LOOK = 3.0  # seconds between two looks whether somebody wants a new measurement
DEPTH = 4  # folders down to which the biggest are looked for
SHOWN = 10
DU = f"du -0axB1 --max-depth={DEPTH} . 2>/dev/null | sort -zrn | head -zn 40; echo"


class Volume(Base):
    """A home, a sandbox or a team's folder: a Docker volume, or a folder where servers are local processes."""

    __tablename__ = "volumes"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)  # Docker's, or the folder's path below the data
    login: Mapped[str | None] = mapped_column(String(LOGIN_LENGTH), index=True)  # whose it is; None: a team's
    team_id: Mapped[str | None] = mapped_column(ForeignKey("teams.id"), index=True)
    server: Mapped[str] = mapped_column(String(100), default="")  # a named server's; "": the home
    used: Mapped[int] = mapped_column(BigInteger, default=0)  # bytes
    biggest: Mapped[str] = mapped_column(Text, default="[]")  # JSON: [path, bytes] of what takes most; once it gets full
    measured_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # None: to be measured now


def quota(settings: Settings, volume: Volume) -> int:
    """Bytes that it may take; 0: as many as there are."""
    limits = settings.storage
    return int(GB * (limits.team_gb if volume.team_id else limits.sandbox_gb if volume.server else limits.home_gb))


def part(settings: Settings, volume: Volume) -> float:
    """How full it is: 1.0 at its quota."""
    most = quota(settings, volume)
    return volume.used / most if most else 0.0


def low(settings: Settings, volume: Volume) -> bool:
    """Whether its people are told."""
    return part(settings, volume) * 100 >= settings.storage.warn_percent


def volumes_of(session: Session, login: str) -> list[Volume]:
    """A person's own, the home first, and their teams'."""
    teams = select(Member.team_id).where(Member.login == login, Member.joined_at.is_not(None))
    theirs = (Volume.login == login) | Volume.team_id.in_(teams)
    return list(session.scalars(select(Volume).where(theirs).order_by(Volume.team_id.is_not(None), Volume.server, Volume.name)))


def teams_of(session: Session, login: str) -> list[Team]:
    """The teams whose folders a person's sandboxes have."""
    joined = select(Team).join(Member).where(Member.login == login, Member.joined_at.is_not(None))
    return list(session.scalars(joined.order_by(Team.made_at, Team.id)))


def know(session: Session, name: str, login: str | None, server: str = "", team_id: str | None = None) -> Volume:
    """A server uses this volume."""
    volume = session.get(Volume, name) or Volume(name=name, login=login, server=server, team_id=team_id)
    session.add(volume)
    return volume


def measure_again(session: Session, login: str) -> None:
    """What a person has is measured in a few seconds."""
    names = [volume.name for volume in volumes_of(session, login)]
    session.execute(update(Volume).where(Volume.name.in_(names)).values(measured_at=None))


def measure(settings: Settings, database: Database, at: datetime) -> None:
    """Measure what is due: each volume's size, and in one that gets full what takes most."""
    with database.read() as session:
        due = (Volume.measured_at.is_(None)) | (Volume.measured_at < at - EVERY)
        volumes = list(session.scalars(select(Volume).where(due)))
    if not volumes:
        return
    asked = [volume for volume in volumes if volume.measured_at is None]
    sizes = _docker_sizes() if settings.docker and len(asked) < len(volumes) else {}
    for volume in volumes:
        volume.used, biggest = sizes.get(volume.name, 0), list[tuple[str, int]]()
        try:
            if volume.name not in sizes or low(settings, volume):
                look = _in_container if settings.docker else _in_folder
                volume.used, biggest = look(settings, volume.name)
        except FileNotFoundError:
            with database.write() as session:
                session.execute(delete(Volume).where(Volume.name == volume.name))
            continue
        with database.write() as session:
            found = session.get(Volume, volume.name)
            if found is None:
                continue
            if found.measured_at == volume.measured_at:  # else somebody asked for it again meanwhile
                found.measured_at = at
            found.used = volume.used
            found.biggest = json.dumps(biggest if low(settings, found) else [])


def _docker_sizes() -> dict[str, int]:
    """Every volume's bytes, as the engine counts them."""
    import docker

    with contextlib.closing(docker.from_env(timeout=600)) as client:
        volumes: Sequence[Mapping[str, Any]] = client.df()["Volumes"] or []
    return {one["Name"]: one["UsageData"]["Size"] for one in volumes if one["UsageData"]["Size"] >= 0}


def _in_container(settings: Settings, name: str) -> tuple[int, list[tuple[str, int]]]:
    """Bytes of a volume and what takes most, counted where nothing can be written and nobody reached.

    Raises:
        FileNotFoundError: there is no such volume.
    """
    import docker

    with contextlib.closing(docker.from_env(timeout=600)) as client:
        try:
            client.volumes.get(name)
        except docker.errors.NotFound as error:
            raise FileNotFoundError(name) from error
        box = client.containers.create(
            images.image_tag("notebook", settings),
            entrypoint=["sh", "-c", DU],
            working_dir="/volume",
            user="root",
            volumes={name: {"bind": "/volume", "mode": "ro"}},
            labels={"academyhub.deployment": settings.academy.name},
            network_disabled=True,
            read_only=True,
            cap_drop=["ALL"],
            cap_add=["DAC_READ_SEARCH"],
            security_opt=["no-new-privileges"],
            mem_limit="512m",
            pids_limit=16,
        )
        try:
            box.start()
            box.wait(timeout=600)
            said: bytes = box.logs(stderr=False)  # once it has ended: followers may miss the end
        finally:
            box.remove(force=True)
    rows = [row.split("\t", 1) for row in said.decode(errors="replace").split("\0") if "\t" in row]
    sizes = {path.removeprefix("./"): int(size) for size, path in rows}
    return sizes.pop(".", 0), _telling(sizes)


def _in_folder(settings: Settings, name: str) -> tuple[int, list[tuple[str, int]]]:
    """As ``_in_container``, of a folder."""
    folder = settings.data / name
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    sizes: dict[str, int] = {}
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            with contextlib.suppress(OSError):
                size = path.lstat().st_blocks * 512
                total += size
                parts = path.relative_to(folder).parts
                for depth in range(1, min(len(parts), DEPTH) + 1):
                    key = "/".join(parts[:depth])
                    sizes[key] = sizes.get(key, 0) + size
    return total, _telling(sizes)


def _telling(sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    """The biggest, the first first; no folder whose size is nearly that of something in it."""
    found = heapq.nlargest(40, sizes.items(), key=lambda one: one[1])
    said = [
        (path, size)
        for path, size in found
        if size and not any(inner.startswith(f"{path}/") and of >= 0.9 * size for inner, of in found)
    ]
    return said[:SHOWN]


def keep(settings: Settings, database: Database, stopped: Callable[[], bool]) -> None:
    """Measure what is due until stopped; one volume's trouble is not another's."""
    while not stopped():
        try:
            measure(settings, database, now())
        except Exception:
            log.exception("Measuring the volumes failed; the next try is in a minute")
            time.sleep(60)
        time.sleep(LOOK)
