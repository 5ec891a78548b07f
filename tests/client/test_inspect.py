"""Questions about jobs: lists in pages, counts, errors, dead letters, workers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from taskito import ConfigError, DeadReason, JobStatus, Queue
from taskito_testing import claim, make_worker, retry

Work = Callable[..., Any]


def fail(message: str) -> None:
    raise ValueError(message)


def test_get_job_finds_the_job_or_says_none(queue: Queue) -> None:
    job = queue.enqueue("t")

    assert queue.get_job(job.id) == job
    assert queue.get_job("missing") is None
    with pytest.raises(ConfigError, match="job_id"):
        queue.get_job("")


def test_pages_cover_every_job_once_newest_first(queue: Queue) -> None:
    ids = [job.id for job in queue.enqueue_many([{"task_name": "t"} for _ in range(25)])]

    seen, cursor = [], None
    while True:
        page = queue.list_jobs(limit=10, cursor=cursor)
        seen += [job.id for job in page]
        if (cursor := page.cursor) is None:
            break

    assert seen == sorted(ids, reverse=True)


def test_failed_jobs_are_listed_as_they_are_counted(queue: Queue) -> None:
    failed, waiting = queue.enqueue("t"), queue.enqueue("t", delay=60)
    worker = make_worker()
    queue.storage.register(worker)
    [claimed] = claim(queue.storage, worker.id, tasks=("t",))
    queue.storage.exchange(worker.id, [retry(claimed, 60.0)], None)

    found = {status: {job.id for job in queue.list_jobs(status=status)} for status in ("failed", "pending")}

    assert queue.stats()["failed"] == 1
    assert found == {"failed": {failed.id}, "pending": {failed.id, waiting.id}}
    assert {job.id for job in queue.list_jobs(status=["failed", "pending"])} == found["pending"]
    with pytest.raises(ConfigError, match="cancelled, failed, got 'broken'"):
        queue.list_jobs(status="broken")


def test_a_list_can_be_narrowed_by_everything(queue: Queue, work: Work) -> None:
    queue.task(name="ok", queue="a")(lambda: 1)
    queue.task(name="bad", queue="b")(fail)
    before = datetime.now(UTC) - timedelta(minutes=5)
    ok = queue.enqueue("ok", tags=["x"], metadata={"user": 7, "vip": True})
    bad = queue.enqueue("bad", ("the boiler",), metadata={"user": 8})
    work()
    waiting = queue.enqueue("ok", delay=3600)
    after = datetime.now(UTC) + timedelta(minutes=5)

    def ids(**query: Any) -> set[str]:
        return {job.id for job in queue.list_jobs(**query)}

    assert ids() == {ok.id, bad.id, waiting.id}
    assert ids(status="complete") == ids(status="completed") == ids(status=JobStatus.COMPLETE) == {ok.id}
    assert ids(status=["dead", JobStatus.PENDING]) == {bad.id, waiting.id}
    assert ids(queue="b") == ids(task_name="bad") == ids(error="boiler") == {bad.id}
    assert ids(error="BOILER") == ids(error="%") == set()
    assert ids(metadata={"user": 7, "vip": True}) == ids(tag="x") == {ok.id}
    assert ids(created_after=before, created_before=after) == {ok.id, bad.id, waiting.id}
    assert ids(finished_after=before) == ids(finished_before=after) == {ok.id, bad.id}
    assert ids(created_after=after) == ids(created_before=before) == set()
    assert ids(status="pending", queue="b") == set()
    assert ids(status="failed") == set()


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "done"},
        {"status": 5},
        {"limit": 0},
        {"limit": 1001},
        {"limit": True},
        {"created_after": 123},
        {"finished_before": datetime(2026, 1, 1)},
    ],
)
def test_questions_that_make_no_sense_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    queue = Queue(tmp_path / "never.db")
    with pytest.raises(ConfigError, match="must"):
        queue.list_jobs(**wrong)
    with pytest.raises(TypeError, match="no option 'state'; did you mean 'status'"):
        queue.list_jobs(state="dead")  # type: ignore[call-arg]


def test_stats_count_every_state_and_keep_the_old_name(queue: Queue, work: Work) -> None:
    queue.task(name="ok")(lambda: 1)
    queue.task(name="bad", queue="b", max_retries=0)(fail)
    queue.task(name="again", max_retries=1, retry_backoff=3600)(lambda: fail("x"))
    queue.enqueue_many([{"task_name": "ok"}, {"task_name": "ok"}, {"task_name": "bad", "args": ("x",)}])
    queue.enqueue("again")
    work()
    queue.enqueue("ok", delay=60)

    expected = {
        **{"pending": 2, "running": 0, "complete": 2, "completed": 2, "failed": 1},
        **{"dead": 1, "cancelled": 0, "capped": False},
    }
    assert queue.stats() == queue.stats(exact=True) == expected
    by_queue = queue.stats_by_queue()
    assert list(by_queue) == ["b", "default"]
    assert (by_queue["b"]["dead"], by_queue["default"]["complete"], by_queue["default"]["dead"]) == (1, 2, 0)


def test_running_jobs_and_their_errors_are_told(queue: Queue) -> None:
    worker = make_worker()
    queue.storage.register(worker)
    job = queue.enqueue("job")
    [claimed] = claim(queue.storage, worker.id)

    assert (queue.stats()["running"], job.status) == (1, JobStatus.RUNNING)
    queue.storage.exchange(worker.id, [retry(claimed, delay=60)], None)
    [error] = queue.job_errors(job.id)
    assert (error.type, error.worker, job.error) == ("ValueError", worker.id, "ValueError: that was wrong")
    assert [w.id for w in queue.workers()] == [worker.id]


def test_dead_letters_come_in_pages_newest_first(queue: Queue, work: Work) -> None:
    task = queue.task(name="bad")(fail)
    jobs = [task.delay(f"number {n}") for n in range(5)]
    for _ in jobs:
        work(limit=1)

    first = queue.dead_letters(limit=3)
    rest = queue.dead_letters(limit=3, cursor=first.cursor)

    letters = [*first, *rest]
    assert (len(first), rest.cursor) == (3, None)
    assert {letter.job_id for letter in letters} == {job.id for job in jobs}
    assert [letter.failed_at for letter in letters] == sorted((x.failed_at for x in letters), reverse=True)
    assert {letter.reason for letter in letters} == {DeadReason.RETRIES}
