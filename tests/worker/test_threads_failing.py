"""A worker of threads that cannot start, or cannot end as it should, says why."""

from __future__ import annotations

import socket
import threading

import pytest

from conftest import WaitUntil
from taskito import ConfigError, Queue, StorageUnavailable
from tools.private_postgres import Server

from .conftest import LONG


def test_a_queue_without_tasks_has_nothing_to_run(queue: Queue) -> None:
    with pytest.raises(ConfigError, match="this queue has no tasks"):
        queue.run_worker()
    with pytest.raises(ConfigError, match="this queue has no tasks"), queue.embedded_worker():
        pytest.fail("it was entered")


def test_a_store_that_does_not_answer_is_unavailable_and_the_error_says_why(
    caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # and nobody listens
        with Queue(db_url=f"postgresql://me:secret@127.0.0.1:{probe.getsockname()[1]}/db") as queue:
            queue.task(name="t")(lambda: 1)

            with pytest.raises(StorageUnavailable, match=r"did not answer within 0.3 s: .*refused") as caught:
                queue.run_worker(threads=1, boot_timeout=0.3)

            assert isinstance(caught.value.__cause__, StorageUnavailable)
            assert "secret" not in str(caught.value)
            with pytest.raises(StorageUnavailable), queue.embedded_worker(boot_timeout=0):
                # The block hears of it in the log, before it is left.
                wait_until(lambda: "the embedded worker failed: the store did not answer" in caplog.text)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_store_that_must_be_migrated_first_is_a_matter_of_configuration(
    postgres_url: str, sqlite_url: str, kind: str
) -> None:
    url = postgres_url if kind == "postgres" else sqlite_url
    with Queue(db_url=url, auto_migrate=False) as queue:
        queue.task(name="t")(lambda: 1)

        with pytest.raises(ConfigError, match="taskito migrate"):
            queue.run_worker(threads=1)


def test_results_that_the_store_did_not_take_at_the_end_are_an_error(
    private_server: Server, wait_until: WaitUntil
) -> None:
    begun, released = threading.Event(), threading.Event()
    with Queue(db_url=private_server.new_database("taskito_test")) as queue:

        @queue.task
        def wait() -> None:
            begun.set()
            assert released.wait(LONG)

        def work() -> None:
            with queue.embedded_worker(threads=1, graceful_timeout=0):
                wait.delay()
                assert begun.wait(LONG)
                private_server.stop(mode="immediate")
                released.set()

        with pytest.raises(StorageUnavailable, match="1 jobs could not be settled"):
            work()
