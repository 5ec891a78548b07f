"""Plugins: loads them from their entry points, and opens what they offer by its name or URL.

A plugin is what stands behind an entry point of the group ``taskito``. It is checked when it
is loaded: a slip in a hook's name, a second way to run a job or an offer made twice is a
ConfigError that names the distribution, because silence would be found in production.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pluggy

from taskito_core import hookspecs
from taskito_core.errors import ConfigError, TaskitoError
from taskito_core.hookspecs import PROJECT, CommandGroup, Offer, OfferKind, Returned, hookimpl
from taskito_core.limits import CircuitBreaker, RateLimiter
from taskito_core.metrics import Metrics
from taskito_core.plugin_discovery import Found, check_plugin, find_plugins
from taskito_core.redact import mask_text, mask_url
from taskito_core.storage import Storage, StorageConfig

__all__ = ["Listing", "Plugins", "load"]

log = logging.getLogger("taskito.plugins")

#: Where the backends that belong to this project come from, for the error that says one is missing.
_PIP_LINES = {OfferKind.STORAGE: {"sqlite": "taskito-sqlite", "postgres": "taskito-postgres"}}
_ALIASES = {"postgresql": "postgres", "pg": "postgres", "sqlite3": "sqlite"}
_WORDS = {
    OfferKind.STORAGE: "storage backend",
    OfferKind.LIMITER: "rate limiter",
    OfferKind.BREAKER: "circuit breaker",
    OfferKind.METRICS: "metrics sink",
}


class Listing(NamedTuple):
    """One line of ``taskito plugin list``."""

    name: str  #: of the entry point
    distribution: str
    version: str
    offers: tuple[Offer, ...]
    problem: str | None = None  #: why it could not be loaded


class _Core:
    """The core's own hooks."""

    @hookimpl(trylast=True)
    def taskito_run_job(self, call: Callable[[], object]) -> Returned:
        # A bare None would send pluggy on to the next implementation: the record makes it a result.
        return Returned(call())


class Plugins:
    """The plugins of one process, loaded and checked."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._manager.register(_Core(), "core")
        self._found: dict[str, Found] = {}
        self._offers: dict[str, tuple[Offer, ...]] = {}

    @property
    def hook(self) -> Any:
        """pluggy's caller: ``plugins.hook.taskito_run_job(...)``. Exceptions pass through it."""
        return self._manager.hook

    # ---- what is installed ----

    def register(self, plugin: object, name: str, *, distribution: str | None = None) -> None:
        """Add a plugin object under a unique name. Raises ConfigError if it breaks a rule of plugins."""
        self._add(Found(name, distribution or name, "", plugin, None))

    def unregister(self, name: str) -> None:
        """Take a registered plugin away again; unknown names are ignored."""
        if self._found.pop(name, None) is not None:
            self._offers.pop(name, None)
            self._manager.unregister(name=name)

    def listing(self) -> list[Listing]:
        """Every plugin by name, with what it offers, or why it could not be loaded."""
        return [
            Listing(name, found.distribution, found.version, self._offers.get(name, ()), found.problem)
            for name, found in sorted(self._found.items())
        ]

    def _add(self, found: Found) -> None:
        if found.name in self._found:
            raise ConfigError(
                f"two plugins are called {found.name!r}: one from {self._found[found.name].distribution} "
                f"and one from {found.distribution}; uninstall one of them"
            )
        try:
            check_plugin(found, self._manager)
            offers = self._asked_for_offers(found)
        except TaskitoError:
            if self._manager.has_plugin(found.name):
                self._manager.unregister(name=found.name)
            raise
        self._found[found.name], self._offers[found.name] = found, offers

    def _asked_for_offers(self, found: Found) -> tuple[Offer, ...]:
        offers: list[Offer] = []
        for implementation in self.hook.taskito_offers.get_hookimpls():
            if implementation.plugin is not found.plugin:
                continue
            try:
                offers += implementation.function()
            except BaseException as exc:
                raise ConfigError(
                    f"plugin {found.label} failed to say what it offers: {type(exc).__name__}: {exc}"
                ) from exc
        for offer in offers:
            for name, others in self._offers.items():
                if clash := next(
                    (o for o in others if o.kind == offer.kind and _words(o) & _words(offer)), None
                ):
                    raise ConfigError(
                        f"plugin {found.label} offers the {_WORDS[offer.kind]} {offer.name!r}, and so does "
                        f"{self._found[name].label} as {clash.name!r}; uninstall one of them"
                    )
        return tuple(offers)

    # ---- names to things ----

    def find(self, kind: OfferKind, name_or_url: str) -> Offer:
        """The offer that a name, an alias or a URL's scheme asks for, in any case.

        Raises ConfigError that names what is installed and the line that installs what is missing.
        """
        scheme, separator, _ = name_or_url.partition("://")
        word = scheme.strip().lower()
        for offer in self._offered(kind):
            if word in (offer.schemes if separator else (offer.name, *offer.aliases)):
                return offer
        raise ConfigError(self._not_offered(kind, word, mask_url(name_or_url)))

    def normalise(self, config: StorageConfig) -> StorageConfig:
        """``config`` with the backend's own name for an alias, checked as far as can be without I/O.

        ConfigError if the backend is unknown, contradicts the URL's scheme, or itself finds something wrong.
        """
        offer = self.find(OfferKind.STORAGE, config.backend)
        if config.db_url is not None and "://" in config.db_url:
            chosen = self.find(OfferKind.STORAGE, config.db_url)
            if chosen is not offer:
                raise ConfigError(
                    f"backend {config.backend!r} contradicts db_url {mask_url(config.db_url)!r}, "
                    f"whose scheme means {chosen.name!r}; change one of them or leave out backend"
                )
        config = dataclasses.replace(config, backend=offer.name)
        if offer.check is not None:
            with _masking(f"the {_WORDS[offer.kind]} {offer.name!r}", config.db_url):
                offer.check(config)
        return config

    def describe(self, config: StorageConfig) -> str:
        """Where the store is, as people may see it: no password."""
        offer = self.find(OfferKind.STORAGE, config.backend)
        if offer.describe is not None:
            return offer.describe(config)
        return mask_url(config.db_url) if config.db_url else config.db_path

    def open_storage(self, config: StorageConfig) -> Storage:
        """The storage a config names. Does no I/O; raises ConfigError for what cannot be used."""
        config = self.normalise(config)
        storage: Storage = self._call(OfferKind.STORAGE, config.backend, config.db_url, config=config)
        return storage

    def open_limiter(self, url: str | None, config: StorageConfig) -> RateLimiter:
        """The rate limiter that a name or URL asks for, by default the storage's; else ConfigError."""
        limiter: RateLimiter = self._open(OfferKind.LIMITER, url, config)
        return limiter

    def open_breaker(self, url: str | None, config: StorageConfig) -> CircuitBreaker:
        """The circuit breaker that a name or URL asks for, by default the storage's; else ConfigError."""
        breaker: CircuitBreaker = self._open(OfferKind.BREAKER, url, config)
        return breaker

    def open_metrics(self, url: str | None, config: StorageConfig) -> Metrics | None:
        """The metrics sink that a name or URL asks for, by default the storage's; None: no metrics."""
        if self.chosen(OfferKind.METRICS, config, url) is None:
            return None
        metrics: Metrics = self._open(OfferKind.METRICS, url, config)
        return metrics

    def _open(self, kind: OfferKind, setting: str | None, config: StorageConfig) -> Any:
        """What ``chosen`` names; ConfigError if the storage backend offers none."""
        url = self.chosen(kind, config, setting) or self.find(kind, config.backend).name
        return self._call(kind, url, url, url=url, config=config)

    def _call(self, kind: OfferKind, asked: str, secret: str | None, **given: object) -> Any:
        """What a plugin opens; ConfigError if that is nothing, or an import fails, as of a driver."""
        what = f"the {_WORDS[kind]} {mask_url(asked)!r}"
        try:
            with _masking(what, secret):
                opened = getattr(self.hook, f"taskito_open_{kind}")(**given)
        except ImportError as exc:
            raise ConfigError(f"{what} cannot be opened because an import failed: {exc}") from exc
        if opened is None:
            raise ConfigError(f"a plugin offers {what} and did not open it: a fault of its own")
        return opened

    def chosen(self, kind: OfferKind, config: StorageConfig, setting: str | None) -> str | None:
        """The name or URL by which to open what stands beside the storage; None: nothing does.

        A ``setting`` of None means what the storage backend itself offers, if it does; "none" means
        no metrics. Raises ConfigError if no plugin offers what the setting names.
        """
        if setting is None:
            offered = any(offer.name == config.backend for offer in self._offered(kind))
            return config.backend if offered else None
        if kind is OfferKind.METRICS and setting.lower() == "none":
            return None
        offer = self.find(kind, setting)
        return setting if "://" in setting else offer.name

    def _offered(self, kind: OfferKind) -> Iterable[Offer]:
        return (offer for offers in self._offers.values() for offer in offers if offer.kind == kind)

    def _not_offered(self, kind: OfferKind, word: str, shown: str) -> str:
        installed = sorted(offer.name for offer in self._offered(kind))
        ours = _PIP_LINES.get(kind, {})
        wanted = ours.get(_ALIASES.get(word, word))
        lines = [wanted] if wanted else [name for known, name in ours.items() if known not in installed]
        advice = (
            f"; install one with: {' or '.join(f'pip install {line}' for line in lines)}" if lines else ""
        )
        if not advice and installed:
            advice = f"; say {' or '.join(installed)}"
        if os.environ.get("TASKITO_LOAD_PLUGINS") is not None:
            advice += (
                f"; TASKITO_LOAD_PLUGINS={os.environ['TASKITO_LOAD_PLUGINS']!r} leaves other plugins out"
            )
        return (
            f"no installed plugin offers the {_WORDS[kind]} {shown!r} "
            f"(installed: {', '.join(installed) or 'none'}){advice}"
        )

    # ---- one after the other ----

    def observe(self, hook_name: str, **kwargs: object) -> None:
        """Call an observer hook. One that raises is logged: an observer cannot break the loop it watches."""
        for label, problem in self._failures(hook_name, kwargs):
            log.error("plugin %s failed in %s", label, hook_name, exc_info=problem)

    def register_commands(self, cli: CommandGroup) -> list[str]:
        """Let every plugin add its commands to ``cli``; a sentence for each that raised."""
        return [
            f"plugin {label} could not add its commands: "
            f"{problem if isinstance(problem, TaskitoError) else f'{type(problem).__name__}: {problem}'}"
            for label, problem in self._failures("taskito_register_commands", {"cli": cli})
        ]

    def _failures(self, hook_name: str, kwargs: Mapping[str, object]) -> Iterator[tuple[str, BaseException]]:
        """Call each implementation, latest registered first; yield the plugin and the error of each that
        raises, even SystemExit. The others are still called.
        """
        for implementation in reversed(getattr(self.hook, hook_name).get_hookimpls()):
            try:
                implementation.function(*[kwargs[name] for name in implementation.argnames])
            except BaseException as exc:
                yield self.label(implementation.plugin_name), exc
                # In a producer's thread it may come from outside: Ctrl-C, the limit of a task that enqueues.
                if hook_name == "taskito_jobs_enqueued" and not isinstance(exc, (Exception, SystemExit)):
                    raise

    def label(self, name: str) -> str:
        """How errors name the plugin that is registered under ``name``."""
        return self._found[name].label if name in self._found else name

    # ---- loading ----

    @classmethod
    def discover(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        only: Sequence[str] | None = None,
        tolerant: bool = False,
    ) -> Plugins:
        """Load what is installed, as ``only`` and the environment say; the environment wins.

        ``TASKITO_LOAD_PLUGINS`` names the entry points to load, with commas between; set but empty: none.
        ``TASKITO_TRACE_PLUGINS=1`` writes every hook call to stderr. A plugin that cannot be loaded is a
        ConfigError, or if ``tolerant`` a line of ``listing()`` with its problem.
        """
        environ = os.environ if environ is None else environ
        plugins = cls()
        if environ.get("TASKITO_TRACE_PLUGINS", "") not in ("", "0"):
            plugins.trace()
        wanted, asked_by = only, "the setting plugins"
        if (listed := environ.get("TASKITO_LOAD_PLUGINS")) is not None:
            words = (word.strip() for word in listed.split(","))
            wanted, asked_by = [word for word in words if word], "TASKITO_LOAD_PLUGINS"
        for found in find_plugins(wanted, asked_by):
            try:
                if found.problem is not None:
                    raise ConfigError(found.problem) from found.cause
                plugins._add(found)
            except ConfigError as exc:
                if not tolerant:
                    raise
                plugins._found.setdefault(found.name, found._replace(problem=str(exc)))
        return plugins

    def trace(self) -> None:
        """Write every hook call to stderr, with passwords masked."""
        import sys

        def before(hook_name: str, implementations: Any, kwargs: Mapping[str, object]) -> None:
            called = ", ".join(i.plugin_name for i in reversed(implementations)) or "nobody"
            shown = ", ".join(f"{key}={value!r:.300}" for key, value in kwargs.items())
            print(f"taskito: {hook_name}({mask_text(shown)}) -> {called}", file=sys.stderr, flush=True)

        self._manager.add_hookcall_monitoring(before, lambda *_: None)


def _words(offer: Offer) -> set[str]:
    return {offer.name, *offer.aliases}


@contextmanager
def _masking(what: str, url: str | None) -> Iterator[None]:
    """A plugin that quotes the URL it refuses must not show the password thereby, nor end the program."""
    try:
        yield
    except SystemExit as exc:
        raise ConfigError(mask_text(f"the plugin of {what} raised SystemExit: {exc}")) from None
    except ConfigError as exc:
        said = str(exc)
        shown = mask_text(said.replace(url, mask_url(url))) if url else said
        if shown == said:
            raise
        raise ConfigError(shown) from None


_lock = threading.Lock()
_loaded: dict[tuple[str, ...] | None, Plugins] = {}


def load(only: tuple[str, ...] | None = None) -> Plugins:
    """The plugins of this process, loaded at the first call; ``only`` is the setting ``plugins``.

    Raises ConfigError if one of them is broken.
    """
    with _lock:
        if only not in _loaded:
            _loaded[only] = Plugins.discover(only=only)
        return _loaded[only]
