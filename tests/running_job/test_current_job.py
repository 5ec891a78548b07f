"""current_job: there inside a task, in its coroutines and copied threads, and nowhere else."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from taskito import JobContext, current_job
from taskito.running_job.current_job import CurrentJob
from taskito.running_job.job_context import entered

FIELDS = ("id", "task_name", "queue_name", "retry_count", "token", "metadata")


def context(job_id: str = "one") -> JobContext:
    return JobContext(job_id, "mail.send", "mail", 2, 7, {"user": 1})


@pytest.mark.parametrize("field", FIELDS)
def test_outside_a_task_every_use_is_a_runtime_error(field: str) -> None:
    with pytest.raises(RuntimeError, match="only there inside a running task"):
        getattr(current_job, field)
    assert not current_job
    assert "not inside" in repr(current_job)


def test_inside_it_is_the_job_and_afterwards_what_was_before() -> None:
    with entered(context()):
        assert [getattr(current_job, field) for field in FIELDS] == [
            "one",
            "mail.send",
            "mail",
            2,
            7,
            {"user": 1},
        ]
        with entered(context("two")):
            assert current_job.id == "two"
        assert current_job.id == "one"
        assert current_job
    assert not current_job


def test_every_documented_field_is_there() -> None:
    assert {name for name in vars(CurrentJob) if not name.startswith("_")} == {
        *FIELDS,
        *("context", "attempt", "update_progress", "track", "log", "publish"),
        *("check_cancelled", "check_timeout", "snooze", "complete_in", "keep_coroutines"),
    }


def test_coroutines_see_their_own_job() -> None:
    async def job(name: str) -> list[str]:
        with entered(context(name)):
            seen = [current_job.id]
            await asyncio.sleep(0)
            return [*seen, current_job.id, await asyncio.to_thread(lambda: current_job.id)]

    async def main() -> list[list[str]]:
        return [*await asyncio.gather(job("a"), job("b"))]

    assert asyncio.run(main()) == [["a"] * 3, ["b"] * 3]


def test_a_thread_sees_it_in_a_copy_of_the_context_only() -> None:
    with entered(context()), ThreadPoolExecutor(1) as pool:
        assert pool.submit(contextvars.copy_context().run, lambda: current_job.id).result() == "one"
        assert pool.submit(bool, current_job).result() is False
    assert threading.active_count() >= 1
