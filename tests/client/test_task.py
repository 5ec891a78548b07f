"""Decorating: what becomes of the options, and what is refused."""

from __future__ import annotations

import asyncio
import functools
import math
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskito import ConfigError, JsonSerializer, PickleSerializer, Queue, Task


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "never.db")


def test_a_bare_decorator_takes_everything_from_the_queue(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "x", default_retry=7, default_timeout=12, default_priority=3, result_ttl=60)

    @queue.task
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    policy = add.policy
    assert (policy.queue, policy.timeout, policy.soft_timeout) == ("default", 12.0, None)
    assert policy.retry.max_crashes == 2
    assert (policy.retry.max_retries, policy.retry.backoff, policy.retry.max_delay) == (7, 1.0, 300.0)
    assert (add.template.defaults["priority"], add.template.defaults["result_ttl"]) == (3, 60.0)
    assert add.__doc__ == "Add."
    assert add(1, 2) == 3
    assert queue.tasks == {add.name: add}


def test_options_of_a_task_win_over_the_queue_also_when_they_are_zero(queue: Queue) -> None:
    @queue.task(
        name="t",
        max_retries=0,
        retry_backoff=timedelta(seconds=2),
        retry_delays=[1, 2.5],
        max_retry_delay=10,
        retry_jitter=False,
        timeout=0,
        soft_timeout=5,
        priority=-3,
        queue="mail",
        result_ttl=0,
    )
    def send() -> None: ...

    policy = send.policy
    assert (policy.name, policy.queue, policy.timeout, policy.soft_timeout) == ("t", "mail", 0.0, 5.0)
    assert policy.retry.max_retries == 0
    assert policy.retry.delays == (1.0, 2.5)
    assert (policy.retry.backoff, policy.retry.max_delay, policy.retry.jitter) == (2.0, 10.0, False)
    assert (send.template.defaults["priority"], send.template.defaults["result_ttl"]) == (-3, 0.0)


def test_how_often_a_task_may_crash_is_said_by_it_or_by_its_queue(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "never.db", max_crashes=0)

    assert queue.task(len).policy.retry.max_crashes == 0
    assert queue.task(max_crashes=5)(sum).policy.retry.max_crashes == 5
    assert Queue(max_crashes=7).task(max_crashes=0)(sum).policy.retry.max_crashes == 0


def test_timeout_none_means_no_limit(queue: Queue) -> None:
    assert queue.task(timeout=None)(len).policy.timeout == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": " x"},
        {"name": "a\nb"},
        {"name": "x" * 256},
        {"name": 5},
        {"max_retries": -1},
        {"max_retries": True},
        {"max_retries": 1.0},
        {"max_retries": "3"},
        {"max_retries": 2**31},
        {"max_crashes": -1},
        {"max_crashes": False},
        {"max_crashes": "0"},
        {"retry_backoff": -1},
        {"retry_backoff": math.nan},
        {"retry_backoff": math.inf},
        {"retry_backoff": True},
        {"retry_delays": []},
        {"retry_delays": [1, -1]},
        {"retry_delays": 5},
        {"retry_delays": "5"},
        {"max_retry_delay": -1},
        {"retry_jitter": 1},
        {"retry_on": "ValueError"},
        {"retry_on": (ValueError, 3)},
        {"retry_on": int},
        {"dont_retry_on": ValueError()},
        {"timeout": -1},
        {"timeout": "5"},
        {"timeout": 1e12},
        {"soft_timeout": 300},
        {"soft_timeout": 10, "timeout": 10},
        {"soft_timeout": math.nan},
        {"priority": True},
        {"priority": 2**31},
        {"priority": 0.5},
        {"queue": ""},
        {"queue": "a,b"},
        {"queue": None},
        {"result_ttl": -1},
        {"serializer": JsonSerializer},
        {"serializer": "json"},
    ],
)
def test_options_that_make_no_sense_are_refused_at_decoration(queue: Queue, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r", got|must be below"):
        queue.task(**wrong)(lambda: None)

    assert queue.tasks == {}


def test_an_option_that_does_not_exist_is_a_type_error_that_knows_the_nearest(queue: Queue) -> None:
    with pytest.raises(TypeError, match="no option 'max_retry'; did you mean 'max_retries'"):
        queue.task(max_retry=3)  # type: ignore[call-overload]


def test_two_functions_cannot_have_one_name(queue: Queue) -> None:
    @queue.task(name="same")
    def one() -> None: ...

    with pytest.raises(ConfigError, match=r"two functions want to be task 'same': .*one.*test_task.py"):

        @queue.task(name="same")
        def two() -> None: ...

    assert queue.tasks["same"] is one


def test_defining_the_same_function_again_replaces_it(queue: Queue) -> None:
    def define() -> Task[[], None]:
        @queue.task
        def again() -> None: ...

        return again

    first, second = define(), define()

    assert list(queue.tasks.values()) == [second]
    assert first is not second


def test_what_would_not_run_is_no_task(queue: Queue) -> None:
    def generator() -> Iterator[int]:
        yield 1

    async def async_generator() -> AsyncIterator[int]:
        yield 1

    class Thing:
        def __init__(self, *parts: object) -> None: ...
        def method(self) -> None: ...
        @classmethod
        def of_class(cls) -> None: ...
        @functools.wraps(method)
        def wrapped(*args: object) -> None: ...
        def __call__(self) -> Iterator[int]:
            yield 1

    already = queue.task(lambda: 1)
    for function, said in [
        (generator, "generator"),
        (async_generator, "generator"),
        (Thing, "must be a function"),
        (7, "must be a function"),
        (already, "is a task already"),
        (functools.partial(print), r"has no name of its own; give it one: queue.task\(name="),
        (Thing(), "generator"),
        (functools.partial(generator), "generator"),
        (Thing.method, r"Thing.method \(.*test_task.py:\d+\) is a method, .*queue.task\(thing.method\)"),
        (Thing.wrapped, "is a method"),
        (vars(Thing)["of_class"], r"is a class method; below its class say queue.task\(.*Thing.of_class\)"),
        ("mail.send", r"to name it say @queue.task\(name='mail.send'\)"),
    ]:
        with pytest.raises(ConfigError, match=said):
            queue.task(function)  # type: ignore[call-overload]


def test_what_a_job_can_call_by_a_name_is_a_task(queue: Queue) -> None:
    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        def sell(self, what: str) -> str:
            return f"{self.name}: {what}"

        @classmethod
        def open(cls, name: str) -> str:
            return f"{cls.__name__} {name}"

        @queue.task(name="above")
        @staticmethod
        def above(x: int) -> int:
            return x

        @staticmethod
        @queue.task(name="below")
        def below(x: int) -> int:
            return x

        async def __call__(self) -> str:
            return self.name

    def times(n: int) -> Callable[[int], int]:
        return lambda x: n * x

    made = {
        "method": (queue.task(name="method")(Shop("a").sell), ("tea",), "a: tea"),
        "class method": (queue.task(Shop.open), ("b",), "Shop b"),
        "partial": (queue.task(name="partial")(functools.partial(pow, 2)), (3,), 8),
        "factory": (queue.task(name="factory")(times(4)), (5,), 20),
        "object": (queue.task(name="object")(Shop("c")), (), "c"),
        "static above": (Shop.above, (1,), 1),
        "static below": (Shop("d").below, (1,), 1),
    }

    with queue.test_mode():
        for what, (task, arguments, result) in made.items():
            assert task.delay(*arguments).result() == result, what


def test_a_coroutine_function_is_called_as_one(queue: Queue) -> None:
    @queue.task
    async def double(x: int) -> int:
        return 2 * x

    assert double.is_async
    assert asyncio.run(double(4)) == 8
    assert not queue.task(len).is_async


def test_retry_on_and_dont_retry_on_take_classes_and_tuples_and_the_second_wins(queue: Queue) -> None:
    only = queue.task(retry_on=OSError)(lambda: 1)
    never = queue.task(name="n", dont_retry_on=(ValueError, KeyError))(lambda: 1)
    both = queue.task(name="b", retry_on=(OSError,), dont_retry_on=FileNotFoundError)(lambda: 1)
    plain = queue.task(len)

    assert [only.is_retryable(e) for e in (ConnectionError(), ValueError())] == [True, False]
    assert [never.is_retryable(e) for e in (OSError(), KeyError())] == [True, False]
    assert [both.is_retryable(e) for e in (OSError(), FileNotFoundError(), KeyError())] == [
        True,
        False,
        False,
    ]
    assert plain.is_retryable(SystemExit())


def test_a_group_of_exceptions_is_what_all_of_its_members_are(queue: Queue) -> None:
    only = queue.task(retry_on=OSError)(lambda: 1)
    never = queue.task(name="n", dont_retry_on=ValueError)(lambda: 1)
    itself = queue.task(name="i", dont_retry_on=ExceptionGroup)(lambda: 1)
    deep: Exception = ConnectionError()
    for _ in range(5_000):
        deep = ExceptionGroup("deep", [deep])
    alike = ExceptionGroup("", [ConnectionError(), ExceptionGroup("", [TimeoutError()])])
    mixed = ExceptionGroup("", [ConnectionError(), ExceptionGroup("", [ValueError()])])
    wrong = ExceptionGroup("", [ValueError(), UnicodeError()])
    ending = BaseExceptionGroup("", [SystemExit(), OSError()])

    assert [only.is_retryable(e) for e in (alike, deep, mixed, wrong)] == [True, True, False, False]
    assert not only.is_retryable(ending)
    assert [never.is_retryable(e) for e in (alike, mixed, wrong, ending)] == [True, True, False, True]
    assert [itself.is_retryable(e) for e in (alike, ending)] == [False, True]


def test_a_task_may_have_a_serializer_of_its_own(queue: Queue) -> None:
    own = PickleSerializer(key="k")
    task = queue.task(serializer=own)(len)

    assert task.serializer is own
    assert queue.serializer_of(task.name) is own
    assert queue.serializer_of("unknown") is queue.serializer


@pytest.mark.parametrize("how", [["script.py"], ["-m", "script"]])
def test_a_script_that_is_run_names_its_tasks_as_a_worker_that_imports_it(
    tmp_path: Path, how: list[str]
) -> None:
    (tmp_path / "script.py").write_text(
        "from taskito import Queue\n"
        "from enum import Enum\n"
        "queue = Queue()\n"
        "class Color(Enum):\n    RED = 1\n"
        "@queue.task\ndef add(): pass\n"
        "if __name__ == '__main__':\n"
        "    data = queue.serializer.dumps(Color.RED)\n"
        "    print(add.name, data.decode(), queue.serializer.loads(data) is Color.RED)\n"
    )

    out = subprocess.check_output([sys.executable, *how], cwd=tmp_path, text=True, timeout=60)

    assert out.split() == ["script.add", '{"$enum":["script:Color","RED"]}', "True"]
