"""JsonSerializer gives back what it was given, refuses what it cannot, and runs nothing."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import enum
import json
import math
import sys
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskito import JsonSerializer, SerializationError
from taskito.serialization.serializers import dump_call, load_call

serializer = JsonSerializer()
ran: list[str] = []


class Color(enum.Enum):
    RED = 1
    GREEN = "g"


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Outer:
    class Inner(enum.Enum):
        ONE = 1


@dataclass(frozen=True)
class Point:
    x: int
    y: Any = 0


@dataclass(slots=True)
class Slotted:
    name: str
    points: list[Point] = field(default_factory=list)


@dataclass
class Derived:
    size: int
    double: int = field(init=False)

    def __post_init__(self) -> None:
        ran.append("__post_init__")
        self.double = self.size * 2

    @cached_property
    def triple(self) -> int:
        return self.size * 3


@dataclass
class WithExtra:
    a: int


@dataclass
class DictOnTop(dict):  # type: ignore[type-arg]
    a: int = 0


class NotAData:
    def __init__(self, *args: object) -> None:
        ran.append("NotAData")


class Pair(NamedTuple):
    a: int
    b: int


def back(value: object) -> Any:
    return serializer.loads(serializer.dumps(value))


def same(one: Any, other: Any) -> bool:
    """Equal, of the same types all the way down, in the same order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, Decimal):
        return str(one) == str(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set | frozenset):
        return same(sorted(one, key=repr), sorted(other, key=repr))
    if isinstance(one, datetime | time):
        return (repr(one), one.fold, one.utcoffset()) == (repr(other), other.fold, other.utcoffset())
    if dataclasses.is_dataclass(one):
        names = [f.name for f in dataclasses.fields(one)]
        return all(same(getattr(one, n), getattr(other, n)) for n in names)
    return bool(one == other)


zones = st.sampled_from(
    [
        None,
        UTC,
        ZoneInfo("Europe/Berlin"),
        ZoneInfo("UTC"),
        timezone(timedelta(hours=-3, seconds=7)),
        timezone(timedelta(hours=1), "CET"),
        timezone(timedelta(0), "\ud83dUT"),
        timezone(timedelta(0), ""),
    ]
)


def _zoned(moments: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(lambda m, z, fold: m.replace(tzinfo=z, fold=fold), moments, zones, st.integers(0, 1))


any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=8)
hashable = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**700, max_value=10**701),
    st.floats(allow_nan=False),
    any_text,
    st.sampled_from(["$tuple", "$dict", "$", "", "\0", '{"$', "\ud83d\ude00", "\ud83d", "\ude00"]),
    st.binary(max_size=8),
    st.dates(),
    _zoned(st.datetimes()),
    _zoned(st.times()),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.sampled_from([*Color, *Level, *Word, *Right, Right.READ | Right.WRITE, Outer.Inner.ONE]),
    st.builds(Point, st.integers(), any_text),
)
values = st.recursive(
    st.one_of(hashable, st.sampled_from([math.nan, -0.0, Decimal("NaN"), Decimal("-0.00")])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(hashable, max_size=4),
        st.frozensets(hashable, max_size=4),
        st.dictionaries(any_text, inner, max_size=3),
        st.dictionaries(hashable, inner, max_size=3),
        st.builds(Slotted, any_text, st.lists(st.builds(Point, st.integers(), inner), max_size=2)),
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(values)
def test_every_value_comes_back_equal_and_of_the_same_types(value: object) -> None:
    assert same(back(value), value)


@settings(max_examples=150, deadline=None)
@given(st.lists(values, max_size=3), st.dictionaries(st.text(max_size=5), values, max_size=3))
def test_every_call_comes_back_as_it_was_made(args: list[object], kwargs: dict[str, object]) -> None:
    read_args, read_kwargs, _ = load_call(serializer, dump_call(serializer, args, kwargs))

    assert same(read_args, args)
    assert same(read_kwargs, kwargs)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40) | values.map(serializer.dumps).flatmap(lambda b: st.just(b[: len(b) // 2])))
def test_any_bytes_give_a_value_or_a_serialization_error(data: bytes) -> None:
    with contextlib.suppress(SerializationError):
        serializer.loads(data)


def test_plain_values_are_plain_json_that_anybody_can_read() -> None:
    value = [[1, 2.5, "ü", None, True], {"to": "a@b", "$a": 1, "b": {"c": []}}]

    written = serializer.dumps(value)

    assert json.loads(written) == value
    assert "ü".encode() in written


@pytest.mark.parametrize(
    "value",
    [{"$tuple": [1]}, {"$dict": []}, {"$unknown": 1}, {"$": {"$": 1}}, [{"$": []}], {"$a": 1, "b": 2}],
)
def test_a_dictionary_that_looks_like_a_tag_stays_a_dictionary(value: object) -> None:
    assert same(back(value), value)


def test_numbers_beyond_every_limit_come_back() -> None:
    assert back(10**10_000) == 10**10_000
    assert back(-(10**5000)) == -(10**5000)
    assert math.isinf(back(-math.inf))
    assert math.isnan(back([math.nan])[0])


def test_a_dataclass_comes_back_without_its_init_being_run() -> None:
    made = Derived(4)
    assert made.triple == 12  # a cached property is not a field, and can be derived again
    ran.clear()

    read = back(made)

    assert (read.size, read.double, ran) == (4, 8, [])


def test_a_field_that_the_class_got_since_takes_its_default() -> None:
    old = b'{"$dataclass":["%s:Slotted",{"name":"a"}]}' % __name__.encode()

    assert serializer.loads(old) == Slotted("a", [])


class Berlin(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> str:
        return "Berlin"


def _local_dataclass() -> object:
    @dataclass
    class Local:
        a: int

    return Local(1)


def _with_extra() -> WithExtra:
    made = WithExtra(1)
    made.b = 2  # type: ignore[attr-defined]
    return made


cyclic: list[object] = []
cyclic.append(cyclic)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "object has no form in JSON"),
        (1j, "complex has no form in JSON"),
        (Pair(1, 2), "pass tuple(value)"),
        (collections.OrderedDict(a=1), "pass dict(value)"),
        (bytearray(b"x"), "pass bytes(value)"),
        (Point, "has no form in JSON"),
        (datetime(2026, 1, 1, tzinfo=Berlin()), "use zoneinfo.ZoneInfo"),
        (_local_dataclass(), "inside a function"),
        (_with_extra(), "not fields, and would lose them: b"),
        (DictOnTop(), "on top of another type"),
        (cyclic, "contains itself"),
        ((i for i in "x"), "generator has no form in JSON"),
    ],
)
def test_what_would_not_come_back_is_refused_with_advice(value: object, said: str) -> None:
    with pytest.raises(SerializationError, match="cannot serialise") as caught:
        serializer.dumps(value)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((1, Point(1, object())), {}, "args[1].y"),
        ((), {"user": {"deep": [1, (2, object())]}}, "kwargs['user']['deep'][1][1]"),
        (({1: object()},), {}, "args[0][1]"),
        (({Pair(1, 2): 1},), {}, "args[0]{Pair(a=1, b=2)}"),
        (({Pair(1, 2)},), {}, "args[0]{Pair(a=1, b=2)}"),
        ((object(),), {}, "args[0]"),
    ],
)
def test_the_error_says_the_path_of_the_argument(args: Any, kwargs: Any, path: str) -> None:
    with pytest.raises(SerializationError) as caught:
        dump_call(serializer, args, kwargs)

    assert str(caught.value).startswith(f"cannot serialise {path}: ")


HERE = __name__


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('{"$enum":["os:system","x"]}', "no class system"),
        ('{"$enum":["subprocess:Popen","x"]}', "is not an enum"),
        (f'{{"$enum":["{HERE}:Color","BLUE"]}}', "no member 'BLUE'"),
        (f'{{"$enum":["{HERE}:NotAData","x"]}}', "is not an enum"),
        (f'{{"$enum":["{HERE}:Color","mro"]}}', "no member 'mro'"),
        (f'{{"$dataclass":["{HERE}:NotAData",{{}}]}}', "is not a dataclass"),
        (f'{{"$dataclass":["{HERE}:Point",{{"x":1,"__class__":2}}]}}', "has no field __class__"),
        (f'{{"$dataclass":["{HERE}:Point",{{}}]}}', "field x of Point is not there"),
        (f'{{"$dataclass":["{HERE}:Point.__init__",{{}}]}}', "no class Point.__init__"),
        (f'{{"$dataclass":["{HERE}",{{}}]}}', "not of the form module:Class"),
        ('{"$dataclass":["antigravity:X",{}]}', "antigravity is not imported here"),
        ('{"$enum":["unittest.__main__:X","x"]}', "is not imported here"),
        ('{"$enum":["pytest.__main__:X","x"]}', "is not imported here"),
        ('{"$object":["os:system"]}', "no tag this version knows"),
        ('{"$set":[[1]]}', "unhashable"),
        ('{"$decimal":"x"}', "cannot read"),
        ('{"$datetime":["2026-01-01",0,"../../etc/passwd"]}', "cannot read"),
        ('{"$datetime":["2026-01-01",0,null,"CET"]}', "the name of an offset and no offset"),
        ('{"$datetime":["2026-01-01T00:00+01:00",0,null,7]}', "cannot read"),
        ("[1] 2", "goes on after its end"),
        ("[" * 100_000, "cannot read"),
        ("", "cannot read"),
    ],
)
def test_hostile_bytes_are_refused_and_run_nothing(data: str, said: str) -> None:
    ran.clear()
    imported = set(sys.modules)

    with pytest.raises(SerializationError) as caught:
        serializer.loads(data.encode())

    assert said in str(caught.value)
    assert ran == []
    assert not {"antigravity", "unittest.__main__", "pytest.__main__"} & (set(sys.modules) - imported)


@pytest.mark.parametrize("payload", [b"{}", b"[1]", b"[[],[]]", b"[{},[]]", b"null", b"[[],{},1]"])
def test_bytes_that_say_no_call_are_refused(payload: bytes) -> None:
    with pytest.raises(SerializationError, match=r"payload|cannot read"):
        load_call(serializer, payload)


def test_uuid_and_date_are_readable_in_the_database() -> None:
    assert serializer.dumps(date(2026, 1, 2)) == b'{"$date":"2026-01-02"}'
    assert serializer.dumps((UUID(int=1),)) == b'{"$tuple":[{"$uuid":"00000000000000000000000000000001"}]}'


class Shouting:
    def dumps(self, value: object, /) -> Any:
        return "text" if value == [["text"], {}] else 1 / 0

    def loads(self, data: bytes, /) -> Any:
        raise ZeroDivisionError("no")


def test_a_foreign_serializer_that_fails_is_a_serialization_error() -> None:
    with pytest.raises(SerializationError, match="cannot serialise the arguments: ZeroDivisionError"):
        dump_call(Shouting(), [], {})
    with pytest.raises(SerializationError, match="must return bytes, got a str"):
        dump_call(Shouting(), ["text"], {})
    with pytest.raises(SerializationError, match="ZeroDivisionError: no"):
        load_call(Shouting(), b"x")
