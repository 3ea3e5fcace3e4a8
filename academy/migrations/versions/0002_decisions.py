"""What people decide about grading: extensions, regrade requests, nicknames; and what the grader notices and measures"""

import sqlalchemy as sa
from alembic import op

import academy.database

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("jobs") as batch_op:
        batch_op.add_column(sa.Column("phase", sa.String(length=20), nullable=False, server_default="queued"))
        batch_op.add_column(sa.Column("phase_at", academy.database.UTCDateTime(), nullable=True))
        batch_op.add_column(sa.Column("cancelled_by", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("notes", sa.JSON(), nullable=False, server_default="[]"))
    with op.batch_alter_table("grades") as batch_op:
        batch_op.add_column(sa.Column("penalty", sa.Double(), nullable=False, server_default="0"))

    with op.batch_alter_table("jobs") as batch_op:  # the defaults were for the rows that there were
        batch_op.alter_column("phase", server_default=None)
        batch_op.alter_column("notes", server_default=None)
    with op.batch_alter_table("grades") as batch_op:
        batch_op.alter_column("penalty", server_default=None)

    op.create_table(
        "extensions",
        sa.Column("course", sa.String(length=64), nullable=False),
        sa.Column("unit", sa.String(length=64), nullable=False),
        sa.Column("login", sa.String(length=64), nullable=False),
        sa.Column("due_at", academy.database.UTCDateTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("granted_by", sa.String(length=64), nullable=False),
        sa.Column("granted_at", academy.database.UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("course", "unit", "login"),
    )
    op.create_table(
        "measurements",
        sa.Column("submission_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("ratio", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=False),
        sa.Column("high", sa.Double(), nullable=False),
        sa.Column("at_least", sa.Double(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("measured_at", academy.database.UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"]),
        sa.PrimaryKeyConstraint("submission_id", "name"),
    )
    op.create_table(
        "nicknames",
        sa.Column("course", sa.String(length=64), nullable=False),
        sa.Column("login", sa.String(length=64), nullable=False),
        sa.Column("nickname", sa.String(length=40), nullable=False),
        sa.Column("joined_at", academy.database.UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("course", "login"),
        sa.UniqueConstraint("course", "nickname", name="uq_nicknames"),
    )
    op.create_table(
        "regrades",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("submission_id", sa.String(length=32), nullable=False),
        sa.Column("course", sa.String(length=64), nullable=False),
        sa.Column("unit", sa.String(length=64), nullable=False),
        sa.Column("login", sa.String(length=64), nullable=False),
        sa.Column("asked_at", academy.database.UTCDateTime(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("answered_by", sa.String(length=64), nullable=True),
        sa.Column("answered_at", academy.database.UTCDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("regrades") as batch_op:
        batch_op.create_index("ix_regrades_unit", ["course", "unit", "state"], unique=False)
        batch_op.create_index(batch_op.f("ix_regrades_submission_id"), ["submission_id"], unique=False)


def downgrade() -> None:
    for table in ("regrades", "nicknames", "measurements", "extensions"):
        op.drop_table(table)
    with op.batch_alter_table("grades") as batch_op:
        batch_op.drop_column("penalty")
    with op.batch_alter_table("jobs") as batch_op:
        for column in ("notes", "cancelled_by", "phase_at", "phase"):
            batch_op.drop_column(column)
