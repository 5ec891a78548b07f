"""Which file a configuration names, decided without opening anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskito_core.errors import ConfigError
from taskito_core.hookspecs import OfferKind
from taskito_core.storage import StorageConfig
from taskito_sqlite import hooks, location
from taskito_sqlite.storage import SqliteStorage


def test_a_relative_path_is_taken_from_the_directory_at_construction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = SqliteStorage(StorageConfig(db_path="below/jobs.db"))
    monkeypatch.chdir("/")

    assert storage.path == str(tmp_path / "below" / "jobs.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///jobs.db", os.path.abspath("jobs.db")),
        ("sqlite:////var/lib/app/jobs.db", "/var/lib/app/jobs.db"),
        ("SQLite:////a b%20c.db", "/a b%20c.db"),
    ],
)
def test_a_url_with_three_slashes_is_relative_and_one_with_four_absolute(url: str, path: str) -> None:
    assert location.database_path(StorageConfig(db_url=url)) == path


@pytest.mark.parametrize(
    "config",
    [
        StorageConfig(db_url="sqlite://jobs.db"),
        StorageConfig(db_url="sqlite:///"),
        StorageConfig(db_url="sqlite:///jobs.db?mode=ro"),
        StorageConfig(db_url="sqlite:///:memory:"),
        StorageConfig(db_url="postgresql:///jobs"),
        StorageConfig(db_path=""),
        StorageConfig(db_path=":memory:"),
        StorageConfig(db_path="file:jobs.db"),
        StorageConfig(db_path="somewhere/"),
        StorageConfig(db_path="a\0b"),
        StorageConfig(durability="eventually"),
        StorageConfig(pool_size=0),
    ],
)
def test_what_can_never_work_is_a_config_error_before_anything_is_opened(config: StorageConfig) -> None:
    with pytest.raises(ConfigError):
        location.check(config)


def test_the_offer_is_found_by_name_and_scheme() -> None:
    offer, *others = hooks.taskito_offers()

    assert (offer.name, offer.schemes) == ("sqlite", ("sqlite",))
    assert [(one.kind, one.name) for one in others] == [
        (OfferKind.LIMITER, "sqlite"),
        (OfferKind.BREAKER, "sqlite"),
        (OfferKind.METRICS, "sqlite"),
    ]
    assert hooks.taskito_open_storage(StorageConfig(backend="postgres")) is None


def test_the_directory_of_the_database_is_made_when_it_is_first_used(tmp_path: Path) -> None:
    storage = SqliteStorage(StorageConfig(db_path=str(tmp_path / "a" / "jobs.db")))

    assert storage.counts().by_queue == {}

    assert (tmp_path / "a" / "jobs.db").exists()
    storage.close()
