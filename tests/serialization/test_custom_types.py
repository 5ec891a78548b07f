"""Types that an app registers come back as they were, and nothing else is called."""

from __future__ import annotations

import dataclasses
import enum
from datetime import datetime
from fractions import Fraction
from pathlib import Path, PosixPath
from typing import Any, NamedTuple

import pytest

from taskito import ConfigError, JsonSerializer, Queue, SerializationError
from taskito.serialization.serializers import dump_call, load_call

decoded: list[object] = []


class Shape:
    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(tuple(self.fields))


class Circle(Shape):
    pass


class Square(Shape):
    pass


class Version(NamedTuple):
    major: int
    minor: int


class Size(enum.Enum):
    SMALL = 1


@dataclasses.dataclass
class Money:
    cents: int


def read_shape(cls: type[Shape], fields: dict[str, Any]) -> Shape:
    decoded.append(cls)
    return cls(**fields)


def write_shape(shape: Shape) -> dict[str, Any]:
    return shape.fields


@pytest.fixture
def serializer() -> JsonSerializer:
    made = JsonSerializer()
    made.register(PosixPath, str, PosixPath, name="Path")
    made.register(Fraction, str, Fraction)
    made.register(Version, tuple, lambda parts: Version(*parts))
    made.register(Shape, write_shape, read_shape, subclasses=True)
    decoded.clear()
    return made


@pytest.mark.parametrize(
    "value",
    [
        Path("/tmp/a b"),
        [Path("a"), 1, {"deep": (Fraction(1, 3),)}],
        {Path("a"): Fraction(-1), Path("b"): None},
        {Path("a"), Path("b")},
        Version(3, 12),
        Shape(a=1),
        Circle(radius=Fraction(1, 2), centre=(0, 0)),
        Square(inner=[Circle(radius=1), Shape()], file=Path("x")),
    ],
)
def test_values_of_registered_types_come_back_equal_and_of_the_same_type(
    serializer: JsonSerializer, value: object
) -> None:
    read = serializer.loads(serializer.dumps(value))

    assert read == value
    assert type(read) is type(value)
    assert load_call(serializer, dump_call(serializer, [value], {"k": value})).kwargs == {"k": value}


def test_a_person_can_read_what_is_written(serializer: JsonSerializer) -> None:
    assert serializer.dumps([Path("a")]) == b'[{"$custom":["Path","a"]}]'
    assert serializer.dumps(Circle(r=1)) == b'{"$custom":["Shape",{"r":1},"%s:Circle"]}' % __name__.encode()


def test_a_class_that_is_registered_by_itself_goes_before_its_base(serializer: JsonSerializer) -> None:
    serializer.register(Circle, lambda circle: circle.fields["radius"], lambda radius: Circle(radius=radius))

    assert serializer.dumps(Circle(radius=2)) == b'{"$custom":["Circle",2]}'
    assert serializer.loads(serializer.dumps(Circle(radius=2))) == Circle(radius=2)


def test_what_is_registered_goes_before_the_forms_of_enums_and_dataclasses() -> None:
    serializer = JsonSerializer()
    old = serializer.dumps([Size.SMALL, Money(5)])
    serializer.register(Size, lambda size: size.value, Size)
    serializer.register(Money, lambda money: money.cents, Money)

    assert serializer.dumps([Size.SMALL, Money(5)]) == b'[{"$custom":["Size",1]},{"$custom":["Money",5]}]'
    assert serializer.loads(serializer.dumps([Size.SMALL, Money(5)])) == [Size.SMALL, Money(5)]
    assert serializer.loads(old) == [Size.SMALL, Money(5)]  # what was stored before can still be read


def test_one_serializer_knows_nothing_of_the_types_of_another(serializer: JsonSerializer) -> None:
    with pytest.raises(SerializationError, match=r"pathlib\.\S*PosixPath has no form in JSON"):
        JsonSerializer().dumps(Path("a"))
    with pytest.raises(SerializationError, match="no type is registered as 'Path'"):
        JsonSerializer().loads(serializer.dumps(Path("a")))


def test_a_base_that_was_registered_without_its_subclasses_is_named() -> None:
    serializer = JsonSerializer()
    serializer.register(Path, str, Path)

    with pytest.raises(SerializationError, match=r"register PosixPath, or Path with subclasses=True"):
        serializer.dumps(Path("a"))


def local_subclass() -> Shape:
    class Local(Shape):
        pass

    return Local()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([Square(a=object())], r"args\[0\]\['a'\]: type object has no form"),
        ([local_subclass()], r"args\[0\]: \S*Local: its class is defined inside a function"),
        ([Fraction(1, 2), Version(1, 2)], r"args\[1\]: the encoder of type Version raised ValueError: no"),
        ([Size.SMALL], r"args\[0\]: the encoder of type Size gave a Size again"),
    ],
)
def test_what_cannot_be_written_is_refused_with_its_path(args: list[Any], said: str) -> None:
    def refuse(value: object) -> object:
        raise ValueError("no")

    serializer = JsonSerializer()
    serializer.register(Shape, write_shape, read_shape, subclasses=True)
    serializer.register(Fraction, str, Fraction)
    serializer.register(Version, refuse, lambda body: Version(*body))
    serializer.register(Size, lambda size: size, Size)

    with pytest.raises(SerializationError, match=f"cannot serialise {said}"):
        dump_call(serializer, args, {})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('{"$custom":["Unknown",1]}', "no type is registered as 'Unknown'"),
        (f'{{"$custom":["Shape",{{}},"{__name__}:Money"]}}', "is no subclass that was registered with Shape"),
        (f'{{"$custom":["Fraction","1","{__name__}:Circle"]}}', "is no subclass that was registered with"),
        ('{"$custom":["Shape",{},"os:system"]}', "no class system"),
        ('{"$custom":["Shape",{},"antigravity:X"]}', "antigravity is not imported here"),
        ('{"$custom":["Fraction","x"]}', "the decoder of type Fraction raised ValueError"),
        ('{"$custom":[]}', "cannot read"),
        ('{"$custom":["Fraction"]}', "cannot read"),
        ('{"$custom":[[],1]}', "cannot read"),
        ('{"$custom":1}', "cannot read"),
    ],
)
def test_hostile_bytes_call_nothing_that_was_not_registered(
    serializer: JsonSerializer, data: str, said: str
) -> None:
    with pytest.raises(SerializationError) as caught:
        serializer.loads(data.encode())

    assert said in str(caught.value)
    assert decoded == []


def test_a_decoder_that_gives_another_type_is_found_out() -> None:
    serializer = JsonSerializer()
    serializer.register(PosixPath, str, str)  # type: ignore[arg-type]

    with pytest.raises(SerializationError, match="decoder of type PosixPath gave a str, not a PosixPath"):
        serializer.loads(serializer.dumps(Path("a")))


def other_version() -> type:
    class Version:
        pass

    Version.__qualname__ = "Version"
    return Version


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((datetime, str, datetime.fromisoformat), "type datetime has a form already"),
        ((int, str, int), "type int has a form already"),
        ((Fraction, str, Fraction), "Fraction is registered with this serializer already"),
        ((other_version(), str, str), "register .*Version with another name="),
        (("Path", str, str), "register takes a class, got 'Path'"),
        ((Circle, None, str), "encode of type Circle must be a function, got None"),
    ],
)
def test_a_registration_that_makes_no_sense_is_refused(
    serializer: JsonSerializer, arguments: Any, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        serializer.register(*arguments)


def test_the_serializer_that_queues_share_takes_no_registrations(tmp_path: Path) -> None:
    shared = Queue(str(tmp_path / "jobs.db")).serializer
    assert isinstance(shared, JsonSerializer)

    with pytest.raises(ConfigError, match=r"Queue\(serializer=serializer\)"):
        shared.register(Fraction, str, Fraction)
