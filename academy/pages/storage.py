"""How much room a person's home, sandboxes and teams' folders take, and how to free some."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session as Read

from academy import storage
from academy.pages.hubapi import PREFIX
from academy.pages.render import done
from academy.pages.visit import Visit, poll, visit
from academy.storage import GB, Volume
from academy.vouchers.records import Team

router = APIRouter(prefix="/storage")

SOON, LATER = 2000, 60_000  # milliseconds between two looks while something is measured, and while nothing is


@dataclass(frozen=True)
class Row:
    """One volume as its people see it; sizes as text."""

    server: str  # a sandbox's name; "": the home
    team: str
    used: str
    most: str  # "": no limit
    part: float  # 1.0: full
    low: bool
    measured_at: datetime | None
    biggest: list[tuple[str, str]]

    @property
    def full(self) -> bool:
        return self.part >= 1


def rows(db: Read, visit: Visit) -> list[Row]:
    return [_row(db, visit, volume) for volume in storage.volumes_of(db, visit.session.login)]


def _row(db: Read, visit: Visit, volume: Volume) -> Row:
    team = db.get_one(Team, volume.team_id).name if volume.team_id else ""
    most, part = storage.quota(visit.settings, volume), storage.part(visit.settings, volume)
    biggest = [(path, _size(size)) for path, size in json.loads(volume.biggest)]
    low, limit = storage.low(visit.settings, volume), _size(most) if most else ""
    return Row(volume.server, team, _size(volume.used), limit, part, low, volume.measured_at, biggest)


def _size(count: int) -> str:
    return f"{count / GB:.1f} GB" if count >= GB else f"{count / (1 << 20):.0f} MB"


@router.get("")
async def page(visit: Visit = Depends(visit)) -> HTMLResponse:
    found = await visit.read(lambda db: rows(db, visit))
    return visit.page("storage.html", rows=found, wait=_wait(found))


@router.get("/live.json")
async def live(visit: Visit = Depends(poll)) -> Response:
    """The part of the page that changes by itself."""
    found = await visit.read(lambda db: rows(db, visit))
    return visit.live("storage_live.html", _wait(found), rows=found)


def _wait(found: list[Row]) -> int:
    return LATER if all(row.measured_at for row in found) else SOON


@router.post("/measure")
async def measure(visit: Visit = Depends(visit)) -> Response:
    await visit.form()
    await visit.write(lambda db: storage.measure_again(db, visit.session.login))
    return visit.back(f"{PREFIX}/storage", done("It is being measured. This takes a few seconds."))
