"""Arguments and results as people are shown them."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from taskito import JsonSerializer, PickleSerializer
from taskito.serialization.serializers import Inputs, Serializer, dump_call
from taskito.serialization.shown import (
    LONGEST,
    Parameters,
    parameters_in,
    show_call,
    show_mapping,
    show_result,
)
from taskito_core.redact import MASK

JSON: Serializer = JsonSerializer()
PICKLE: Serializer = PickleSerializer(key="k")


class Color(Enum):
    RED = 1


@dataclass
class Account:
    owner: str
    password: str


class Unwritable:
    """No serializer but pickle takes it."""

    def __repr__(self) -> str:
        return "<Unwritable>"


def shown(value: Any, serializer: Serializer = JSON) -> Any:
    found = show_result(serializer, serializer.dumps(value))
    return json.loads(json.dumps(found, allow_nan=False))


@pytest.mark.parametrize("serializer", [JSON, PICKLE])
@pytest.mark.parametrize(
    ("value", "form"),
    [
        (None, None),
        ([1, 2.5, "ä", True], [1, 2.5, "ä", True]),
        ({"a": {"b": []}}, {"a": {"b": []}}),
        ((1, (2,)), [1, [2]]),
        ({7}, [7]),
        ({1: "x", (2, 3): "y"}, {"1": "x", "[2, 3]": "y"}),
        (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02T03:04:00+00:00"),
        (datetime(2026, 1, 2, 3, 4, tzinfo=ZoneInfo("Europe/Berlin")), "2026-01-02T03:04:00[Europe/Berlin]"),
        (
            datetime(2026, 7, 1, tzinfo=timezone(timedelta(hours=2), "CEST")),
            "2026-07-01T00:00:00+02:00[CEST]",
        ),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00"),
        (timedelta(days=1, seconds=5), "1 day, 0:00:05"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=5), "0" * 31 + "5"),
        (float("inf"), "inf"),
        (2**5000, "an integer of 5001 bits"),
        (b"\0\1", {"$bytes": "AAE="}),
        (Color.RED, "Color.RED"),
        (Account("ann", "hunter2"), {"owner": "ann", "password": MASK}),
        ("\ud800", "\\ud800"),
    ],
)
def test_every_value_has_a_form_in_plain_json(serializer: Serializer, value: Any, form: Any) -> None:
    assert shown(value, serializer) == form


def test_a_type_of_the_app_is_shown_as_its_encoder_wrote_it() -> None:
    serializer = JsonSerializer()
    serializer.register(Unwritable, lambda value: {"password": "hunter2", "at": 7}, lambda body: Unwritable())

    assert shown([Unwritable()], serializer) == [{"password": MASK, "at": 7}]


def test_what_only_pickle_takes_is_shown_as_text() -> None:
    found = shown([Unwritable(), OrderedDict(a=Unwritable()), {"$tuple": [1]}], PICKLE)

    assert found == ["<Unwritable>", {"a": "<Unwritable>"}, {"$tuple": [1]}]


@pytest.mark.parametrize(
    "name",
    [
        *("password", "db_passwd", "PWD", "secret", "access_token", "apiKey", "x-api-key", "private_key"),
        *("Authorization", "cookies", "credentials", "auth", "pin", "device_tokens"),
    ],
)
def test_what_has_the_name_of_a_secret_is_masked(name: str) -> None:
    assert shown({name: "hunter2", "kept": {name: ["hunter2"]}}) == {name: MASK, "kept": {name: MASK}}
    assert show_mapping({name: "hunter2"}) == {name: MASK}


def test_what_is_no_secret_is_shown() -> None:
    plain = {"max_tokens": 512, "token": None, "use_token": True, "author": "ann", "key": "k", "opinion": "x"}

    assert shown(plain) == plain


def test_passwords_in_urls_are_masked() -> None:
    assert shown({"url": "postgresql://ann:hunter2@host/db"}) == {"url": "postgresql://ann:***@host/db"}
    long = "x" * 480 + " postgresql://ann:hunter2@host/db" + "y" * 5000
    assert "hunter2" not in shown(long)


@pytest.mark.parametrize("serializer", [JSON, PICKLE])
def test_arguments_are_masked_by_the_names_of_parameters(serializer: Serializer) -> None:
    def login(user: str, password: str, *tokens: str, **more: object) -> None: ...

    payload = dump_call(serializer, ("ann", "hunter2", "a", "b"), {"secret": 1, "x": 2})

    found = show_call(serializer, payload, parameters_in(login))

    assert found.args == ["ann", MASK, MASK, MASK]
    assert found.kwargs == {"secret": MASK, "x": 2}


def test_arguments_that_come_from_other_jobs_are_named() -> None:
    payload = dump_call(JSON, (2,), {}, Inputs(["a", ["b"]]))

    found = show_call(JSON, payload, Parameters(["results", "password"]))

    assert found.args == [["the result of job a", ["the result of job b"]], MASK]


def test_arguments_of_many_calls_are_masked_in_each() -> None:
    payload = dump_call(JSON, ([["ann", "x"], ["bob", "y"]],), {}, Inputs(each=True))

    found = show_call(JSON, payload, Parameters(["user", "password"]))

    assert found.args == [[["ann", MASK], ["bob", MASK]]]


@pytest.mark.parametrize(
    "value",
    ["x" * 100_000, ["x"] * 100_000, {str(n): n for n in range(20_000)}, [["x" * 400] * 400] * 4],
    ids=["text", "list", "dict", "nested"],
)
def test_what_is_long_is_cut_and_says_how_long_it_was(value: Any) -> None:
    text = json.dumps(shown(value))

    assert len(text) < 3 * LONGEST
    assert "characters" in text or " more" in text


def test_what_is_deep_is_cut() -> None:
    value: list[Any] = []
    for _ in range(200):
        value = [value]

    assert "… 1 more" in json.dumps(shown(value), ensure_ascii=False)


def test_what_is_huge_is_not_read_at_all() -> None:
    payload = dump_call(JSON, ("x" * 2_000_000,), {})

    assert show_call(JSON, payload).args == f"too large to be shown: {len(payload)} bytes"
    assert shown("x" * 2_000_000) == "too large to be shown: 2000002 bytes"


def test_what_cannot_be_read_here_says_why() -> None:
    payload = dump_call(PICKLE, (1,), {})
    stranger = PickleSerializer(key="other")

    assert "cannot be read here" in show_call(JSON, payload).args
    assert "signature does not match" in show_call(stranger, payload).kwargs
    assert "cannot be read here" in show_result(JSON, b"{")


def test_a_type_that_the_app_registered_is_shown_as_it_was_written() -> None:
    serializer = JsonSerializer()
    serializer.register(Unwritable, lambda value: {"size": 3, "password": "abc"}, lambda body: Unwritable())

    assert shown([Unwritable()], serializer) == [{"size": 3, "password": MASK}]
