"""Finding, checking and using plugins, through real entry points of real (if small) distributions."""

from __future__ import annotations

import dataclasses
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from taskito_core import Offer, OfferKind, Returned, hookimpl
from taskito_core.errors import ConfigError
from taskito_core.plugin_manager import Plugins, load
from taskito_core.storage import StorageConfig

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """``install("redis", code)``: a distribution taskito-redis 1.2 with an entry point of that name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def install(name: str, code: str, distribution: str | None = None) -> None:
        distribution = distribution or f"taskito-{name}"
        module = distribution.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(
            "from taskito_core import Offer, OfferKind, hookimpl\n" + textwrap.dedent(code)
        )
        info = tmp_path / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[taskito]\n{name} = {module}\n")

    yield install
    for name in set(sys.modules) - before:
        if name.startswith("taskito_") and not name.startswith(
            ("taskito_core", "taskito_sqlite", "taskito_postgres")
        ):
            del sys.modules[name]


LIMITER = """
class Limiter:
    def acquire(self, wants): ...
    def give_back(self, unused): ...
    def close(self): ...

@hookimpl
def taskito_offers():
    return [Offer(kind=OfferKind.LIMITER, name="redis", schemes=("redis", "rediss"))]

@hookimpl
def taskito_open_limiter(url, config):
    return Limiter()
"""


# ---- discovery ----


def test_what_is_installed_is_found_with_its_distribution_version_and_offers(install: Install) -> None:
    install("redis", LIMITER)

    plugins = Plugins.discover({})

    [found] = [one for one in plugins.listing() if one.name == "redis"]
    assert (found.distribution, found.version, found.problem) == ("taskito-redis", "1.2", None)
    assert [(offer.kind, offer.name) for offer in found.offers] == [(OfferKind.LIMITER, "redis")]
    assert {"sqlite", "postgres"} <= {one.name for one in plugins.listing()}


def test_a_limiter_of_one_plugin_stands_beside_the_storage_of_another(install: Install) -> None:
    install("redis", LIMITER)
    plugins = Plugins.discover({})
    config = StorageConfig(backend="postgres", db_url="postgresql://h/d")

    storage = plugins.open_storage(config)
    limiter = plugins.open_limiter("redis://cache:6379", config)

    assert type(storage).__module__.startswith("taskito_postgres")
    assert type(limiter).__module__ == "taskito_redis"
    storage.close()


def test_only_the_named_plugins_are_loaded(install: Install) -> None:
    install("redis", LIMITER)

    for wanted, expected in (("redis", ["redis"]), ("sqlite, redis", ["redis", "sqlite"]), ("", [])):
        listing = Plugins.discover({"TASKITO_LOAD_PLUGINS": wanted}).listing()
        assert [one.name for one in listing] == expected


def test_a_queues_own_list_of_plugins_gives_way_to_the_environment(install: Install) -> None:
    install("redis", LIMITER)

    assert [one.name for one in Plugins.discover({}, only=["sqlite"]).listing()] == ["sqlite"]
    both = Plugins.discover({"TASKITO_LOAD_PLUGINS": "redis"}, only=["sqlite"])
    assert [one.name for one in both.listing()] == ["redis"]


def test_naming_a_plugin_that_is_not_installed_is_an_error() -> None:
    with pytest.raises(
        ConfigError, match=r"no installed plugin is called 'redsi', as TASKITO_LOAD_PLUGINS says"
    ):
        Plugins.discover({"TASKITO_LOAD_PLUGINS": "redsi"})


def test_plugins_are_loaded_once_per_process() -> None:
    assert load() is load()


# ---- refusals ----

BROKEN = [
    ("import no_such_module", "cannot be imported from 'taskito_bad': ModuleNotFoundError: No module named"),
    ("1 / 0", "ZeroDivisionError"),
    ("def broken(:", "SyntaxError"),
    ("raise SystemExit(3)", "cannot be imported from 'taskito_bad': SystemExit: 3"),
    ("import asyncio; raise asyncio.CancelledError('no')", "'taskito_bad': CancelledError: no"),
    ("import pytest; pytest.skip('no redis', allow_module_level=True)", "'taskito_bad': Skipped: no redis"),
    (
        "@hookimpl\ndef taskito_ofers(): return []",
        "implements 'taskito_ofers'.*did you mean 'taskito_offers'",
    ),
    ("@hookimpl\ndef something(): return []", "implements 'something', which is no hook of taskito"),
    ("def taskito_offers(): return []", "defines 'taskito_offers' without @hookimpl"),
    ("@hookimpl\ndef taskito_jobs_enqueued(jbos): ...", "jbos"),
    ("@hookimpl\ndef taskito_run_job(call): return call()", "would run jobs twice"),
    (
        "@hookimpl(wrapper=True)\ndef taskito_offers(): return (yield)",
        "only 'taskito_run_job' can be wrapped",
    ),
    ("@hookimpl\ndef taskito_offers(): raise OSError('no')", "failed to say what it offers: OSError: no"),
    ("@hookimpl\ndef taskito_offers(): raise SystemExit(4)", "failed to say what it offers: SystemExit: 4"),
    (
        "@hookimpl\ndef taskito_offers(): return [Offer(kind='storage', name='pg', aliases=('postgres',))]",
        "offers the storage backend '(pg|postgres)', and so does",
    ),
]


@pytest.mark.parametrize(("code", "reason"), BROKEN)
def test_a_plugin_that_would_fail_in_silence_is_refused_by_its_distribution(
    code: str, reason: str, install: Install
) -> None:
    install("bad", code)

    with pytest.raises(ConfigError, match=reason) as refusal:
        Plugins.discover({})

    assert "taskito-bad" in str(refusal.value)


@pytest.mark.parametrize(("code", "reason"), BROKEN)
def test_a_refused_plugin_can_still_be_listed_with_its_problem(
    code: str, reason: str, install: Install
) -> None:
    install("bad", code)

    listing = Plugins.discover({}, tolerant=True).listing()

    problems = {one.name: one.problem for one in listing}
    # Of two that offer the same word the later one is refused: which of them is a matter of names.
    assert [name for name, problem in problems.items() if problem is not None] in (["bad"], ["postgres"])


def test_ctrl_c_while_a_plugin_is_imported_is_no_fault_of_the_plugin(install: Install) -> None:
    install("slow", "raise KeyboardInterrupt")

    for tolerant in (False, True):
        with pytest.raises(KeyboardInterrupt):
            Plugins.discover({}, tolerant=tolerant)


def test_two_plugins_of_one_name_are_refused_by_both_distributions(install: Install) -> None:
    install("redis", LIMITER)
    install("redis", LIMITER, "other-redis")

    with pytest.raises(ConfigError, match="two plugins are called 'redis'") as refusal:
        Plugins.discover({})

    assert "taskito-redis" in str(refusal.value)
    assert "other-redis" in str(refusal.value)


def test_a_refused_plugin_leaves_nothing_behind() -> None:
    plugins = Plugins()

    class Bad:
        @hookimpl
        def taskito_run_job(self, call: Callable[[], object]) -> Returned:
            return Returned("mine")

    with pytest.raises(ConfigError):
        plugins.register(Bad(), "bad")

    assert plugins.hook.taskito_run_job(context=None, call=lambda: "theirs") == Returned("theirs")


# ---- names to offers ----


class Backend:
    """A storage plugin that opens nothing."""

    def __init__(self, name: str, *aliases: str) -> None:
        self.name, self.aliases = name, aliases

    @hookimpl
    def taskito_offers(self) -> Sequence[Offer]:
        return [
            Offer(
                kind=OfferKind.STORAGE,
                name=self.name,
                aliases=self.aliases,
                schemes=(self.name, *self.aliases),
            )
        ]


@pytest.fixture
def plugins() -> Plugins:
    found = Plugins()
    found.register(Backend("sqlite"), "sqlite")
    found.register(Backend("postgres", "postgresql"), "postgres")
    return found


@pytest.mark.parametrize(
    "word", ["postgres", "PostgreSQL", "POSTGRES", "postgresql://u:p@h/d", "Postgres://h"]
)
def test_an_offer_is_found_by_name_alias_or_scheme_in_any_case(word: str, plugins: Plugins) -> None:
    assert plugins.find(OfferKind.STORAGE, word).name == "postgres"


def test_an_unknown_word_is_answered_with_what_is_installed(plugins: Plugins) -> None:
    with pytest.raises(ConfigError, match=r"storage backend 'mysql' \(installed: postgres, sqlite\)"):
        plugins.find(OfferKind.STORAGE, "mysql")


def test_without_any_backend_the_answer_is_what_to_install() -> None:
    nothing = Plugins()

    with pytest.raises(ConfigError, match=r"pip install taskito-sqlite$"):
        nothing.find(OfferKind.STORAGE, "sqlite")
    with pytest.raises(ConfigError, match=r"pip install taskito-postgres$"):
        nothing.find(OfferKind.STORAGE, "postgresql")
    with pytest.raises(ConfigError, match=r"pip install taskito-sqlite or pip install taskito-postgres$"):
        nothing.find(OfferKind.STORAGE, "mysql")


def test_a_backend_that_contradicts_the_url_is_refused_without_the_password(plugins: Plugins) -> None:
    with pytest.raises(ConfigError, match="backend 'sqlite' contradicts db_url") as refusal:
        plugins.normalise(StorageConfig(backend="sqlite", db_url="postgresql://u:hunter2@h/d"))

    assert "hunter2" not in str(refusal.value)
    assert "'postgres'" in str(refusal.value)


def test_an_alias_is_replaced_by_the_name(plugins: Plugins) -> None:
    config = plugins.normalise(StorageConfig(backend="PostgreSQL", db_url="postgres://h/d"))

    assert config.backend == "postgres"


def test_an_offer_that_opens_nothing_is_the_plugins_fault(plugins: Plugins) -> None:
    with pytest.raises(ConfigError, match="did not open it"):
        plugins.open_storage(StorageConfig(backend="sqlite"))


def test_what_a_config_names_is_described_without_its_password(plugins: Plugins) -> None:
    described = plugins.describe(StorageConfig(backend="postgres", db_url="postgresql://u:hunter2@h/d"))

    assert described == "postgresql://u:***@h/d"


class Exits(Backend):
    """Calls sys.exit() wherever it is called."""

    def __init__(self, *, checks: bool) -> None:
        super().__init__("leaver")
        self.checks = checks

    @hookimpl
    def taskito_offers(self) -> Sequence[Offer]:
        [offer] = super().taskito_offers()
        return [dataclasses.replace(offer, check=self.check if self.checks else None)]

    def check(self, config: StorageConfig) -> None:
        sys.exit(f"no licence for {config.db_url}")

    @hookimpl
    def taskito_open_storage(self, config: StorageConfig) -> None:
        self.check(config)


@pytest.mark.parametrize("checks", [True, False])
def test_a_backend_that_exits_ends_no_program_and_shows_no_password(plugins: Plugins, checks: bool) -> None:
    plugins.register(Exits(checks=checks), "leaver")

    with pytest.raises(ConfigError, match="SystemExit: no licence for leaver://u:") as refusal:
        plugins.open_storage(StorageConfig(backend="leaver", db_url="leaver://u:hunter2@h/d"))

    assert "the storage backend 'leaver'" in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("opener", ["open_limiter", "open_breaker"])
def test_a_gatekeeper_nobody_offers_is_an_error(opener: str, plugins: Plugins) -> None:
    with pytest.raises(ConfigError, match="no installed plugin offers the"):
        getattr(plugins, opener)("redis://x", StorageConfig())


def test_tracing_shows_calls_and_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    plugins = Plugins.discover({"TASKITO_TRACE_PLUGINS": "1"})

    plugins.open_storage(StorageConfig(backend="postgres", db_url="postgresql://u:hunter2@h/d")).close()

    out, err = capsys.readouterr()
    assert out == ""
    assert "taskito_open_storage(" in err
    assert "postgres" in err
    assert "hunter2" not in err
