"""How rates and the options of circuit breakers are said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields

from taskito import coerce
from taskito_core.errors import ConfigError, did_you_mean
from taskito_core.limits import BreakerOptions, RateLimit

_RATE = re.compile(r"([0-9]{1,9})\s*/\s*([0-9]{0,9})\s*([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
#: A breaker's row holds the moment of each failure that it remembers, and is written at each failure.
_MOST_FAILURES = 10_000
_LONGEST = 366 * 86_400
_EXAMPLES = "'100/m', '10/s', '3600/h', '5/2m' or '1/d'"


def parse_rate(text: object) -> RateLimit:
    """``"100/m"`` is 100 a minute, ``"5/2m"`` 5 in two minutes; a bucket of that many tokens. ConfigError."""
    found = _RATE.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    count = int(found[1]) if found else 0
    period = int(found[2] or 1) * _UNITS[found[3]] if found else 0
    if not count or not 0 < period <= _LONGEST:
        raise ConfigError(
            f"rate_limit must be a count from 1 to 999999999 per time of up to a year, such as {_EXAMPLES}, "
            f"got {text!r}"
        )
    return RateLimit(count / period, count)


def parse_breaker(given: object) -> BreakerOptions:
    """``{"threshold": 5, "window": 60, "cooldown": 300}``; the last two have defaults. ConfigError."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"circuit_breaker must be a mapping with a threshold, got {given!r}")
    known = [field.name for field in fields(BreakerOptions)]
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ConfigError(f"circuit_breaker has no {name!r}{hint} (it has: {', '.join(known)})")
    threshold = coerce.checked(
        "threshold of circuit_breaker",
        f"a whole number from 1 to {_MOST_FAILURES}",
        coerce.integer(1, _MOST_FAILURES),
        given.get("threshold"),
    )
    spans = {
        name: coerce.checked(f"{name} of circuit_breaker", "seconds above 0", coerce.span, given[name])
        for name in ("window", "cooldown")
        if name in given
    }
    return BreakerOptions(threshold, **spans)


def rate_text(rate: RateLimit) -> str:
    """A rate as ``parse_rate`` reads it: ``100/m``."""
    period = round(rate.burst / rate.rate)
    length, unit = max((seconds, unit) for unit, seconds in _UNITS.items() if period % seconds == 0)
    return f"{rate.burst}/{unit if period == length else f'{period // length}{unit}'}"
