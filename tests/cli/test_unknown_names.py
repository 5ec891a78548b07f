"""Names that nobody knows: ``taskito info`` shows them, and ``taskito enqueue`` refuses them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from conftest import WaitUntil
from taskito import Queue
from tests.cli.conftest import Run


@pytest.fixture
def served(backend_url: str) -> Iterator[Queue]:
    """A queue whose worker is alive and knows ``shop.send`` of queue ``mail``."""
    with Queue(db_url=backend_url) as queue:

        @queue.task(name="shop.send", queue="mail")
        def send() -> None: ...

        with queue.embedded_worker(threads=1):
            send.delay().result(30)
            yield queue


def test_info_names_what_no_live_worker_takes(served: Queue, ask: Run, wait_until: WaitUntil) -> None:
    served.enqueue("shop.sned", queue="mail")
    served.enqueue("shop.send", queue="mial")
    wait_until(lambda: ("mail", "shop.sned") in served.storage.lanes())

    text, found = ask("info").stdout, json.loads(ask("info", "--json").stdout)

    assert "no live worker of queue 'mail' knows task 'shop.sned'; did you mean 'shop.send'?" in text
    assert "no live worker serves queue 'mial'; did you mean 'mail'?" in text
    named = [(one["queue"], one["task"]) for one in found["unserved"]]
    assert named == [("mail", "shop.sned"), ("mial", None)]


def test_a_task_that_the_app_does_not_know_is_refused_unless_that_is_meant(
    ask: Run, backend_url: str
) -> None:
    refused = ask("enqueue", "--app", "myapp:queue", "myapp.ad", "1", "2")
    meant = ask("enqueue", "--app", "myapp:queue", "--unknown", "myapp.ad", "1", "2")
    nobody_knows_any = ask("enqueue", "myapp.ad", "1", "2")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert "nobody knows a task 'myapp.ad'; did you mean 'myapp.add'?" in refused.stderr
    assert (meant.returncode, nobody_knows_any.returncode) == (0, 0)
    with Queue(db_url=backend_url) as queue:
        assert queue.stats()["pending"] == 2


def test_without_an_app_the_names_are_those_that_live_workers_know(served: Queue, ask: Run) -> None:
    refused = ask("enqueue", "sned")
    short = ask("enqueue", "send", "--queue", "mail", "--wait")
    elsewhere = ask("enqueue", "shop.send", "--queue", "mial")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert "did you mean 'shop.send'?" in refused.stderr
    assert (short.returncode, short.stderr) == (0, "")
    assert elsewhere.returncode == 0
    assert "uses a queue 'mial'; did you mean 'mail'?" in elsewhere.stderr
