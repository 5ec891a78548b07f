"""From a call to rows: what is stored, in how many transactions, and what is refused."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from taskito import ConfigError, JobSpec, PayloadTooLarge, Queue, SerializationError, StorageUnavailable, Task
from taskito.client.backends import ConfiguredBackends
from taskito.serialization.serializers import DEFAULT, load_call
from taskito_core.hookspecs import hookimpl
from taskito_core.job import Job, NewJob, Receipt
from tests.client.conftest import Work

Add = Task[..., int]


@pytest.fixture
def add(queue: Queue) -> Add:
    @queue.task(name="add", queue="sums", priority=2, result_ttl=60)
    def add(a: int, b: int = 0, *, c: int = 0) -> int:
        return a + b + c

    return add


def stored(queue: Queue, job_id: str) -> Job:
    [job] = queue.storage.get([job_id])
    return job


def call_of(job: Job) -> tuple[list[Any], dict[str, Any]]:
    return load_call(DEFAULT, job.payload)[:2]


def test_delay_stores_the_call_as_the_task_says(queue: Queue, add: Add) -> None:
    job = stored(queue, add.delay(1, b=2).id)

    assert call_of(job) == ([1], {"b": 2})
    assert (job.task_name, job.queue, job.priority, job.result_ttl) == ("add", "sums", 2, 60.0)
    # Left to the worker, so that a changed policy holds for jobs that are waiting already.
    assert (job.max_retries, job.timeout) == (None, None)
    assert (job.metadata, job.tags) == (None, ())


def test_every_option_of_a_call_is_stored(queue: Queue, add: Add) -> None:
    eta = datetime(2040, 1, 2, 3, 4, 5, 678_001, tzinfo=timezone(timedelta(hours=2)))

    result = add.using(
        queue="other",
        priority=-7,
        eta=eta,
        max_retries=0,
        timeout=0,
        result_ttl=None,
        metadata={"user": 7, "what": {"a": [None, "ü"]}},
        tags=["x", "y", "x"],
        id="my-own-id",
    ).delay(1)

    job = stored(queue, "my-own-id")
    assert result.id == "my-own-id"
    assert (job.queue, job.priority, job.max_retries, job.timeout, job.result_ttl) == (
        "other",
        -7,
        0,
        0.0,
        None,
    )
    assert job.scheduled_at == int(eta.timestamp()) * 1000 + 679  # rounded up: never before its time
    assert result.metadata == {"user": 7, "what": {"a": [None, "ü"]}}
    assert job.tags == ("x", "y")


def test_delay_counts_on_the_clock_of_the_store(queue: Queue, add: Add) -> None:
    job = stored(queue, add.using(delay=timedelta(minutes=5)).delay(1).id)

    assert job.scheduled_at - job.created_at == 300_000


def test_options_add_up_and_the_last_word_wins(queue: Queue, add: Add) -> None:
    call = add.using(priority=1, tags=["a"]).using(priority=9)

    job = stored(queue, call.delay(1).id)

    assert (job.priority, job.tags) == (9, ("a",))


def test_all_ways_of_enqueueing_store_the_same(queue: Queue, add: Add) -> None:
    results = [
        add.using(priority=5).delay(1, b=2),
        add.apply_async((1,), {"b": 2}, priority=5),
        queue.enqueue("add", [1], {"b": 2}, priority=5),
        *queue.enqueue_many([add.using(priority=5).spec(1, b=2)]),
        *queue.enqueue_many([{"task_name": "add", "args": (1,), "kwargs": {"b": 2}, "priority": 5}]),
    ]

    jobs = [stored(queue, result.id) for result in results]

    assert {(job.task_name, job.queue, job.priority, job.result_ttl, job.payload) for job in jobs} == {
        ("add", "sums", 5, 60.0, jobs[0].payload)
    }
    assert len({job.id for job in jobs}) == 5


def test_a_task_that_is_not_known_here_can_be_enqueued_by_name(backend_url: str) -> None:
    with Queue(db_url=backend_url, default_priority=4, result_ttl=9) as queue:
        job = stored(queue, queue.enqueue("elsewhere.task", (1,), {"x": 2}).id)

    assert (job.queue, job.priority, job.result_ttl) == ("default", 4, 9.0)
    assert call_of(job) == ([1], {"x": 2})


def test_map_makes_one_job_per_item_in_order(queue: Queue, add: Add) -> None:
    results = add.using(tags=["m"]).map(range(3))

    assert [call_of(stored(queue, result.id)) for result in results] == [([0], {}), ([1], {}), ([2], {})]
    assert add.map([]) == []
    with pytest.raises(ConfigError, match="cannot share the id"):
        add.using(id="x").map([1, 2])


def test_jobs_of_one_batch_run_in_its_order(queue: Queue, add: Add, work: Work) -> None:
    specs: list[JobSpec] = [{"task_name": "add", "args": (n,)} for n in range(100)]
    enqueued = [result.id for result in queue.enqueue_many(specs)]
    mapped = [result.id for result in add.map(range(100))]

    ran = [outcome.job_id for outcome in work(limit=200)]

    assert [job_id for job_id in ran if job_id in set(enqueued)] == enqueued
    assert [job_id for job_id in ran if job_id in set(mapped)] == mapped


def test_enqueue_many_gives_each_job_its_own_options(queue: Queue, add: Add) -> None:
    specs: list[JobSpec] = [
        {"task_name": "add", "args": (n,), "priority": n, "queue": f"q{n % 3}", "delay": n}
        for n in range(300)
    ]

    jobs = [stored(queue, result.id) for result in queue.enqueue_many(iter(specs))]

    assert [job.priority for job in jobs] == list(range(300))
    assert [job.queue for job in jobs] == [f"q{n % 3}" for n in range(300)]
    assert [job.scheduled_at - job.created_at for job in jobs] == [n * 1000 for n in range(300)]


def test_enqueue_many_stores_all_or_none(queue: Queue, add: Add) -> None:
    with pytest.raises(SerializationError, match=r"args\[0\]: type object"):
        queue.enqueue_many([add.spec(1), {"task_name": "add", "args": (object(),)}])
    with pytest.raises(ConfigError, match="priority"):
        queue.enqueue_many([add.spec(1), {"task_name": "add", "args": (1,), "priority": True}])

    assert queue.stats()["pending"] == 0


def test_an_id_that_is_stored_already_changes_nothing(queue: Queue, add: Add) -> None:
    first = add.using(id="once").delay(1)
    second = add.using(id="once").delay(2)

    assert first == second
    assert call_of(stored(queue, "once")) == ([1], {})
    assert queue.stats()["pending"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": True},
        {"priority": "high"},
        {"priority": 2**31},
        {"delay": -1},
        {"delay": math.nan},
        {"delay": math.inf},
        {"delay": "5"},
        {"delay": True},
        {"delay": 1e12},
        {"eta": datetime(2030, 1, 1)},
        {"eta": 12345},
        {"eta": "2030-01-01"},
        {"eta": datetime(2030, 1, 1, tzinfo=UTC), "delay": 1},
        {"queue": ""},
        {"queue": "a,b"},
        {"queue": "a\0b"},
        {"queue": "x" * 256},
        {"max_retries": -1},
        {"max_retries": False},
        {"timeout": -1},
        {"timeout": math.nan},
        {"result_ttl": -0.5},
        {"metadata": [1]},
        {"metadata": "{}"},
        {"metadata": {"a": (1, 2)}},
        {"metadata": {"a": math.nan}},
        {"metadata": {"a": "\0"}},
        {"metadata": {"a": "\ud800"}},
        {"metadata": {1: 2}},
        {"tags": "abc"},
        {"tags": [""]},
        {"tags": [1]},
        {"id": ""},
        {"id": 7},
        {"id": "a b\n"},
    ],
)
def test_options_that_make_no_sense_are_refused_and_nothing_is_stored(
    tmp_path: Any, wrong: dict[str, Any]
) -> None:
    queue = Queue(tmp_path / "never.db")
    task = queue.task(name="t")(len)

    for enqueue in (
        lambda: task.using(**wrong),
        lambda: task.apply_async(("x",), **wrong),
        lambda: queue.enqueue("t", ("x",), **wrong),
        lambda: queue.enqueue("unknown", ("x",), **wrong),
        lambda: queue.enqueue_many([{"task_name": "t", "args": ("x",), **wrong}]),  # type: ignore[typeddict-item]
    ):
        with pytest.raises(ConfigError):
            enqueue()
    assert list(tmp_path.iterdir()) == []


def test_none_means_not_said_but_for_timeout_and_result_ttl(queue: Queue) -> None:
    task = queue.task(name="t", timeout=9, result_ttl=5, priority=3)(len)

    job = stored(queue, task.apply_async(("x",), priority=None, timeout=None, result_ttl=None).id)  # type: ignore[arg-type]

    assert (job.priority, job.timeout, job.result_ttl) == (3, 0.0, None)


def test_a_timeout_below_the_soft_timeout_of_the_task_is_refused(queue: Queue) -> None:
    task = queue.task(name="t", soft_timeout=10)(len)

    with pytest.raises(ConfigError, match="timeout 5 must be above the task's soft_timeout 10"):
        task.using(timeout=5)
    task.using(timeout=0)


def test_unknown_options_name_the_nearest(queue: Queue, add: Add) -> None:
    with pytest.raises(
        TypeError, match=r"using\(\) of task 'add' has no option 'prio'; did you mean 'priority'"
    ):
        add.using(prio=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no option 'uniq_key'; did you mean 'unique_key'"):
        queue.enqueue("add", (1,), uniq_key="x")  # type: ignore[call-arg]
    with pytest.raises(
        TypeError, match=r"job 1 of enqueue_many\(\) has no option 'dealy'; did you mean 'delay'"
    ):
        queue.enqueue_many([add.spec(1), {"task_name": "add", "args": (1,), "dealy": 1}])  # type: ignore[typeddict-unknown-key]
    with pytest.raises(TypeError, match=r"job 0 of enqueue_many\(\) has no task_name"):
        queue.enqueue_many([{"args": (1,)}])  # type: ignore[typeddict-item]
    with pytest.raises(TypeError, match="must be a mapping"):
        queue.enqueue_many(["add"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"a": 2}), ((1,), {"d": 2}), ((), {"b": 1})]
)
def test_arguments_that_the_function_does_not_take_are_refused_at_the_call(
    tmp_path: Path, args: Any, kwargs: Any
) -> None:
    queue = Queue(tmp_path / "never.db")

    @queue.task(name="add")
    def add(a: int, b: int = 0, *, c: int = 0) -> int:
        return a + b + c

    for enqueue in (lambda: add.delay(*args, **kwargs), lambda: queue.enqueue("add", args, kwargs)):
        with pytest.raises(TypeError, match=r"task 'add' takes \(a: "):
            enqueue()


@pytest.mark.parametrize(
    ("task_name", "args", "kwargs"),
    [
        ("", (), None),
        (None, (), None),
        ("a\nb", (), None),
        ("t", "abc", None),
        ("t", 5, None),
        ("t", {1}, None),
        ("t", (), [1]),
        ("t", (), {1: 2}),
    ],
)
def test_calls_that_make_no_sense_are_refused(tmp_path: Any, task_name: Any, args: Any, kwargs: Any) -> None:
    with pytest.raises(ConfigError, match=", got"):
        Queue(tmp_path / "never.db").enqueue(task_name, args, kwargs)


def test_a_payload_over_the_limit_is_refused(backend_url: str) -> None:
    with Queue(db_url=backend_url, max_payload=100) as queue:
        task = queue.task(name="t")(len)
        with pytest.raises(
            PayloadTooLarge, match="arguments of task 't' take 109 bytes and max_payload is 100"
        ):
            task.delay("x" * 100)
        task.delay("x" * 90)

        assert queue.stats()["pending"] == 1


def test_arguments_that_cannot_be_stored_say_their_path(queue: Queue, add: Add) -> None:
    with pytest.raises(
        SerializationError, match=r"cannot serialise kwargs\['b'\]\[1\]: type object has no form"
    ):
        add.delay(1, b=[1, object()])

    assert queue.stats()["pending"] == 0


class Watcher:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    @hookimpl
    def taskito_jobs_enqueued(self, jobs: Sequence[NewJob]) -> None:
        self.batches.append([job.id for job in jobs])
        raise RuntimeError("an observer cannot break the producer")


@pytest.fixture
def watcher(queue: Queue) -> Iterator[Watcher]:
    watcher = Watcher()
    queue.plugins.register(watcher, "watcher")
    yield watcher
    queue.plugins.unregister("watcher")


def test_plugins_see_what_was_stored_once_per_batch(queue: Queue, add: Add, watcher: Watcher) -> None:
    one = add.using(id="one").delay(1)
    many = add.map([1, 2])
    add.using(id="one").delay(1)
    queue.enqueue_many([])

    assert watcher.batches == [[one.id], [result.id for result in many]]


class LostAnswer:
    """A store whose first commit succeeds, but whose answer is lost on the way."""

    def __init__(self, queue: Queue) -> None:
        self.storage = queue.storage
        self.calls = 0

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Receipt]:
        self.calls += 1
        receipts = self.storage.enqueue(jobs)
        if self.calls == 1:
            raise StorageUnavailable("the connection was lost while committing")
        return receipts

    def close(self) -> None:
        self.storage.close()


def test_a_commit_whose_answer_was_lost_stores_the_job_once(
    queue: Queue, add: Add, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    lossy = LostAnswer(queue)
    monkeypatch.setattr(ConfiguredBackends, "storage", lossy)

    result = add.delay(1)

    monkeypatch.undo()
    assert lossy.calls == 2
    assert queue.stats()["pending"] == 1
    assert stored(queue, result.id).task_name == "add"
    assert watcher.batches == [[result.id]]


PRODUCER = """
import sys
from taskito import Queue
with Queue(db_url=sys.argv[1]) as queue:
    task = queue.task(name="t")(lambda x: x)
    for n in range(60):
        task.delay(n)
    task.map(range(200))
"""


def test_many_producers_at_once_never_see_each_other(backend_url: str) -> None:
    """Also the first start: each of them would create the schema."""
    words = [sys.executable, "-c", PRODUCER, backend_url]
    producers = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(4)]

    told = [p.communicate(timeout=100)[1] for p in producers]
    assert [p.returncode for p in producers] == [0] * 4
    [made] = "".join(told).splitlines()
    assert made.endswith(": made a new one"), "and only the one that made it says so"
    with Queue(db_url=backend_url) as queue:
        assert queue.stats()["pending"] == 4 * 260
