"""Adding up: a sketch is as exact as it says, and tallies may be merged in any order."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskito.client.metrics import summarise
from taskito_core.metrics import Sketch, Tallies, Tally

DURATIONS = st.floats(0.0, 1e6)
ATTEMPTS = st.lists(
    # Sixty-fourths: sums of them are exact, whatever the order.
    st.tuples(st.booleans(), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 2**40)),
    max_size=20,
)
QUANTILES = (0.01, 0.5, 0.9, 0.95, 0.99, 1.0)


def tally_of(attempts: Sequence[tuple[bool, int, int, int]]) -> Tally:
    tally = Tally("task", "default")
    for succeeded, ran, waited, peak_memory in attempts:
        tally.add(succeeded, ran / 64, waited / 64, peak_memory)
    return tally


def merged(*tallies: Tally) -> Tally:
    whole = Tally("task", "default")
    for tally in tallies:
        whole.merge(tally)
    return whole


def exact(durations: list[float], q: float) -> float:
    """The duration of rank ceil(q * n)."""
    return sorted(durations)[max(1, math.ceil(q * len(durations))) - 1]


# ---- the sketch ----


@given(st.lists(DURATIONS, min_size=1, max_size=200), st.sampled_from(QUANTILES))
def test_a_quantile_is_within_one_percent_of_the_exact_one(durations: list[float], q: float) -> None:
    sketch = Sketch()
    for seconds in durations:
        sketch.add(seconds)

    # Up to a microsecond everything counts as zero.
    assert sketch.quantile(q) == pytest.approx(exact(durations, q), rel=0.01, abs=1e-6)


_DISTRIBUTIONS: dict[str, Callable[[random.Random], float]] = {
    "uniform": lambda dice: dice.uniform(0.001, 2.0),
    "exponential": lambda dice: dice.expovariate(50.0),
    "lognormal": lambda dice: dice.lognormvariate(-4.0, 2.0),
    "pareto": lambda dice: dice.paretovariate(1.1) / 1000,
    "two kinds of jobs": lambda dice: (
        dice.gauss(0.002, 0.0001) if dice.random() < 0.96 else dice.gauss(5.0, 0.1)
    ),
}


@pytest.mark.parametrize("distribution", _DISTRIBUTIONS)
def test_percentiles_of_a_million_runs_are_within_two_percent_of_exact(distribution: str) -> None:
    dice, draw = random.Random(7), _DISTRIBUTIONS[distribution]
    # Each of 10,000 different durations a hundred times: a million runs, of which the exact ranks are known.
    durations = sorted(draw(dice) for _ in range(10_000))
    whole = Tally(
        "task", "default", succeeded=1_000_000, shortest_run=durations[0], longest_run=durations[-1]
    )
    for seconds in durations:
        whole.runs.add(seconds, 100)

    [found] = summarise([whole])

    assert found.count == whole.runs.count == 1_000_000
    for q, shown in ((0.50, found.p50), (0.95, found.p95), (0.99, found.p99)):
        assert shown == pytest.approx(exact(durations, q), rel=0.02)
    assert len(whole.runs.buckets) < 1000


def test_buckets_follow_each_other_without_gap_or_overlap() -> None:
    edges = [1e-6 * 1.02**bucket for bucket in range(1, 1400)]
    for below, edge in pairwise(edges):
        sketch = Sketch()
        sketch.add(math.sqrt(below * edge))
        [bucket] = sketch.buckets
        assert 1e-6 * 1.02 ** (bucket - 1) < math.sqrt(below * edge) <= 1e-6 * 1.02**bucket


@pytest.mark.parametrize("seconds", [0.0, 1e-12, 1e-6, -1.0])
def test_what_is_too_short_to_measure_counts_as_zero(seconds: float) -> None:
    sketch = Sketch()
    sketch.add(seconds)

    assert sketch.buckets == {0: 1}
    assert sketch.quantile(0.5) == 0.0


def test_nothing_counted_has_the_quantile_zero() -> None:
    assert (Sketch().count, Sketch().quantile(0.99)) == (0, 0.0)


def test_a_clock_that_jumped_makes_one_bucket_and_no_error() -> None:
    sketch = Sketch()
    for seconds in (1e12, 1e300, math.inf):
        sketch.add(seconds)

    assert len(sketch.buckets) == 1


@given(st.lists(DURATIONS, max_size=50))
def test_a_sketch_comes_back_from_its_text(durations: list[float]) -> None:
    sketch = Sketch()
    for seconds in durations:
        sketch.add(seconds)

    text = sketch.to_text()

    assert Sketch.from_text(text) == sketch
    assert list(map(int, json.loads(text))) == sorted(sketch.buckets)


# ---- tallies ----


@given(ATTEMPTS, ATTEMPTS, ATTEMPTS)
def test_tallies_may_be_merged_in_any_order_and_grouping(
    a: list[tuple[bool, int, int, int]],
    b: list[tuple[bool, int, int, int]],
    c: list[tuple[bool, int, int, int]],
) -> None:
    one, two, three = tally_of(a), tally_of(b), tally_of(c)

    together = tally_of([*a, *b, *c])

    assert merged(one, two, three) == merged(three, two, one) == together
    assert merged(merged(one, two), three) == merged(one, merged(two, three)) == together


def test_merging_leaves_the_other_as_it_was() -> None:
    one, other = tally_of([(True, 64, 0, 1)]), tally_of([(False, 128, 0, 2)])

    one.merge(other)
    one.add(True, 5.0, 0.0, 0)

    assert other == tally_of([(False, 128, 0, 2)])


def test_what_is_taken_out_is_apart_from_what_comes_later() -> None:
    tallies = Tallies()
    tallies.of("b", "q").add(True, 1.0, 0.0, 0)
    tallies.of("a", "q").add(True, 1.0, 0.0, 0)

    taken = tallies.take()
    tallies.of("a", "q").add(True, 2.0, 0.0, 0)

    assert [(tally.task_name, tally.count) for tally in taken] == [("a", 1), ("b", 1)]
    assert [tally.total_run for tally in tallies.take()] == [2.0]
    assert not tallies


# ---- what a user sees ----


def test_a_task_is_summed_up_over_its_queues() -> None:
    fast, slow = Tally("mail", "fast"), Tally("mail", "slow")
    fast.add(True, 1.0, 0.5, 1000)
    slow.add(False, 3.0, 1.5, 0)

    [found] = summarise([fast, slow])

    assert (found.task_name, found.count, found.succeeded, found.failed) == ("mail", 2, 1, 1)
    assert (found.minimum, found.average, found.maximum) == (1.0, 2.0, 3.0)
    assert (found.average_wait, found.peak_memory) == (1.0, 1000)


def test_tasks_are_listed_by_name() -> None:
    tallies = [Tally(name, "default") for name in ("b", "c", "a")]
    for tally in tallies:
        tally.add(True, 1.0, 0.0, 0)

    assert [found.task_name for found in summarise(tallies)] == ["a", "b", "c"]


def test_percentiles_lie_within_what_was_really_measured() -> None:
    tally = Tally("task", "default")
    for _ in range(3):
        tally.add(True, 0.1, 0.0, 0)

    [found] = summarise([tally])

    assert found.p50 == found.p95 == found.p99 == found.minimum == found.maximum == 0.1
