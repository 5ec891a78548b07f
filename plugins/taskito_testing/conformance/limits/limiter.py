"""The contract of rate limiters as tests."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskito_core.job import new_id
from taskito_core.limits import RateLimit, RateLimiter
from taskito_core.storage import StorageConfig
from taskito_kv.limits import MemoryRateLimiter
from taskito_kv.store import forget
from taskito_testing.conformance.limits.base import LimitsSuite
from taskito_testing.conformance.processes import Actors
from taskito_testing.conformance.suite import same_in_every_run
from taskito_testing.opening import open_limiter

Connect = Callable[[], RateLimiter]
#: Ten tokens, and one more every quarter of an hour: no test takes that long.
SLOW = RateLimit(rate=0.001, burst=10)
REFILL = 1_000_000  #: milliseconds for one token of SLOW


def take(limiter: RateLimiter, n: int, limit: RateLimit = SLOW, key: str = "key") -> int:
    """How many of ``n`` tokens were granted."""
    return limiter.acquire({key: (n, limit)})[key].granted


class RateLimiterConformance(LimitsSuite):
    """Subclass it as ``TestSomething`` and define the fixture ``limits_url``: an EMPTY limiter per test."""

    open_keeper = staticmethod(open_limiter)
    calls = {
        "acquire": lambda limiter: take(limiter, 1),
        "give_back": lambda limiter: limiter.give_back({"key": (1, SLOW)}),
    }

    @pytest.fixture
    def limiter(self, connect: Connect) -> RateLimiter:
        return connect()

    # ---- a bucket ----

    def test_of_ten_tokens_three_takers_of_seven_get_seven_three_and_none(self, limiter: RateLimiter) -> None:
        assert [take(limiter, 7) for _ in range(3)] == [7, 3, 0]

    def test_who_gets_all_need_not_wait_and_who_does_not_is_told_how_long(self, limiter: RateLimiter) -> None:
        all_of_it = limiter.acquire({"key": (10, SLOW)})["key"]
        nothing = limiter.acquire({"key": (1, SLOW)})["key"]

        assert all_of_it.retry_after == 0.0
        assert REFILL / 1000 - 60 < nothing.retry_after <= REFILL / 1000

    def test_after_the_time_that_was_told_there_is_a_token(self, limiter: RateLimiter) -> None:
        limit = RateLimit(rate=7 / 3600, burst=3)
        wait = limiter.acquire({"key": (4, limit)})["key"].retry_after

        limiter.clock_shift = round(wait * 1000)

        assert take(limiter, 2, limit) == 1

    def test_asking_for_none_takes_none_and_tells_how_long_to_wait(self, limiter: RateLimiter) -> None:
        assert limiter.acquire({"key": (0, SLOW)})["key"] == (0, 0.0)
        take(limiter, 10)

        empty = limiter.acquire({"key": (0, SLOW)})["key"]

        assert empty.granted == 0
        assert empty.retry_after > REFILL / 1000 - 60

    def test_asking_about_no_key_answers_about_none(self, limiter: RateLimiter) -> None:
        assert limiter.acquire({}) == {}
        limiter.give_back({})

    def test_a_bucket_refills_at_its_rate(self, limiter: RateLimiter) -> None:
        take(limiter, 10)

        limiter.clock_shift = 3 * REFILL

        assert take(limiter, 10) == 3

    def test_parts_of_a_token_add_up(self, limiter: RateLimiter) -> None:
        take(limiter, 10)
        granted = []
        for quarter in range(1, 9):
            limiter.clock_shift = quarter * REFILL // 4
            granted.append(take(limiter, 1))

        assert granted == [0, 0, 0, 1, 0, 0, 0, 1]

    def test_a_bucket_never_holds_more_than_its_burst(self, limiter: RateLimiter) -> None:
        take(limiter, 1)

        limiter.clock_shift = 1_000 * REFILL

        assert take(limiter, 100) == 10

    def test_every_key_has_a_bucket_of_its_own(self, limiter: RateLimiter) -> None:
        take(limiter, 10, key="a")

        grants = limiter.acquire({"b": (4, SLOW), "a": (4, SLOW), "c": (4, RateLimit(0.001, 2))})

        assert {key: grant.granted for key, grant in grants.items()} == {"a": 0, "b": 4, "c": 2}

    @pytest.mark.parametrize("key", ["täsk 任务 🎈", "a'b\"c\\d%s{}", "x" * 255, "", "KEY"])
    def test_keys_are_taken_as_they_are(self, limiter: RateLimiter, key: str) -> None:
        take(limiter, 10, key=key)

        assert take(limiter, 1, key=key) == 0
        assert take(limiter, 1, key="key") == 1

    def test_the_largest_bucket_gives_every_token_once(self, limiter: RateLimiter) -> None:
        limit = RateLimit(rate=1 / 366 / 86_400, burst=999_999_999)

        assert take(limiter, 999_999_998, limit) == 999_999_998
        assert take(limiter, 2, limit) == 1

    # ---- tokens that come back ----

    def test_a_token_given_back_is_there_again(self, limiter: RateLimiter) -> None:
        take(limiter, 10)

        limiter.give_back({"key": (3, SLOW), "other": (1, SLOW)})

        assert take(limiter, 10) == 3
        assert take(limiter, 99, key="other") == 10

    def test_what_is_given_back_never_fills_a_bucket_beyond_its_burst(self, limiter: RateLimiter) -> None:
        take(limiter, 4)

        limiter.give_back({"key": (1_000, SLOW)})

        assert take(limiter, 100) == 10

    # ---- limits and clocks that change ----

    def test_a_smaller_bucket_spills_at_once(self, limiter: RateLimiter) -> None:
        take(limiter, 1)

        assert take(limiter, 9, RateLimit(0.001, 2)) == 2
        assert take(limiter, 9) == 0

    def test_a_larger_bucket_is_filled_by_time_alone(self, limiter: RateLimiter) -> None:
        take(limiter, 8)
        larger = RateLimit(rate=0.001, burst=100)

        assert take(limiter, 50, larger) == 2
        limiter.clock_shift = 60 * REFILL
        assert take(limiter, 100, larger) == 60

    def test_a_changed_rate_counts_at_once(self, limiter: RateLimiter) -> None:
        take(limiter, 10)
        faster = RateLimit(rate=0.005, burst=10)

        limiter.clock_shift = REFILL

        assert take(limiter, 10, faster) == 5

    def test_a_clock_that_goes_back_gives_no_tokens_and_counts_from_there(self, limiter: RateLimiter) -> None:
        limiter.clock_shift = 50 * REFILL
        take(limiter, 10)

        limiter.clock_shift = 0
        assert take(limiter, 1) == 0
        limiter.clock_shift = 2 * REFILL
        assert take(limiter, 10) == 2

    def test_a_clock_that_swings_gives_no_token_twice(self, limiter: RateLimiter) -> None:
        limit = RateLimit(rate=1.0, burst=100)
        limiter.clock_shift = 50_000
        take(limiter, 100, limit)

        granted = 0
        for shift in (0, 50_000, 0, 50_000):
            limiter.clock_shift = shift
            granted += take(limiter, 100, limit)

        # One for each second of the test's own, and not the 50 of each swing.
        assert granted < 40

    # ---- many at once ----

    def test_another_object_draws_from_the_same_bucket(self, limiter: RateLimiter, connect: Connect) -> None:
        take(limiter, 7)

        assert take(connect(), 7) == 3

    def test_a_closed_limiter_opens_again_and_has_forgotten_nothing(self, limiter: RateLimiter) -> None:
        take(limiter, 7)
        limiter.close()
        limiter.close()

        assert take(limiter, 7) == 3

    def test_threads_never_get_a_token_twice(self, limiter: RateLimiter, connect: Connect) -> None:
        limit = RateLimit(rate=0.001, burst=100)
        takers = [limiter, limiter, connect(), connect()]
        start = threading.Barrier(len(takers))

        def drain(taker: RateLimiter) -> int:
            start.wait()
            return sum(take(taker, 3, limit) for _ in range(20))

        with ThreadPoolExecutor(len(takers)) as threads:
            assert sum(threads.map(drain, takers)) == 100

    def test_batches_with_crossed_orders_never_wait_for_each_other(self, connect: Connect) -> None:
        keys = [f"key-{number}" for number in range(8)]
        orders = [keys, keys[::-1], keys[4:] + keys[:4]]
        start = threading.Barrier(len(orders))

        def draw(order: list[str]) -> int:
            taker = connect()
            start.wait()
            granted = 0
            for _ in range(15):
                wants = dict.fromkeys(order, (1, SLOW))
                granted += sum(grant.granted for grant in taker.acquire(wants).values())
                taker.give_back({order[0]: (0, SLOW), order[-1]: (0, SLOW)})
            return granted

        with ThreadPoolExecutor(len(orders)) as threads:
            assert sum(threads.map(draw, orders)) == 10 * len(keys)

    def test_processes_together_never_get_more_than_burst_and_rate_allow(
        self, limiter: RateLimiter, processes: Actors
    ) -> None:
        rate, burst = 40.0, 10
        actors = [processes.start("hammer", key="key", rate=rate, burst=burst, seconds=2.0) for _ in range(4)]

        for actor in actors:
            # Each has started before the clock of this test does, and none has taken anything.
            assert actor.hear() == "ready"
        began = time.monotonic()
        for actor in actors:
            actor.nudge()
        kept = sum(actor.hear() for actor in actors)
        elapsed = time.monotonic() - began

        assert burst < kept <= burst + rate * elapsed

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
    def test_a_limiter_carried_across_a_fork_is_refused_in_the_child(self, lone_process: Actors) -> None:
        actor = lone_process.start("take_after_fork")
        actor.go()

        in_child, left_in_parent = actor.hear(), actor.hear()

        assert in_child.startswith("refused: ")
        assert left_in_parent == 8

    # ---- the same as in memory ----

    def test_random_calls_have_the_answers_of_the_limiter_in_memory(self, limiter: RateLimiter) -> None:
        count = st.integers(0, 12)
        limits = st.builds(RateLimit, st.sampled_from([0.001, 0.004]), st.sampled_from([1, 5, 10]))
        wants = st.dictionaries(st.sampled_from("abc"), st.tuples(count, limits), min_size=1)
        steps = st.lists(
            st.tuples(st.sampled_from(["acquire", "acquire", "give_back"]), wants, st.integers(-1, 3)),
            min_size=5,
            max_size=15,
        )

        @same_in_every_run(self.model_examples)
        @given(steps)
        def compare(sequence: list[tuple[str, dict[str, tuple[int, RateLimit]], int]]) -> None:
            name = new_id()
            model = MemoryRateLimiter(StorageConfig(backend="memory", db_url=f"memory://{name}"))
            limiter.clock_shift = 0
            for call, batch, ticks in sequence:
                limiter.clock_shift += ticks * REFILL
                model.clock_shift = limiter.clock_shift
                named = {f"{name}-{key}": want for key, want in batch.items()}
                answers = [getattr(keeper, call)(named) for keeper in (limiter, model)]
                if call == "acquire":
                    real, wanted = answers
                    assert {key: one.granted for key, one in real.items()} == {
                        key: one.granted for key, one in wanted.items()
                    }
                    for key, one in real.items():
                        # The test's own time passes in both; a refill takes far longer.
                        assert one.retry_after == pytest.approx(wanted[key].retry_after, abs=60)
            forget(name)

        compare()
