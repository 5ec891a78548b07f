"""What users write, as a type checker sees it. Never run: mypy --strict and pyright check it.

``assert_type`` says what must be inferred; a line with ``# error`` must be refused by both.
"""

from collections.abc import Coroutine, MutableMapping
from datetime import datetime, timedelta
from typing import Any, assert_type

from taskito import (
    AttemptError,
    Blocker,
    BreakerRecord,
    Call,
    DeadLetter,
    EnqueuedJob,
    GroupResult,
    JobContext,
    JobExplanation,
    JobResult,
    JobSpec,
    JobStatus,
    JsonSerializer,
    ListPage,
    LogEntry,
    PeriodicState,
    PickleSerializer,
    Queue,
    ReplayRecord,
    Signature,
    Stats,
    Task,
    TaskMetrics,
    TaskMiddleware,
    chain,
    chord,
    current_job,
    group,
    starmap,
)

queue = Queue("jobs.db", 4, 3, 300, 0, None, JsonSerializer(), None, "sqlite", None, "taskito", pool_size=2)
queue = Queue(
    backend="postgres", db_url="postgresql://h/d", default_timeout=None, result_ttl=timedelta(days=1)
)


@queue.task
def add(a: int, b: int = 0) -> int:
    return a + b


@queue.task(name="mail.send", max_retries=5, retry_on=(OSError, ValueError), timeout=None, queue="mail")
def send(to: str, *, urgent: bool = False) -> None: ...


@queue.task()
async def fetch(url: str) -> bytes:
    return b""


@queue.task
async def fetch_plain(url: str) -> bytes:
    return b""


@queue.task(serializer=PickleSerializer(key="k"), retry_on=OSError, retry_delays=[1, timedelta(seconds=2)])
def anything(*args: object, **kwargs: object) -> list[dict[str, float]]:
    return []


class Timing(TaskMiddleware):
    def before(self, ctx: JobContext) -> None:
        ctx.state["began"] = 1.0

    def after(self, ctx: JobContext, result: object, error: BaseException | None) -> None:
        assert_type(ctx.id, str)

    def on_enqueue(self, options: MutableMapping[str, Any]) -> None:
        options["priority"] = 1


Queue(middleware=[Timing()])
queue.task(middleware=[Timing()])(add.function)


@queue.on_success
def pleased(ctx: JobContext, result: object) -> int:
    return 1


@queue.on_retry
def again(ctx: JobContext, error: AttemptError, retry_count: int) -> None:
    assert_type(error.type, str)


@queue.before_task
def begin(ctx: JobContext) -> None: ...


# A call is the function; a job has its value.
assert_type(add(1, b=2), int)
assert_type(add.delay(1), JobResult[int])
assert_type(add.delay(1).result(), int)
assert_type(add.delay(1).result(timeout=None), int)
assert_type(send.delay("x", urgent=True).result(), None)
assert_type(anything.delay(1, x=2).result(), list[dict[str, float]])
awaitable = assert_type(fetch("x"), Coroutine[Any, Any, bytes])
assert_type(fetch.delay("x").result(), bytes)
assert_type(fetch_plain.delay("x").result(), bytes)
assert_type(add.using(priority=5, delay=1.5).delay(1, b=2).result(), int)
assert_type(add.using(eta=datetime.now()).using(tags=["a"]).delay(1), JobResult[int])
assert_type(fetch.using(timeout=None).delay("x").result(), bytes)
assert_type(add.apply_async((1,), {"b": 2}, delay=5).result(), int)
assert_type(add.map(range(3)), list[JobResult[int]])
assert_type(add.spec(1, b=2), JobSpec)
assert_type(add.name, str)

# A result is covariant, and so is a task.
wider: JobResult[float] = add.delay(1)
call: Call[[int, int], object] = add.using()
plain: Task[..., object] = add

assert_type(queue.enqueue("mail.send", ("x",), {"urgent": True}, priority=1), JobResult[Any])
assert_type(
    queue.enqueue_many([add.spec(1), {"task_name": "t", "args": (1,), "delay": 3}]), list[JobResult[Any]]
)
assert_type(queue.list_jobs(status="dead", limit=10), ListPage[JobResult[Any]])
assert_type(queue.list_jobs(status=[JobStatus.DEAD]).cursor, str | None)
assert_type(queue.dead_letters(10), ListPage[DeadLetter])
assert_type(queue.stats(), Stats)
assert_type(queue.stats()["completed"], int)
assert_type(queue.get_job("x"), JobResult[Any] | None)
assert_type(current_job.id, str)
assert_type(current_job.metadata, dict[str, Any])


async def coroutine() -> None:
    assert_type(await add.adelay(1), JobResult[int])
    assert_type(await (await fetch.adelay("x")).aresult(), bytes)
    assert_type(await add.amap([1]), list[JobResult[int]])
    assert_type(await queue.aenqueue("t"), JobResult[Any])
    assert_type(await queue.astats(), Stats)
    await queue.arun_worker(queues=["mail"], threads=2)
    async with queue as same:
        assert_type(same, Queue)


with queue as opened:
    assert_type(opened, Queue)
queue.run_worker(pool="prefork", app="app:queue", procs=2)

assert_type(pleased(current_job.context, None), int)
with queue.test_mode(run=False):
    queue.assert_enqueued(add, (1,), {"b": 2}, priority=3)
    queue.refute_enqueued("mail.send", delay=5)
    assert_type(queue.all_enqueued(), list[EnqueuedJob])
    assert_type(queue.drain(), int)


@queue.task(
    capture_output=True, rate_limit="100/m", concurrency=2, concurrency_key="user:{user}", on_excess="drop"
)
def limited(user: str) -> None: ...


@queue.task(
    circuit_breaker={"threshold": 5, "window": 60.0}, result_ttl=timedelta(hours=1), capture_output=True
)
def fragile() -> float:
    return 0.0


@queue.periodic(cron="0 7 * * mon-fri", timezone="Europe/Berlin", catch_up="one", args=("x",))
def report(to: str) -> int:
    return len(to)


# What a canvas ends in: one job, or many. What a chain or a callback ends in depends on the last part.
assert_type(add.s(1), Signature)
assert_type(chain(add.s(1), add.s(2)).apply(), Any)
assert_type(group(add.s(n) for n in range(3)).apply(priority=1), GroupResult)
assert_type(group(add.s(1, 2)).apply().wait(10, progress=True), dict[JobStatus, int])
assert_type(queue.retry_dead("x").replay_of, str | None)
assert_type(queue.replay("x").replays, list[str])
assert_type(list(group(add.s(n) for n in range(3)).apply()), list[JobResult[Any]])
assert_type(chord([add.s(1), add.s(2)], add.s(3), on_error="collect").apply(), Any)
assert_type(group([add.s(1)]).apply().results(timeout=5), list[Any])
starmap(add, [(1, 2), (3, 4)]).apply()

assert_type(report.delay("x").result(), int)
assert_type(
    limited.using(unique_key="u", expires=60, depends_on=["a", add.delay(1)]).delay("x"), JobResult[None]
)
assert_type(add.using(connection=object(), metadata={"a": 1}).delay(1).cancel(), bool)
assert_type(queue.explain("x"), JobExplanation)
assert_type(queue.explain("x").blockers, tuple[Blocker, ...])
assert_type(queue.metrics(add.name, since=timedelta(hours=1)), list[TaskMetrics])
assert_type(queue.metrics()[0].p99, float)
assert_type(queue.replay_history("x"), list[ReplayRecord])
assert_type(queue.retry_dead("x"), JobResult[Any])
assert_type(queue.task_logs("x"), list[LogEntry])
assert_type(queue.circuit_breakers(), list[BreakerRecord])
assert_type(queue.periodic_tasks(), list[PeriodicState])
assert_type(queue.pause(), bool)
assert_type(queue.purge_completed(older_than=timedelta(days=7)), int)
assert_type(list(current_job.track([1, 2])), list[int])
current_job.update_progress(50)
current_job.log("half", level="warning", extra={"n": 1})

# What both must refuse.
add.delay("1")  # error
add.delay(1, c=2)  # error
add.delay()  # error
send.delay("x", True)  # error
fetch.delay(7)  # error
add.using(priority="high")  # error
add.using(prio=1)  # error
add.using(priority=1).delay("1")  # error
add.apply_async((1,), priorty=2)  # error
queue.enqueue("t", unique="x")  # error
queue.enqueue_many([{"task_name": "t", "dealy": 1}])  # error
queue.enqueue_many([{"args": (1,)}])  # error
queue.list_jobs(state="dead")  # error
queue.stats()["finished"]  # error
queue.run_worker(pool="greenlets")  # error
queue.task(max_retry=3)  # error
queue.task(retry_on="ValueError")  # error
Queue(workers="many")  # error
text: str = add.delay(1).result()  # error
current_job.id = "x"  # error
Queue(middleware=[object()])  # error
queue.on_dead(lambda ctx: None)  # error
queue.on_failure(again)  # error
queue.assert_enqueued(add, prioritty=1)  # error
queue.periodic("* * * * *", catchup="one")(add.function)  # error
queue.periodic("* * * * *", catch_up="some")(add.function)  # error
queue.task(on_excess="ignore")  # error
chain(add)  # error
chord([add.s(1)], add.s(3), on_error="ignore")  # error
queue.metrics(since="1h")  # error
add.using(unique="x")  # error
