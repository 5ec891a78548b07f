"""A block of test mode holds everywhere while it is open, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from taskito import ConfigError, Queue, StorageUnavailable
from taskito_kv import store

from .conftest import LONG


def test_no_database_is_opened_inside_and_the_real_one_is_back_outside(queue: Queue) -> None:
    task = queue.task(name="t")(lambda: "ran")

    with queue.test_mode():
        assert task.delay().result() == "ran"
        assert [job.to_dict()["task_name"] for job in queue.list_jobs()] == ["t"]
        queue.close()
        assert queue.stats()["complete"] == 1, "closing the queue closes the real store only"

    with pytest.raises(StorageUnavailable):
        task.delay()


def test_jobs_of_the_block_are_neither_seen_before_nor_after(tmp_path: Path) -> None:
    with Queue(tmp_path / "jobs.db") as queue:
        task = queue.task(name="t")(lambda: None)
        real = task.delay()
        with queue.test_mode():
            assert queue.get_job(real.id) is None
            inside = task.delay()
        assert queue.get_job(inside.id) is None
        assert [job.id for job in queue.list_jobs()] == [real.id]
        assert real.status == "pending", "the block's jobs run, and no others"


def test_an_exception_leaves_the_block_and_restores_the_queue(tmp_path: Path) -> None:
    with Queue(tmp_path / "jobs.db") as queue:
        task = queue.task(name="t")(lambda: 0)
        with pytest.raises(ZeroDivisionError), queue.test_mode():
            1 / task.delay().result()
        assert task.delay().status == "pending"
        assert queue.stats()["complete"] == 0


def test_blocks_nest_and_each_has_its_own_jobs(queue: Queue) -> None:
    task = queue.task(name="t")(lambda x: x)

    with queue.test_mode(run=False):
        outer = task.delay(1)
        with queue.test_mode():
            assert task.delay(2).result() == 2
            assert [job.args for job in queue.all_enqueued()] == [(2,)]
            assert queue.get_job(outer.id) is None
        assert outer.status == "pending"
        assert [job.args for job in queue.all_enqueued()] == [(1,)]
        queue.drain()
        assert outer.result() == 1


def test_it_holds_for_other_threads_whoever_ends_first(queue: Queue) -> None:
    task = queue.task(name="t")(lambda x: x)
    inside, leave = threading.Event(), threading.Event()
    results: list[int] = []

    def other() -> None:
        with queue.test_mode():
            inside.set()
            leave.wait(LONG)

    thread = threading.Thread(target=other)
    with queue.test_mode():
        thread.start()
        assert inside.wait(LONG)
        worker = threading.Thread(target=lambda: results.append(task.delay(1).result(LONG)))
        worker.start()
        worker.join(LONG)
    # The other block is still open, and was opened inside of ours.
    results.append(task.delay(2).result(LONG))
    leave.set()
    thread.join(LONG)

    assert results == [1, 2]
    with pytest.raises(RuntimeError, match="test_mode"):
        queue.drain()


def test_jobs_enqueued_by_many_threads_run_once_each(queue: Queue) -> None:
    ran: list[int] = []
    task = queue.task(name="t", max_retries=1)(ran.append)
    together = threading.Barrier(4)

    def produce(start: int) -> None:
        together.wait(LONG)
        for job in [task.delay(start + number) for number in range(25)]:
            job.result(LONG)

    with queue.test_mode():
        threads = [threading.Thread(target=produce, args=(25 * number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert queue.stats()["complete"] == 100

    assert sorted(ran) == list(range(100))


@pytest.mark.parametrize("name", ["drain", "all_enqueued", "assert_enqueued", "refute_enqueued"])
def test_outside_of_a_block_its_methods_say_where_they_belong(queue: Queue, name: str) -> None:
    with pytest.raises(RuntimeError, match=rf"{name}\(\) is only there inside of `with queue"):
        getattr(queue, name)()


def test_a_worker_is_refused_inside_because_it_would_take_real_jobs(queue: Queue) -> None:
    queue.task(name="t")(lambda: None)

    with queue.test_mode():
        with pytest.raises(ConfigError, match="would take jobs from the real store"):
            queue.run_worker()
        with pytest.raises(ConfigError, match="would take jobs from the real store"), queue.embedded_worker():
            pass


def test_nothing_is_kept_of_a_block_that_was_left(queue: Queue) -> None:
    task = queue.task(name="t")(lambda: None)
    before = set(store._stores)

    with queue.test_mode():
        task.delay()
        assert set(store._stores) > before

    assert set(store._stores) == before


def test_run_is_a_yes_or_a_no(queue: Queue) -> None:
    with pytest.raises(ConfigError, match="run must be True or False"), queue.test_mode(run="no"):  # type: ignore[arg-type]
        pass


def test_without_the_storage_in_memory_one_line_says_what_to_install() -> None:
    program = """
import sys
sys.modules["taskito_kv"] = None
import taskito
try:
    with taskito.Queue().test_mode():
        pass
except taskito.ConfigError as exc:
    print(exc)
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert len(done.stdout.splitlines()) == 1
    assert "pip install taskito-core[testing]" in done.stdout
