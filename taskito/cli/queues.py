"""``taskito queues``: what is on each queue; pause and resume."""

from __future__ import annotations

from json import dumps
from typing import Any

import click

from taskito.cli.names import warn_of_queue
from taskito.cli.options import completion
from taskito.cli.options.target import app_option, json_option, open_queue
from taskito.cli.table import aligned
from taskito.client.options.limits import rate_text
from taskito.config.settings import UNSET
from taskito_core.limits import QueueLimits


class Limit(click.ParamType[int]):
    """A whole number, or ``none``, which is one less than the least."""

    name = "number"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, str) and value.strip().lower() == "none":
            return self._least - 1
        return click.IntRange(self._least).convert(value, param, ctx)


COLUMNS = ("pending", "running", "failed", "dead")


@click.group()
def queues() -> None:
    """List queues, and stop or start claiming from them.

    A paused queue takes new jobs, and they wait. The pause is in the store: it holds for every worker,
    and survives restarts.
    """


@queues.command("list")
@app_option
@json_option
def list_(app: str | None, json: bool) -> None:
    """List every queue that has jobs or limits, or is paused."""
    with open_queue(app) as queue:
        stats, paused, limits = queue.stats_by_queue(), queue.paused_queues(), queue.queue_limits()
    found: dict[str, dict[str, Any]] = {
        name: {column: stats[name][column] if name in stats else 0 for column in COLUMNS}  # type: ignore[literal-required]
        | {"paused": name in paused, "limits": _plain(limits.get(name, QueueLimits()))}
        for name in sorted({*stats, *paused, *limits})
    }
    if json:
        click.echo(dumps(found, indent=2))
        return
    rows: list[tuple[object, ...]] = [("queue", "", *COLUMNS, "limits")]
    for name, row in found.items():
        counts = (row[column] for column in COLUMNS)
        rows.append((name, "paused" if row["paused"] else "", *counts, _said(row["limits"])))
    for line in aligned(rows):
        click.echo(line)


@queues.command()
@app_option
@click.argument("names", nargs=-1, required=True, shell_complete=completion.queues)
@json_option
def pause(app: str | None, names: tuple[str, ...], json: bool) -> None:
    """Have no worker claim from these queues any more; running jobs go on. Survives restarts."""
    with open_queue(app) as queue:
        for name in names:
            warn_of_queue(queue, name)
        changed = {name: queue.pause(name) for name in names}
    _tell(changed, "paused", "was paused already", json)


@queues.command()
@app_option
@click.argument("names", nargs=-1, required=True, shell_complete=completion.queues)
@json_option
def resume(app: str | None, names: tuple[str, ...], json: bool) -> None:
    """Let workers claim from these queues again, at once."""
    with open_queue(app) as queue:
        changed = {name: queue.resume(name) for name in names}
    _tell(changed, "resumed", "was not paused", json)


@queues.command()
@app_option
@click.argument("name")
@click.option("--concurrency", type=Limit(1), help="How many of its jobs run at once; none: no limit.")
@click.option("--rate", help="How often they start: 100/m, 10/s, 5/2m; none: no limit.")
@click.option("--max-pending", type=Limit(0), help="How many may be pending at an enqueue; none: no limit.")
@json_option
def limit(
    app: str | None,
    name: str,
    concurrency: int | None,
    rate: str | None,
    max_pending: int | None,
    json: bool,
) -> None:
    """Limit all jobs of a queue, over all workers and at once; without an option show its limits.

    What is left out stays as it is. The limits are in the store, and survive restarts.
    """
    with open_queue(app) as queue:
        if concurrency is None and rate is None and max_pending is None:
            holds = queue.queue_limits().get(name, QueueLimits())
        else:
            holds = queue.set_queue_limits(
                name,
                concurrency=UNSET if concurrency is None else concurrency or None,
                rate=UNSET if rate is None else None if rate.lower() == "none" else rate,
                max_pending=UNSET if max_pending is None else None if max_pending < 0 else max_pending,
            )
    plain = _plain(holds)
    click.echo(dumps(plain) if json else f"{name}: {_said(plain) or 'no limits'}")


def _plain(limits: QueueLimits) -> dict[str, Any]:
    rate = None if limits.rate is None else rate_text(limits.rate)
    return {"concurrency": limits.concurrency, "rate": rate, "max_pending": limits.max_pending}


def _said(limits: dict[str, Any]) -> str:
    """Limits in words."""
    words = []
    if limits["concurrency"] is not None:
        words.append(f"{limits['concurrency']} at once")
    if limits["rate"] is not None:
        words.append(f"{limits['rate']}")
    if limits["max_pending"] is not None:
        words.append(f"{limits['max_pending']} pending")
    return ", ".join(words)


def _tell(changed: dict[str, bool], done: str, not_needed: str, json: bool) -> None:
    if json:
        click.echo(dumps(changed))
        return
    for name, really in changed.items():
        click.echo(f"{name}: {done if really else not_needed}")
