"""The GPU pool: who holds what, who waits, what is booked, what the devices did"""

import sqlalchemy as sa
from alembic import op

from academy.database import UTCDateTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "gpu_leases",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("device", sa.String(length=96), nullable=False),
        sa.Column("shares", sa.Integer(), nullable=False),
        sa.Column("of_shares", sa.Integer(), nullable=False),
        sa.Column("holder", sa.String(length=200), nullable=True),
        sa.Column("login", sa.String(length=64), nullable=False),
        sa.Column("server", sa.String(length=100), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("profile", sa.String(length=40), nullable=False),
        sa.Column("tier", sa.Integer(), nullable=False),
        sa.Column("courses", sa.Text(), nullable=False),
        sa.Column("voucher_id", sa.String(length=32), nullable=True),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("granted_at", UTCDateTime(), nullable=False),
        sa.Column("started_at", UTCDateTime(), nullable=True),
        sa.Column("container", sa.String(length=100), nullable=True),
        sa.Column("busy_at", UTCDateTime(), nullable=True),
        sa.Column("keeps", sa.Integer(), nullable=False),
        sa.Column("ends_at", UTCDateTime(), nullable=True),
        sa.Column("ends_why", sa.String(length=20), nullable=False),
        sa.Column("released_at", UTCDateTime(), nullable=True),
        sa.Column("released_why", sa.String(length=20), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("holder"),
    )
    op.create_index("ix_gpu_leases_used", "gpu_leases", ["login", "released_at"])
    op.create_index("ix_gpu_leases_released", "gpu_leases", ["released_at"])
    op.create_index("ix_gpu_leases_voucher_id", "gpu_leases", ["voucher_id"])
    op.create_table(
        "gpu_held",
        sa.Column("device", sa.String(length=96), nullable=False),
        sa.Column("share", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("lease_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["lease_id"], ["gpu_leases.id"]),
        sa.PrimaryKeyConstraint("device", "share"),
    )
    op.create_index("ix_gpu_held_lease_id", "gpu_held", ["lease_id"])
    op.create_table(
        "gpu_waits",
        sa.Column("holder", sa.String(length=200), nullable=False),
        sa.Column("login", sa.String(length=64), nullable=False),
        sa.Column("server", sa.String(length=100), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("profile", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("tier", sa.Integer(), nullable=False),
        sa.Column("courses", sa.Text(), nullable=False),
        sa.Column("voucher_id", sa.String(length=32), nullable=True),
        sa.Column("asked_at", UTCDateTime(), nullable=False),
        sa.Column("seen_at", UTCDateTime(), nullable=False),
        sa.Column("refused", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("holder"),
    )
    op.create_table(
        "gpu_bookings",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("series", sa.String(length=32), nullable=False),
        sa.Column("course", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("places", sa.Integer(), nullable=False),
        sa.Column("starts_at", UTCDateTime(), nullable=False),
        sa.Column("ends_at", UTCDateTime(), nullable=False),
        sa.Column("profile", sa.String(length=40), nullable=False),
        sa.Column("booked_by", sa.String(length=64), nullable=False),
        sa.Column("booked_at", UTCDateTime(), nullable=False),
        sa.Column("cancelled_by", sa.String(length=64), nullable=True),
        sa.Column("cancelled_at", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_gpu_bookings_series", "gpu_bookings", ["series"])
    op.create_index("ix_gpu_bookings_time", "gpu_bookings", ["ends_at", "starts_at"])
    op.create_table(
        "gpu_readings",
        sa.Column("device", sa.String(length=96), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("utilisation", sa.Integer(), nullable=True),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("held", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("device", "at"),
    )
    op.create_index("ix_gpu_readings_at", "gpu_readings", ["at"])
