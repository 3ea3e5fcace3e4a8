"""``academy gpus``: what there is, who has it, who waits; live until Ctrl-C."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text
from sqlalchemy import select

from academy.database import Database, now
from academy.gpus import inventory, pool
from academy.gpus.records import Lease
from academy.settings import Settings, load

EVERY = 2.0  # seconds


def show(
    once: Annotated[bool, typer.Option("--once", help="Print it and end; so does output that is no terminal.")] = False,
) -> None:
    """The GPUs, live: shares, holders, since and until when, utilisation, memory; and who waits."""
    import time

    settings, console = load(), Console()
    database = Database(settings.database_url)
    try:
        if once or not console.is_terminal:
            console.print(picture(settings, database))
            return
        with Live(picture(settings, database), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(EVERY)
                live.update(picture(settings, database), refresh=True)
    except KeyboardInterrupt:
        return
    finally:
        database.close()


def picture(settings: Settings, database: Database) -> Group:
    """What a look at the pool shows now."""
    zone, at = ZoneInfo(settings.academy.timezone), now()
    devices = inventory.devices(settings)
    samples = inventory.sample(devices)

    def clock(moment: datetime | None) -> str:
        return f"{moment.astimezone(zone):%m-%d %H:%M}" if moment else ""

    table = Table(Column("device", no_wrap=True), "model", "memory", "shares", "holder", "since", "until", "use", "memory used")
    with database.read() as session:
        leases = list(session.scalars(select(Lease).where(Lease.holder.is_not(None)).order_by(Lease.granted_at)))
        places = pool.places(session, settings, devices, at)
    for device in devices:
        on_it = [lease for lease in leases if lease.device == device.uuid]
        sample = samples.get(device.uuid)
        used = "" if sample is None or sample.utilisation is None else f"{sample.utilisation}%"
        memory = "" if sample is None else f"{sample.memory_mb / 1024:.1f} GB"
        taken = f"{sum(lease.shares for lease in on_it)} of {device.shares}"
        first = (device.uuid, device.model, f"{device.memory_mb / 1024:.0f} GB", taken)
        for number, lease in enumerate(on_it or [None]):
            holder = (lease.holder or "").rstrip("/") if lease else "-"
            until = f"{clock(lease.ends_at)} {lease.ends_why}".strip() if lease else ""
            start = clock(lease.granted_at) if lease else ""
            table.add_row(
                *(first if number == 0 else ("",) * 4), holder, start, until, *((used, memory) if number == 0 else ("", ""))
            )
    if not devices:
        return Group(Text("There is no GPU: NVML tells of none, and the settings (gpus.devices) declare none."))
    line = Table("place", "who", "likely at", "booked until")
    for holder, place in places.items():
        line.add_row(f"{place.number} of {place.of}", holder.rstrip("/"), clock(place.expected_at), clock(place.booked_until))
    return Group(table, line) if places else Group(table)
