"""What another process does to the sink under test. Run as a script, as ``actor``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from taskito_core.errors import StorageError
from taskito_core.metrics import Metrics, Tally
from taskito_testing.conformance.actor import hear, in_child, say
from taskito_testing.opening import open_metrics


def batch(tasks: list[str]) -> list[Tally]:
    """One attempt of each task, as ``metrics.tally`` makes them."""
    made = [Tally(task, "default") for task in tasks]
    for tally in made:
        tally.add(True, 0.25, 0.125, 1_000_000)
    return made


def record(sink: Metrics, tasks: list[str], times: int) -> None:
    for _ in range(times):
        sink.record(batch(tasks))
    say("done")


def record_for_ever(sink: Metrics, tasks: list[str]) -> None:
    """Say how often, after each, until killed."""
    times = 0
    while True:
        sink.record(batch(tasks))
        times += 1
        say(times)


def use_after_fork(sink: Metrics) -> None:
    """Say what a child may do with a sink that was in use before the fork, and how the parent goes on."""
    sink.record(batch(["task"]))
    say(in_child(lambda: _try_record(sink)))
    sink.record(batch(["task"]))
    say(sink.read("task", 3600)[0].count)


def _try_record(sink: Metrics) -> str:
    try:
        sink.record(batch(["task"]))
    except StorageError as exc:
        return f"refused: {exc}"
    except BaseException as exc:  # the suite wants to see what escaped
        return f"escaped: {exc!r}"
    return "recorded"


ACTIONS: dict[str, Callable[..., Any]] = {
    action.__name__: action for action in (record, record_for_ever, use_after_fork)
}


def main() -> None:
    url, schema, action, arguments = sys.argv[1:]
    sink = open_metrics(url, schema)
    say("ready")
    hear()
    ACTIONS[action](sink, **json.loads(arguments))
    sink.close()


if __name__ == "__main__":
    main()
