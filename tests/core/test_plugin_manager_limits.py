"""Which limiter and which breakers a setting means, and where they keep their state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from taskito import Queue
from taskito_core import BreakerOptions, Offer, OfferKind, RateLimit, hookimpl
from taskito_core.errors import ConfigError
from taskito_core.plugin_manager import Plugins, load
from taskito_core.storage import StorageConfig

OPENERS = ["open_limiter", "open_breaker"]
POSTGRES = StorageConfig(backend="postgres", db_url="postgresql://h/d")


class OnlyStorage:
    @hookimpl
    def taskito_offers(self) -> Sequence[Offer]:
        return [Offer(kind=OfferKind.STORAGE, name="only-storage")]


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_a_backend_brings_its_own_unless_the_setting_says_otherwise(
    opener: str, backend: str, sqlite_url: str
) -> None:
    url = sqlite_url if backend == "sqlite" else "postgresql://h/d"
    config = StorageConfig(backend=backend, db_url=url)

    kinds = {
        type(getattr(load(), opener)(setting, config)).__module__.partition(".")[0]
        for setting in (None, backend, backend.upper(), url)
    }

    assert kinds == {f"taskito_{backend}"}


@pytest.mark.parametrize(
    ("opener", "kind"), [("open_limiter", "rate limiter"), ("open_breaker", "circuit breaker")]
)
def test_a_backend_without_one_is_an_error_only_when_one_is_asked_for(opener: str, kind: str) -> None:
    plugins = Plugins()
    plugins.register(OnlyStorage(), "only-storage")

    with pytest.raises(ConfigError, match=f"no installed plugin offers the {kind} 'only-storage'"):
        getattr(plugins, opener)(None, StorageConfig(backend="only-storage"))


@pytest.mark.parametrize("opener", OPENERS)
def test_an_alias_means_the_same_as_the_name(opener: str) -> None:
    keeper = getattr(load(), opener)("PostgreSQL", POSTGRES)

    assert type(keeper).__module__.startswith("taskito_postgres")


@pytest.mark.parametrize("opener", OPENERS)
def test_the_name_of_another_backend_alone_does_not_say_where(opener: str) -> None:
    with pytest.raises(ConfigError, match=r"'sqlite' alone means the database of the jobs"):
        getattr(load(), opener)("sqlite", POSTGRES)


@pytest.mark.parametrize("opener", OPENERS)
def test_a_url_that_is_refused_is_shown_without_its_password(opener: str) -> None:
    with pytest.raises(ConfigError, match=r"u:\*\*\*@h") as caught:
        getattr(load(), opener)("postgresql://u:hunter2@h:99999/d", StorageConfig())

    assert "hunter2" not in str(caught.value)


def test_limits_may_be_kept_in_another_database_than_the_jobs(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"
    limiter, breaker = load().open_limiter(url, POSTGRES), load().open_breaker(url, POSTGRES)

    assert limiter.acquire({"key": (2, RateLimit(1.0, 1))})["key"].granted == 1
    assert breaker.admit({"task": BreakerOptions(1)})["task"].admitted
    limiter.close()
    breaker.close()

    assert (tmp_path / "limits.db").exists()


@pytest.mark.parametrize("setting", ["limiter", "breaker"])
def test_a_queue_takes_a_name_or_a_url_that_somebody_offers(setting: str, sqlite_url: str) -> None:
    for word in (None, "sqlite", sqlite_url, "postgresql://h/d"):
        Queue(**{"db_url": sqlite_url, setting: word})
