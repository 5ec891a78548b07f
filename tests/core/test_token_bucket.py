"""The arithmetic of a token bucket: no order of calls, limits and clocks gets more out of it than it may."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskito_core.limits import QueueLimits, RateLimit
from taskito_core.token_bucket import AGAIN_AFTER, Bucket, QueueRoom


class Call(NamedTuple):
    passed: int  #: milliseconds since the call before; below 0: the clock was set back
    taken: int  #: tokens; below 0: given back
    limit: RateLimit


LIMITS = st.builds(
    RateLimit,
    rate=st.floats(1e-4, 2000, allow_nan=False),
    burst=st.integers(1, 200),
)
CALLS = st.builds(Call, st.integers(-500, 5_000), st.integers(-20, 300), LIMITS)


def played(calls: list[Call]) -> list[tuple[int, int]]:
    """The calls against one bucket: the latest moment so far, and tokens granted (below 0: given back)."""
    now = latest = held = 0
    bucket = Bucket.full(calls[0].limit, now)
    events = []
    for call in calls:
        now += call.passed
        latest = max(latest, now)
        if call.taken >= 0:
            bucket, grant = bucket.take(call.taken, call.limit, now)
            granted = grant.granted
        else:
            granted = -min(held, -call.taken)
            bucket = bucket.put_back(-granted, call.limit, now)
        held += granted
        assert 0 <= bucket.tokens <= call.limit.burst
        events.append((latest, granted))
    return events


@given(st.lists(CALLS, min_size=1, max_size=40))
def test_in_any_window_no_more_is_granted_than_burst_and_rate_allow(calls: list[Call]) -> None:
    events = played(calls)

    for first in range(len(events)):
        for last in range(first, len(events)):
            net = sum(granted for _, granted in events[first : last + 1])
            used = calls[max(0, first - 1) : last + 1]  # a bucket may still be full under the limit before
            burst = max(call.limit.burst for call in used)
            rate = max(call.limit.rate for call in used)
            seconds = (events[last][0] - events[first][0]) / 1000
            assert net <= burst + rate * seconds + 1e-6


@given(LIMITS, st.lists(st.integers(0, 500), min_size=1, max_size=60))
def test_a_bucket_that_is_always_asked_for_more_grants_all_that_it_may(
    limit: RateLimit, pauses: list[int]
) -> None:
    bucket, now, total = Bucket.full(limit, 0), 0, 0
    for pause in (0, *pauses):
        now += pause
        bucket, grant = bucket.take(10**9, limit, now)
        total += grant.granted

    # What was refilled beyond the burst between two calls is lost; nothing else is.
    lost = sum(max(0.0, limit.rate * pause / 1000 - (limit.burst - 1)) for pause in pauses)
    assert total >= limit.burst + limit.rate * now / 1000 - lost - 1 - 1e-6


@given(LIMITS, st.integers(0, 300), st.integers(1, 300))
def test_who_waits_as_long_as_told_gets_a_token_and_not_a_millisecond_sooner(
    limit: RateLimit, first: int, second: int
) -> None:
    bucket, _ = Bucket.full(limit, 0).take(first, limit, 0)
    bucket, grant = bucket.take(second, limit, 0)
    if grant.retry_after == 0.0:
        assert grant.granted == second
        return
    wait = round(grant.retry_after * 1000)

    _, in_time = bucket.take(1, limit, wait)
    _, too_soon = bucket.take(1, limit, wait - 1)

    # A rounded sum may fall short of a whole token by a hair, which is there a millisecond later.
    _, later = bucket.take(1, limit, wait + 1)
    assert (too_soon.granted, max(in_time.granted, later.granted)) == (0, 1)


@given(LIMITS, st.integers(1, 10**12), st.integers(0, 50))
def test_a_clock_that_goes_back_gives_nothing(limit: RateLimit, back: int, left: int) -> None:
    bucket = Bucket(float(min(left, limit.burst)), 10**12)

    after, grant = bucket.take(10**9, limit, 10**12 - back)

    assert grant.granted == min(left, limit.burst)
    # A little is waited for, so that a clock that swings gives nothing twice; a lot is not.
    assert after.refilled_at == (10**12 if back <= 60_000 else 10**12 - back)


def test_taking_and_giving_back_less_than_nothing_does_nothing() -> None:
    limit = RateLimit(1.0, 5)
    bucket = Bucket(3.0, 0)

    assert bucket.take(-4, limit, 0)[0] == bucket
    assert bucket.put_back(-4, limit, 0) == bucket


# ---- the room in a queue ----

ONE_A_SECOND = RateLimit(1.0, 5)


@pytest.mark.parametrize(
    ("limits", "running", "tokens", "count"),
    [
        (QueueLimits(concurrency=3), 1, None, 2),
        (QueueLimits(concurrency=3), 5, None, 0),
        (QueueLimits(rate=ONE_A_SECOND), 9, None, 5),
        (QueueLimits(rate=ONE_A_SECOND), 9, 2.5, 2),
        (QueueLimits(concurrency=3, rate=ONE_A_SECOND), 1, 1.0, 1),
        (QueueLimits(concurrency=3, rate=ONE_A_SECOND), 2, 4.0, 1),
    ],
)
def test_a_queue_has_room_for_what_all_of_its_limits_allow(
    limits: QueueLimits, running: int, tokens: float | None, count: int
) -> None:
    room = QueueRoom(limits, running, None if tokens is None else Bucket(tokens, 1000), 1000)

    assert room.count == count
    room.take(count)
    assert room.count == 0


def test_what_a_claim_took_is_left_out_of_the_bucket_and_room_comes_with_the_next_token() -> None:
    room = QueueRoom(QueueLimits(rate=ONE_A_SECOND), 0, Bucket(2.25, 1000), 1250)

    assert room.take(0) is None
    assert room.take(2) == Bucket(0.5, 1250)
    assert room.again_at == 1750


def test_a_queue_that_is_full_is_asked_for_more_again_soon() -> None:
    room = QueueRoom(QueueLimits(concurrency=1), 1, None, 1000)

    assert (room.count, room.again_at) == (0, 1000 + AGAIN_AFTER)
    assert room.take(0) is None
