"""How rates and the options of breakers are read: what is meant, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from taskito.client.options.limits import parse_breaker, parse_rate
from taskito_core.errors import ConfigError
from taskito_core.limits import BreakerOptions, RateLimit


@pytest.mark.parametrize(
    ("text", "rate", "burst"),
    [
        ("100/m", 100 / 60, 100),
        ("10/s", 10.0, 10),
        ("3600/h", 1.0, 3600),
        ("5/2m", 5 / 120, 5),
        ("1/d", 1 / 86_400, 1),
        ("7/30s", 7 / 30, 7),
        (" 10 / S ", 10.0, 10),
        ("999999999/366d", 999_999_999 / (366 * 86_400), 999_999_999),
    ],
)
def test_a_rate_is_a_count_per_time_and_the_count_is_the_burst(text: str, rate: float, burst: int) -> None:
    assert parse_rate(text) == RateLimit(pytest.approx(rate), burst)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        *("100/x", "0/s", "-1/m", "1.5/s", "", None, "10/0s", "10", "/s", "10/", "10/1.5m", "10/ms", "1/2/s"),
        *(
            "1e3/s",
            "10 per minute",
            "\u0661\u0660/s",
            "10/s/",
            "10/-1s",
            "1000000000/s",
            "1/367d",
            "1/999999999d",
        ),
        *(10, 10.0, True, b"10/s", ["10/s"], "9" * 400 + "/s"),
    ],
)
def test_what_is_no_rate_is_refused_with_what_would_be_right(text: object) -> None:
    with pytest.raises(ConfigError, match=r"rate_limit must be .* such as '100/m'.* got ") as refusal:
        parse_rate(text)

    assert repr(text) in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"threshold": 5}, BreakerOptions(5, 60.0, 300.0)),
        ({"threshold": 1, "window": 60, "cooldown": 300}, BreakerOptions(1, 60.0, 300.0)),
        ({"threshold": 2, "window": timedelta(minutes=2)}, BreakerOptions(2, 120.0, 300.0)),
        ({"threshold": 2, "window": "1.5h", "cooldown": 0.5}, BreakerOptions(2, 5400.0, 0.5)),
        ({"threshold": 10_000}, BreakerOptions(10_000)),
    ],
)
def test_a_breaker_needs_a_threshold_and_has_defaults_for_the_rest(
    given: dict[str, Any], options: BreakerOptions
) -> None:
    assert parse_breaker(given) == options


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (None, "circuit_breaker must be a mapping with a threshold, got None"),
        (5, "circuit_breaker must be a mapping with a threshold, got 5"),
        ({}, "threshold of circuit_breaker must be a whole number from 1 to 10000, got None"),
        ({"threshold": 0}, "from 1 to 10000, got 0"),
        ({"threshold": -1}, "from 1 to 10000, got -1"),
        ({"threshold": 10_001}, "from 1 to 10000, got 10001"),
        ({"threshold": 2.0}, "from 1 to 10000, got 2.0"),
        ({"threshold": True}, "from 1 to 10000, got True"),
        ({"threshold": "5"}, "from 1 to 10000, got '5'"),
        ({"threshold": 5, "windw": 60}, "circuit_breaker has no 'windw'; did you mean 'window'?"),
        ({"threshold": 5, "xyz": 60}, "circuit_breaker has no 'xyz' (it has: threshold, window, cooldown)"),
        ({"threshold": 5, "window": 0}, "window of circuit_breaker must be seconds above 0, got 0"),
        ({"threshold": 5, "cooldown": -1}, "cooldown of circuit_breaker must be seconds above 0, got -1"),
        ({"threshold": 5, "cooldown": float("nan")}, "above 0, got nan"),
        ({"threshold": 5, "cooldown": float("inf")}, "above 0, got inf"),
        ({"threshold": 5, "window": None}, "above 0, got None"),
        ({"threshold": 5, "window": "soon"}, "above 0, got 'soon'"),
        ({"threshold": 5, "window": timedelta(0)}, "above 0, got datetime.timedelta(0)"),
    ],
)
def test_what_is_no_breaker_is_refused_with_what_would_be_right(given: object, reason: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse_breaker(given)

    assert reason in str(refusal.value)
