"""The caller's own connection, found in whatever the caller passes as ``connection=``."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from taskito_core.errors import ConfigError

Connection = TypeVar("Connection")


def driver_connection(
    given: object,
    connection: type[Connection],
    cursor: type,
    *,
    wanted: str,
    asynchronous: tuple[type, ...] = (),
) -> Connection:
    """The driver's connection in ``given``: itself, a cursor's, or an SQLAlchemy Connection's or Session's.

    An SQLAlchemy transaction is begun if none is open. SQLAlchemy is known by its shape and never imported.
    Raises ConfigError for anything else, with ``wanted`` in the sentence, and for what needs an event loop:
    the classes ``asynchronous`` of the driver, and SQLAlchemy's.
    """
    if any(hasattr(given, name) for name in ("sync_connection", "sync_session")):
        raise _asynchronous(given)
    found: Any = given
    if isinstance(found, cursor):
        found = found.connection  # type: ignore[attr-defined]
    if callable(getattr(found, "get_bind", None)) and callable(getattr(found, "connection", None)):
        found = found.connection()  # a Session: the Connection of its transaction, begun if need be
    if callable(getattr(found, "in_transaction", None)) and not found.in_transaction():
        found.begin()  # else its commit and rollback would not know of what is done below them
    while not isinstance(found, connection):
        if isinstance(found, asynchronous):
            raise _asynchronous(given)
        inner = getattr(found, "driver_connection", None) or getattr(found, "connection", None)
        # A driver's connection may be callable too: that does not tell it from a method.
        if inner is None or inner is found or inspect.ismethod(inner):
            raise ConfigError(f"connection must be {wanted}, got {_named(given)}")
        found = inner
    return found


def _asynchronous(given: object) -> ConfigError:
    return ConfigError(
        f"connection must be a synchronous one, got {_named(given)}; with SQLAlchemy's AsyncSession use "
        "session.run_sync"
    )


def _named(given: object) -> str:
    return f"{type(given).__module__}.{type(given).__qualname__}"
