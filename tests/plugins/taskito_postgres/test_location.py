"""What a config may say: checked before any server is asked."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from taskito_core import ConfigError, StorageConfig
from taskito_postgres import location
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


def test_channels_are_short_and_differ_by_schema_and_topic() -> None:
    names = [
        location.channel(schema, topic)
        for schema in ("a", "A", "x" * 62 + "y", "x" * 63)
        for topic in ("work", "done")
    ]

    assert len(set(names)) == len(names)
    assert all(len(name) < 63 and name.isidentifier() for name in names)
