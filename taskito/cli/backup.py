"""``taskito backup``: a copy of the store, made while workers and producers go on."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import click

from taskito.cli.options.target import app_option, open_target
from taskito_core.errors import ConfigError


@runtime_checkable
class SupportsBackup(Protocol):
    """A storage that can copy itself."""

    def backup(self, target: str) -> None:
        """Write one snapshot of the whole store to the file ``target``, which must not exist."""
        ...


@click.command()
@app_option
@click.argument("target")
def backup(app: str | None, target: str) -> None:
    """Copy a SQLite store to the new file TARGET while workers and producers go on.

    The copy is one snapshot, and it is checked: if TARGET is there afterwards it is complete. Nobody
    waits for it. A PostgreSQL store is backed up with PostgreSQL's own tools, such as
    pg_dump -n SCHEMA.

    \b
    taskito backup --app myapp:queue /backups/jobs.db
    """
    with open_target(app) as found:
        if not isinstance(found.storage, SupportsBackup):
            raise ConfigError(
                f"the store {found.location} is backed up with the tools of its database, "
                "such as pg_dump -n SCHEMA for PostgreSQL"
            )
        found.storage.backup(target)
    click.echo(target)
