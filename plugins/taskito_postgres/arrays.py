"""Array parameters, packed by hand.

psycopg would dump element by element, and choose the array's type by its contents: a list of
None, of small or of large integers each give a statement of its own to plan. Here a
column's type is stated, and a hundred values cost one join.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from typing import Any

from psycopg import DataError
from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.numeric import Int8BinaryDumper

_HEADER = struct.Struct("!iiiii")
_EMPTY = struct.Struct("!iii")
_LENGTH = struct.Struct("!i").pack
_DOUBLE = struct.Struct("!d").pack
_BIGINT = struct.Struct("!q").pack
_NULL = _LENGTH(-1)

_BOOLEAN_OID, _BYTEA_OID, _BIGINT_OID, _TEXT_OID, _DOUBLE_OID = 16, 17, 20, 25, 701


class Array:
    """One column of values for ``unnest``; the subclass is its type."""

    __slots__ = ("values",)

    def __init__(self, values: Iterable[Any]) -> None:
        self.values: Sequence[Any] = values if isinstance(values, (list, tuple)) else list(values)

    def pack(self) -> bytes:
        raise NotImplementedError


class Texts(Array):
    __slots__ = ()

    def pack(self) -> bytes:
        return _packed(_TEXT_OID, [None if value is None else value.encode() for value in self.values])


class Blobs(Array):
    __slots__ = ()

    def pack(self) -> bytes:
        return _packed(_BYTEA_OID, self.values)


class Doubles(Array):
    __slots__ = ()

    def pack(self) -> bytes:
        return _packed(_DOUBLE_OID, [None if value is None else _DOUBLE(value) for value in self.values])


class Booleans(Array):
    __slots__ = ()

    def pack(self) -> bytes:
        return _packed(_BOOLEAN_OID, [b"\1" if value else b"\0" for value in self.values])


class Bigints(Array):
    __slots__ = ()

    def pack(self) -> bytes:
        values = self.values
        if None in values:
            return _packed(_BIGINT_OID, [None if value is None else _BIGINT(value) for value in values])
        if not values:
            return _EMPTY.pack(0, 0, _BIGINT_OID)
        body = struct.pack(
            "!" + "iq" * len(values), *chain.from_iterable(zip(repeat(8), values, strict=False))
        )
        return _HEADER.pack(1, 0, _BIGINT_OID, len(values), 1) + body


def _packed(oid: int, items: Sequence[bytes | None]) -> bytes:
    if not items:
        return _EMPTY.pack(0, 0, oid)
    parts = [_HEADER.pack(1, None in items, oid, len(items), 1)]
    for item in items:
        if item is None:
            parts.append(_NULL)
        else:
            parts += (_LENGTH(len(item)), item)
    return b"".join(parts)


def storable(text: str) -> bool:
    """False for text that no row can hold, so that asking for it finds nothing instead of failing."""
    try:
        return "\0" not in text and bool(text.encode())
    except UnicodeEncodeError:
        return False


def storable_texts(texts: Iterable[str]) -> Texts:
    """Those of the texts that a row can hold."""
    return Texts([text for text in texts if storable(text)])


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> bytes:
        try:
            return obj.pack()
        except struct.error as error:
            raise DataError(f"a number does not fit its column: {error}") from error


class _TextsDumper(_ArrayDumper):
    oid = 1009


class _BlobsDumper(_ArrayDumper):
    oid = 1001


class _BigintsDumper(_ArrayDumper):
    oid = 1016


class _DoublesDumper(_ArrayDumper):
    oid = 1022


class _BooleansDumper(_ArrayDumper):
    oid = 1000


def register(context: AdaptContext) -> None:
    """Teach a connection these arrays, and to send every int as BIGINT whatever its size."""
    adapters = context.adapters
    assert adapters is not None
    adapters.register_dumper(int, Int8BinaryDumper)
    adapters.register_dumper(Texts, _TextsDumper)
    adapters.register_dumper(Blobs, _BlobsDumper)
    adapters.register_dumper(Bigints, _BigintsDumper)
    adapters.register_dumper(Booleans, _BooleansDumper)
    adapters.register_dumper(Doubles, _DoublesDumper)
