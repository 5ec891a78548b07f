"""Fixtures any test may use: databases on real servers, waiting without sleeping, and a check for leaks."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tools import leaks, pgbouncer, postgres_binaries
from tools.postgres_binaries import NoPostgres
from tools.postgres_pair import Pair, postgres_pair
from tools.private_postgres import Server, private_postgres

#: Every program a test starts inherits it, so that an orphan can be told from a stranger. Each process of a
#: parallel run has its own.
os.environ[leaks.MARK] = uuid.uuid4().hex

# A developer's own settings must not decide what the tests see.
for _name in [name for name in os.environ if name.startswith("TASKITO_") and "_TEST_" not in name]:
    del os.environ[_name]

# A shell starts what runs in its background with SIGINT ignored; programs inherit that, and what is blocked.
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# pg_dump and its like refuse servers that are newer than they are.
if postgres_binaries.asked_version() and not os.environ.get("TASKITO_TEST_POSTGRES_URL"):
    os.environ["PATH"] = f"{postgres_binaries.find()}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def pytest_report_header() -> list[str]:
    """With which servers the tests run, as far as it is known before."""
    bouncer = pgbouncer.installed() or "not here, so tests behind a pooler are skipped; make test brings it"
    return [f"SQLite: {sqlite3.sqlite_version}", f"PostgreSQL: {_postgres()}", f"PgBouncer: {bouncer}"]


def _postgres() -> str:
    if os.environ.get("TASKITO_TEST_POSTGRES_URL"):
        return "the server of TASKITO_TEST_POSTGRES_URL"
    if version := postgres_binaries.asked_version():
        return f"{version}, here {postgres_binaries.version_of(postgres_binaries.find())}"
    return "any version; POSTGRES=18 asks for one"


_BACKENDS = ("sqlite", "postgres")


class WaitUntil(Protocol):
    def __call__(self, predicate: Callable[[], object], timeout: float = 30.0, message: str = "") -> None: ...


def _wait_until(predicate: Callable[[], object], timeout: float = 30.0, message: str = "") -> None:
    """Return once ``predicate()`` is true; fail after ``timeout`` seconds. Looks every 10 ms."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            name = message or getattr(predicate, "__name__", repr(predicate))
            pytest.fail(f"not true within {timeout:g} s: {name}", pytrace=True)
        time.sleep(0.01)


@pytest.fixture(scope="session")
def wait_until() -> WaitUntil:
    """``wait_until(predicate, timeout=30.0)``: the only way to wait in a test."""
    return _wait_until


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """The server of this test run. Do not stop it: others use it; see ``private_server``."""
    with private_postgres() as server:
        yield server


@pytest.fixture
def private_server() -> Iterator[Server]:
    """A server of this test's own, to stop, crash and start again."""
    with private_postgres(external=False) as server:
        yield server


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A primary and its standby, for all tests of a module; ask for it with ``usefixtures`` there."""
    try:
        with postgres_pair(standby_settings=["max_standby_streaming_delay=0"]) as made:
            yield made
    except NoPostgres as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def restartable_server() -> Iterator[Server]:
    """One that the tests of a module stop and start; ask for it with ``usefixtures`` there."""
    with private_postgres(external=False) as server:
        yield server


@pytest.fixture
def new_postgres_url(postgres_server: Server) -> Iterator[Callable[[], str]]:
    """Makes URLs of fresh empty databases; dropped after the test, when nobody may be connected any more."""
    urls: list[str] = []

    def make() -> str:
        urls.append(postgres_server.new_database("taskito_test"))
        return urls[-1]

    yield make
    leftovers = []
    for url in urls:
        leftovers += leaks.settled(lambda url=url: postgres_server.connections(url))  # type: ignore[misc]
        postgres_server.drop_database(url)
    if leftovers:
        pytest.fail("connections left open:\n  " + "\n  ".join(leftovers), pytrace=False)


@pytest.fixture
def postgres_url(new_postgres_url: Callable[[], str]) -> str:
    """The URL of a fresh empty database."""
    return new_postgres_url()


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    """A path where no database is yet."""
    return tmp_path / "taskito.db"


@pytest.fixture
def sqlite_url(sqlite_path: Path) -> str:
    return f"sqlite:///{sqlite_path}"


@pytest.fixture(params=_BACKENDS)
def backend_url(request: pytest.FixtureRequest) -> str:
    """An empty store on each backend in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process, a thread or an open descriptor behind.

    Being autouse it is set up before, and torn down after, every other fixture of the test.
    """
    if _needs_postgres(request):
        # Started now, the shared server is not taken for something this test left.
        request.getfixturevalue("postgres_server")
    before = leaks.snapshot()
    yield
    if left := leaks.settled(lambda: leaks.since(before)):
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


def _needs_postgres(request: pytest.FixtureRequest) -> bool:
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and callspec.params.get("backend_url") == "sqlite":
        return False
    return any("postgres" in name or name == "backend_url" for name in request.fixturenames)
