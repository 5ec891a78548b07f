"""What the entry point ``testing`` brings: the command ``taskito plugin check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskito_core import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def taskito_register_commands(cli: click.Group) -> None:
    """Add ``plugin check``."""
    import click

    @cli.command("plugin check", context_settings={"ignore_unknown_options": True})
    @click.argument("url")
    @click.argument("pytest_options", nargs=-1, type=click.UNPROCESSED)
    def check(url: str, pytest_options: tuple[str, ...]) -> None:
        """Check the storage that URL names against the contract, with pytest.

        The URL names a place for scratch data, such as sqlite:////tmp/check.db or an empty database. What
        stands behind it are options of pytest.

        \b
        taskito plugin check sqlite:////tmp/check.db
        taskito plugin check postgresql://localhost/scratch -x -k claim
        """
        from taskito_testing.check import check

        raise click.exceptions.Exit(check(url, *pytest_options))
