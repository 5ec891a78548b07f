"""Many writers on one file: none starves, and none sees a lock."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen

import pytest

from conftest import WaitUntil
from taskito_core.errors import StorageUnavailable
from taskito_core.storage_client import JobFilter
from taskito_sqlite import connection
from taskito_sqlite.file import write_lock
from taskito_sqlite.file.write_lock import WriteLock
from taskito_sqlite.storage import SqliteStorage
from taskito_testing import claim, complete, make_job, make_worker, want
from tests.plugins.taskito_sqlite.conftest import Open, Spawn

PRODUCERS = 8
EACH = 60


def test_eight_producers_and_a_worker_get_through_without_seeing_a_lock(
    storage: SqliteStorage, spawn: Spawn, wait_until: WaitUntil
) -> None:
    worker = make_worker()
    storage.register(worker)
    producers = [spawn("produce", storage.path, f"p{number}", EACH) for number in range(PRODUCERS)]

    done: set[str] = set()
    last: list[object] = []

    def all_done() -> bool:
        nonlocal last
        answer = storage.exchange(worker.id, last, want(20))  # type: ignore[arg-type]
        done.update(answer.recorded)
        last = [complete(one) for one in answer.claims]
        return len(done) == PRODUCERS * EACH

    wait_until(all_done, timeout=90.0)

    for process in producers:
        assert process.wait(timeout=60) == 0


def test_writers_take_turns_so_the_slowest_gets_nearly_as_much_as_the_fastest(
    storage: SqliteStorage, spawn: Spawn, wait_until: WaitUntil
) -> None:
    storage.migrate()
    gate = Path(f"{storage.path}-gate")
    producers = [spawn("produce", storage.path, f"p{number}", EACH, gate) for number in range(4)]
    wait_until(lambda: all(Path(f"{gate}-p{number}").exists() for number in range(4)))
    gate.touch()

    def finished(process: Popen[bytes]) -> bool:
        return process.poll() is not None

    # When the first is through, the others must be far: with SQLite's own waiting some have done nothing.
    wait_until(lambda: any(map(finished, producers)), timeout=90.0)
    stored = len(storage.list_jobs(JobFilter(), 4 * EACH, None).jobs)
    wait_until(lambda: all(map(finished, producers)), timeout=90.0)

    assert [process.returncode for process in producers] == [0] * 4
    assert stored > EACH


def test_a_writer_that_never_gives_its_turn_back_delays_the_others_only_once(
    storage: SqliteStorage, spawn: Spawn, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_lock, "IMPATIENCE", 600.0)
    storage.migrate()
    holder = spawn("hold_the_write_lock", storage.path)
    wait_until(Path(f"{storage.path}-held").exists)

    storage.enqueue([make_job()])
    begun = time.monotonic()
    for _ in range(10):
        storage.enqueue([make_job()])

    assert time.monotonic() - begun < 10 * write_lock.COURTESY
    holder.kill()


def test_the_turn_of_a_killed_writer_is_free(
    storage: SqliteStorage, spawn: Spawn, wait_until: WaitUntil
) -> None:
    storage.migrate()
    holder = spawn("hold_the_write_lock", storage.path)
    wait_until(Path(f"{storage.path}-held").exists)
    holder.kill()
    holder.wait()

    mine = WriteLock(storage.path)

    assert mine.acquire()
    mine.release()
    mine.close()


def test_a_lock_that_is_never_released_ends_in_storage_unavailable(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.migrate()
    monkeypatch.setattr(connection, "PATIENCE", 0.3)
    foreign = sqlite3.connect(storage.path, isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")

    with pytest.raises(StorageUnavailable) as caught:
        storage.enqueue([make_job()])
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)

    foreign.execute("ROLLBACK")
    foreign.close()
    assert storage.enqueue([make_job()])[0].inserted


def test_an_exception_out_of_nowhere_leaves_neither_lock_nor_transaction(storage: SqliteStorage) -> None:
    worker = make_worker()
    storage.register(worker)

    def struck(_: sqlite3.Connection) -> None:
        raise KeyboardInterrupt

    for _ in range(20):
        with pytest.raises(KeyboardInterrupt):
            storage._database.write(struck)

    begun = time.monotonic()
    storage.enqueue([make_job()])
    assert len(claim(storage, worker.id)) == 1
    assert time.monotonic() - begun < write_lock.COURTESY


def test_a_pool_of_one_serves_many_threads(open_storage: Open) -> None:
    storage = open_storage(pool_size=1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: storage.enqueue([make_job()]), range(40)))

    assert storage.counts().by_queue["default"].pending == 40
