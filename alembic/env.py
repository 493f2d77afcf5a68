"""Runs migrations on the connection that `perks migrate` hands over: settings, not an ini file, know the address."""

from typing import Any, Literal

import sqlmodel
from alembic import context
from alembic.autogenerate.api import AutogenContext

import auth.tables  # noqa: F401  its tables belong to the same metadata
from partners.tables import metadata


def render_item(kind: str, item: Any, _: AutogenContext) -> str | Literal[False]:
    """Writes SQLModel's own string type as plain SQLAlchemy, whose import the template has."""
    return "sa.String()" if kind == "type" and isinstance(item, sqlmodel.AutoString) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_item=render_item,
    compare_server_default=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
