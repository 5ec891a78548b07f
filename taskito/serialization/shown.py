"""Arguments and results as people are shown them: values that JSON can hold, cut short, without secrets.

What a JsonSerializer wrote is read as text: nothing of the app is needed for it, and nothing of it runs.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import chain, repeat
from typing import Any, NamedTuple

from taskito.serialization.custom_types import CustomTypes
from taskito.serialization.serializers import JsonSerializer, Serializer, load_call
from taskito.serialization.typed_json import CUSTOM, tagged
from taskito_core.redact import MASK, mask_text

#: Bytes that are read to be shown, at most.
MOST_READ = 1024 * 1024
#: Characters that are shown: of one text, and of everything together.
LONGEST_TEXT, LONGEST = 500, 5000
#: Containers in containers that are shown.
DEEPEST = 20

#: Names of what is shown to nobody. Where a name is ambiguous more is hidden than need be.
_SECRET = re.compile(
    r"passw|passphrase|passcode|pwd|secret|token|credential|authori[sz]ation|cookie"
    r"|(api|private|access|signing|encryption|auth|secret)[_-]?key|(^|[_-])(auth|pin|otp|cvv|cvc|ssn)$",
    re.IGNORECASE,
)


class Parameters(NamedTuple):
    """The names that a task's function has for positional arguments."""

    names: Sequence[str] = ()
    rest: str = ""  #: of those beyond ``names``

    def all(self) -> Iterator[str]:
        """Without end."""
        return chain(self.names, repeat(self.rest))


#: Of a function that does not tell, or is not known here.
NAMELESS = Parameters()


def parameters_in(function: Callable[..., Any]) -> Parameters:
    """Those of a function; none of one that does not tell."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return NAMELESS
    names = [one.name for one in found if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return Parameters(names, next((one.name for one in found if one.kind is one.VAR_POSITIONAL), ""))


class ShownCall(NamedTuple):
    """One call; a text in place of a list or an object says why it is not to be had."""

    args: list[Any] | str
    kwargs: dict[str, Any] | str


def show_call(serializer: Serializer, payload: bytes, parameters: Parameters = NAMELESS) -> ShownCall:
    """The arguments that ``dump_call`` wrote. Never raises."""
    if len(payload) > MOST_READ:
        return ShownCall(*[_too_large(payload)] * 2)
    is_text = _is_text(serializer)
    try:
        args, kwargs, inputs = load_call(_AS_TEXT if is_text else serializer, payload)
        view = _View(is_text)
        if inputs is not None and inputs.results_of is not None:
            args = [_promised(inputs.results_of), *args]
        if inputs is not None and inputs.each and args and isinstance(args[-1], list):
            *args, calls = args
            names = parameters._replace(names=parameters.names[len(args) :])
            shown = view.items(args, parameters.all())
            return ShownCall([*shown, view.rows(calls, names)], view.mapping(kwargs))
        return ShownCall(view.items(args, parameters.all()), view.mapping(kwargs))
    except Exception as exc:
        return ShownCall(*[_unreadable(payload, exc)] * 2)


def show_result(serializer: Serializer, result: bytes) -> Any:
    """The value that a task returned; a text that says why it is not to be had. Never raises."""
    if len(result) > MOST_READ:
        return _too_large(result)
    is_text = _is_text(serializer)
    try:
        return _View(is_text).show((_AS_TEXT if is_text else serializer).loads(result))
    except Exception as exc:
        return _unreadable(result, exc)


def show_mapping(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values, as those of a job's metadata: the same form for people."""
    return _View(False).mapping(values)


def _is_text(serializer: Serializer) -> bool:
    return isinstance(serializer, JsonSerializer) and type(serializer).loads is JsonSerializer.loads


class _Text:
    """Reads what a JsonSerializer wrote, and makes nothing of its tags."""

    def loads(self, data: bytes, /) -> Any:
        return json.loads(data)


_AS_TEXT = _Text()


class _View:
    """Copies values until so many characters have been shown."""

    def __init__(self, is_tagged: bool) -> None:
        self._is_tagged = is_tagged  #: an object with one key may be a tag
        self._left = LONGEST
        self._depth = 0

    def show(self, value: Any, name: str = "") -> Any:
        if name and _is_secret(name, value):
            return MASK
        self._left -= 2
        match value:
            case None | bool():
                return value
            case int():
                return self._number(value)
            case float():
                return value if value - value == 0 else repr(value)
            case str():
                return self._text(value)
            case list() | tuple() | set() | frozenset():
                return self.items(value)
            case dict() if self._is_tagged and len(value) == 1 and next(iter(value))[:1] == "$":
                return self._untagged(*next(iter(value.items())))
            case dict():
                return self.mapping(value)
            case _:
                return self._object(value)

    def items(self, values: Collection[Any], names: Iterable[str] = repeat("")) -> list[Any]:
        shown: list[Any] = []
        self._depth += 1
        for value, name in zip(values, names, strict=False):
            if self._is_full():
                shown.append(f"… {len(values) - len(shown)} more")
                break
            shown.append(self.show(value, name))
        self._depth -= 1
        return shown

    def rows(self, calls: Sequence[Sequence[Any]], parameters: Parameters) -> list[Any]:
        """The arguments of several calls."""
        shown: list[Any] = []
        for call in calls:
            if self._is_full():
                shown.append(f"… {len(calls) - len(shown)} more")
                break
            shown.append(self.items(call, parameters.all()))
        return shown

    def mapping(self, values: Mapping[Any, Any]) -> dict[str, Any]:
        return self._pairs(values.items())

    def _pairs(self, values: Collection[tuple[Any, Any]]) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        self._depth += 1
        for key, value in values:
            if self._is_full():
                shown["…"] = f"{len(values) - len(shown)} more"
                break
            # Not as a value: what is a secret by its key is shown with this key.
            name = self._text(key if isinstance(key, str) else str(self.show(key)))
            shown[name] = self.show(value, name)
        self._depth -= 1
        return shown

    def _is_full(self) -> bool:
        return self._left <= 0 or self._depth > DEEPEST

    def _text(self, text: str) -> str:
        # A password in a URL is known by what follows it, and so cut off only afterwards.
        cut = mask_text(text[: 4 * LONGEST_TEXT])
        if len(text) > LONGEST_TEXT:
            cut = f"{cut[:LONGEST_TEXT]}… ({len(text)} characters)"
        self._left -= len(cut)
        return cut.encode("utf-8", "backslashreplace").decode("utf-8")

    def _number(self, value: int) -> int | str:
        if (bits := value.bit_length()) > 1000:
            return f"an integer of {bits} bits"
        self._left -= bits // 3
        return value

    def _object(self, value: object) -> Any:
        """What another serializer made, as the usual one would write it, or else as text."""
        try:
            plain = tagged(value, CustomTypes())
        except Exception:
            return self._text(repr(value))
        self._is_tagged = True
        try:
            return self.show(plain)
        finally:
            self._is_tagged = False

    def _untagged(self, tag: str, body: Any) -> Any:
        """What a tag stands for, as far as it has a plain form; else the tag with its body."""
        try:
            if tag == "$dict":
                return self._pairs(body)
            if tag == "$dataclass":
                return self.mapping(body[1])
            return self.show(_PLAIN[tag](body))
        except Exception:
            return {tag: self.show(body)}


def _moment(body: Any) -> str:
    if isinstance(body, str):
        return body
    text, _, *names = body  # of its zone, or None and then of its offset
    name = next(filter(None, names), None)
    return f"{text}[{name}]" if name else str(text)


#: The plain forms of what typed JSON writes with a tag.
_PLAIN: dict[str, Callable[[Any], Any]] = {
    "$tuple": list,
    "$set": list,
    "$frozenset": list,
    "$int": lambda body: int(body, 16),
    "$float": str,
    "$str": lambda body: bytes.fromhex(body).decode("utf-8", "surrogatepass"),
    "$datetime": _moment,
    "$date": str,
    "$time": _moment,
    "$timedelta": lambda body: str(timedelta(*body)),
    "$decimal": str,
    "$uuid": str,
    CUSTOM: lambda body: body[1],
    "$enum": lambda body: f"{body[0].rpartition(':')[2]}.{body[1]}",
}


def _is_secret(name: str, value: object) -> bool:
    if value is None or isinstance(value, bool) or not _SECRET.search(name):
        return False
    # Tokens that are counted are those of a text.
    return not (isinstance(value, int | float) and "tokens" in name.lower())


def _promised(results_of: str | list[Any]) -> Any:
    if isinstance(results_of, str):
        return f"the result of job {results_of}"
    return [_promised(one) for one in results_of]


def _too_large(data: bytes) -> str:
    return f"too large to be shown: {len(data)} bytes"


def _unreadable(data: bytes, exc: Exception) -> str:
    return f"{len(data)} bytes that cannot be read here: {mask_text(str(exc))[:LONGEST_TEXT]}"
