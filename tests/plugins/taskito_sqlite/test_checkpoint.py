"""How safe a commit is, and who writes the log back."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from taskito_sqlite import checkpoint
from taskito_sqlite.connection import CHECKPOINT_PAGES
from taskito_sqlite.storage import SqliteStorage
from taskito_testing import claim, complete, make_job, make_worker, want
from tests.plugins.taskito_sqlite.conftest import Open

FULL, NORMAL = 2, 1


def _synchronous(storage: SqliteStorage) -> int:
    [level] = storage._database.alone(lambda connection: connection.execute("PRAGMA synchronous").fetchone())
    return int(level)


def test_enqueue_and_settle_survive_a_power_cut_and_a_claim_need_not(open_storage: Open) -> None:
    storage = open_storage(pool_size=1)
    worker = make_worker()
    storage.register(worker)

    storage.enqueue([make_job()])
    assert _synchronous(storage) == FULL
    [claimed] = claim(storage, worker.id)
    assert _synchronous(storage) == NORMAL
    storage.exchange(worker.id, [complete(claimed)], want(1))
    assert _synchronous(storage) == FULL


def test_durability_process_never_waits_for_the_disk(open_storage: Open) -> None:
    storage = open_storage(pool_size=1, durability="process")
    storage.migrate()

    storage.enqueue([make_job()])

    assert _synchronous(storage) == NORMAL


@pytest.mark.parametrize(("durability", "expected"), [("power", 1), ("process", 0)])
def test_on_macos_a_power_cut_is_outlived_too(open_storage: Open, durability: str, expected: int) -> None:
    storage = open_storage(durability=durability)
    storage.migrate()

    def asked(connection: sqlite3.Connection) -> set[int]:
        names = ("fullfsync", "checkpoint_fullfsync")
        return {connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    assert storage._database.alone(asked) == {expected}


def test_producers_leave_the_checkpoints_to_a_live_worker(open_storage: Open) -> None:
    worker_side, producer = open_storage(), open_storage()
    worker = make_worker()

    producer.enqueue([make_job()])
    assert producer._database.checkpoint_pages == CHECKPOINT_PAGES
    worker_side.register(worker)
    producer.enqueue([make_job()])
    assert producer._database.checkpoint_pages == 0
    assert worker_side._database.checkpoint_pages == checkpoint.WORKER_PAGES
    worker_side.unregister(worker.id)
    producer.enqueue([make_job()])
    assert producer._database.checkpoint_pages == CHECKPOINT_PAGES


def test_a_worker_that_was_killed_is_not_waited_for(open_storage: Open) -> None:
    worker_side, producer = open_storage(), open_storage()
    worker_side.register(make_worker())

    producer.clock_shift = checkpoint.BELIEVED + 1000
    producer.enqueue([make_job()])

    assert producer._database.checkpoint_pages == CHECKPOINT_PAGES


def test_an_idle_worker_cuts_a_log_that_a_burst_left_behind(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "LARGE", 100_000)
    worker = make_worker(queues=("other",))
    storage.register(worker)
    storage.enqueue([make_job(payload=bytes(500_000))])
    log = Path(f"{storage.path}-wal")
    assert log.stat().st_size > 100_000

    storage.exchange(worker.id, [], want(1, queues=("other",)))

    assert log.stat().st_size == 0
