"""``taskito migrate``: bring the schema up to date, or say what that would mean."""

from __future__ import annotations

import click

from taskito.cli.exits import INTERNAL
from taskito.cli.options.target import app_option, open_target


@click.command()
@app_option
@click.option(
    "--check", is_flag=True, help="Change nothing; list what is pending and exit with 1 if anything is."
)
@click.option("--sql", is_flag=True, help="Print the SQL of all migrations and connect to nothing.")
def migrate(app: str | None, check: bool, sql: bool) -> None:
    """Bring the schema of the store up to date.

    Workers and producers do this by themselves on first use, unless auto_migrate is off or their
    database role may not create tables. Any number may run at once: one applies, the others wait.
    Without --app the store is the one that TASKITO_BACKEND, TASKITO_DB_URL, TASKITO_SCHEMA and
    TASKITO_DB_PATH, or the same keys in pyproject.toml, name.

    \b
    taskito migrate --app myapp:queue
    taskito migrate --check            in a deployment: fail if it is missing
    taskito migrate --sql | psql …     for an administrator who applies it by hand
    """
    if check and sql:
        raise click.UsageError("--check and --sql exclude each other")
    with open_target(app) as target:
        if sql:
            click.echo(target.storage.migration_sql())
        elif check:
            pending = target.storage.pending_migrations()
            for name in pending:
                click.echo(name)
            if pending:
                raise click.exceptions.Exit(INTERNAL)
        else:
            applied = target.storage.migrate()
            for name in applied:
                click.echo(name)
            click.echo(f"{len(applied) or 'no'} migrations applied to {target.location}", err=True)
