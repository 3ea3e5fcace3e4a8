"""Alembic's entry point; ``academy.database.Database.upgrade`` hands it a connection."""

from alembic import context

import academy.gpus.records
import academy.storage
import academy.vouchers.records  # noqa: F401
import grading.records  # noqa: F401
from academy.database import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
