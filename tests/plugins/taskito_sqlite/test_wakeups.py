"""Waiting: the socket, what is behind it when a notification is lost, and what is left of it afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from taskito_core import StorageConfig, directories
from taskito_sqlite import notify_socket, wakeups
from taskito_sqlite.commit_watch import ChangeCounter
from taskito_sqlite.storage import SqliteStorage
from taskito_testing import complete, enqueue_and_claim, make_job, make_worker, want
from tests.plugins.taskito_sqlite.conftest import Open

LONG = 30.0


@pytest.fixture(autouse=True)
def runtime(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of this test's own."""
    directory = Path("/tmp") / f"taskito-test-{os.getpid()}"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    yield directory
    shutil.rmtree(directory)


def _sockets(runtime: Path) -> list[Path]:
    return [path for path in runtime.rglob("*") if path.is_socket()]


@pytest.fixture
def waiting(storage: SqliteStorage) -> Iterator[tuple[str, wakeups.WorkerWakeups]]:
    """A registered worker that found nothing, and its Wakeups."""
    worker = make_worker()
    storage.register(worker)
    woken = storage.listen(worker.id, ["default"])
    storage.exchange(worker.id, [], want(1))
    while woken.wait(0.0):
        pass  # its own registration counts as news, once
    yield worker.id, woken
    woken.close()


def test_a_lost_notification_is_made_up_for_by_the_slow_check_behind_the_socket(
    open_storage: Open, waiting: tuple[str, wakeups.WorkerWakeups], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, woken = waiting
    monkeypatch.setattr(notify_socket, "notify", lambda addresses: None)

    open_storage().enqueue([make_job()])

    assert woken.wait(LONG)


def test_a_socket_that_was_cleaned_away_is_replaced_by_polling(
    open_storage: Open, waiting: tuple[str, wakeups.WorkerWakeups], runtime: Path
) -> None:
    _, woken = waiting
    for path in _sockets(runtime):
        path.unlink()

    open_storage().enqueue([make_job()])

    assert woken.wait(LONG)


def test_a_commit_after_the_first_read_of_the_counter_is_seen_by_the_second(
    open_storage: Open, storage: SqliteStorage
) -> None:
    storage.migrate()
    counter = ChangeCounter(storage._database)
    assert counter.changed()

    open_storage().enqueue([make_job()])

    assert counter.changed()
    assert not counter.changed()
    counter.close()


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system where no directory for sockets can be had."""
    monkeypatch.setattr(directories, "_is_private", lambda directory: False)


@pytest.mark.usefixtures("no_sockets")
def test_without_sockets_a_worker_finds_jobs_by_polling(
    open_storage: Open, waiting: tuple[str, wakeups.WorkerWakeups]
) -> None:
    _, woken = waiting
    assert woken.address is None

    open_storage().enqueue([make_job()])

    assert woken.wait(LONG)


@pytest.mark.usefixtures("no_sockets")
def test_without_sockets_a_result_is_noticed_by_polling(open_storage: Open, storage: SqliteStorage) -> None:
    _ends_while_awaited(storage, open_storage())


def test_waiters_in_threads_and_in_other_objects_all_learn_of_the_end(
    open_storage: Open, storage: SqliteStorage
) -> None:
    worker = make_worker()
    storage.register(worker)
    claimed = enqueue_and_claim(storage, worker.id)
    other = open_storage()

    with ThreadPoolExecutor(6) as pool:
        waits = [pool.submit(s.await_finished, claimed.id, LONG) for s in (storage, other, other) * 2]
        storage.exchange(worker.id, [complete(claimed)], None)

        assert all(wait.result() for wait in waits)


def test_waiting_again_and_again_asks_the_store_only_once(storage: SqliteStorage) -> None:
    job = make_job()
    storage.enqueue([job])

    for _ in range(5):
        assert not storage.await_finished(job.id, 0.001)

    [(_, awaited)] = storage._read(
        lambda connection: connection.execute("SELECT id, awaited FROM jobs").fetchall()
    )
    assert len(awaited.split()) == 1


def test_sockets_go_when_they_are_closed(storage: SqliteStorage, runtime: Path) -> None:
    job = make_job()
    storage.enqueue([job])
    storage.await_finished(job.id, 0.001)
    woken = storage.listen("worker", ["default"])
    assert len(_sockets(runtime)) == 2

    woken.close()
    storage.close()

    assert _sockets(runtime) == []


def test_databases_leave_nothing_behind_that_adds_up(tmp_path: Path, runtime: Path) -> None:
    for number in range(3):
        storage = SqliteStorage(StorageConfig(backend="sqlite", db_path=str(tmp_path / f"{number}.db")))
        storage.listen("worker", ["default"]).close()
        storage.close()

    left = [path.relative_to(runtime) for path in runtime.rglob("*")]
    assert left == [Path("taskito"), Path("taskito/sockets")]


def test_a_process_that_waited_and_never_closed_leaves_no_socket(tmp_path: Path, runtime: Path) -> None:
    script = """
import sys
from taskito import Queue
queue = Queue(db_path=sys.argv[1])
try:
    queue.enqueue("anything").result(timeout=0.01)
except TimeoutError:
    print("waited")
"""

    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "jobs.db")],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.stdout == "waited\n"
    assert _sockets(runtime) == []


def test_many_who_wait_at_once_do_not_keep_their_sockets(storage: SqliteStorage, runtime: Path) -> None:
    job = make_job()
    storage.enqueue([job])

    with ThreadPoolExecutor(3 * wakeups.SOCKETS_KEPT) as pool:
        waits = [pool.submit(storage.await_finished, job.id, 0.5) for _ in range(3 * wakeups.SOCKETS_KEPT)]
        assert not any(wait.result() for wait in waits)

    assert len(_sockets(runtime)) <= wakeups.SOCKETS_KEPT


def test_the_socket_of_a_killed_process_is_swept_away_and_a_live_one_is_not(
    storage: SqliteStorage, runtime: Path
) -> None:
    live = storage.listen("one", ["default"])
    [address] = _sockets(runtime)
    stale = address.with_name("stale")
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as killed:
        killed.bind(str(stale))
    for path in (address, stale):
        os.utime(path, (0, 0))

    other = storage.listen("two", ["default"])

    assert stale not in _sockets(runtime)
    assert address in _sockets(runtime)
    live.close()
    other.close()


def test_a_worker_under_load_is_not_notified(
    storage: SqliteStorage, waiting: tuple[str, wakeups.WorkerWakeups], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, woken = waiting
    storage.enqueue([make_job(), make_job()])
    storage.exchange(worker, [], want(1))
    notified: list[str] = []
    monkeypatch.setattr(notify_socket, "notify", notified.extend)

    storage.enqueue([make_job()])
    assert notified == []

    storage.exchange(worker, [], want(9))
    storage.enqueue([make_job()])
    assert notified == [woken.address]


def test_an_idle_worker_writes_nothing(
    storage: SqliteStorage, waiting: tuple[str, wakeups.WorkerWakeups]
) -> None:
    worker, _ = waiting
    counter = ChangeCounter(storage._database)
    counter.changed()
    counter.changed()

    for _ in range(5):
        storage.exchange(worker, [], want(1))

    assert not counter.changed()
    counter.close()


def _ends_while_awaited(storage: SqliteStorage, other: SqliteStorage) -> None:
    worker = make_worker()
    storage.register(worker)
    claimed = enqueue_and_claim(storage, worker.id)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(other.await_finished, claimed.id, LONG)
        storage.exchange(worker.id, [complete(claimed)], None)
        assert waiting.result()
