"""Checks of single values. What settings make of them is in tests/config."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from taskito import coerce
from taskito_core import ConfigError
from taskito_core.errors import did_you_mean

MEANT: list[tuple[Callable[[object], Any], object, object]] = [
    (coerce.integer(0), 5, 5),
    (coerce.whole(0), "5", 5),
    (coerce.duration, "1.5h", 5400.0),
    (coerce.duration, timedelta(seconds=2), 2.0),
    (coerce.span, "250ms", 0.25),
    (coerce.limit, None, 0.0),
    (coerce.optional(coerce.whole(1)), "None", None),
    (coerce.maybe(coerce.text), "none", "none"),
    (coerce.boolean, "off", False),
    (coerce.names, "a, b,,", ("a", "b")),
    (coerce.choice("a", "b"), "B", "b"),
]
MEANINGLESS: list[tuple[Callable[[object], Any], object]] = [
    (coerce.integer(0), "5"),
    (coerce.integer(0), True),
    (coerce.integer(1), 0),
    (coerce.integer(0), coerce.MOST + 1),
    (coerce.whole(0), "five"),
    (coerce.whole(0), 1.0),
    (coerce.duration, -1),
    (coerce.duration, float("nan")),
    (coerce.duration, 10**12),
    (coerce.span, 0),
    (coerce.boolean, "maybe"),
    (coerce.names, 3),
    (coerce.text, "  "),
    (coerce.path, "a\0b"),
]


@pytest.mark.parametrize(("read", "given", "meant"), MEANT)
def test_a_value_is_read(read: Callable[[object], Any], given: object, meant: object) -> None:
    assert read(given) == meant


@pytest.mark.parametrize(("read", "given"), MEANINGLESS)
def test_a_value_that_means_nothing_is_named(read: Callable[[object], Any], given: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        read(given)
    with pytest.raises(ConfigError) as refused:
        coerce.checked("the size of shoes", "a size", read, given)

    assert str(refused.value) == f"the size of shoes must be a size, got {given!r}"


def test_a_name_that_is_close_is_proposed() -> None:
    assert did_you_mean("thresold", ["threshold", "window"]) == "; did you mean 'threshold'?"
    assert did_you_mean(3, ["threshold"]) == ""


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("job.f", "'scripts.job.f'"),
        ("mail.send", "'shop.mail.send'"),
        ("shop.old.mail.send", "'shop.mail.send'"),
        ("send", "'shop.mail.send'"),
        ("shop.mail.sned", "'shop.mail.send'"),
        ("shop.ship", "'shop.orders.ship' or 'shop.returns.ship'"),
        ("refnud", "'shop.orders.refund'"),
        ("shop.mail.archive", ""),
    ],
)
def test_the_same_function_by_another_path_and_a_misspelt_name_are_guessed(name: str, meant: str) -> None:
    known = ("scripts.job.f", "shop.mail.send", "shop.orders.ship", "shop.returns.ship", "shop.orders.refund")

    assert did_you_mean(name, known) == (f"; did you mean {meant}?" if meant else "")
