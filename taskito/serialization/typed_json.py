"""Python values as JSON and back, exactly: what plain JSON has no form for becomes an object with one
key, the tag: ``{"$tuple": [1, 2]}``.

Reading calls nothing that the text names: an enum member is looked up, a dataclass is filled
field by field without its ``__init__``, a registered type has its decoder called, everything else has a
fixed meaning.
"""

from __future__ import annotations

import binascii
import dataclasses
import sys
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from enum import Enum, Flag
from functools import cached_property
from types import CoroutineType
from typing import Any

from taskito.serialization import moments
from taskito.serialization.custom_types import CustomType, CustomTypes
from taskito.serialization.failed_member import FailedMember
from taskito.serialization.import_path import class_path, find_class, type_name
from taskito.serialization.unfit_value import UnfitValue
from taskito_core.errors import SerializationError

_ATOMS = frozenset({str, int, float, bool, type(None)})
_STR = frozenset({str})
#: The tag of registered types.
CUSTOM = "$custom"
#: Longer integers are written in hexadecimal: Python limits how many decimal digits it reads.
_DECIMAL_BITS = 2000


def is_plain(value: object) -> bool:
    """True if the JSON encoder alone writes ``value`` so that the decoder alone reads it back exactly.

    Strings and floats are not checked: the encoder refuses what it cannot write. The loops
    are C loops; Python code runs per container, not per element.
    """
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is dict:
        if not _STR.issuperset(map(type, value)):  # type: ignore[call-overload]
            return False
        if len(value) == 1 and next(iter(value))[:1] == "$":  # type: ignore[arg-type, call-overload]
            return False
        inner: Iterable[object] = value.values()  # type: ignore[attr-defined]
    elif kind is list:
        inner = value  # type: ignore[assignment]
    else:
        return False
    if not value:
        return True
    kinds = set(map(type, inner)) - _ATOMS
    if not kinds:
        return True
    if not kinds <= {dict, list}:
        return False
    for element in inner:  # noqa: SIM110  # a generator costs more than the test
        if type(element) not in _ATOMS and not is_plain(element):
            return False
    return True


def tagged(value: object, types: CustomTypes) -> object:
    """``value`` in terms of plain JSON. Raises UnfitValue for what has no form."""
    kind = type(value)
    if (write := _writer(kind)) is not None:
        return write(value, types)
    if (custom := types.of(kind)) is not None:
        return {CUSTOM: _custom(value, custom, types)}
    if isinstance(value, Enum):
        return {"$enum": _enum(value)}
    if dataclasses.is_dataclass(kind):
        return {"$dataclass": _dataclass(value, types)}
    raise UnfitValue(f"type {type_name(kind)} has no form in JSON; {_advice(kind, types)}")


def has_form(kind: type) -> bool:
    """Is there a form for this class that an app cannot change?"""
    return _writer(kind) is not None


def untagged(read: dict[str, Any], types: CustomTypes) -> object:
    """What one JSON object stands for: the ``object_hook`` of the decoder."""
    if len(read) == 1:
        [(tag, body)] = read.items()
        if tag[:1] == "$":
            if tag == CUSTOM:
                return types.read(body)
            try:
                reader = _READERS[tag]
            except KeyError:
                raise SerializationError(
                    f"{tag!r} is no tag this version knows; was it written by a newer one?"
                ) from None
            return reader(body)
    return read


def _advice(kind: type, types: CustomTypes) -> str:
    if (base := types.base_of(kind)) is not None:
        return (
            f"its base {base.name} is registered without its subclasses; "
            f"register {kind.__qualname__}, or {base.name} with subclasses=True"
        )
    for plain_base in (bool, int, float, str, bytes, bytearray, tuple, list, dict, set):
        if issubclass(kind, plain_base):
            plain = bytes if plain_base is bytearray else plain_base
            return f"pass {plain.__name__}(value) or a dataclass, or register the type with a JsonSerializer"
    if issubclass(kind, CoroutineType):
        return "await it first and pass the value"
    return "pass an id, a dict or a dataclass of plain values, or register the type with a JsonSerializer"


# ---- writing ----


def _int(value: int, types: CustomTypes) -> object:
    return value if value.bit_length() <= _DECIMAL_BITS else {"$int": hex(value)}


def _float(value: float, types: CustomTypes) -> object:
    return value if value - value == 0 else {"$float": repr(value)}


def _str(value: str, types: CustomTypes) -> object:
    try:
        value.encode()
    except UnicodeEncodeError:
        return {"$str": value.encode("utf-8", "surrogatepass").hex()}
    return value


def _elements(values: Iterable[object], types: CustomTypes) -> list[object]:
    written: list[object] = []
    for index, value in enumerate(values):
        try:
            written.append(tagged(value, types))
        except UnfitValue as unfit:
            unfit.steps.append(f"[{index}]")
            raise
    return written


def _members(values: Iterable[object], types: CustomTypes) -> list[object]:
    """As _elements, for what has no index."""
    written: list[object] = []
    for value in values:
        try:
            written.append(tagged(value, types))
        except UnfitValue as unfit:
            unfit.steps.append(f"{{{value!r:.50}}}")
            raise
    return written


def _dict(value: dict[object, object], types: CustomTypes) -> object:
    written: dict[object, object] = {}
    simple = _STR.issuperset(map(type, value)) and not (len(value) == 1 and str(next(iter(value)))[:1] == "$")
    for key, element in value.items():
        try:
            if simple and isinstance(_str(str(key), types), dict):
                simple = False
            written[key] = tagged(element, types)
        except UnfitValue as unfit:
            unfit.steps.append(f"[{key!r:.50}]")
            raise
    if simple:
        return written
    return {"$dict": [list(pair) for pair in zip(_members(value, types), written.values(), strict=True)]}


def _datetime(value: datetime, types: CustomTypes) -> object:
    return {"$datetime": _moment(value, types)}


def _time(value: time, types: CustomTypes) -> object:
    return {"$time": _moment(value, types)}


def _moment(value: datetime | time, types: CustomTypes) -> object:
    try:
        written = moments.written(value)
    except SerializationError as exc:
        raise UnfitValue(str(exc)) from None
    return written if isinstance(written, str) else _elements(written, types)


def _enum(value: Enum) -> list[object]:
    try:
        path = class_path(type(value))
    except LookupError as exc:
        raise UnfitValue(f"{value!r}: {exc}; move it to a module") from None
    # A combination of flags has no member of its own.
    return [path, value.value if isinstance(value, Flag) else value.name]


def _custom(value: object, custom: CustomType, types: CustomTypes) -> list[object]:
    try:
        body, rest = custom.write(value)
    except SerializationError as exc:
        raise UnfitValue(str(exc)) from exc
    return [custom.name, tagged(body, types), *rest]


def _dataclass(value: Any, types: CustomTypes) -> list[object]:
    kind = type(value)
    names, derived = _fields_of(kind)
    if extra := vars(value).keys() - names - derived if hasattr(value, "__dict__") else None:
        raise UnfitValue(
            f"{type_name(kind)} has attributes that are not fields, and would lose them: "
            f"{', '.join(sorted(extra))}; make them fields, or pass plain values"
        )
    written: dict[str, object] = {}
    for name in names:
        try:
            if (element := getattr(value, name, dataclasses.MISSING)) is not dataclasses.MISSING:
                written[name] = tagged(element, types)
        except UnfitValue as unfit:
            unfit.steps.append(f".{name}")
            raise
    return [class_path(kind), written]


_known_fields: dict[type, tuple[dict[str, None], frozenset[str]]] = {}


def _fields_of(kind: type) -> tuple[dict[str, None], frozenset[str]]:
    """(the fields' names in order, names of attributes that can be derived again)."""
    if (known := _known_fields.get(kind)) is not None:
        return known
    try:
        class_path(kind)
        object.__new__(kind)
    except LookupError as exc:
        raise UnfitValue(f"{type_name(kind)}: {exc}; move it to a module") from None
    except TypeError:
        raise UnfitValue(
            f"{type_name(kind)} is a dataclass on top of another type with a state of its own; "
            "pass a dict or a dataclass of plain values"
        ) from None
    derived = {
        name
        for cls in kind.__mro__
        for name, thing in vars(cls).items()
        if isinstance(thing, cached_property)
    }
    names = dict.fromkeys(f.name for f in dataclasses.fields(kind))
    known = _known_fields[kind] = (names, frozenset(derived | {"__orig_class__"}))
    return known


def _same(value: object, types: CustomTypes) -> object:
    return value


_Writer = Callable[[Any, CustomTypes], object]
_WRITERS: dict[type, _Writer] = {
    type(None): _same,
    bool: _same,
    int: _int,
    float: _float,
    str: _str,
    list: _elements,
    dict: _dict,
    tuple: lambda value, types: {"$tuple": _elements(value, types)},
    set: lambda value, types: {"$set": _members(value, types)},
    frozenset: lambda value, types: {"$frozenset": _members(value, types)},
    bytes: lambda value, types: {"$bytes": binascii.b2a_base64(value, newline=False).decode()},
    datetime: _datetime,
    date: lambda value, types: {"$date": value.isoformat()},
    time: _time,
    timedelta: lambda value, types: {"$timedelta": [value.days, value.seconds, value.microseconds]},
    FailedMember: lambda value, types: {"$failed_member": _elements(value, types)},
}
#: Types of modules that are not imported for their sake: importing taskito shall be quick.
_LATE: dict[tuple[str, str], _Writer] = {
    ("decimal", "Decimal"): lambda value, types: {"$decimal": str(value)},
    ("uuid", "UUID"): lambda value, types: {"$uuid": value.hex},
}


def _writer(kind: type) -> _Writer | None:
    if (write := _WRITERS.get(kind)) is not None:
        return write
    late = _LATE.get((kind.__module__, kind.__qualname__))
    if late is not None and getattr(sys.modules[kind.__module__], kind.__qualname__, None) is kind:
        return late
    return None


# ---- reading ----


def _read_decimal(body: Any) -> object:
    from decimal import Decimal

    return Decimal(body)


def _read_uuid(body: Any) -> object:
    from uuid import UUID

    return UUID(body)


def _read_enum(body: Any) -> object:
    path, value = body
    cls = find_class(path)
    if not issubclass(cls, Enum):
        raise SerializationError(f"{path} is not an enum")
    if issubclass(cls, Flag) and type(value) is int:
        return cls(value)
    try:
        return cls.__members__[value]
    except KeyError:
        raise SerializationError(f"the enum {path} has no member {value!r}") from None


def _read_dataclass(body: Any) -> object:
    path, values = body
    cls = find_class(path)
    if not (dataclasses.is_dataclass(cls) and isinstance(values, dict)):
        raise SerializationError(f"{path} is not a dataclass")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if unknown := values.keys() - fields.keys():
        raise SerializationError(f"the dataclass {path} has no field {', '.join(sorted(unknown))}")
    # Not cls(**values): the text says what is in the fields, and must not choose what code runs.
    made = object.__new__(cls)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    for name in fields.keys() - values.keys():
        _set_default(made, fields[name])
    return made


def _set_default(made: object, field: dataclasses.Field[Any]) -> None:
    """A field that the class did not have yet when the value was written."""
    if field.default is not dataclasses.MISSING:
        object.__setattr__(made, field.name, field.default)
    elif field.default_factory is not dataclasses.MISSING:
        object.__setattr__(made, field.name, field.default_factory())
    elif field.init:
        raise SerializationError(f"the field {field.name} of {type(made).__qualname__} is not there")


_READERS: dict[str, Callable[[Any], object]] = {
    "$int": lambda body: int(body, 16),
    "$float": float,
    "$str": lambda body: bytes.fromhex(body).decode("utf-8", "surrogatepass"),
    "$dict": dict,
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$bytes": lambda body: binascii.a2b_base64(body, strict_mode=True),
    "$datetime": moments.reader(datetime),
    "$date": date.fromisoformat,
    "$time": moments.reader(time),
    "$timedelta": lambda body: timedelta(*body),
    "$failed_member": lambda body: FailedMember(*body),
    "$decimal": _read_decimal,
    "$uuid": _read_uuid,
    "$enum": _read_enum,
    "$dataclass": _read_dataclass,
}
