"""What is taken as a caller's connection. The plugins' tests use it in transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy
from sqlalchemy.orm import Session

from taskito_core import ConfigError, driver_connection

WANTED = "a sqlite3 Connection or Cursor"


@pytest.fixture
def engine() -> Iterator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine("sqlite://")
    yield engine
    engine.dispose()


def found(given: object, *asynchronous: type) -> sqlite3.Connection:
    return driver_connection(
        given, sqlite3.Connection, sqlite3.Cursor, wanted=WANTED, asynchronous=asynchronous
    )


def test_the_drivers_own_is_taken_as_it_is_and_from_its_cursor() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        assert found(connection) is connection
        assert found(connection.cursor()) is connection
        assert not connection.in_transaction


def test_of_sqlalchemy_it_is_the_one_below_and_its_transaction_has_begun(engine: sqlalchemy.Engine) -> None:
    with engine.connect() as connection:
        raw = found(connection)
        assert isinstance(raw, sqlite3.Connection)
        assert connection.in_transaction()
        assert found(connection) is raw
    with Session(engine) as session:
        assert isinstance(found(session), sqlite3.Connection)
        assert session.in_transaction()


class Asynchronous:
    """A driver's connection that needs an event loop."""


class AsyncSession:
    sync_session = None


class Wrapper:
    """What a pool hands out."""

    def __init__(self, inner: object) -> None:
        self.driver_connection = inner


@pytest.mark.parametrize(
    "given", [Asynchronous(), AsyncSession(), Wrapper(Asynchronous())], ids=["driver", "session", "inside"]
)
def test_what_needs_an_event_loop_is_refused_with_advice(given: object) -> None:
    with pytest.raises(ConfigError, match=r"must be a synchronous one, got .*; .*run_sync"):
        found(given, Asynchronous)


@pytest.mark.parametrize(
    "given",
    [None, "sqlite://", object(), Wrapper(None), Wrapper(3)],
    ids=["None", "text", "object", "empty", "wrong"],
)
def test_anything_else_is_refused_by_its_type(given: object) -> None:
    kind = f"{type(given).__module__}.{type(given).__qualname__}"

    with pytest.raises(ConfigError, match=f"connection must be {WANTED}, got {kind}"):
        found(given)


def test_a_method_called_connection_is_not_looked_into() -> None:
    class Odd:
        def connection(self) -> None:
            raise AssertionError("called")

    with pytest.raises(ConfigError, match="got "):
        found(Odd())
