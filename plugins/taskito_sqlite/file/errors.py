"""The driver's exceptions as the core's, so that none of SQLite's ever reaches a caller."""

from __future__ import annotations

import sqlite3

from taskito_core import StorageError, StorageUnavailable

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
#: Trouble of the machine or the moment, not of the request: the same call may succeed later.
_PASSING = _BUSY | {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
#: Raised for values that SQLite cannot keep: a lone surrogate, an integer beyond 64 bits, a huge text.
UNSTORABLE = (
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeError,
)


def _primary_code(exc: BaseException) -> int:
    # The low byte is the primary result code, the rest says which variant of it.
    return int(getattr(exc, "sqlite_errorcode", 0) or 0) & 0xFF


def is_busy(exc: BaseException) -> bool:
    """True if another connection was in the way: worth trying again in a moment."""
    return isinstance(exc, sqlite3.OperationalError) and _primary_code(exc) in _BUSY and not is_stale(exc)


def is_stale(exc: BaseException) -> bool:
    """True if the transaction has read what another one has changed since: it can never write."""
    return getattr(exc, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY_SNAPSHOT


def translated(exc: Exception, path: str) -> StorageError:
    """The exception to raise ``from exc`` for what the driver raised."""
    if isinstance(exc, sqlite3.Error):
        if _primary_code(exc) in _PASSING:
            return StorageUnavailable(f"cannot use the database {path}: {exc}")
        return StorageError(f"the database {path} refused: {exc}")
    if isinstance(exc, OSError):
        return StorageUnavailable(f"cannot use the database {path}: {exc}")
    return StorageError(f"the database {path} cannot store a value: {exc}")
