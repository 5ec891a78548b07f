"""An app whose hooks write down in which process they were told of which failure."""

from __future__ import annotations

import os
import signal
import time

from taskito import AttemptError, JobContext, Queue, TaskMiddleware, current_job

queue = Queue()


def note(*words: object) -> None:
    """One line of the journal; O_APPEND makes lines of many processes whole and ordered."""
    fd = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, (" ".join(str(word) for word in words) + "\n").encode())
    finally:
        os.close(fd)


class Own(TaskMiddleware):
    def on_retry(self, ctx: JobContext, error: AttemptError, retry_count: int) -> None:
        note("retry", ctx.task_name, error.type, retry_count, ctx.retry_count, ctx.id, os.getpid())


@queue.on_failure
def failed(ctx: JobContext, error: AttemptError) -> None:
    note("failure", ctx.task_name, error.type, error.attempt, ctx.metadata.get("who"), ctx.id, os.getpid())
    assert not current_job, "no job runs here"


@queue.on_dead
def died(ctx: JobContext, error: AttemptError) -> None:
    note("dead", ctx.task_name, error.type, error.attempt, error.kind, ctx.id, os.getpid())
    if ctx.task_name == "exits":
        raise SystemExit(3)
    if ctx.task_name == "asks":
        queue.enqueue("plain")
    if ctx.task_name == "forks" and (copy := os.fork()):
        os.waitpid(copy, 0)


@queue.task(name="raises", max_retries=1, retry_delays=[0.0], middleware=[Own()])
def raises() -> None:
    note("start", current_job.id, os.getpid())
    raise ValueError("as asked")


@queue.task(name="killed", max_retries=0, retry_backoff=0.0, middleware=[Own()])
def killed() -> None:
    note("start", current_job.id, os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


@queue.task(name="overruns", timeout=0.3, max_retries=0)
def overruns() -> None:
    note("start", current_job.id, os.getpid())
    time.sleep(60)


@queue.task(name="exits", max_retries=0)
def exits() -> None:
    raise LookupError


@queue.task(name="asks", max_retries=0)
def asks() -> None:
    raise LookupError


@queue.task(name="fails_late", max_retries=0)
def fails_late() -> None:
    note("start", current_job.id, os.getpid())
    time.sleep(0.5)
    raise LookupError


@queue.task(name="forks")
def forks() -> None: ...


@queue.task(name="plain")
def plain() -> int:
    note("start", current_job.id, os.getpid())
    return os.getpid()


@queue.task(name="soft", soft_timeout=0.2, max_retries=0)
def soft(where: str) -> str:
    return where


@queue.before_task
def dawdle_before(ctx: JobContext) -> None:
    if ctx.metadata.get("slow") == "before":
        time.sleep(60)


@queue.after_task
def dawdle_after(ctx: JobContext, result: object, error: BaseException | None) -> None:
    if ctx.metadata.get("slow") == "after":
        time.sleep(60)
    note("after", type(error).__name__, result)
