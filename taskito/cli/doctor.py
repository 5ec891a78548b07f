"""``taskito doctor``: what is wrong with a store, its workers and this machine, or soon will be."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from json import dumps
from typing import TYPE_CHECKING

import click

from taskito.cli.exits import INTERNAL
from taskito.cli.options.target import Target, app_option, json_option, open_target
from taskito.config.memory import memory_limit, memory_of_tree
from taskito.config.text import moment
from taskito.worker.store.unserved_lanes import UnservedLane, unserved_lanes
from taskito_core.hookspecs import Finding
from taskito_core.storage_worker import WorkerStatus

if TYPE_CHECKING:
    from taskito_core.storage import StorageInfo
    from taskito_core.storage_client import Counts
    from taskito_core.storage_worker import PeriodicState, WorkerInfo

#: Milliseconds by which two clocks may differ, and a periodic task may be late, without a word.
_SKEW, _LATE = 2_000, 60_000
#: Descriptors of a supervisor, and of each child beside it.
_FILES, _FILES_PER_CHILD = 64, 8
#: The part of this machine's memory that workers may take.
_MUCH_MEMORY = 0.8


@click.command()
@app_option
@json_option
def doctor(app: str | None, json: bool) -> None:
    """Look for what is wrong with the store, its workers and this machine.

    Each finding says what is so, why it matters, and the command or setting that mends it. Changes
    nothing. Ends with exit code 1 if something is wrong; notes alone are no reason.
    """
    with open_target(app) as target:
        info = target.storage.info()
        found = [*_examined_schema(info)] or [*_examined_store(target)]
        location = target.location
    wrong = [finding for finding in found if not finding.is_note]
    if json:
        click.echo(dumps({"location": location, "findings": [one._asdict() for one in found]}, indent=2))
    else:
        click.echo(f"store    {info.backend} at {location} ({info.server})")
        for finding in sorted(found, key=lambda one: one.is_note):
            click.echo(f"\n{'note' if finding.is_note else 'WRONG'}: {finding.what}")
            click.echo(f"  why it matters: {finding.why}\n  what mends it:  {finding.mend}")
        click.echo(f"\n{len(wrong)} wrong" if wrong else "\nnothing is wrong")
    if wrong:
        raise click.exceptions.Exit(INTERNAL)


def _examined_schema(info: StorageInfo) -> Iterator[Finding]:
    if info.schema_version == 0:
        yield Finding(
            "there is no database of taskito here",
            "whoever enqueues into it, or serves it, uses another one than this command",
            "say --app, or where it is (TASKITO_DB_PATH, TASKITO_DB_URL), or make one: taskito migrate",
        )
    elif info.schema_version < info.newest_version:
        yield Finding(
            f"the schema has version {info.schema_version}, this taskito is made for {info.newest_version}",
            "with auto_migrate=False neither producers nor workers of this version start",
            "taskito migrate",
        )


def _examined_store(target: Target) -> Iterator[Finding]:
    storage = target.storage
    before = time.time()
    now = storage.now()
    yield from _examined_clocks(now, (before + time.time()) / 2 * 1000)
    workers = storage.workers()
    alive = [worker for worker in workers if worker.status is WorkerStatus.ALIVE]
    counts = storage.counts().by_queue
    yield from _examined_workers(alive, counts)
    for lane in unserved_lanes(storage.lanes(), workers):
        yield Finding(
            f"jobs wait in vain: {lane}",
            "they wait until a worker comes that takes them, without an error",
            f"if the name is right: taskito worker --app MODULE:QUEUE --queues {lane.queue}, with an app "
            f"that has it; if not: taskito jobs cancel {_filter(lane)}, and enqueue them anew",
        )
    yield from _examined_queues(storage.paused(), counts, now)
    yield from _examined_periodic(storage.periodic(), now)
    yield from _examined_machine([worker for worker in alive if worker.host == socket.gethostname()])
    for findings in target.plugins.hook.taskito_examine(storage=storage):
        yield from findings


def _filter(lane: UnservedLane) -> str:
    return f"--task {lane.task_name}" if lane.task_name else f"--queue {lane.queue}"


def _examined_clocks(store: float, host: float) -> Iterator[Finding]:
    if abs(store - host) > _SKEW:
        ahead, behind = ("the store", "this machine") if store > host else ("this machine", "the store")
        yield Finding(
            f"the clock of {ahead} is {abs(store - host) / 1000:.1f} s ahead of that of {behind}",
            "moments that you name (eta, created_after) are compared with the store's clock",
            "timedatectl set-ntp true, on the machine that is wrong",
        )


def _examined_workers(alive: Sequence[WorkerInfo], counts: Mapping[str, Counts]) -> Iterator[Finding]:
    waiting = sum(one.pending for one in counts.values())
    if not alive and waiting:
        yield Finding(
            f"{waiting} jobs are pending, and no worker is alive",
            "they wait until one is",
            "taskito worker --app MODULE:QUEUE",
        )
    versions = sorted({worker.version for worker in alive})
    if len(versions) > 1:
        yield Finding(
            f"live workers have different versions: {', '.join(versions)}",
            "in a deploy that is right; afterwards it means that some were not restarted",
            "restart the workers of the old version; taskito info names them",
            is_note=True,
        )


def _examined_queues(paused: Mapping[str, int], counts: Mapping[str, Counts], now: int) -> Iterator[Finding]:
    for queue, since in sorted(paused.items()):
        waiting = counts[queue].pending if queue in counts else 0
        if waiting:
            yield Finding(
                f"queue {queue!r} has been paused for {timedelta(seconds=max(0, now - since) // 1000)}",
                f"{waiting} jobs wait in it",
                f"taskito queues resume {queue}",
                is_note=True,
            )


def _examined_periodic(tasks: Iterable[PeriodicState], now: int) -> Iterator[Finding]:
    for task in tasks:
        if task.enabled and task.next_run < now - _LATE:
            yield Finding(
                f"periodic task {task.entry.name!r} was due at {moment(task.next_run)} and did not fire",
                "only a live worker of the app that declares it fires it",
                "taskito worker --app MODULE:QUEUE, with that app",
            )


def _examined_machine(here: Sequence[WorkerInfo]) -> Iterator[Finding]:
    """Workers of this machine, and what it lets them have."""
    if not here:
        return
    for worker in here:
        try:
            most, _ = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        except (OSError, AttributeError):  # another user's, another container's, or no Linux
            continue
        needed = _FILES + _FILES_PER_CHILD * worker.procs
        if most < needed:
            yield Finding(
                f"worker {worker.id} may open {most} files, and needs about {needed}",
                "without descriptors it cannot start children or reach the store",
                f"ulimit -n {max(1024, 2 * needed)}, or LimitNOFILE= in its unit, before it starts",
            )
    taken, limit = sum(memory_of_tree(worker.pid) for worker in here), memory_limit()
    if limit and taken > _MUCH_MEMORY * limit:
        procs = sum(worker.procs for worker in here)
        yield Finding(
            f"workers of this machine take {taken // 2**20} of {limit // 2**20} MB in {procs} processes",
            "when there is no more, the system kills one of them in the middle of a job",
            "fewer --procs, or --max-jobs-per-child if they grow",
        )
