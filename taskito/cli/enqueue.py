"""``taskito enqueue``: ask for one job from a shell."""

from __future__ import annotations

import dataclasses
import json as json_module
from datetime import date, time
from typing import TYPE_CHECKING, Any

import click

from taskito.cli.names import full_name, warn_of_queue
from taskito.cli.options import completion
from taskito.cli.options.selection import Duration
from taskito.cli.options.target import app_option, json_option, open_queue
from taskito_core.storage_worker import WorkerStatus

if TYPE_CHECKING:
    from taskito.client.queue import Queue
    from taskito.client.results.job_result import JobResult


@click.command()
@app_option
@click.argument("task", shell_complete=completion.tasks)
@click.argument("arguments", nargs=-1)
@click.option("--kwargs", help="Keyword arguments, as one JSON object.")
@click.option(
    "--queue",
    "queue_name",
    shell_complete=completion.queues,
    help="On this queue instead of the task's own.",
)
@click.option("--priority", type=int, help="Higher goes first.")
@click.option("--delay", type=Duration(), help="Not before this long from now: 90, 15m, 2h, 7d.")
@click.option("--unique-key", help="Change nothing if a live job holds this key.")
@click.option("--unknown", is_flag=True, help="Also a task that neither the app nor a live worker knows.")
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
@click.option("--timeout", type=Duration(), default=30.0, show_default=True, help="Seconds --wait waits.")
@json_option
def enqueue(
    app: str | None,
    task: str,
    arguments: tuple[str, ...],
    kwargs: str | None,
    queue_name: str | None,
    priority: int | None,
    delay: float | None,
    unique_key: str | None,
    unknown: bool,
    wait: bool,
    timeout: float,
    json: bool,
) -> None:
    """Enqueue one job and print its id, or with --wait its result as JSON.

    Each ARGUMENT is JSON if it can be read as such, and text otherwise. TASK is the task's full name, or
    its function's name if only one task has it. Names are those of the app, or without --app those that
    live workers know; another name is refused unless --unknown is said, or nobody knows any.

    \b
    taskito enqueue --app myapp:queue add 2 3 --wait
    taskito enqueue myapp.send '"ann@example.org"' --delay 15m
    """
    options: dict[str, Any] = {
        "queue": queue_name,
        "priority": priority,
        "delay": delay,
        "unique_key": unique_key,
    }
    with open_queue(app, may_create=True) as queue:
        alive = [worker for worker in queue.workers() if worker.status is WorkerStatus.ALIVE]
        known = set(queue.tasks) or {known for worker in alive for known in worker.tasks}
        name = task if unknown or not known else full_name("task", task, known, "--unknown enqueues it")
        if queue_name is not None:
            warn_of_queue(queue, queue_name)
        said = {key: value for key, value in options.items() if value is not None}
        job = _enqueue(queue, name, tuple(map(_value, arguments)), _keywords(kwargs), said)
        result = job.result(timeout=timeout) if wait else None
    if json:
        click.echo(_json({"id": job.id} | ({"result": result} if wait else {})))
    else:
        click.echo(_json(result) if wait else job.id)


def _enqueue(
    queue: Queue, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], said: dict[str, Any]
) -> JobResult[Any]:
    try:
        return queue.enqueue(name, args, kwargs, **said)
    except (TypeError, ValueError) as exc:  # Of arguments that the function does not take, above all.
        raise click.UsageError(str(exc)) from exc


def _json(value: object) -> str:
    """Values that JSON has no form for become those that come next to them, or text."""
    try:
        return json_module.dumps(value, default=_nearly)
    except (TypeError, ValueError):  # Keys that are no text, or a value inside of itself.
        return json_module.dumps(repr(value))


def _nearly(value: object) -> object:
    match value:
        case set() | frozenset():
            return list(value)
        case date() | time():
            return value.isoformat()
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        case _:
            return str(value)


def _value(text: str) -> Any:
    try:
        return json_module.loads(text)
    except ValueError:
        return text


def _keywords(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = json_module.loads(text)
    except ValueError as exc:
        raise click.UsageError(f"--kwargs must be a JSON object, got {text!r}: {exc}") from None
    if not isinstance(found, dict):
        raise click.UsageError(f"--kwargs must be a JSON object, got {text!r}")
    return found
