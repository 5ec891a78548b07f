"""What tests let other processes do: ``python actors.py FUNCTION ARGUMENT...``."""

from __future__ import annotations

import itertools
import os
import sqlite3
import sys
import threading
import time
from pathlib import Path

from taskito_core import Outcome
from taskito_core.errors import StorageError
from taskito_core.storage import StorageConfig
from taskito_sqlite import connection
from taskito_sqlite.file.write_lock import WriteLock
from taskito_sqlite.storage import SqliteStorage
from taskito_testing import complete, dead, make_job, make_worker, release, retry, want


def produce(path: str, name: str, number: str, gate: str = "") -> None:
    """One enqueue, and so one durable commit, after the other; begun once the file ``gate`` is there."""
    storage = SqliteStorage(StorageConfig(db_path=path))
    storage.now()
    if gate:
        Path(f"{gate}-{name}").touch()
        while not Path(gate).exists():
            time.sleep(0.001)
    for index in range(int(number)):
        storage.enqueue([make_job(id=f"{name}-{index}")])
    storage.close()


def work(path: str, seconds: str) -> None:
    """Claim and settle whatever comes, in every way a job can go, as a worker does."""
    storage = SqliteStorage(StorageConfig(db_path=path))
    worker = make_worker()
    storage.register(worker)
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + float(seconds)
    while time.monotonic() < deadline:
        claims = storage.exchange(worker.id, outcomes, want(7)).claims
        ends = itertools.cycle((complete, complete, retry, complete, release, complete, dead))
        outcomes = [end(claimed) for end, claimed in zip(ends, claims, strict=False)]


def hold_the_write_lock(path: str) -> None:
    """Take the write lock and never give it back."""
    assert WriteLock(path).acquire()
    Path(f"{path}-held").touch()
    time.sleep(600)


def stay_idle(path: str) -> None:
    """Have the database open, and do nothing more."""
    storage = SqliteStorage(StorageConfig(db_path=path))
    storage.counts()
    Path(f"{path}-idle").touch()
    time.sleep(600)


def commit_in_child_while_the_parent_closes(path: str) -> None:
    """The parent has used the database; it forks, and closes its last connection while the child commits."""
    parent = SqliteStorage(StorageConfig(db_path=path))
    parent.enqueue([make_job()])
    pid = os.fork()
    if pid == 0:
        child = SqliteStorage(StorageConfig(db_path=path))
        for _ in range(50):
            child.enqueue([make_job()])
        os._exit(0 if child.counts().by_queue["default"].pending == 51 else 1)
    for _ in range(20):
        parent.counts()
        parent.close()
    _, status = os.waitpid(pid, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def fork_in_the_middle_of_a_transaction(path: str) -> None:
    """Another thread does not end its transaction; the child must not touch the file."""
    connection.FORK_PATIENCE = 0.1
    parent = SqliteStorage(StorageConfig(db_path=path))
    begun, end = threading.Event(), threading.Event()

    def linger(_: sqlite3.Connection) -> None:
        begun.set()
        end.wait(30)

    thread = threading.Thread(target=lambda: parent._database.read(linger))
    thread.start()
    begun.wait(30)
    pid = os.fork()
    if pid == 0:
        try:
            SqliteStorage(StorageConfig(db_path=path)).counts()
        except StorageError as exc:
            os._exit(0 if "another thread" in str(exc) else 1)
        os._exit(2)
    _, status = os.waitpid(pid, 0)
    end.set()
    thread.join()
    parent.enqueue([make_job()])
    sys.exit(os.waitstatus_to_exitcode(status))


def enqueue_in_grandchild(path: str) -> None:
    """Forked twice, as task code in a worker's child is."""
    SqliteStorage(StorageConfig(db_path=path)).enqueue([make_job()])
    for _ in range(2):
        if pid := os.fork():
            _, status = os.waitpid(pid, 0)
            os._exit(os.waitstatus_to_exitcode(status))
    SqliteStorage(StorageConfig(db_path=path)).enqueue([make_job()])
    os._exit(0)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
