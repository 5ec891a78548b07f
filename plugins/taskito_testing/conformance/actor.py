"""What another process does to the store under test. Run as a script: URL SCHEMA ACTION JSON.

It says "ready", waits for one line, acts, and says what came of it: JSON, one value per line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from taskito_core.errors import StorageError
from taskito_core.hookspecs import OfferKind
from taskito_core.job import Claim, Complete, NewJob
from taskito_core.plugin_manager import load
from taskito_core.storage import Storage, StorageConfig
from taskito_core.storage_client import Counts
from taskito_core.storage_worker import Want, WorkerInfo

Open = Callable[[], Storage]


def say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def hear() -> None:
    """Wait for a line; without a parent, this process ends."""
    if not sys.stdin.readline():
        sys.exit(0)


def opener(url: str, schema: str) -> Open:
    if url.startswith("memory:"):
        # A store of this process alone, and known only here.
        from taskito_testing.plugin import register_memory_plugin

        register_memory_plugin()

    def open_it() -> Storage:
        plugins = load()
        backend = plugins.find(OfferKind.STORAGE, url).name
        config = StorageConfig(backend=backend, db_url=url, schema=schema)
        return plugins.open_storage(config)

    return open_it


def make_job(job_id: str, **fields: Any) -> NewJob:
    return NewJob(id=job_id, task_name="job", payload=b"payload", **fields)


def register(storage: Storage, worker: str) -> None:
    storage.register(
        WorkerInfo(
            id=worker,
            host="host-2",
            pid=os.getpid(),
            app="app:queue",
            queues=("default",),
            tasks=("job",),
            procs=1,
            version="0.1.0",
        )
    )


def migrate(storage: Storage) -> None:
    """Say which migrations this process applied."""
    say(storage.migrate())


def enqueue(storage: Storage, ids: list[str], batch: int) -> None:
    """Enqueue these jobs; say which were inserted."""
    inserted = []
    for start in range(0, len(ids), batch):
        receipts = storage.enqueue([make_job(job_id) for job_id in ids[start : start + batch]])
        inserted += [receipt.id for receipt in receipts if receipt.inserted]
    say(inserted)


def enqueue_batches(storage: Storage, batches: list[list[dict[str, Any]]]) -> None:
    """Enqueue these batches of jobs, each given as its ``id`` and other fields; say all receipts."""
    receipts = []
    for batch in batches:
        jobs = [make_job(fields.pop("id"), **_with_tuples(fields)) for fields in batch]
        receipts += storage.enqueue(jobs)
    say(receipts)


def _with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def enqueue_for_ever(storage: Storage, prefix: str, batch: int) -> None:
    """Enqueue batch after batch until killed; say the number of each that was acknowledged."""
    number = 0
    while True:
        storage.enqueue([make_job(f"{prefix}-{number:06}-{index:03}") for index in range(batch)])
        say(number)
        number += 1


def drain(storage: Storage, worker: str, token: int, batch: int) -> None:
    """Claim and complete until nothing is left; say which jobs this process was given."""
    register(storage, worker)
    taken: list[str] = []
    claims: list[Claim] = []
    while True:
        token += 1
        outcomes = [Complete(claim.id, claim.token, worker.encode(), None) for claim in claims]
        claims = storage.exchange(worker, outcomes, Want(batch, ("default",), ("job",), token)).claims
        if not claims:
            break
        taken += [claim.id for claim in claims]
    say(taken)


def work_until(storage: Storage, worker: str, token: int, total: int) -> None:
    """Claim, complete and sweep until ``total`` jobs of the store are complete, also by others."""
    register(storage, worker)
    claims: list[Claim] = []
    while True:
        token += 1
        outcomes = [Complete(claim.id, claim.token, worker.encode(), None) for claim in claims]
        claims = storage.exchange(worker, outcomes, Want(3, ("default",), ("job",), token)).claims
        if not claims:
            if storage.counts(exact=True).by_queue.get("default", Counts()).complete >= total:
                break
            storage.sweep(100)
    say("done")


def work_for_ever(storage: Storage, worker: str, token: int, batch: int) -> None:
    """Claim and complete until killed; say what was claimed, and what was recorded."""
    register(storage, worker)
    claims: list[Claim] = []
    while True:
        token += 1
        outcomes = [Complete(claim.id, claim.token, worker.encode(), None) for claim in claims]
        answer = storage.exchange(worker, outcomes, Want(batch, ("default",), ("job",), token))
        claims = answer.claims
        say(sorted(answer.recorded))
        if not claims and not outcomes:
            break


def fire_due(storage: Storage, app: str, step: int) -> None:
    """Fire slot after slot, each ``step`` milliseconds after the last, until none is due; say which."""
    fired = []
    while due := storage.due_periodic(app):
        for state in due:
            job = make_job(f"{state.entry.name}-{state.next_run}")
            if storage.fire_periodic(state, [job], state.next_run + step):
                fired.append(state.next_run)
    say(fired)


def claim_and_hang(storage: Storage, worker: str, token: int, limit: int) -> None:
    """Claim, say what, and wait to be killed."""
    register(storage, worker)
    answer = storage.exchange(worker, [], Want(limit, ("default",), ("job",), token))
    say([claim.id for claim in answer.claims])
    hear()


def settle(storage: Storage, job_id: str, token: int) -> None:
    """Complete one job that another process claimed."""
    answer = storage.exchange("nobody", [Complete(job_id, token, b"from afar", None)], None)
    say(sorted(answer.recorded))


def use_after_fork(storage: Storage) -> None:
    """Carry an open storage into a child; say what each side got, and whether the parent still works."""
    storage.enqueue([make_job("before")])
    say(in_child(lambda: _try_enqueue(storage, "carried")))
    say(_try_enqueue(storage, "after"))
    say(sorted(job.id for job in storage.get(["before", "carried", "after"])))


def close_in_child(storage: Storage) -> None:
    """A child closes what it inherited; say whether the parent's storage is unharmed."""
    storage.enqueue([make_job("before")])
    say(in_child(lambda: _try_close(storage)))
    storage.enqueue([make_job("after")])
    say(sorted(job.id for job in storage.get(["before", "after"])))


def open_on_both_sides(open_it: Open, first: str) -> None:
    """Close before a fork, open after it on both sides, and let ``first`` close first.

    Says what each side sees in the end.
    """
    storage = open_it()
    storage.enqueue([make_job("before")])
    storage.close()
    to_child, to_parent = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        mine = open_it()
        mine.enqueue([make_job("child")])
        os.write(to_parent[1], b"x")
        if first == "parent":
            os.read(to_child[0], 1)
            mine.enqueue([make_job("child-late")])
        mine.close()
        os.write(to_parent[1], b"x")
        os._exit(0)
    storage.enqueue([make_job("parent")])
    os.read(to_parent[0], 1)
    if first == "parent":
        storage.close()
        os.write(to_child[1], b"x")
        os.read(to_parent[0], 1)
    else:
        os.read(to_parent[0], 1)
        storage.enqueue([make_job("parent-late")])
        storage.close()
    os.waitpid(child, 0)
    reopened = open_it()
    names = ["before", "child", "child-late", "parent", "parent-late"]
    say(sorted(job.id for job in reopened.get(names)))
    reopened.close()


def in_child(action: Callable[[], str]) -> str:
    """The answer of ``action``, run in a forked child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, action().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        text = answer.read().decode()
    os.waitpid(child, 0)
    return text


def _try_enqueue(storage: Storage, job_id: str) -> str:
    try:
        storage.enqueue([make_job(job_id)])
    except StorageError as exc:
        return f"refused: {exc}"
    except BaseException as exc:  # the suite wants to see what escaped
        return f"escaped: {exc!r}"
    return "stored"


def _try_close(storage: Storage) -> str:
    try:
        storage.close()
    except StorageError as exc:
        return f"refused: {exc}"
    except BaseException as exc:  # the suite wants to see what escaped
        return f"escaped: {exc!r}"
    return "closed"


#: Actions that get an opened storage, and those that open for themselves.
ACTIONS: dict[str, Callable[..., None]] = {
    action.__name__: action
    for action in (
        migrate,
        enqueue,
        enqueue_batches,
        enqueue_for_ever,
        drain,
        work_until,
        work_for_ever,
        fire_due,
        claim_and_hang,
        settle,
        use_after_fork,
        close_in_child,
    )
}
SELF_OPENING: dict[str, Callable[..., None]] = {open_on_both_sides.__name__: open_on_both_sides}


def main() -> None:
    url, schema, action, arguments = sys.argv[1:]
    open_it = opener(url, schema)
    storage = open_it()
    say("ready")
    hear()
    if action in SELF_OPENING:
        SELF_OPENING[action](open_it, **json.loads(arguments))
    else:
        ACTIONS[action](storage, **json.loads(arguments))
    storage.close()


if __name__ == "__main__":
    main()
