"""Circuit breakers that many processes ask and tell at once, and the comparison with those in memory."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskito_core.job import new_id
from taskito_core.limits import BreakerOptions, BreakerState, CircuitBreaker
from taskito_core.storage import StorageConfig
from taskito_kv.limits import MemoryCircuitBreaker
from taskito_kv.store import forget
from taskito_testing.conformance.limits.breaker_base import (
    COOLDOWN,
    OPTIONS,
    WINDOW,
    BreakerSuite,
    Connect,
    admit,
    open_it,
    record,
)
from taskito_testing.conformance.processes import Actors
from taskito_testing.conformance.suite import same_in_every_run

_AS_LIST = [OPTIONS.threshold, OPTIONS.window, OPTIONS.cooldown]


class Sharing(BreakerSuite):
    def test_another_object_knows_what_was_told_to_the_first(
        self, breaker: CircuitBreaker, connect: Connect
    ) -> None:
        record(breaker, False, False)

        assert record(connect(), False) is BreakerState.OPEN
        assert not admit(breaker).admitted

    @pytest.mark.parametrize("name", ["täsk 任务 🎈", "a'b\"c\\d%s{}", "x" * 255])
    def test_names_are_kept_as_they_are(self, breaker: CircuitBreaker, name: str) -> None:
        open_it(breaker, name)

        assert [one.task_name for one in breaker.read()] == [name]
        assert breaker.reset(name)

    def test_closed_connections_open_again_and_nothing_is_forgotten(self, breaker: CircuitBreaker) -> None:
        open_it(breaker)
        breaker.close()
        breaker.close()

        assert not admit(breaker).admitted

    def test_failures_of_many_at_once_all_count(self, connect: Connect) -> None:
        many = BreakerOptions(threshold=41, window=WINDOW / 1000)
        tellers = [connect() for _ in range(4)]
        start = threading.Barrier(len(tellers))

        def tell(teller: CircuitBreaker) -> None:
            start.wait()
            for _ in range(10):
                record(teller, False, options=many)

        with ThreadPoolExecutor(len(tellers)) as threads:
            list(threads.map(tell, tellers))

        assert [one.failures for one in tellers[0].read()] == [40]
        assert record(tellers[0], False, options=many) is BreakerState.OPEN

    def test_failures_in_many_processes_all_count(self, breaker: CircuitBreaker, processes: Actors) -> None:
        many = [31, WINDOW / 1000, COOLDOWN / 1000]
        actors = [processes.start("fail", task="task", options=many, times=10) for _ in range(3)]
        for actor in actors:
            actor.go()
        assert [actor.hear() for actor in actors] == ["done"] * 3

        assert [one.failures for one in breaker.read()] == [30]

    def test_of_eight_processes_one_may_probe(self, breaker: CircuitBreaker, processes: Actors) -> None:
        # It opened one cooldown ago, so that for the others, whose clocks are right, it is over now.
        breaker.clock_shift = -COOLDOWN
        open_it(breaker)
        actors = [processes.start("probe", task="task", options=_AS_LIST) for _ in range(8)]

        for actor in actors:
            actor.go()

        assert sorted(actor.hear() for actor in actors) == [False] * 7 + [True]

    def test_a_killed_probe_is_replaced_after_the_cooldown(
        self, breaker: CircuitBreaker, processes: Actors
    ) -> None:
        breaker.clock_shift = -COOLDOWN
        open_it(breaker)
        victim = processes.start("probe", task="task", options=_AS_LIST)
        victim.go()
        assert victim.hear() is True

        victim.kill()

        breaker.clock_shift = COOLDOWN - 60_000
        assert not admit(breaker).admitted
        breaker.clock_shift = COOLDOWN
        assert admit(breaker) == (True, BreakerState.HALF_OPEN, 0.0)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
    def test_a_breaker_carried_across_a_fork_is_refused_in_the_child(self, lone_process: Actors) -> None:
        actor = lone_process.start("admit_after_fork")
        actor.go()

        in_child, admitted_in_parent = actor.hear(), actor.hear()

        assert in_child.startswith("refused: ")
        assert admitted_in_parent is True

    def test_random_calls_have_the_answers_of_the_breakers_in_memory(self, connect: Connect) -> None:
        reals = [connect(), connect()]
        options = st.builds(
            BreakerOptions,
            st.sampled_from([1, 2, 4]),
            st.sampled_from([1_500.0, 3_500.0]),
            st.sampled_from([1_500.0, 2_500.0]),
        )
        steps = st.lists(
            st.tuples(
                st.sampled_from(["admit", "admit", "record", "record", "withdraw", "reset"]),
                st.integers(0, 1),  # which of two objects
                st.lists(st.booleans(), min_size=1, max_size=3),
                options,
                st.sampled_from([0, 0, 1, 2, -1]),  # thousands of seconds that pass
            ),
            min_size=5,
            max_size=20,
        )

        @same_in_every_run(self.model_examples)
        @given(steps)
        def compare(sequence: list[tuple[str, int, list[bool], BreakerOptions, int]]) -> None:
            name, shift = new_id(), 0
            config = StorageConfig(backend="memory", db_url=f"memory://{name}")
            models = [MemoryCircuitBreaker(config), MemoryCircuitBreaker(config)]
            for call, which, outcomes, opts, ticks in sequence:
                shift += ticks * 1_000_000
                pair = (reals[which], models[which])
                seen: list[Any] = []
                for one in pair:
                    one.clock_shift = shift
                    match call:
                        case "admit":
                            seen.append(admit(one, opts, name)[:2])
                        case "record":
                            seen.append(record(one, *outcomes, options=opts, task=name))
                        case "withdraw":
                            one.withdraw([name])
                            seen.append(None)
                        case _:
                            seen.append(one.reset(name))
                assert seen[0] == seen[1], (call, which, opts)
            assert _shown(reals[0], name) == _shown(models[0], name)
            forget(name)

        compare()


def _shown(breaker: CircuitBreaker, task: str) -> list[tuple[Any, ...]]:
    """What can be compared of two breakers that do not share a clock."""
    return [(one.state, one.failures, one.threshold) for one in breaker.read() if one.task_name == task]
