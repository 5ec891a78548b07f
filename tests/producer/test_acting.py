"""What a queue does with jobs, letters, queues and periodic tasks that are in the store already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskito import (
    ConfigError,
    JobNotFoundError,
    JobResult,
    JobStatus,
    PickleSerializer,
    Queue,
    Task,
    TaskCancelledError,
    TaskitoError,
)
from taskito.serialization.serializers import DEFAULT, dump_call
from taskito_core.storage_worker import LogEntry
from taskito_testing import claim, make_worker
from taskito_testing.factories import make_entry
from tests.producer.conftest import Work

HOUR = 3600


@pytest.fixture
def task(queue: Queue) -> Task[..., Any]:
    @queue.task(name="t", serializer=PickleSerializer("k"))
    def t(*args: Any) -> Any:
        if args == ("fail",):
            raise ValueError("on purpose")
        return args

    return t


@pytest.fixture
def running(queue: Queue, task: Task[..., Any]) -> Callable[[], JobResult[Any]]:
    """``running()``: a job that a worker holds and does nothing about."""
    worker = make_worker()
    queue.storage.register(worker)

    def make() -> JobResult[Any]:
        job = task.delay("held")
        [claimed] = claim(queue.storage, worker.id, tasks=("t",))
        assert claimed.id == job.id
        return job

    return make


# ---- cancel ----


def test_cancelling_ends_a_pending_job_and_only_asks_a_running_one(
    queue: Queue, task: Task[..., Any], running: Callable[[], JobResult[Any]]
) -> None:
    held, waiting = running(), task.using(delay=HOUR).delay()

    assert (queue.cancel_job(waiting.id), queue.cancel_job(held.id)) == (True, False)
    assert (queue.cancel_running_job(waiting.id), queue.cancel_running_job(held.id)) == (False, True)

    assert held.status is JobStatus.RUNNING
    with pytest.raises(TaskCancelledError, match="cancelled: somebody asked for it before it began"):
        waiting.result(0)


def test_a_handle_cancels_whatever_state_its_job_is_in(
    task: Task[..., Any], running: Callable[[], JobResult[Any]], work: Work
) -> None:
    ended = task.delay()
    work()
    held, waiting = running(), task.using(delay=HOUR).delay()

    assert [job.cancel() for job in (ended, held, waiting, waiting)] == [False, True, True, False]


# ---- run again ----


def test_a_finished_job_is_run_again_as_a_new_job_with_the_same_options(
    queue: Queue, task: Task[..., Any], work: Work
) -> None:
    job = task.using(priority=7, tags=["a"], metadata={"m": 1}).delay(1, 2)
    work()

    again = job.replay()
    work()

    assert again != job
    assert again.result(0) == (1, 2)
    assert (again.to_dict()["priority"], again.to_dict()["tags"], again.metadata) == (7, ["a"], {"m": 1})


def test_a_job_that_has_not_finished_cannot_be_run_again(queue: Queue, task: Task[..., Any]) -> None:
    job = task.delay()

    with pytest.raises(TaskitoError, match=f"job {job.id} is pending: only a finished job can be replayed"):
        job.replay()


def test_a_replay_waits_for_nobody_who_holds_its_key(queue: Queue, task: Task[..., Any], work: Work) -> None:
    job = task.using(unique_key="k").delay()
    work()
    holder = task.using(unique_key="k", delay=HOUR).delay()

    with pytest.raises(TaskitoError, match=f"a unique key that job {holder.id} holds"):
        job.replay()
    holder.cancel()
    assert job.replay().status is JobStatus.PENDING


def test_the_history_of_a_job_tells_what_came_of_each_replay(
    queue: Queue, task: Task[..., Any], work: Work
) -> None:
    job = task.delay(1)
    work()
    first = job.replay()
    work()
    second = job.replay()

    done, waiting = queue.replay_history(job.id)

    assert (done.job_id, done.new_id, waiting.new_id) == (job.id, first.id, second.id)
    assert (done.status_before, done.status, done.result) == (JobStatus.COMPLETE, JobStatus.COMPLETE, (1,))
    assert (waiting.status, waiting.result, waiting.error) == (JobStatus.PENDING, None, None)
    assert queue.replay_history(first.id) == []


def test_a_replay_that_is_stored_no_more_leaves_its_line_in_the_history(
    queue: Queue, task: Task[..., Any], work: Work
) -> None:
    job = task.delay(1)
    work()
    again = job.replay()
    work()
    queue.storage.delete([again.id])

    records = queue.replay_history(job.id)

    assert [(one.new_id, one.status, one.result) for one in records] == [(again.id, None, None)]


# ---- the dead letter ----


def test_a_dead_job_is_run_again_once(queue: Queue, task: Task[..., Any], work: Work) -> None:
    job = task.delay("fail")
    work()

    again = queue.retry_dead(job.id)

    assert again.status is JobStatus.PENDING
    assert list(queue.dead_letters()) == []
    with pytest.raises(TaskitoError, match=f"job {job.id} is dead: it is not in the dead letter"):
        queue.retry_dead(job.id)
    with pytest.raises(TaskitoError, match=f"job {again.id} is pending: it is not in the dead letter"):
        queue.retry_dead(again.id)


def test_a_dead_job_is_deleted_with_its_letter_and_no_other_job_is(
    queue: Queue, task: Task[..., Any], work: Work
) -> None:
    failed, fine = task.delay("fail"), task.delay(1)
    work()

    assert [queue.delete_dead(one) for one in (failed.id, fine.id, failed.id, "nosuch")] == [
        *(True, False, False, False)
    ]

    assert (queue.get_job(failed.id), queue.get_job(fine.id)) == (None, fine)
    assert list(queue.dead_letters()) == []


def test_purging_deletes_what_ended_long_enough_ago_and_tells_how_many(
    queue: Queue, task: Task[..., Any], work: Work, wait_until: Callable[..., None]
) -> None:
    done, failed = task.map(range(3)), task.delay("fail")
    work(limit=10)
    child = task.using(depends_on=task.delay("parent"), delay=HOUR).delay()
    work()

    assert (queue.purge_completed(HOUR), queue.purge_dead(timedelta(hours=1))) == (0, 0)
    now = queue.storage.now()
    wait_until(lambda: queue.storage.now() > now)

    assert (queue.purge_completed(0), queue.purge_dead(0)) == (3, 1)

    assert [queue.get_job(job.id) for job in (*done, failed)] == [None] * 4
    [parent] = child.dependencies
    assert queue.get_job(parent) is not None
    with pytest.raises(ConfigError, match="older_than must be a number of seconds"):
        queue.purge_dead(-1)


# ---- from outside ----


def test_progress_is_said_from_outside_too(queue: Queue, task: Task[..., Any]) -> None:
    job = task.using(delay=HOUR).delay()
    assert job.progress is None

    queue.update_progress(job.id, 12.5)

    assert job.progress == job.to_dict()["progress"] == 12.5
    with pytest.raises(ConfigError, match=r"progress must be a finite number, .* got nan"):
        queue.update_progress(job.id, float("nan"))


@pytest.mark.parametrize(
    "act",
    [
        lambda queue: queue.cancel_job("nosuch"),
        lambda queue: queue.cancel_running_job("nosuch"),
        lambda queue: queue.update_progress("nosuch", 1),
        lambda queue: queue.replay("nosuch"),
        lambda queue: queue.retry_dead("nosuch"),
        lambda queue: queue.explain("nosuch"),
        lambda queue: JobResult(queue, "nosuch").cancel(),
        lambda queue: JobResult(queue, "nosuch").replay(),
        lambda queue: list(JobResult(queue, "nosuch").stream(0)),
        lambda queue: queue.pause_periodic("nosuch"),
        lambda queue: queue.resume_periodic("nosuch"),
        lambda queue: queue.run_periodic("nosuch"),
    ],
)
def test_what_is_not_there_is_said_to_be_not_there(queue: Queue, act: Callable[[Queue], object]) -> None:
    with pytest.raises(JobNotFoundError, match=r"there is no .*'nosuch'"):
        act(queue)


# ---- logs ----


def entry(job: JobResult[Any], number: int, level: str = "info", at: int = 0, **more: Any) -> LogEntry:
    values = {"message": f"line {number}", "extra": None, **more}
    return LogEntry(f"{number:05}", job.id, "t", 1, at, level, values["message"], values["extra"])


def test_the_lines_of_a_job_are_all_there_and_what_it_published_is_not_among_them(
    queue: Queue, task: Task[..., Any]
) -> None:
    job = task.delay()
    lines = [entry(job, number) for number in range(1500)]
    queue.storage.note([*lines, entry(job, 2000, "published", extra="1")])

    assert queue.task_logs(job.id) == job.logs() == lines


def test_lines_are_found_by_task_level_and_time(queue: Queue, task: Task[..., Any]) -> None:
    job = task.delay()
    second = datetime(2030, 1, 1, tzinfo=UTC)
    at = int(second.timestamp()) * 1000
    lines = [entry(job, 1, "info", at - 1), entry(job, 2, "error", at), entry(job, 3, "info", at + 1)]
    queue.storage.note(lines)

    assert queue.query_logs() == lines
    assert queue.query_logs(level="error") == lines[1:2]
    assert queue.query_logs(since=second) == lines[1:]
    assert queue.query_logs(task_name="t", limit=1) == lines[:1]
    assert queue.query_logs(task_name="other") == []
    with pytest.raises(ConfigError, match="level must be one of debug, info"):
        queue.query_logs(level="loud")


def test_a_stream_gives_what_was_published_and_ends_with_the_job(
    queue: Queue, task: Task[..., Any], work: Work
) -> None:
    job = task.delay(1)
    parts = [entry(job, number, "published", extra=DEFAULT.dumps((number,)).decode()) for number in range(3)]
    queue.storage.note([*parts[:2], entry(job, 7, "info")])
    stream = job.stream(timeout=0.05)

    assert (next(stream), next(stream)) == ((0,), (1,))
    with pytest.raises(TimeoutError, match=r"published nothing for 0\.05 seconds"):
        next(stream)
    queue.storage.note([parts[2]])
    work()
    assert list(job.stream()) == [(0,), (1,), (2,)]


# ---- queues ----


def test_nothing_is_claimed_from_a_paused_queue_until_it_is_resumed(
    queue: Queue, task: Task[..., Any], work: Work
) -> None:
    assert (queue.pause(), queue.pause(), queue.pause("b")) == (True, False, True)
    job = task.delay(1)

    assert (work(), queue.paused_queues()) == ([], ["b", "default"])

    assert (queue.resume(), queue.resume()) == (True, False)
    work()
    assert (job.result(0), queue.paused_queues()) == ((1,), ["b"])
    with pytest.raises(ConfigError, match="comma"):
        queue.pause("a,b")


# ---- periodic tasks ----


@pytest.fixture
def nightly(queue: Queue) -> int:
    """A periodic task that a worker has registered; when it is to fire."""
    queue.task(name="sum", priority=3, rate_limit="5/s", concurrency=1)(lambda *numbers: sum(numbers))
    fires = queue.storage.now() + 1000 * HOUR
    declared = make_entry(
        name="nightly",
        app="app:queue",
        task_name="sum",
        cron="0 3 * * *",
        payload=dump_call(DEFAULT, [1, 2], {}),
    )
    assert queue.storage.register_periodic("app:queue", [(declared, fires)]) == []
    return fires


def test_a_periodic_task_is_paused_and_resumes_at_a_slot_to_come(queue: Queue, nightly: int) -> None:
    queue.pause_periodic("nightly")
    [paused] = queue.periodic_tasks()
    queue.resume_periodic("nightly")
    [resumed] = queue.periodic_tasks()

    assert (paused.enabled, resumed.enabled) == (False, True)
    assert resumed.next_run > queue.storage.now()
    assert datetime.fromtimestamp(resumed.next_run / 1000, UTC).hour == 3


def test_a_periodic_task_is_run_now_beside_its_schedule(queue: Queue, nightly: int, work: Work) -> None:
    queue.pause_periodic("nightly")

    job = queue.run_periodic("nightly")

    assert job.to_dict()["task_name"] == "sum"
    [state] = queue.periodic_tasks()
    assert (state.last_run, state.enabled) == (None, False)
    work()
    assert job.result(0) == 3


# ---- twins ----


def test_the_coroutine_twins_do_the_same(queue: Queue, task: Task[..., Any], nightly: int) -> None:
    async def main() -> None:
        job = await task.using(delay=HOUR).adelay()
        await queue.aupdate_progress(job.id, 5)
        assert await queue.apause() is True
        assert await queue.apaused_queues() == ["default"]
        assert await queue.aresume() is True
        assert str((await queue.aexplain(job.id)).blockers[0].kind) == "not due"
        assert await job.acancel() is True
        assert await queue.acancel_job(job.id) is False
        assert (await (await queue.areplay(job.id)).arefresh()).status is JobStatus.PENDING
        assert [record.job_id for record in await queue.areplay_history(job.id)] == [job.id]
        assert await queue.atask_logs(job.id) == await job.alogs() == await queue.aquery_logs() == []
        assert [state.entry.name for state in await queue.aperiodic_tasks()] == ["nightly"]
        await queue.apause_periodic("nightly")
        await queue.aresume_periodic("nightly")
        assert (await (await queue.arun_periodic("nightly")).arefresh()).status is JobStatus.PENDING
        assert await queue.acircuit_breakers() == []
        assert await queue.areset_circuit_breaker("t") is False
        assert await queue.adelete_dead(job.id) is False
        assert (await queue.apurge_completed(0), await queue.apurge_dead(0)) == (0, 0)
        with pytest.raises(TaskitoError, match="it is not in the dead letter"):
            await queue.aretry_dead(job.id)
        assert await queue.acancel_running_job(job.id) is False

    asyncio.run(main())
