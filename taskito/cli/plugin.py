"""``taskito plugin``: what is installed, and whether it keeps its promises."""

from __future__ import annotations

from json import dumps

import click

from taskito.cli.options.target import json_option
from taskito.cli.table import aligned
from taskito_core.plugin_manager import Listing, Plugins


@click.group()
def plugin() -> None:
    """Show the installed plugins, and check them.

    A plugin is a Python package with an entry point in the group "taskito". TASKITO_LOAD_PLUGINS names
    the ones to load (set but empty: none); TASKITO_TRACE_PLUGINS=1 writes every hook call to stderr.
    """


@plugin.command("list")
@json_option
def list_plugins(json: bool) -> None:
    """List plugins with distribution, version and what they offer.

    Shows plugins that cannot be loaded, too, and why.
    """
    listing = Plugins.discover(tolerant=True).listing()
    if json:
        click.echo(dumps([_as_dict(one) for one in listing], indent=2))
        return
    if not listing:
        click.echo(
            "no plugin is loaded; a store is one: pip install taskito-sqlite (or taskito-postgres)", err=True
        )
        return
    rows = [(one.name, one.distribution, one.version, _offers(one)) for one in listing]
    for line in aligned([("plugin", "distribution", "version", "offers"), *rows]):
        click.echo(line)
    for one in listing:
        if one.problem is not None:
            click.echo(f"Warning: {one.problem}", err=True)


def _offers(one: Listing) -> str:
    if one.problem is not None:
        return "(cannot be loaded)"
    return ", ".join(f"{offer.kind} {'/'.join((offer.name, *offer.aliases))}" for offer in one.offers)


def _as_dict(one: Listing) -> dict[str, object]:
    offers = [
        {"kind": offer.kind, "name": offer.name, "aliases": offer.aliases, "schemes": offer.schemes}
        for offer in one.offers
    ]
    return one._asdict() | {"offers": offers}
