"""The arithmetic of buckets and breakers, against what it promises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskito_core import BreakerOptions, BreakerState, ConfigError, RateLimit
from taskito_core.gates import Breaker, Bucket
from taskito_core.limits import parse_breaker, parse_rate

LIMITS = st.builds(RateLimit, rate=st.floats(0.01, 1000), burst=st.integers(1, 500))
#: Milliseconds between two calls, some backwards; how many tokens are asked for; whether they are given back.
CALLS = st.lists(st.tuples(st.integers(-500, 5_000), st.integers(0, 200), st.booleans()), max_size=60)
OPTIONS = BreakerOptions(threshold=3, window=10.0, cooldown=5.0)


@given(limit=LIMITS, calls=CALLS)
def test_in_no_window_are_more_tokens_granted_than_the_bucket_holds_and_gets(limit, calls):
    now = latest = 1_000_000
    bucket, granted = Bucket.full(limit, now), []
    for passed, wanted, unused in calls:
        now += passed
        latest = max(latest, now)
        bucket, grant = bucket.take(wanted, limit, now)
        assert 0 <= grant.granted <= wanted
        assert 0 <= bucket.tokens <= limit.burst
        if unused:
            bucket = bucket.put_back(grant.granted, limit, now)
        else:
            granted.append((latest, grant.granted))

    for first, (begin, _) in enumerate(granted):
        total = 0
        for end, count in granted[first:]:
            total += count
            assert total <= limit.burst + limit.rate * (end - begin) / 1000 + 1e-6


@given(limit=LIMITS, wanted=st.integers(1, 600))
def test_after_the_time_that_was_said_there_is_a_token(limit, wanted):
    bucket, grant = Bucket.full(limit, 0).take(wanted, limit, 0)
    if grant.granted == wanted:
        assert grant.retry_after == 0.0
        return

    again = int(grant.retry_after * 1000) + 1
    bucket, later = bucket.take(1, limit, again)

    assert later.granted == 1


def test_a_smaller_limit_takes_effect_at_once():
    bucket = Bucket.full(RateLimit(10, 100), 0)

    _, grant = bucket.take(50, RateLimit(1, 5), 0)

    assert grant.granted == 5


def test_a_breaker_opens_at_the_threshold_within_the_window_and_not_beyond_it():
    breaker = Breaker()
    for moment in (0, 1_000, 11_500):  # the first is out of the window by then
        breaker = breaker.record(False, OPTIONS, moment)
    assert breaker.state is BreakerState.CLOSED

    breaker = breaker.record(True, OPTIONS, 11_600).record(False, OPTIONS, 11_700)
    assert breaker.state is BreakerState.CLOSED
    breaker = breaker.record(False, OPTIONS, 11_800)

    assert breaker.state is BreakerState.OPEN
    _, admission = breaker.admit(OPTIONS, 12_000)
    assert (admission.admitted, admission.retry_after) == (False, pytest.approx(4.8))


@pytest.mark.parametrize("succeeded", [True, False])
def test_after_the_cooldown_one_probe_decides(succeeded):
    breaker = Breaker(BreakerState.OPEN, (1, 2, 3), 10_000)

    breaker, admission = breaker.admit(OPTIONS, 15_000)
    assert admission.admitted
    breaker, second = breaker.admit(OPTIONS, 15_001)
    assert not second.admitted
    breaker = breaker.record(succeeded, OPTIONS, 16_000)

    assert breaker.state is (BreakerState.CLOSED if succeeded else BreakerState.OPEN)
    assert breaker.admit(OPTIONS, 16_001)[1].admitted is succeeded


def test_a_probe_that_did_not_start_leaves_its_place_and_a_lost_one_does_after_the_cooldown():
    probing, _ = Breaker(BreakerState.OPEN, (), 0).admit(OPTIONS, 5_000)

    assert probing.withdraw().admit(OPTIONS, 5_001)[1].admitted
    assert not probing.admit(OPTIONS, 9_999)[1].admitted
    assert probing.admit(OPTIONS, 10_000)[1].admitted


@pytest.mark.parametrize(
    ("said", "rate", "burst"),
    [
        ("100/m", 100 / 60, 100),
        ("10/s", 10, 10),
        ("3600/h", 1, 3600),
        ("5/2m", 5 / 120, 5),
        ("1/d", 1 / 86400, 1),
    ],
)
def test_rates_are_read_as_documented(said, rate, burst):
    limit = parse_rate(said)

    assert (limit.rate, limit.burst) == (pytest.approx(rate), burst)


@pytest.mark.parametrize("said", ["", "100", "0/s", "10/0s", "10/x", "-1/s", "1.5/s", 10, True])
def test_what_is_no_rate_is_refused_with_an_example(said):
    with pytest.raises(ConfigError, match="100/m"):
        parse_rate(said)


@pytest.mark.parametrize(
    "said", [{}, {"threshold": 0}, {"threshold": 1, "window": 0}, {"treshold": 1}, {"threshold": "x"}, 5]
)
def test_what_is_no_breaker_is_refused(said):
    with pytest.raises(ConfigError):
        parse_breaker(said)
