"""Two real servers change places: workers and producers find the new primary, however it is addressed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from taskito import Queue
from taskito_core.errors import StorageUnavailable
from taskito_postgres.connection import leads_astray
from tests.faults.harness import wait_until
from tests.faults.proxy import Wire
from tools.postgres_pair import Pair
from tools.private_postgres import Server, private_postgres

# Made before any test looks for what it leaves behind.
pytestmark = [pytest.mark.usefixtures("pair"), pytest.mark.timeout(180)]

#: Seconds after the promotion, or after the address has moved, within which all works again.
BACK_WITHIN = 5.0


@pytest.fixture
def url(pair: Pair) -> Iterator[str]:
    """A database that both have, at the address of the primary of now."""
    made = pair.primary.new_database("taskito_test")
    yield made
    pair.primary.drop_database(made)


@pytest.fixture
def wire(url: str) -> Iterator[Wire]:
    """One address, as a proxy, a DNS name or a virtual IP is; it leads to the primary of now."""
    with Wire(url) as made:
        yield made


@pytest.fixture
def backend_url(wire: Wire) -> str:
    return wire.url


def several(url: str, *servers: Server) -> str:
    """The URL with the hosts of these servers, in that order."""
    netloc = ",".join(urlsplit(server.url()).netloc.rpartition("@")[2] for server in servers)
    return urlunsplit(urlsplit(url)._replace(netloc=f"postgres@{netloc}"))


def copy_schema(source: str, target: str) -> None:
    """The rows and tables of the one in the other."""
    dumped = subprocess.run(["pg_dump", "-n", "taskito", source], stdout=subprocess.PIPE, check=True)
    subprocess.run(["psql", "-q", "-d", target], input=dumped.stdout, stdout=subprocess.DEVNULL, check=True)


def test_an_address_that_moves_is_followed_although_connections_to_the_old_primary_are_open(
    app, start_worker, wire, pair, url
):
    worker = start_worker(procs=2)
    assert app.nap.delay(0.0).result(30) == "rested"
    acknowledged = [app.nap.delay(0.05) for _ in range(60)]

    pair.switch_over()  # the address leads to what is a standby now: all who connect again are told so

    def is_refused() -> bool:
        with pytest.raises(StorageUnavailable) as caught:
            app.nap.delay(0.0)
        return "read-only" in str(caught.value)

    wait_until(is_refused)
    wait_until(lambda: len(pair.standby.connections(url)) >= 1, message="the worker is there, too")
    wire.move(pair.primary.url())
    moved = time.monotonic()
    acknowledged += [app.nap.delay(0.0) for _ in range(5)]

    assert acknowledged[-1].result(30) == "rested"
    assert time.monotonic() - moved < BACK_WITHIN + 2.0, worker.output()
    assert [job.result(60) for job in acknowledged] == ["rested"] * 65
    ran = worker.starts()
    assert {job.id: ran[job.id] for job in acknowledged} == {job.id: 1 for job in acknowledged}


def test_a_worker_that_listens_to_a_server_that_became_read_only_listens_to_the_next_one(
    app, start_worker, wire, url, pair
):
    # As where a service is moved by logical replication: the old server goes on, and nobody is disconnected.
    worker = start_worker(procs=1)
    name = urlsplit(url).path[1:]
    listening = "SELECT count(*) FROM pg_stat_activity WHERE starts_with(query, 'LISTEN') AND datname = %s"
    wait_until(lambda: pair.primary.execute(listening, (name,)) == [(1,)])
    with private_postgres(external=False) as other:
        other.execute(f'CREATE DATABASE "{name}"')
        copy_schema(url, other.url(name))
        wire.move(other.url())
        pair.primary.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        try:
            pair.primary.execute("SELECT pg_reload_conf()")

            wait_until(lambda: other.execute(listening, (name,)) == [(1,)], 20)
            assert app.nap.delay(0.0).result(30) == "rested"
            began = time.monotonic()
            for _ in range(10):
                assert app.nap.delay(0.0).result(30) == "rested"
            # Were they found by polling, they would take seconds each.
            assert time.monotonic() - began < 5.0, worker.output()
        finally:
            with psycopg.connect(pair.primary.url(), autocommit=True) as database:
                database.execute("SET default_transaction_read_only = off")
                database.execute("ALTER SYSTEM RESET default_transaction_read_only")
                database.execute("SELECT pg_reload_conf()")
            shown = "SHOW default_transaction_read_only"
            wait_until(lambda: pair.primary.execute(shown) == [("off",)])
            worker.kill_everything()


@pytest.mark.parametrize("primary_first", [True, False])
def test_of_several_hosts_the_one_that_takes_writes_is_used_unless_the_url_says_otherwise(
    pair, url, primary_first
):
    servers = [pair.primary, pair.standby] if primary_first else [pair.standby, pair.primary]
    with Queue(db_url=several(url, *servers)) as queue:

        @queue.task
        def job() -> None: ...

        kept = job.delay()
        wait_until(pair.is_in_step)

        pair.switch_over()
        began = time.monotonic()

        job.delay()
        assert time.monotonic() - began < BACK_WITHIN
        assert queue.stats()["pending"] == 2
    with Queue(db_url=several(url, *servers) + "?target_session_attrs=standby") as reader:
        wait_until(lambda: reader.get_job(kept.id) is not None)
        with pytest.raises(StorageUnavailable, match="read-only"):
            reader.pause("default")


def test_what_a_standby_cancels_for_its_replay_is_told_from_a_meeting_of_two_transactions(pair, url):
    with psycopg.connect(url, autocommit=True) as primary:
        primary.execute("CREATE TABLE seen (id int)")
        primary.execute("INSERT INTO seen SELECT generate_series(1, 1000)")
        wait_until(pair.is_in_step)
        name = urlsplit(url).path[1:]
        with psycopg.connect(pair.standby.url(name), autocommit=True) as reader:
            reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT count(*) FROM seen")
            primary.execute("DELETE FROM seen WHERE id < 900")
            primary.execute("VACUUM seen")
            with pytest.raises(psycopg.Error) as conflict:
                wait_until(lambda: reader.execute("SELECT count(*) FROM seen").fetchone() is None)
        # It is told so, or where it waits for nothing its session is ended.
        assert leads_astray(conflict.value) or reader.closed, conflict.value

        with psycopg.connect(url) as other:
            other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            other.execute("SELECT count(*) FROM seen")
            primary.execute("UPDATE seen SET id = id + 1")
            with pytest.raises(psycopg.errors.SerializationFailure) as met:
                other.execute("UPDATE seen SET id = id + 1")
        assert not leads_astray(met.value)
