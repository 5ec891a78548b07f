"""``taskito info``: what is in the store, and its workers. Only reads: starts and migrates nothing."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator
from json import dumps
from typing import TYPE_CHECKING, Any

import click

from taskito.cli.options.target import Target, app_option, json_option, open_target
from taskito.cli.table import aligned
from taskito.config.text import show_moments
from taskito.worker.store.unserved_lanes import UnservedLane, unserved_lanes
from taskito_core.errors import StorageUnavailable
from taskito_core.storage_client import Counts

if TYPE_CHECKING:
    from taskito.client.results.progress import EndRate
    from taskito.client.results.watched import EndCounter
    from taskito_core.storage_worker import WorkerInfo

COLUMNS = ("pending", "running", "complete", "failed", "dead", "cancelled")


@click.command()
@app_option
@click.option("--watch", is_flag=True, help="Print again and again, until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="Seconds between two prints of --watch.",
)
@click.option("--exact", is_flag=True, help="Count every finished job, however many there are.")
@json_option
def info(app: str | None, watch: bool, interval: float, exact: bool, json: bool) -> None:
    """Show the store, its jobs per queue and state, and its workers.

    "failed" counts the pending jobs that wait for a retry; finished jobs are counted up to a
    cap unless --exact. With --json --watch each line is one JSON document.
    Without --app the store is the one that the environment and pyproject.toml name.
    """
    with open_target(app) as target:
        if not watch:
            _print(snapshot(target, exact), json, indent=2)
            return
        watch_jobs = _JobsWatch()
        try:
            while True:
                _watch_once(target, exact, json, watch_jobs)
                time.sleep(interval)
        except KeyboardInterrupt:
            return  # the expected end of watching, not an error


def _watch_once(target: Target, exact: bool, json: bool, watch: _JobsWatch) -> None:
    try:
        found = snapshot(target, exact)
    except StorageUnavailable as exc:
        click.echo(f"Error: {exc}", err=True)
        return
    watch.add(found)
    if json:
        _print(found | {"since_start": watch.to_dict()}, json, indent=None)
        return
    if sys.stdout.isatty():
        click.clear()
    _print(found, json, indent=None)
    watch.show()


class _JobsWatch:
    """What has ended since the watch began, as far as it is counted."""

    def __init__(self) -> None:
        self._since: EndCounter | None = None
        self._rate: EndRate | None = None

    def add(self, found: dict[str, Any]) -> None:
        from taskito.client.results.progress import EndRate
        from taskito.client.results.watched import EndCounter

        if found.get("capped", True):
            self._since = self._rate = None  # Beyond the cap nobody knows what has ended.
            return
        totals = {name: sum(one[name] for one in found["queues"].values()) for name in COLUMNS}
        counts = Counts(**totals)
        if self._since is None or self._rate is None:
            self._since, self._rate = EndCounter(counts), EndRate()
        self._rate.add(self._since.add(counts), time.monotonic())

    def to_dict(self) -> dict[str, Any] | None:
        if self._rate is None:
            return None
        count, left = self._rate.count, self._rate.remaining
        return {
            "ended": count.ended,
            "failed": count.failed,
            "live": count.total - count.ended,
            "rate": round(self._rate.rate, 3),
            "seconds_left": None if left is None else left.total_seconds(),
        }

    def show(self) -> None:
        from taskito.client.results.progress import print_bar

        if self._rate is not None:
            click.echo()
            print_bar(self._rate, sys.stdout)


def snapshot(target: Target, exact: bool) -> dict[str, Any]:
    """Everything ``info`` shows, as plain data. Raises StorageUnavailable."""
    storage = target.storage
    store = storage.info()
    found: dict[str, Any] = {"store": store._asdict() | {"location": target.location}}
    if store.schema_version < store.newest_version:
        # Counting would need the tables; creating them is not for a command that only reads.
        return found
    report = storage.counts(exact)
    now = storage.now()
    workers = storage.workers()
    return found | {
        "queues": {queue: dataclasses.asdict(counts) for queue, counts in sorted(report.by_queue.items())},
        "capped": report.capped,
        "unserved": [_unserved(lane) for lane in unserved_lanes(storage.lanes(), workers)],
        "workers": [_worker(worker, now) for worker in workers],
    }


def _unserved(lane: UnservedLane) -> dict[str, Any]:
    return {"queue": lane.queue, "task": lane.task_name or None, "text": str(lane)}


def _worker(worker: WorkerInfo, now: int) -> dict[str, Any]:
    shown = {
        "id": worker.id,
        "status": worker.status.value,
        "host": worker.host,
        "pid": worker.pid,
        "app": worker.app,
        "procs": worker.procs,
        "queues": worker.queues,
        "version": worker.version,
        "started_at": worker.started_at,
        "last_seen": worker.last_seen,
        "seconds_since_seen": max(0, now - worker.last_seen) / 1000,
    }
    return show_moments(shown)


def _print(found: dict[str, Any], json: bool, *, indent: int | None) -> None:
    if json:
        click.echo(dumps(found, indent=indent))
        return
    for line in _lines(found):
        click.echo(line)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    store = found["store"]
    yield f"store    {store['backend']} at {store['location']} ({store['server']})"
    if store["schema_version"] == 0:
        yield "         no database here: nothing of taskito is there yet"
        yield "         first use, or `taskito migrate`, makes it; look where the workers' is"
        return
    yield f"schema   version {store['schema_version']} of {store['newest_version']}"
    if "queues" not in found:
        yield "         not current: first use, or `taskito migrate`, brings it up to date"
        return
    yield ""
    yield from _queue_lines(found["queues"], found["capped"])
    yield from (f"jobs wait in vain: {lane['text']}" for lane in found["unserved"])
    yield ""
    yield from _worker_lines(found["workers"])


def _queue_lines(queues: dict[str, dict[str, int]], capped: bool) -> Iterator[str]:
    rows: list[tuple[object, ...]] = [("queue", *COLUMNS)]
    rows += [(queue, *(counts[column] for column in COLUMNS)) for queue, counts in queues.items()]
    total = [sum(counts[column] for counts in queues.values()) for column in COLUMNS]
    yield from aligned([*rows, ("total", *total)])
    if capped:
        yield "counting of finished jobs stopped at a cap; --exact counts them all"


def _worker_lines(workers: list[dict[str, Any]]) -> Iterator[str]:
    if not workers:
        yield "no worker has registered; start one with: taskito worker --app MODULE:QUEUE"
        return
    rows: list[tuple[object, ...]] = [("worker", "status", "host", "seen", "app", "queues", "pid", "procs")]
    for one in workers:
        seen = f"{one['seconds_since_seen']:.0f} s ago"
        queues = ",".join(one["queues"])
        rows.append(
            (one["id"], one["status"], one["host"], seen, one["app"], queues, one["pid"], one["procs"])
        )
    yield from aligned(rows)
