"""Every hook a plugin may implement: which process, how often, may it block, what raising does.

A plugin is a module (or object) behind an entry point in the group ``taskito``. Names
start with ``taskito_``; a function with that prefix that is not specified here is an error
at start. A new hook comes together with a released plugin that uses it, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import pluggy

from taskito_core.job import NewJob, Outcome
from taskito_core.limits import CircuitBreaker, RateLimiter
from taskito_core.metrics import Metrics
from taskito_core.storage import Storage, StorageConfig
from taskito_core.storage_worker import WorkerInfo

PROJECT = "taskito"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class OfferKind(StrEnum):
    STORAGE = "storage"
    LIMITER = "limiter"
    BREAKER = "breaker"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One thing a plugin can open, and the words by which users ask for it."""

    kind: OfferKind
    name: str  #: lower case, e.g. ``postgres``
    aliases: tuple[str, ...] = ()  #: other spellings, e.g. ``postgresql``
    schemes: tuple[str, ...] = ()  #: URL schemes that select it, without ``://``
    #: For storage: check a config without any I/O; raises ConfigError for what can never work.
    check: Callable[[StorageConfig], None] | None = None
    #: For storage: the location a config names as people may see it, password masked.
    describe: Callable[[StorageConfig], str] | None = None


class RunningJob(Protocol):
    """One attempt, as code around it sees it: a ``taskito.JobContext``."""

    id: str
    task_name: str
    queue_name: str
    retry_count: int  #: failed attempts before this one
    token: int  #: a fencing token: a later attempt of any job has another one
    metadata: dict[str, Any]
    state: dict[str, Any]  #: what one hook of this attempt leaves for a later one


class Returned(NamedTuple):
    """What ``taskito_run_job`` gives back: a record, because pluggy skips a bare None."""

    value: object


class Finding(NamedTuple):
    """Something that people should know of a store and its surroundings: a line of ``taskito doctor``."""

    what: str  #: what is so, with its values
    why: str  #: why that matters
    mend: str  #: the command or the setting that mends it
    is_note: bool = False  #: to be known; nothing is wrong


class CommandGroup(Protocol):
    """The ``click.Group`` that is the command ``taskito``; its decorators work too."""

    def add_command(self, cmd: Any, name: str | None = None) -> None: ...


@hookspec
def taskito_offers() -> Sequence[Offer]:
    """Return what this plugin can open.

    Called in every process once, when plugins are loaded. Must not block or import a database
    driver: ``import taskito`` pays for it. Raising stops the start with the plugin's name.
    """
    raise AssertionError("a specification is never called")


@hookspec(firstresult=True)
def taskito_open_storage(config: StorageConfig) -> Storage | None:
    """Return the storage that ``config.backend`` names, or None if it is not yours.

    Called in each process that needs storage, after every fork anew. Must not do I/O: storage opens
    on first use. Raise ConfigError for a config that is yours but cannot be used.
    """


@hookspec(firstresult=True)
def taskito_open_limiter(url: str, config: StorageConfig) -> RateLimiter | None:
    """Return the rate limiter that ``url`` (a URL or an offered name) asks for, or None if not yours.

    A name alone means the one in the storage of ``config``: ``config.beside(name, url)`` makes the config
    of either. Called in the supervisor, once, and by ``explain``, each time. Must
    not do I/O: it opens on first use. Raise ConfigError for a URL that cannot be used.
    """


@hookspec(firstresult=True)
def taskito_open_breaker(url: str, config: StorageConfig) -> CircuitBreaker | None:
    """Return the circuit breaker that ``url`` asks for, or None if not yours; as taskito_open_limiter.

    Called in the supervisor, once, and each time that a client reads or resets breakers.
    """


@hookspec(firstresult=True)
def taskito_open_metrics(url: str, config: StorageConfig) -> Metrics | None:
    """Return the metrics sink that ``url`` (a URL or an offered name) asks for, or None if not yours.

    Called in the supervisor and in readers, once each; for a backend's own sink with the backend's name. Must
    not do I/O: it opens on first use. Raise ConfigError for a URL that cannot be used.
    """


@hookspec
def taskito_register_commands(cli: CommandGroup) -> None:
    """Add commands to the command line: ``cli.add_command(command)``, or ``@cli.command()``.

    A name such as ``plugin check`` puts the command into a group that exists. Called in the process of the
    command line, once, and only if it shows help, or runs a group or a command that is not taskito's own.
    Must not block: ``taskito --help`` pays for it. Import click in this function, and the rest in the
    command: the module of the hooks is imported by workers and clients too. Raising, and a name that is
    taken, is said with the plugin's name on standard error, and the other commands work.
    """


@hookspec
def taskito_examine(storage: Storage) -> Sequence[Finding] | None:
    """Return what is amiss with this storage, the worst first; None if it is not yours.

    Called in ``taskito doctor``, once, if the schema is current. May block for seconds; must change nothing.
    """


@hookspec
def taskito_jobs_enqueued(jobs: Sequence[NewJob]) -> None:
    """Learn of jobs that were just stored.

    Called in the producer, once per batch, after the commit. Should not block: the caller waits.
    Raising is logged with the plugin's name and changes nothing.
    """


@hookspec
def taskito_jobs_finished(outcomes: Sequence[Outcome]) -> None:
    """Learn of outcomes that were just recorded (fenced ones are left out).

    Called in the supervisor's store thread (or the in-process worker's), once per exchange that
    recorded something. Must not block: the next exchange waits. Raising is logged and changes nothing.
    """


@hookspec
def taskito_worker_started(worker: WorkerInfo) -> None:
    """Learn that this worker is registered and about to claim.

    Called once, in the supervisor (or the process of ``run_worker``). May block for a moment.
    Raising is logged and changes nothing.
    """


@hookspec
def taskito_worker_stopping(worker: WorkerInfo) -> None:
    """Learn that this worker has settled everything and is about to exit; as taskito_worker_started."""


@hookspec
def taskito_child_started() -> None:
    """Prepare a child before its first job: open what must not cross a fork.

    Called once in each child, after the fork. May block up to the boot timeout (60 s), after which
    the child is killed. Raising counts as a failed boot: the child is replaced with growing delays.
    """


@hookspec
def taskito_child_stopping() -> None:
    """Clean up in a child that ends on its own accord. May block 3 s. Raising is logged.

    Not called in a child that is killed.
    """


@hookspec(firstresult=True)
def taskito_run_job(context: RunningJob, call: Callable[[], object]) -> Returned | None:
    """Wrap the run of one job. Plugins add wrappers (``hookimpl(wrapper=True)``) only.

    Called in the child (or pool thread), once per attempt; for async tasks in the event loop of all.
    ``call()`` runs the task function and is called by the core's own implementation, the only one that is
    not a wrapper: another is refused when plugins are loaded. The time spent here counts against the timeout.
    Raising fails the attempt as if the task had raised. Return what ``yield`` gave, or a ``Returned``; a
    wrapper that returns nothing changes nothing and is named in the log.
    """
