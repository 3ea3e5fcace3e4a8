"""What the GPU pool remembers: who holds what, who waits, what is booked, what the devices did."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from academy.database import Base, UTCDateTime, now
from academy.gpus.plan import Kind
from academy.people import LOGIN_LENGTH

UUID_LENGTH = 96


class Lease(Base):
    """Who has which device from when to when. While it lives, its shares stand in ``gpu_held``; the row stays as the record."""

    __tablename__ = "gpu_leases"
    __table_args__ = (Index("ix_gpu_leases_used", "login", "released_at"), Index("ix_gpu_leases_released", "released_at"))

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    device: Mapped[str] = mapped_column(String(UUID_LENGTH))
    shares: Mapped[int]  # how many of the device's
    of_shares: Mapped[int]
    holder: Mapped[str | None] = mapped_column(String(200), unique=True)  # login/server; None once it is released
    login: Mapped[str] = mapped_column(String(LOGIN_LENGTH))
    server: Mapped[str] = mapped_column(String(100))  # its name; "grading" work has that of the job
    purpose: Mapped[str] = mapped_column(String(20))  # server, grading
    profile: Mapped[str] = mapped_column(String(40))
    tier: Mapped[int]
    courses: Mapped[str] = mapped_column(Text, default="")  # its holder's, whose booked places it may take; as in Wait
    voucher_id: Mapped[str | None] = mapped_column(String(32), index=True)  # who pays, where somebody must
    weight: Mapped[int] = mapped_column(default=1000)  # thousandths of a GPU that it costs
    granted_at: Mapped[datetime] = mapped_column(UTCDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # its container was there
    container: Mapped[str | None] = mapped_column(String(100))  # id of the container, or pid:N of a local server
    busy_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # when its GPU was last seen doing something
    keeps: Mapped[int] = mapped_column(default=0)  # how often its holder has kept it though idle
    ends_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # when it will be taken; None: nobody has decided that
    ends_why: Mapped[str] = mapped_column(String(20), default="")  # booked, idle, voucher, hours, operator
    released_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    released_why: Mapped[str] = mapped_column(String(20), default="")  # stopped, failed, vanished, or as ends_why


class Held(Base):
    """One share of one device that somebody holds. The primary key is what keeps two from holding it."""

    __tablename__ = "gpu_held"

    device: Mapped[str] = mapped_column(String(UUID_LENGTH), primary_key=True)
    share: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    lease_id: Mapped[str] = mapped_column(ForeignKey("gpu_leases.id"), index=True)


class Wait(Base):
    """Somebody who wants a GPU and has none yet. A hub that dies leaves it, and its place."""

    __tablename__ = "gpu_waits"

    holder: Mapped[str] = mapped_column(String(200), primary_key=True)  # login/server
    login: Mapped[str] = mapped_column(String(LOGIN_LENGTH))
    server: Mapped[str] = mapped_column(String(100))
    purpose: Mapped[str] = mapped_column(String(20))
    profile: Mapped[str] = mapped_column(String(40))
    kind: Mapped[Kind] = mapped_column(String(10))  # whole, slice, share
    memory_mb: Mapped[int] = mapped_column(default=0)
    tier: Mapped[int]  # the lower waits in front
    courses: Mapped[str] = mapped_column(Text, default="")  # whose booked places it may take, separated by spaces
    voucher_id: Mapped[str | None] = mapped_column(String(32))
    asked_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
    seen_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)  # when whoever waits was last there
    refused: Mapped[str] = mapped_column(String(40), default="")  # its turn came and it got nothing: the message that says why


class Booking(Base):
    """A course's lesson: so many GPUs of a kind from one time to another."""

    __tablename__ = "gpu_bookings"
    __table_args__ = (Index("ix_gpu_bookings_time", "ends_at", "starts_at"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    series: Mapped[str] = mapped_column(String(32), index=True)  # lessons booked together share it
    course: Mapped[str] = mapped_column(String(64))
    kind: Mapped[Kind] = mapped_column(String(10))
    places: Mapped[int]
    starts_at: Mapped[datetime] = mapped_column(UTCDateTime)
    ends_at: Mapped[datetime] = mapped_column(UTCDateTime)
    profile: Mapped[str] = mapped_column(String(40), default="")  # start the students' servers with it beforehand; "": do not
    booked_by: Mapped[str] = mapped_column(String(LOGIN_LENGTH))
    booked_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
    cancelled_by: Mapped[str | None] = mapped_column(String(LOGIN_LENGTH))
    cancelled_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class Reading(Base):
    """What a device did in one minute."""

    __tablename__ = "gpu_readings"
    __table_args__ = (Index("ix_gpu_readings_at", "at"),)

    device: Mapped[str] = mapped_column(String(UUID_LENGTH), primary_key=True)
    at: Mapped[datetime] = mapped_column(UTCDateTime, primary_key=True)  # the minute's begin
    utilisation: Mapped[int | None]  # percent; None where the driver says none
    memory_mb: Mapped[int]
    held: Mapped[int]  # shares
