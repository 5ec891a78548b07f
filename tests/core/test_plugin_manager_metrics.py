"""Which metrics sink a setting means, and where it keeps things."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from taskito import Queue
from taskito_core import Offer, OfferKind, hookimpl
from taskito_core.errors import ConfigError
from taskito_core.metrics import Tally
from taskito_core.plugin_manager import Plugins, load
from taskito_core.storage import StorageConfig


class Sink:
    """Keeps nothing but what it was asked for by."""

    clock_shift = 0

    def __init__(self, url: str, config: StorageConfig) -> None:
        self.asked = url, config.backend

    def record(self, batch: Sequence[Tally]) -> None: ...

    def read(self, task_name: str | None, since: float) -> list[Tally]:
        return []

    def close(self) -> None: ...


class Redis:
    """A plugin that offers a metrics sink and no storage."""

    @hookimpl
    def taskito_offers(self) -> Sequence[Offer]:
        return [Offer(kind=OfferKind.METRICS, name="redis", schemes=("redis",))]

    @hookimpl
    def taskito_open_metrics(self, url: str, config: StorageConfig) -> Sink | None:
        return Sink(url, config) if url.partition("://")[0] == "redis" else None


class OnlyStorage:
    @hookimpl
    def taskito_offers(self) -> Sequence[Offer]:
        return [Offer(kind=OfferKind.STORAGE, name="only-storage")]


def test_metrics_nobody_offers_are_an_error() -> None:
    with pytest.raises(ConfigError, match="no installed plugin offers the metrics sink 'redis://x'"):
        load().open_metrics("redis://x", StorageConfig())


@pytest.mark.parametrize("setting", ["redis", "redis://host/1"])
def test_a_metrics_sink_of_one_plugin_stands_beside_the_storage_of_another(
    setting: str, sqlite_url: str
) -> None:
    plugins = Plugins.discover({})
    plugins.register(Redis(), "redis")

    sink: Any = plugins.open_metrics(setting, StorageConfig(backend="sqlite", db_url=sqlite_url))

    assert sink.asked == (setting, "sqlite")


@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_a_backend_keeps_the_metrics_unless_the_setting_says_otherwise(backend: str, sqlite_url: str) -> None:
    url = sqlite_url if backend == "sqlite" else "postgresql://h/d"
    config = StorageConfig(backend=backend, db_url=url)

    kinds = {
        type(sink).__module__.partition(".")[0]
        for setting in (None, backend)
        if (sink := load().open_metrics(setting, config)) is not None
    }

    assert kinds == {f"taskito_{backend}"}


@pytest.mark.parametrize("setting", ["none", "None"])
def test_none_means_that_no_metrics_are_kept(setting: str) -> None:
    assert load().open_metrics(setting, StorageConfig()) is None


def test_a_backend_without_metrics_has_none() -> None:
    plugins = Plugins()
    plugins.register(OnlyStorage(), "only-storage")

    assert plugins.open_metrics(None, StorageConfig(backend="only-storage")) is None


def test_a_queue_takes_a_name_that_somebody_offers_and_no_other(sqlite_url: str) -> None:
    for setting in (None, "none", "sqlite", sqlite_url):
        Queue(db_url=sqlite_url, metrics=setting)

    with pytest.raises(ConfigError, match="no installed plugin offers the metrics sink 'prometheus'"):
        Queue(db_url=sqlite_url, metrics="prometheus")


def test_a_queue_without_metrics_says_so_when_it_is_asked(sqlite_url: str) -> None:
    with (
        Queue(db_url=sqlite_url, metrics="none") as queue,
        pytest.raises(ConfigError, match="kept: the setting metrics says so"),
    ):
        queue.metrics()


def test_the_name_of_another_backend_alone_does_not_say_where_the_metrics_are() -> None:
    config = StorageConfig(backend="postgres", db_url="postgresql://h/d")

    with pytest.raises(ConfigError, match=r"'sqlite' alone means the database of the jobs"):
        load().open_metrics("sqlite", config)


def test_metrics_may_be_kept_in_another_database_than_the_jobs(tmp_path: Path) -> None:
    config = StorageConfig(backend="postgres", db_url="postgresql://h/d")

    sink = load().open_metrics(f"sqlite:///{tmp_path}/metrics.db", config)

    assert sink is not None
    assert sink.read(None, 60) == []
    sink.close()
    assert (tmp_path / "metrics.db").exists()


def test_a_url_that_a_sink_refuses_is_shown_without_its_password() -> None:
    with pytest.raises(ConfigError, match=r"u:\*\*\*@h") as caught:
        load().open_metrics("postgresql://u:hunter2@h:99999/d", StorageConfig())

    assert "hunter2" not in str(caught.value)
