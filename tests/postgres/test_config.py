"""What a config may say: checked before any server is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import psycopg
import pytest

from taskito_core import ConfigError, OfferKind, StorageConfig, StorageError, StorageUnavailable
from taskito_postgres import hooks, location
from taskito_testing.factories import make_job

from .conftest import OpenStorage

URL = "postgresql://app:hunter2@db.example/myapp"


def config(**values: Any) -> StorageConfig:
    return StorageConfig(**{"backend": "postgres", "db_url": URL, **values})


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ("", "at least one"),
        ("a-b", "underscores"),
        ("a;b", "underscores"),
        ('a"b', "underscores"),
        ("a b", "underscores"),
        ("schéma", "ASCII"),
        ("a\n", "underscores"),
        ("pg_mine", "PostgreSQL itself"),
        ("information_schema", "PostgreSQL itself"),
        ("x" * 64, "63 bytes"),
    ],
)
def test_a_schema_name_that_cannot_work_is_a_config_error_that_says_why(schema: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        location.check(config(schema=schema))


@pytest.mark.parametrize("schema", ["taskito", "1abc", "select", "Mixed_Case", "_", "x" * 63])
def test_every_other_schema_name_works_because_it_is_quoted(
    open_storage: OpenStorage, database: psycopg.Connection[Any], schema: str
) -> None:
    storage = open_storage(schema=schema)

    [receipt] = storage.enqueue([make_job()])

    assert storage.get([receipt.id])[0].id == receipt.id
    found = database.execute(
        "SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename = 'jobs_live'", (schema,)
    )
    assert found.fetchone() == (1,)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"db_url": None}, "needs a db_url"),
        ({"db_url": ""}, "needs a db_url"),
        ({"db_url": "mysql://app:hunter2@db/myapp"}, "must start with postgresql://"),
        ({"db_url": "postgresql://app:hunter2@db:99999/myapp"}, "between 1 and 65535"),
        ({"db_url": "postgresql://app:hunter2@db:five/myapp"}, "not a URL"),
        ({"pool_size": 0}, "pool_size must be 1 or more"),
        ({"durability": "hope"}, "durability"),
    ],
)
def test_a_config_that_cannot_work_is_a_config_error_without_the_password(
    values: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        location.check(config(**values))

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:hunter2@h1:5432,h2:5433/myapp",
        "postgres://app@[::1]:5432/myapp",
        "postgresql:///myapp?host=/run/postgresql",
        "postgresql://h1,h2/myapp?target_session_attrs=read-write",
    ],
)
def test_the_forms_of_url_that_libpq_knows_pass(url: str) -> None:
    location.check(config(db_url=url))


def test_the_offer_names_both_spellings_and_checks() -> None:
    offer, *others = hooks.taskito_offers()

    assert (offer.name, *offer.aliases) == ("postgres", "postgresql")
    assert [(one.kind, one.name) for one in others] == [
        (OfferKind.LIMITER, "postgres"),
        (OfferKind.BREAKER, "postgres"),
        (OfferKind.METRICS, "postgres"),
    ]
    assert offer.check is location.check
    assert offer.describe is not None
    assert offer.describe(config()) == "postgresql://app:***@db.example/myapp"


def test_an_unreachable_server_is_storage_unavailable_and_keeps_the_password(
    open_storage: OpenStorage,
) -> None:
    # Port 1 on loopback refuses at once.
    storage = open_storage("postgresql://app:hunter2@127.0.0.1:1/myapp?sslpassword=hunter3")

    with pytest.raises(StorageUnavailable) as caught:
        storage.enqueue([make_job()])

    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    shown = f"{caught.value} {caught.value.__cause__} {storage!r}"
    assert "hunter" not in shown
    assert "127.0.0.1:1" in str(caught.value)


def test_a_url_that_libpq_does_not_understand_keeps_the_password(open_storage: OpenStorage) -> None:
    storage = open_storage("postgresql://app:hunter2@127.0.0.1:1/myapp?no_such_option=1")

    with pytest.raises(StorageError) as caught:
        storage.now()

    assert "hunter2" not in str(caught.value)


def test_channels_are_short_and_differ_by_schema_and_topic() -> None:
    names = [
        location.channel(schema, topic)
        for schema in ("a", "A", "x" * 62 + "y", "x" * 63)
        for topic in ("work", "done")
    ]

    assert len(set(names)) == len(names)
    assert all(len(name) < 63 and name.isidentifier() for name in names)


def test_nobody_imports_the_driver_before_a_storage_is_opened() -> None:
    program = (
        "import sys, taskito_postgres.hooks as h; h.taskito_offers(); assert 'psycopg' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env={**os.environ})
