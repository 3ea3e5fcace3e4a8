"""How much room homes, sandboxes and teams' folders take"""

import sqlalchemy as sa
from alembic import op

from academy.database import UTCDateTime

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "volumes",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("login", sa.String(length=64), nullable=True),
        sa.Column("team_id", sa.String(length=32), nullable=True),
        sa.Column("server", sa.String(length=100), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("biggest", sa.Text(), nullable=False),
        sa.Column("measured_at", UTCDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"]),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("ix_volumes_login", "volumes", ["login"])
    op.create_index("ix_volumes_team_id", "volumes", ["team_id"])
