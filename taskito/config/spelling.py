"""What somebody who wrote a name that nobody knows may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: How many names one hint offers.
_MOST = 3


def near(name: str, known: Iterable[str]) -> list[str]:
    """Known names that are like this one, likeliest first: other paths to the same function, or misspelt."""
    names, last = sorted(known), _last(name)
    same = [one for one in names if _last(one) == last]
    if not same:
        # By their ends alone: most of two long paths is alike in any case.
        ends = difflib.get_close_matches(last, {_last(one) for one in names}, _MOST, cutoff=0.7)
        same = [one for end in ends for one in names if _last(one) == end]
    return same[:_MOST]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: ``; did you mean 'mail'?``; '' without a guess."""
    guesses = near(name, known)
    return f"; did you mean {' or '.join(map(repr, guesses))}?" if guesses else ""


def _last(name: str) -> str:
    return name.rpartition(".")[2]
