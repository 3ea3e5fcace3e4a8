"""Vouchers, teams, and the ledger, of which nothing is ever changed or taken away."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, event
from sqlalchemy.orm import Mapped, mapped_column

from academy.database import Base, UTCDateTime, now
from academy.people import LOGIN_LENGTH, NAME_LENGTH

GPU_HOUR = 3_600_000 * 1000  # what stands in the ledger: device-milliseconds times thousandths of a whole GPU

HolderKind = Literal["person", "team", "course"]
EntryKind = Literal["grant", "hold", "release", "use", "expiry", "transfer", "correction"]


class Team(Base):
    """Founders who share vouchers."""

    __tablename__ = "teams"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    made_by: Mapped[str] = mapped_column(String(LOGIN_LENGTH))
    made_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)


class Member(Base):
    """Somebody in a team; invited until ``joined_at``."""

    __tablename__ = "team_members"

    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), primary_key=True)
    login: Mapped[str] = mapped_column(String(LOGIN_LENGTH), primary_key=True, index=True)
    leads: Mapped[bool] = mapped_column(default=False)  # may invite and remove
    invited_by: Mapped[str] = mapped_column(String(LOGIN_LENGTH))
    invited_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
    joined_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class Voucher(Base):
    """GPU-hours for somebody, from a date to a date. How many are left, the ledger says."""

    __tablename__ = "vouchers"
    __table_args__ = (Index("ix_vouchers_holder", "holder_kind", "holder"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[str] = mapped_column(String(64), unique=True)  # as the grant's papers have it
    holder_kind: Mapped[HolderKind] = mapped_column(String(10))
    holder: Mapped[str] = mapped_column(String(64))  # login, team's id, course
    starts_at: Mapped[datetime] = mapped_column(UTCDateTime)
    ends_at: Mapped[datetime] = mapped_column(UTCDateTime)
    granted_by: Mapped[str] = mapped_column(String(LOGIN_LENGTH))
    granted_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
    reason: Mapped[str] = mapped_column(Text)


class Entry(Base):
    """One line of the ledger. A balance is the sum of ``amount``; a hold takes out of it, a release gives back."""

    __tablename__ = "voucher_entries"
    __table_args__ = (
        Index("ix_voucher_entries_voucher", "voucher_id", "kind", "amount"),
        Index("ix_voucher_entries_lease", "lease_id", "kind"),
    )

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    voucher_id: Mapped[str] = mapped_column(ForeignKey("vouchers.id"))
    kind: Mapped[EntryKind] = mapped_column(String(10))
    amount: Mapped[int] = mapped_column(BigInteger)
    lease_id: Mapped[str | None] = mapped_column(String(32))
    at: Mapped[datetime] = mapped_column(UTCDateTime)  # of a use: until when it counts
    by: Mapped[str] = mapped_column(String(LOGIN_LENGTH))
    reason: Mapped[str] = mapped_column(Text, default="")


@event.listens_for(Entry, "before_update")
@event.listens_for(Entry, "before_delete")
def _append_only(_mapper: Any, _connection: Any, entry: Entry) -> None:
    raise TypeError(f"entry {entry.id} of the ledger stands; append a correction")
