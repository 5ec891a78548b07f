"""Types that an app teaches its serializer: how their values are written, and made again.

What is written is the type's registered name and what its encoder gave; of a subclass also its import path.
Only what the app registered is ever called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from taskito.serialization.import_path import class_path, find_class
from taskito_core.errors import ConfigError, SerializationError


class CustomType(NamedTuple):
    """One registered class. With ``subclasses`` the decoder is given the class as well."""

    name: str
    kind: type
    encode: Callable[[Any], object]
    decode: Callable[..., Any]
    subclasses: bool

    def write(self, value: object) -> tuple[object, list[object]]:
        """(what the encoder gave, what is to follow it in the tag). Raises SerializationError."""
        kind = type(value)
        try:
            body = self.encode(value)
        except Exception as exc:
            raise SerializationError(
                f"the encoder of type {self.name} raised {type(exc).__name__}: {exc}"
            ) from exc
        if type(body) is kind:
            raise SerializationError(
                f"the encoder of type {self.name} gave a {kind.__qualname__} again; let it give plain values"
            )
        if kind is self.kind:
            return body, []
        try:
            return body, [class_path(kind)]
        except LookupError as exc:
            raise SerializationError(f"{kind.__qualname__}: {exc}; move it to a module") from None

    def read(self, body: object, path: str | None) -> Any:
        """The value again. Raises SerializationError, also if the decoder gave something else."""
        kind = self.kind
        if path is not None:
            kind = find_class(path)
            if not (self.subclasses and issubclass(kind, self.kind)):
                raise SerializationError(f"{path} is no subclass that was registered with {self.name}")
        try:
            made = self.decode(kind, body) if self.subclasses else self.decode(body)
        except Exception as exc:
            raise SerializationError(
                f"the decoder of type {self.name} raised {type(exc).__name__}: {exc}"
            ) from exc
        if type(made) is not kind:
            raise SerializationError(
                f"the decoder of type {self.name} gave a {type(made).__qualname__}, not a {kind.__qualname__}"
            )
        return made


class CustomTypes:
    """All registered classes of one serializer, by class and by name."""

    def __init__(self) -> None:
        self._by_kind: dict[type, CustomType] = {}
        self._by_name: dict[str, CustomType] = {}

    def add(self, custom: CustomType) -> None:
        """Raises ConfigError if the class or the name is registered already."""
        if custom.kind in self._by_kind:
            raise ConfigError(f"type {custom.kind.__qualname__} is registered with this serializer already")
        if (other := self._by_name.get(custom.name)) is not None:
            raise ConfigError(
                f"{custom.name!r} is the name of {other.kind.__module__}.{other.kind.__qualname__} already; "
                f"register {custom.kind.__module__}.{custom.kind.__qualname__} with another name=..."
            )
        self._by_kind[custom.kind] = self._by_name[custom.name] = custom

    def of(self, kind: type) -> CustomType | None:
        """What was registered for this class, or else for the nearest base with its subclasses."""
        if not self._by_kind:
            return None
        if (found := self._by_kind.get(kind)) is not None:
            return found
        for base in kind.__mro__:
            if (found := self._by_kind.get(base)) is not None and found.subclasses:
                return found
        return None

    def base_of(self, kind: type) -> CustomType | None:
        """A registered base whose subclasses were left out: what its author may have forgotten."""
        return next((self._by_kind[base] for base in kind.__mro__ if base in self._by_kind), None)

    def read(self, tag: Any) -> Any:
        """What the body of a tag stands for: ``[name, body]`` or ``[name, body, import path]``."""
        name, body, *path = tag
        if (custom := self._by_name.get(name)) is None:
            raise SerializationError(
                f"no type is registered as {name!r}; register it with this serializer wherever it reads"
            )
        return custom.read(body, path[0] if path else None)
