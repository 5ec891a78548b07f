"""What keeps a job from being stored or run: unique keys, expiry, dependencies, places of a key."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from taskito import ConfigError, JobNotFoundError, JobStatus, Queue, Task, TaskCancelledError
from taskito.client.options.key_template import LONGEST_KEY
from taskito_core.hookspecs import hookimpl
from taskito_core.job import Job, NewJob
from tests.client.conftest import Work

HOUR = 3600


@pytest.fixture
def task(queue: Queue) -> Task[..., Any]:
    @queue.task(name="t")
    def t(*args: Any) -> Any:
        if args == ("fail",):
            raise ValueError("on purpose")
        return args

    return t


def stored(queue: Queue, job_id: str) -> Job:
    [job] = queue.storage.get([job_id])
    return job


# ---- unique keys ----


def test_a_unique_key_gives_the_job_that_holds_it_until_that_has_ended(
    queue: Queue, task: Task[..., Any], work: Work
) -> None:
    first = task.using(unique_key="k").delay(1)

    again = [
        task.using(unique_key="k").delay(2),
        task.apply_async((2,), unique_key="k"),
        queue.enqueue("t", (2,), unique_key="k"),
        *queue.enqueue_many([task.using(unique_key="k").spec(2), task.using(unique_key="k").spec(3)]),
    ]
    assert set(again) == {first}
    work()

    assert first.result(0) == (1,)
    assert task.using(unique_key="k").delay(4) != first


def test_the_first_of_a_batch_holds_the_key(queue: Queue, task: Task[..., Any]) -> None:
    first, second, other = queue.enqueue_many(
        [task.using(unique_key=key).spec(n) for n, key in enumerate(["k", "k", "other"])]
    )

    assert first == second != other
    assert queue.stats()["pending"] == 2


def test_plugins_hear_of_jobs_that_were_stored_and_not_of_those_somebody_may_roll_back(
    tmp_path: Path,
) -> None:
    heard: list[str] = []

    class Observer:
        @hookimpl
        def taskito_jobs_enqueued(self, jobs: Sequence[NewJob]) -> None:
            heard.extend(job.id for job in jobs)

    with Queue(tmp_path / "own.db") as queue:
        queue.plugins.register(Observer(), "observer")
        task = queue.task(name="t")(lambda number: number)
        first = task.using(unique_key="k").delay(1)
        task.using(unique_key="k").delay(2)
        with closing(sqlite3.connect(tmp_path / "own.db")) as connection:
            own = task.using(connection=connection).delay(3)
            connection.commit()
        queue.plugins.unregister("observer")

        assert queue.get_job(own.id) is not None
        assert heard == [first.id]


def test_map_refuses_a_key_that_its_jobs_cannot_share(queue: Queue, task: Task[..., Any]) -> None:
    with pytest.raises(ConfigError, match="cannot share the unique_key that using"):
        task.using(unique_key="k").map([1, 2])

    assert queue.stats()["pending"] == 0


# ---- expiry ----


def test_expiry_is_a_span_from_the_insert_or_a_moment(queue: Queue, task: Task[..., Any]) -> None:
    moment = datetime(2040, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))

    in_a_minute = stored(queue, task.using(expires=60).delay().id)
    in_an_hour = stored(queue, task.using(expires=timedelta(hours=1)).delay().id)
    then = stored(queue, task.using(expires=moment).delay().id)

    assert in_a_minute.expires_at == in_a_minute.created_at + 60_000
    assert in_an_hour.expires_at == in_an_hour.created_at + 3_600_000
    assert then.expires_at == int(moment.timestamp()) * 1000


def test_a_job_that_has_expired_is_never_run_and_says_so(
    queue: Queue, task: Task[..., Any], work: Work
) -> None:
    job = task.using(expires=datetime(2020, 1, 1, tzinfo=UTC)).delay()

    assert work() == []
    queue.storage.sweep(100)

    with pytest.raises(TaskCancelledError, match=r"expired: not started by 2020-01-01T00:00:00"):
        job.result(0)


# ---- dependencies ----


def test_a_job_waits_for_those_it_depends_on_however_they_are_named(
    queue: Queue, task: Task[..., Any], work: Work
) -> None:
    one, two = task.delay(1), task.delay(2)
    handle = task.using(depends_on=one).delay()
    text = task.using(depends_on=one.id).delay()
    several = task.using(depends_on=(one, two.id, one)).delay()

    assert handle.dependencies == text.dependencies == [one.id]
    assert several.dependencies == sorted([one.id, two.id])
    assert one.dependents == sorted([handle.id, text.id, several.id])
    assert {outcome.job_id for outcome in work()} == {one.id, two.id}
    assert {outcome.job_id for outcome in work()} == {handle.id, text.id, several.id}


def test_a_job_of_a_batch_may_depend_on_one_before_it(queue: Queue, task: Task[..., Any]) -> None:
    parent, child = queue.enqueue_many(
        [task.using(id="parent").spec(1), task.using(depends_on="parent").spec(2)]
    )

    assert child.dependencies == [parent.id]


def test_what_depends_on_a_failed_or_cancelled_job_is_cancelled_and_names_it(
    queue: Queue, task: Task[..., Any], work: Work
) -> None:
    failing, cancelled = task.delay("fail"), task.using(delay=HOUR).delay()
    child = task.using(depends_on=[failing]).delay()
    grandchild = task.using(depends_on=[child]).delay()
    other = task.using(depends_on=[cancelled]).delay()

    work()
    cancelled.cancel()

    assert child.error == f"parent {failing.id} was dead"
    assert grandchild.error == f"parent {child.id} was cancelled"
    assert other.error == f"parent {cancelled.id} was cancelled"
    assert {job.status for job in (child, grandchild, other)} == {JobStatus.CANCELLED}


def test_a_parent_that_is_not_stored_is_refused_and_so_is_the_job_itself(
    queue: Queue, task: Task[..., Any]
) -> None:
    task.using(delay=HOUR).delay("bystander")

    for wrong in (
        lambda: task.using(depends_on="nosuch").delay(),
        lambda: task.using(id="me", depends_on="me").delay(),
        lambda: queue.enqueue_many([task.using(depends_on="later").spec(), task.using(id="later").spec()]),
    ):
        with pytest.raises(JobNotFoundError, match=r"parent.*(nosuch|me|later)"):
            wrong()
    assert queue.stats()["pending"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"unique_key": ""},
        {"unique_key": 7},
        {"unique_key": "x" * 256},
        {"expires": -1},
        {"expires": datetime(2030, 1, 1)},
        {"expires": "tomorrow"},
        {"expires": float("nan")},
        {"depends_on": []},
        {"depends_on": [""]},
        {"depends_on": 7},
        {"depends_on": [None]},
    ],
)
def test_conditions_that_make_no_sense_are_refused_at_every_door(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    queue = Queue(tmp_path / "never.db")
    task = queue.task(name="t")(lambda: None)
    [name] = wrong

    for enqueue in (
        lambda: task.using(**wrong),
        lambda: task.apply_async(**wrong),
        lambda: queue.enqueue("unknown", **wrong),
        lambda: queue.enqueue_many([{"task_name": "t", **wrong}]),  # type: ignore[typeddict-item]
        lambda: task.s().apply(**wrong),
    ):
        with pytest.raises(ConfigError, match=name):
            enqueue()
    assert list(tmp_path.iterdir()) == []


# ---- places ----


def test_a_key_is_filled_from_the_arguments_as_the_function_gets_them(queue: Queue) -> None:
    @queue.task(name="b", concurrency=2, concurrency_key="{user[name]}/{region:>4}/{items[0]}")
    def b(user: dict[str, str], items: list[str], *, region: str = "eu") -> None: ...

    jobs = [
        b.delay({"name": "ann"}, ["x"]),
        b.delay({"name": "bob"}, items=["y"], region="us"),
        queue.enqueue("b", ({"name": "eve"}, ["z"]), {"region": "asia"}),
        *b.using(delay=1).map([]),
        *queue.enqueue_many([b.spec({"name": "dan"}, [""])]),
    ]

    assert [stored(queue, job.id).concurrency_key for job in jobs] == [
        *("b:ann/  eu/x", "b:bob/  us/y", "b:eve/asia/z", "b:dan/  eu/"),
    ]


def test_without_a_template_all_jobs_of_a_task_share_its_places(queue: Queue, work: Work) -> None:
    task = queue.task(name="t", concurrency=2)(lambda number: number)

    jobs = [task.delay(number) for number in range(5)]

    assert {stored(queue, job.id).concurrency_key for job in jobs} == {"t"}
    assert [job.to_dict()["waits_behind"] for job in jobs] == [None, None, "key", "key", "key"]
    assert [len(work()) for _ in range(4)] == [2, 2, 1, 0]


def test_a_job_in_excess_is_dropped_if_the_task_says_so(queue: Queue, work: Work) -> None:
    task = queue.task(name="t", concurrency=1, on_excess="drop")(lambda: "done")

    first, second = task.delay(), task.delay()
    work()

    assert first.result(0) == "done"
    with pytest.raises(TaskCancelledError, match="dropped: all 1 places of 't' are taken"):
        second.result(0)


def test_long_keys_that_differ_anywhere_are_two_and_odd_ones_can_be_stored(queue: Queue) -> None:
    task = queue.task(name="t", concurrency=1, concurrency_key="{text}")(lambda text: None)

    texts = [
        "x" * 5000,
        "x" * 2500 + "y" + "x" * 2499,
        "x" * 4999 + "y",
        "a\0b",
    ]
    keys = [stored(queue, task.delay(text).id).concurrency_key or "" for text in texts]

    assert len(set(keys[:3])) == 3
    assert max(map(len, keys)) == LONGEST_KEY
    assert keys[3] == "t:a\\x00b"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency must be a whole number from 1"),
        ({"concurrency": True}, "concurrency must be a whole number"),
        ({"concurrency": "2"}, "concurrency must be a whole number"),
        ({"concurrency_key": "{a}"}, "concurrency_key of task 't' needs concurrency"),
        ({"on_excess": "drop"}, "on_excess='drop' of task 't' needs concurrency"),
        ({"on_excess": "queue"}, "on_excess must be 'wait' or 'drop', got 'queue'"),
        ({"concurrency": 1, "on_excess": None}, "on_excess must be 'wait' or 'drop', got None"),
        ({"concurrency": 1, "concurrency_key": ""}, "concurrency_key must be text such as"),
        ({"concurrency": 1, "concurrency_key": 7}, "concurrency_key must be text such as"),
        ({"concurrency": 1, "concurrency_key": "{c}"}, "has a field 'c', its arguments are: a, b"),
        ({"concurrency": 1, "concurrency_key": "{a}{}"}, "has a field ''"),
        ({"concurrency": 1, "concurrency_key": "{0}"}, "has a field '0'"),
        ({"concurrency": 1, "concurrency_key": "{a"}, "is no format text"),
        ({"rate_limit": "many"}, "rate_limit must be a count from 1 to 999999999 per time"),
        ({"rate_limit": 5}, "rate_limit must be a count from 1 to 999999999 per time"),
        ({"circuit_breaker": 5}, "circuit_breaker must be a mapping with a threshold"),
        ({"circuit_breaker": {"treshold": 5}}, "circuit_breaker has no 'treshold'; did you mean 'threshold'"),
        (
            {"circuit_breaker": {"threshold": 5, "window": 0}},
            "window of circuit_breaker must be seconds above 0",
        ),
    ],
)
def test_options_of_a_task_that_make_no_sense_are_refused_where_they_are_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    queue = Queue(tmp_path / "never.db")

    with pytest.raises(ConfigError, match=message):
        queue.task(name="t", **options)(lambda a, b=0: None)  # type: ignore[call-overload]

    assert list(queue.tasks) == []
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_a_call_does_not_fill_is_refused_at_the_call(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "never.db")
    task = queue.task(name="t", concurrency=1, concurrency_key="{a[name]}")(lambda a: None)

    for call in (task.delay, lambda value: queue.enqueue("t", (value,))):
        for value in ({}, 7, None):
            with pytest.raises(ConfigError, match="cannot be filled from this call"):
                call(value)


def test_tasks_with_limits_wait_in_a_lane_of_their_own(queue: Queue) -> None:
    plain = queue.task(name="plain", concurrency=5)(lambda: None)
    limited = queue.task(name="limited", rate_limit="5/s")(lambda: None)
    broken = queue.task(name="broken", circuit_breaker={"threshold": 2})(lambda: None)

    lanes = [queue.storage.facts(task.delay().id).lane for task in (plain, limited, broken)]  # type: ignore[union-attr]

    assert lanes == ["", "limited", "broken"]
