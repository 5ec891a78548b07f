"""What no live worker serves is said: in the worker's log, once for each name."""

from __future__ import annotations

import logging

import pytest

from conftest import WaitUntil
from taskito import Queue
from taskito.worker.store import unserved_lanes as module
from taskito.worker.store.unserved_lanes import UnservedLane, UnservedLanesWatch, unserved_lanes
from taskito_core.storage_worker import WorkerStatus
from taskito_testing.factories import make_worker

MAILER = make_worker(id="w1", queues=("mail",), tasks=("shop.send",))
GONE = make_worker(id="w2", queues=("old",), tasks=("shop.old",), status=WorkerStatus.DEAD)


def test_only_what_no_live_worker_takes_is_unserved() -> None:
    lanes = [("mail", ""), ("mail", "shop.send"), ("mail", "shop.send (unread)"), ("mail", "shop.sned")]
    lanes += [("old", ""), ("old", "shop.old"), ("mial", "")]

    found = unserved_lanes(lanes, [MAILER, GONE])

    names = [(lane.queue, lane.task_name) for lane in found]
    assert names == [("mail", "shop.sned"), ("mial", ""), ("old", "")]
    assert list(map(str, found)) == [
        "no live worker of queue 'mail' knows task 'shop.sned'; did you mean 'shop.send'?",
        "no live worker serves queue 'mial'; did you mean 'mail'?",
        "no live worker serves queue 'old'",
    ]


def test_without_a_live_worker_nobody_knows_what_is_right() -> None:
    assert unserved_lanes([("mail", "")], [GONE]) == []


def test_a_name_is_told_when_it_is_found_twice_in_a_row_and_only_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lane, other = UnservedLane("q", "t", ()), UnservedLane("q", "u", ())
    watch = UnservedLanesWatch()

    assert watch.tell([lane]) == module.SECOND_CHECK
    assert watch.tell([]) is None
    assert watch.tell([lane]) == module.SECOND_CHECK
    assert caplog.records == []
    assert watch.tell([lane, other]) == module.SECOND_CHECK
    assert watch.tell([lane, other]) is None
    assert watch.tell([lane, other]) is None

    assert [record.args for record in caplog.records] == [(lane,), (other,)]


def test_a_worker_names_the_misspelt_tasks_and_queues_of_its_store(
    backend_url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: WaitUntil,
) -> None:
    monkeypatch.setattr(module, "SECOND_CHECK", 0.1)
    caplog.set_level(logging.WARNING, "taskito.worker")
    with Queue(db_url=backend_url) as queue:

        @queue.task(name="scripts.job.f", queue="mail")
        def f() -> int:
            return 1

        for _ in range(3):
            queue.enqueue("job.f", queue="mail")
            queue.enqueue("scripts.job.f", queue="mial")
        fine = f.delay()
        with queue.embedded_worker(threads=1):
            assert fine.result(30) == 1
            wait_until(lambda: caplog.text.count("jobs wait in vain") == 2)
            [lost, *_] = queue.list_jobs(task_name="job.f")
            wait_until(lambda: "did you mean 'scripts.job.f'" in str(queue.explain(lost.id)))
            with pytest.raises(TimeoutError, match=r"did you mean 'scripts\.job\.f'"):
                lost.result(0)
            with pytest.raises(TimeoutError, match="did you mean 'mail'"):
                queue.enqueue("scripts.job.f", queue="mial").result(0)

    assert "no live worker of queue 'mail' knows task 'job.f'; did you mean 'scripts.job.f'?" in caplog.text
    assert "no live worker serves queue 'mial'; did you mean 'mail'?" in caplog.text
    assert caplog.text.count("jobs wait in vain") == 2
