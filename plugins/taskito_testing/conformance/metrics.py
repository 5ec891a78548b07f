"""The metrics contract as tests: what is recorded is added up, read back, and forgotten in time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import pytest

from taskito_core.errors import StorageUnavailable
from taskito_core.metrics import Metrics, Tally
from taskito_core.storage_worker import Retention
from taskito_testing.conformance.processes import Actors
from taskito_testing.conformance.suite import Suite
from taskito_testing.opening import open_metrics, unreachable_variant

_ACTOR = Path(__file__).with_name("metrics_actor.py")
_CALLS: dict[str, Callable[[Metrics], object]] = {
    "record": lambda sink: sink.record([tally()]),
    "read": lambda sink: sink.read(None, 3600),
}


class Connect(Protocol):
    """Opens one more object for the sink under test; it is closed when the test ends."""

    def __call__(self, **options: Any) -> Metrics: ...


def tally(task_name: str = "task", queue: str = "default", *runs: float, failed: int = 0) -> Tally:
    """A tally of attempts that ran so many seconds (default: one of 1/4 s), the first ``failed`` in vain.

    Waits are eighths of a second, so that sums are exact in whatever order they are added.
    """
    made = Tally(task_name, queue)
    for number, ran in enumerate(runs or (0.25,)):
        made.add(number >= failed, ran, 0.125, 1_000_000)
    return made


class MetricsConformance(Suite):
    """Subclass it as ``TestSomething`` and define the fixture ``metrics_url``: an EMPTY sink per test."""

    @pytest.fixture
    def metrics_url(self) -> str:
        """The URL of an EMPTY sink for this one test, as the setting ``metrics`` names it. Override this."""
        raise NotImplementedError(f"{type(self).__name__} must define the fixture metrics_url")

    @pytest.fixture
    def metrics_schema(self) -> str:
        """The schema to use there. Override it only to share one database between tests."""
        return "taskito"

    @pytest.fixture
    def unreachable_url(self, metrics_url: str) -> str:
        """A URL at which no sink can be reached. Override it if the URL has no port."""
        url = unreachable_variant(metrics_url)
        if url is None:
            pytest.skip("the URL names no server and port, so the suite cannot make an unreachable one of it")
        return url

    @pytest.fixture
    def connect(self, metrics_url: str, metrics_schema: str) -> Iterator[Connect]:
        opened: list[Metrics] = []

        def connect(**options: Any) -> Metrics:
            opened.append(open_metrics(metrics_url, metrics_schema, **options))
            return opened[-1]

        yield connect
        for sink in opened:
            sink.close()

    @pytest.fixture
    def sink(self, connect: Connect) -> Metrics:
        return connect()

    @pytest.fixture
    def processes(self, metrics_url: str, metrics_schema: str) -> Iterator[Actors]:
        """Starts other processes that use the same sink; none outlives the test."""
        if self.single_process:
            pytest.skip("this sink lives inside one process: there is no other process to share it with")
        with Actors(metrics_url, metrics_schema, _ACTOR) as actors:
            yield actors

    @pytest.fixture
    def lone_process(self, metrics_url: str, metrics_schema: str) -> Iterator[Actors]:
        """Starts processes that share nothing with this one, so any sink can be used in them."""
        with Actors(metrics_url, metrics_schema, _ACTOR) as actors:
            yield actors

    # ---- what is recorded is read back ----

    def test_an_empty_sink_has_nothing_to_read(self, sink: Metrics) -> None:
        assert sink.read(None, 3600) == []
        assert sink.read("task", 3600) == []

    def test_what_is_recorded_is_read_back_as_it_was(self, sink: Metrics) -> None:
        recorded = tally("task", "default", 0.5, 0.25, 2.0, 0.0, failed=2)
        recorded.peak_memory = 2**40

        sink.record([recorded])

        assert sink.read("task", 3600) == [recorded]

    @pytest.mark.parametrize("ran", [0.0, 1e-9, 1e-6, 1.5e-6, 86_400.0, 1e9])
    def test_the_shortest_and_the_longest_runs_are_kept(self, sink: Metrics, ran: float) -> None:
        sink.record([tally("task", "default", ran)])

        assert sink.read("task", 3600) == [tally("task", "default", ran)]

    def test_numbers_are_kept_beyond_32_bits(self, sink: Metrics) -> None:
        many = Tally("task", "default", succeeded=2**40, failed=2**41, total_run=1e12, shortest_run=0.5)
        many.runs.add(0.5, 3 * 2**40)

        sink.record([many])
        sink.record([many])

        [found] = sink.read("task", 3600)
        assert (found.succeeded, found.failed, found.total_run) == (2**41, 2**42, 2e12)
        assert found.runs.count == 3 * 2**41

    @pytest.mark.parametrize("name", ["täsk 任务 🎈", "a'b\"c\\d%s{}", "x" * 255])
    def test_names_are_kept_as_they_are(self, sink: Metrics, name: str) -> None:
        sink.record([tally(name, name)])

        assert sink.read(name, 3600) == [tally(name, name)]

    def test_tallies_are_read_by_task_and_queue_in_order(self, sink: Metrics) -> None:
        sink.record([tally("b", "y"), tally("a", "z"), tally("b", "x")])

        assert [(one.task_name, one.queue) for one in sink.read(None, 3600)] == [
            *[("a", "z"), ("b", "x"), ("b", "y")]
        ]

    def test_of_one_task_only_that_task_is_read(self, sink: Metrics) -> None:
        sink.record([tally("a"), tally("b"), tally("b", "other")])

        assert sink.read("b", 3600) == [tally("b"), tally("b", "other")]

    def test_another_object_reads_it_also_after_the_writer_closed(
        self, sink: Metrics, connect: Connect
    ) -> None:
        sink.record([tally()])
        assert connect().read(None, 3600) == [tally()]

        sink.close()

        assert connect().read(None, 3600) == [tally()]

    # ---- it adds up ----

    def test_what_is_recorded_of_one_task_and_queue_adds_up(self, sink: Metrics) -> None:
        first, second = tally("task", "default", 0.5, 2.0, failed=1), tally("task", "default", 0.25, 0.5)
        first.peak_memory = 5_000_000

        sink.record([first])
        sink.record([second])

        both = tally("task", "default", 0.5, 2.0, 0.25, 0.5, failed=1)
        both.peak_memory = 5_000_000
        assert sink.read("task", 3600) == [both]

    def test_an_attempt_whose_memory_is_unknown_lowers_no_peak(self, sink: Metrics) -> None:
        unknown = tally()
        unknown.peak_memory = 0

        sink.record([tally()])
        sink.record([unknown])

        assert sink.read("task", 3600)[0].peak_memory == 1_000_000

    def test_minutes_add_up(self, sink: Metrics) -> None:
        for minute in range(5):
            sink.clock_shift = minute * 60_000
            sink.record([tally("task", "default", 0.25, 0.5)])

        assert sink.read("task", 3600) == [tally("task", "default", *[0.25, 0.5] * 5)]

    def test_a_batch_that_was_recorded_is_left_as_it_was(self, sink: Metrics) -> None:
        batch = [tally()]

        sink.record(batch)
        sink.record(batch)

        assert batch == [tally()]

    def test_threads_lose_nothing_to_each_other(self, sink: Metrics, connect: Connect) -> None:
        writers = [sink, sink, connect(), connect()]

        def write(writer: Metrics) -> None:
            for _ in range(15):
                writer.record([tally("b"), tally("a")])

        with ThreadPoolExecutor(len(writers)) as threads:
            list(threads.map(write, writers))

        assert sink.read(None, 3600) == [tally(name, "default", *[0.25] * 60) for name in ("a", "b")]

    def test_processes_lose_nothing_to_each_other(self, sink: Metrics, processes: Actors) -> None:
        # Each names the tasks in another order: no two may wait for each other.
        orders = [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]]
        actors = [processes.start("record", tasks=order, times=25) for order in orders]
        for actor in actors:
            actor.go()
        assert [actor.hear() for actor in actors] == ["done"] * 3

        assert sink.read(None, 3600) == [tally(name, "default", *[0.25] * 75) for name in ("a", "b", "c")]

    def test_a_writer_that_is_killed_leaves_whole_batches(self, sink: Metrics, processes: Actors) -> None:
        actor = processes.start("record_for_ever", tasks=["a", "b", "c"])
        actor.go()
        for _ in range(10):
            actor.hear()

        actor.kill()

        counts = {one.task_name: one.count for one in sink.read(None, 3600)}
        assert counts["a"] == counts["b"] == counts["c"] >= 10

    # ---- time ----

    def test_what_is_older_is_not_read(self, sink: Metrics) -> None:
        sink.record([tally()])

        sink.clock_shift = 600_000

        assert sink.read(None, 300.0) == []
        assert sink.read("task", 300.0) == []
        assert sink.read(None, 900.0) == sink.read("task", 900.0) == [tally()]

    def test_the_minute_that_the_period_reaches_into_counts_whole(self, sink: Metrics) -> None:
        sink.record([tally()])

        assert sink.read("task", 0.0) == [tally()]

    @pytest.mark.parametrize("ahead", [3_600_000, 315_576_000_000])
    def test_what_was_recorded_ahead_of_a_clock_that_was_set_back_counts_as_of_now(
        self, sink: Metrics, ahead: int
    ) -> None:
        sink.clock_shift = ahead
        sink.record([tally("task", "default", 0.5), tally("other", "default", 0.5)])

        sink.clock_shift = 0
        sink.record([tally("task", "default", 1.0)])

        assert [(one.task_name, one.succeeded, one.longest_run) for one in sink.read(None, 60.0)] == [
            ("other", 1, 0.5),
            ("task", 2, 1.0),
        ]
        sink.clock_shift = ahead
        assert sink.read(None, 60.0) == []

    def test_what_is_kept_long_enough_is_forgotten(self, sink: Metrics, connect: Connect) -> None:
        sink.record([tally("old")])
        younger, later = connect(), connect()
        younger.clock_shift = 3_600_000
        younger.record([tally("young")])

        kept = Retention().metrics
        assert kept is not None
        later.clock_shift = round(kept * 1000) + 1_800_000
        later.record([tally("new")])

        assert [one.task_name for one in later.read(None, 30 * 86_400.0)] == ["new", "young"]

    # ---- life ----

    def test_every_method_of_the_contract_is_there(self, sink: Metrics) -> None:
        assert sink.clock_shift == 0
        assert all(callable(getattr(sink, name, None)) for name in ("record", "read", "close"))

    def test_a_closed_sink_opens_again_and_may_be_closed_twice(self, sink: Metrics) -> None:
        sink.record([tally()])
        sink.close()
        sink.close()

        sink.record([tally()])

        assert sink.read("task", 3600)[0].count == 2

    def test_opening_a_sink_does_no_io(self, unreachable_url: str) -> None:
        open_metrics(unreachable_url).close()

    @pytest.mark.parametrize("call", list(_CALLS))
    def test_a_sink_that_cannot_be_reached_is_unavailable_and_says_why(
        self, unreachable_url: str, call: str
    ) -> None:
        sink = open_metrics(unreachable_url)
        try:
            with pytest.raises(StorageUnavailable) as caught:
                _CALLS[call](sink)
        finally:
            sink.close()

        assert isinstance(caught.value.__cause__, Exception)
        assert str(caught.value)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
    def test_a_sink_carried_across_a_fork_is_refused_in_the_child(self, lone_process: Actors) -> None:
        actor = lone_process.start("use_after_fork")
        actor.go()

        in_child, count_in_parent = actor.hear(), actor.hear()

        assert in_child.startswith("refused: ")
        assert count_in_parent == 2
