"""Arguments and results as bytes: typed JSON by default, signed pickle by choice.

Only producers and children serialise; stores and supervisors see opaque bytes. A call travels as
``[args, kwargs]``, or with a third element if more is to be said (``Inputs``), so that any serializer that
can write a list of plain values will do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, overload, runtime_checkable

from taskito.serialization.custom_types import CustomType, CustomTypes
from taskito.serialization.typed_json import has_form, is_plain, tagged, untagged
from taskito.serialization.unfit_value import UnfitValue
from taskito_core.errors import ConfigError, SerializationError, TaskitoError


class Reader(Protocol):
    """Makes values of bytes. Called in any thread of any process."""

    def loads(self, data: bytes, /) -> Any:
        """Raise SerializationError for bytes that are not this serializer's. Trust nothing in them."""
        ...


@runtime_checkable
class Serializer(Reader, Protocol):
    """Turns a value into bytes and back. Called in any thread of any process."""

    def dumps(self, value: object, /) -> bytes:
        """Raise SerializationError for a value that would not come back as it is."""
        ...


# Strings are kept as they are, so that a lone surrogate fails here and takes the careful way, as nan does.
_encode = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
).encode
_read_plain = json.JSONDecoder().raw_decode

T = TypeVar("T")


class JsonSerializer:
    """JSON with tags for what JSON has no form for; every value comes back equal and of the same type.

    Takes None, bool, int, float, str, list, dict (any keys), tuple, set, frozenset, bytes, datetime, date,
    time, timedelta, Decimal, UUID, FailedMember, and members of enums and instances of dataclasses that
    live in a module, and what was registered. Subclasses of these and everything else are refused with the
    path of the value.

    An attacker who can write to the database can make it give any of these values, also of your own enums
    and dataclasses with any field values (``__init__`` and ``__post_init__`` do not run again), and can have
    a registered decoder called with any of them, but cannot make it call anything else.
    """

    def __init__(self) -> None:
        self._types = CustomTypes()
        self._read_tagged = json.JSONDecoder(object_hook=partial(untagged, types=self._types)).raw_decode

    @overload
    def register(
        self,
        kind: type[T],
        encode: Callable[[T], object],
        decode: Callable[[Any], T],
        *,
        name: str | None = None,
        subclasses: Literal[False] = False,
    ) -> None: ...
    @overload
    def register(
        self,
        kind: type[T],
        encode: Callable[[T], object],
        decode: Callable[[type[T], Any], T],
        *,
        name: str | None = None,
        subclasses: Literal[True],
    ) -> None: ...
    def register(
        self,
        kind: type[T],
        encode: Callable[[T], object],
        decode: Callable[..., T],
        *,
        name: str | None = None,
        subclasses: bool = False,
    ) -> None:
        """Take values of the class ``kind``, too; say so wherever such values are written or read.

        ``encode(value)`` gives any value that this serializer takes, ``decode(that)`` makes an equal value
        of the same class again. With ``subclasses``, values of classes below ``kind`` are taken as well, and
        the decoder is called as ``decode(cls, that)``; a class that is registered by itself goes before.
        ``name`` is what is written, by default the name of the class: a class that moves or is renamed keeps
        it. The decoder runs on whatever the database says: let it make a value and do nothing else.

        Raises ConfigError for a class that has a form already, or a name that is taken.
        """
        if self is DEFAULT:
            raise ConfigError(
                "this serializer belongs to every queue that has none of its own; "
                "make one: serializer = JsonSerializer(), then Queue(serializer=serializer)"
            )
        if not isinstance(kind, type):
            raise ConfigError(f"register takes a class, got {kind!r}")
        if has_form(kind):
            raise ConfigError(f"type {kind.__qualname__} has a form already, which cannot be changed")
        for what, function in (("encode", encode), ("decode", decode)):
            if not callable(function):
                raise ConfigError(f"{what} of type {kind.__qualname__} must be a function, got {function!r}")
        self._types.add(CustomType(name or kind.__qualname__, kind, encode, decode, subclasses))

    def dumps(self, value: object, /) -> bytes:
        if value is None:  # What most tasks return, and json makes an encoder for each value.
            return b"null"
        try:
            if is_plain(value):
                try:
                    return _encode(value).encode()
                except ValueError:  # nan, inf, lone surrogates, integers of thousands of digits
                    pass
            return _encode(tagged(value, self._types)).encode()
        except RecursionError:
            raise SerializationError("cannot serialise a value that contains itself or is too deep") from None

    def loads(self, data: bytes, /) -> Any:
        try:
            text = data.decode()
            # Inside a string the quote would be escaped, so this is in the text if and only if a tag may be.
            value, end = (self._read_tagged if '{"$' in text else _read_plain)(text)
        except SerializationError:
            raise
        except Exception as exc:
            raise SerializationError(f"cannot read {data[:40]!r} as typed JSON: {exc}") from exc
        if end != len(text):
            raise SerializationError(f"cannot read {data[:40]!r} as typed JSON: it goes on after its end")
        return value

    def __repr__(self) -> str:
        return "JsonSerializer()"


JsonSerializer.__module__ = Serializer.__module__ = "taskito"

_PICKLE_MAGIC = b"taskito-pickle-1\0"
_SIGNATURE_SIZE = 32


class PickleSerializer:
    """Pickle behind an HMAC-SHA256: for values that JSON cannot take, and stores that others can write to.

    Unpickling runs code that the bytes choose. The signature makes sure that these bytes were
    written with ``key``. A holder of the key can run anything in your workers, so keep it as
    you keep a password, and give the same one to producers and workers.
    """

    def __init__(self, key: str | bytes | None = None) -> None:
        if not isinstance(key, str | bytes) or not key:
            raise ConfigError(
                "PickleSerializer needs a key to sign with: PickleSerializer(key=...), a secret text or bytes"
            )
        self._key = key.encode() if isinstance(key, str) else key

    def dumps(self, value: object, /) -> bytes:
        import pickle

        try:
            body = pickle.dumps(value, protocol=5)
        except Exception as exc:
            raise SerializationError(f"cannot pickle a {type(value).__qualname__}: {exc}") from exc
        return _PICKLE_MAGIC + self._sign(body) + body

    def loads(self, data: bytes, /) -> Any:
        import hmac
        import pickle

        start = len(_PICKLE_MAGIC)
        signature, body = data[start : start + _SIGNATURE_SIZE], data[start + _SIGNATURE_SIZE :]
        if not data.startswith(_PICKLE_MAGIC):
            raise SerializationError(f"cannot read {data[:40]!r}: it was not written by a PickleSerializer")
        if not hmac.compare_digest(signature, self._sign(body)):
            raise SerializationError(
                "the signature does not match: the bytes were written with another key, or changed since"
            )
        try:
            return pickle.loads(body)
        except Exception as exc:
            raise SerializationError(f"cannot unpickle: {type(exc).__name__}: {exc}") from exc

    def _sign(self, body: bytes) -> bytes:
        import hmac

        return hmac.digest(self._key, _PICKLE_MAGIC + body, "sha256")

    def __repr__(self) -> str:
        return "PickleSerializer(key=***)"


PickleSerializer.__module__ = "taskito"


class Inputs(NamedTuple):
    """Where arguments come from that are not known when a job is enqueued. Plain values."""

    #: ids of jobs whose results come first: one, or a list (nested, perhaps) that makes one list; None: none
    results_of: str | list[Any] | None = None
    each: bool = False  #: the last argument is a list of argument lists: one call for each
    collect: bool = False  #: a FailedMember stands for the result of a job that did not complete


class CallPayload(NamedTuple):
    """One call, as a payload holds it."""

    args: list[Any]
    kwargs: dict[str, Any]
    inputs: Inputs | None


def dump_call(
    serializer: Serializer,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    inputs: Inputs | None = None,
) -> bytes:
    """The payload of a job. Raises SerializationError that says which argument it is about."""
    call: list[object] = [list(args), dict(kwargs)]
    if inputs is not None:
        call.append(list(inputs))
    try:
        payload = serializer.dumps(call)
    except UnfitValue as unfit:
        first, _, rest = unfit.path.partition("]")
        name = {"[0": "args", "[1": "kwargs"}.get(first, "value")
        raise SerializationError(f"cannot serialise {name}{rest}: {unfit.problem}") from None
    except TaskitoError:
        raise
    except Exception as exc:
        raise SerializationError(
            f"{serializer!r} cannot serialise the arguments: {type(exc).__name__}: {exc}"
        ) from exc
    if not isinstance(payload, bytes):
        raise SerializationError(f"{serializer!r}.dumps must return bytes, got a {type(payload).__name__}")
    return payload


def load_call(serializer: Reader, payload: bytes) -> CallPayload:
    """What ``dump_call`` wrote. Raises SerializationError for bytes that do not say how to call something."""
    try:
        call = serializer.loads(payload)
        args, kwargs = call[:2]
        inputs = Inputs(*call[2]) if len(call) > 2 else None
    except TaskitoError:
        raise
    except Exception as exc:
        raise SerializationError(
            f"{serializer!r} cannot read {payload[:40]!r}: {type(exc).__name__}: {exc}"
        ) from exc
    if type(args) is not list or type(kwargs) is not dict:
        raise SerializationError(f"{payload[:40]!r} is not the payload of a call")
    return CallPayload(args, kwargs, inputs)


DEFAULT = JsonSerializer()


def json_of(serializer: Serializer) -> JsonSerializer:
    """What writes values as text where ``serializer`` writes arguments: itself, if it writes JSON."""
    return serializer if isinstance(serializer, JsonSerializer) else DEFAULT
