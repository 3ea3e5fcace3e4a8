"""The people in one hub who wait for a GPU: for all of them one decision and one look a second."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from sqlalchemy import select, update

from academy.database import Database, now
from academy.gpus import inventory, pool
from academy.gpus.records import Lease, Wait
from academy.messages import AcademyError
from academy.people import Person
from academy.settings import Settings, Text

LOOK = 1.0  # seconds


@dataclass(frozen=True)
class Granted:
    lease: str
    device: str


class Line:
    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings, self.database = settings, database
        self._waiting: set[str] = set()
        self._known: dict[str, Granted | pool.Place | str] = {}  # a text: the message that says why there is nothing
        self._looked = 0.0
        self._looking = asyncio.Lock()
        self._joining: dict[str, asyncio.Future[None]] = {}

    async def join(self, person: Person, server: str, profile: str, voucher: str = "") -> None:
        """
        Raises:
            AcademyError: nobody can pay for it.
        """

        def run() -> None:
            with self.database.write() as session:
                pool.ask(session, self.settings, person, server, profile, now(), voucher)

        joining = self._joining[pool.holder_of(person.login, server)] = asyncio.ensure_future(asyncio.to_thread(run))
        await asyncio.shield(joining)
        self._looked = 0.0

    async def look(self, holder: str) -> Granted | pool.Place | None:
        """What somebody got, or where they stand; None while that is not known.

        Raises:
            AcademyError: it was their turn, and they get nothing.
        """
        self._waiting.add(holder)
        async with self._looking:
            if time.monotonic() - self._looked >= LOOK:
                self._known = await asyncio.to_thread(self._look, list(self._waiting))
                self._looked = time.monotonic()
        found = self._known.get(holder)
        if isinstance(found, str):
            self._waiting.discard(holder)
            raise AcademyError(found, 409)
        if isinstance(found, Granted):
            self._waiting.discard(holder)
        return found

    def _look(self, holders: list[str]) -> dict[str, Granted | pool.Place | str]:
        devices, at = inventory.devices(self.settings), now()
        with self.database.write() as session:
            session.execute(update(Wait).where(Wait.holder.in_(holders)).values(seen_at=at))
            pool.settle(session, self.settings, devices, at)
            known: dict[str, Granted | pool.Place | str] = dict(pool.places(session, self.settings, devices, at))
            for holder, refused in session.execute(select(Wait.holder, Wait.refused).where(Wait.holder.in_(holders))):
                if refused:
                    known[holder] = refused
                    pool.leave(session, holder)
            for lease in session.scalars(select(Lease).where(Lease.holder.in_(holders))):
                known[lease.holder or ""] = Granted(lease.id, lease.device)
        for holder in holders:  # neither in the line nor served: somebody took them out
            known.setdefault(holder, "gpu-place-lost")
        return known

    def forget(self, holder: str) -> None:
        self._waiting.discard(holder)
        self._known.pop(holder, None)

    async def give_back(self, holder: str, lease: str, why: str) -> None:
        """Out of the line, and back with what the pool gave."""

        def run() -> None:
            with self.database.write() as session:
                pool.leave(session, holder)
                found = pool.lease_of(session, holder)
                if pool.release(session, lease or (found.id if found else ""), why, now()):
                    pool.settle(session, self.settings, inventory.devices(self.settings), now())

        self.forget(holder)
        if holder in self._joining:  # of a start that was stopped, the thread may still wait for the database
            await asyncio.wait([self._joining.pop(holder)])
        await asyncio.to_thread(run)

    async def started(self, lease: str, container: str) -> None:
        def run() -> None:
            with self.database.write() as session:
                pool.started(session, lease, container, now())

        await asyncio.to_thread(run)


def said(place: pool.Place, settings: Settings) -> Text:
    """A place in the line, in words."""
    import zoneinfo

    zone = zoneinfo.ZoneInfo(settings.academy.timezone)
    ko = f"GPU를 기다리고 있어요. {place.of}명 가운데 {place.number}번째예요."
    en = f"Waiting for a GPU: number {place.number} of {place.of}."
    if place.booked_until:
        until = place.booked_until.astimezone(zone)
        ko += f" 남은 자리는 수업에 예약돼 있어요({until:%H:%M}까지)."
        en += f" What is free is booked for a lesson until {until:%H:%M}."
    else:
        ko, en = f"{ko} 지금은 모두 쓰는 중이에요.", f"{en} All are in use."
    if place.expected_at:
        at = place.expected_at.astimezone(zone)
        ko, en = f"{ko} {at:%H:%M}쯤 차례가 올 것 같아요.", f"{en} Your turn is likely at about {at:%H:%M}."
    return Text(ko=ko, en=en)
