"""What a name that nobody knows may have meant."""

from __future__ import annotations

import pytest

from taskito.config.spelling import did_you_mean, near

KNOWN = ("scripts.job.f", "shop.mail.send", "shop.orders.ship", "shop.orders.refund")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("job.f", ["scripts.job.f"]),
        ("mail.send", ["shop.mail.send"]),
        ("shop.old.mail.send", ["shop.mail.send"]),
        ("send", ["shop.mail.send"]),
        ("shop.mail.sned", ["shop.mail.send"]),
        ("refnud", ["shop.orders.refund"]),
        ("something.else.entirely", []),
    ],
)
def test_the_same_function_by_another_path_and_a_misspelt_name_are_guessed(
    name: str, found: list[str]
) -> None:
    assert near(name, KNOWN)[:1] == found


def test_a_hint_ends_a_sentence_and_is_nothing_without_a_guess() -> None:
    assert did_you_mean("mial", ["mail", "default"]) == "; did you mean 'mail'?"
    assert did_you_mean("zzz", ["mail", "default"]) == ""
