"""Settings: what they are, which source won, and whether the value makes sense.

An explicit argument beats a ``TASKITO_*`` environment variable, which beats
``[tool.taskito]`` in pyproject.toml, which beats the default. Nothing here opens a
store, loads a plugin or imports user code: resolving settings cannot fail for a
server that is down.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from taskito import coerce
from taskito.config.cpus import available_cpus
from taskito_core.errors import ConfigError
from taskito_core.redact import mask_text, mask_url
from taskito_core.storage import StorageConfig

__all__ = [
    "ENV_PREFIX",
    "UNSET",
    "VARIABLES",
    "Origin",
    "Settings",
    "Source",
    "Unset",
    "available_cpus",
    "mask_text",
    "mask_url",
    "project_table",
    "refuse_slip",
    "resolve",
    "set_variables",
]

ENV_PREFIX = "TASKITO_"
MIB = 1024 * 1024
T = TypeVar("T")


class Unset(Enum):
    """The type of UNSET: "the caller said nothing", where None is something to say."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


class Source(Enum):
    """Where a value can come from, strongest first."""

    ARGUMENT = "argument"
    ENVIRONMENT = "environment variable"
    PROJECT = "pyproject.toml"
    DEFAULT = "default"


class Origin(NamedTuple):
    """Where one setting's value came from."""

    source: Source
    place: str  #: the argument, the variable, or the file

    def __str__(self) -> str:
        match self.source:
            case Source.PROJECT:
                return f"[tool.taskito] in {self.place}"
            case Source.DEFAULT:
                return "the default"
            case source:
                return f"the {source.value} {self.place}"


class _Rule(NamedTuple):
    """How one setting is read: ``convert`` raises ValueError or TypeError for what is not ``expected``."""

    convert: Callable[[object], object]
    expected: str


def _setting(default: T, convert: Callable[[object], T], expected: str) -> T:
    """A dataclass field that knows how it is read; typed as its value, because that is what it holds."""
    rule: Any = dataclasses.field(default=default, metadata={"rule": _Rule(convert, expected)})
    return rule  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of a Queue, one field per argument and environment variable."""

    #: the SQLite file; a relative path starts where the Queue was made (or beside pyproject.toml)
    db_path: str = _setting(".taskito/taskito.db", coerce.path, "the path of a file")
    #: processes (or threads of ``run_worker``); 0: as many as there are CPUs to use
    workers: int = _setting(0, coerce.whole(0), "a whole number of 0 or more")
    default_retry: int = _setting(3, coerce.whole(0), "a whole number of 0 or more")
    #: how often a job is run again under which its process died; 0: what may have begun is not begun again
    max_crashes: int = _setting(2, coerce.whole(0), "a whole number of 0 or more")
    #: seconds; 0: no limit
    default_timeout: float = _setting(300.0, coerce.limit, "a number of seconds, or 0 or None for no limit")
    default_priority: int = _setting(0, coerce.whole(-coerce.MOST), "a whole number of 32 bits")
    #: seconds a finished job is kept; FOREVER: for ever; None: as the store's retention says
    result_ttl: float | None = _setting(
        None,
        coerce.optional(coerce.lifetime),
        "a number of seconds, 'forever', or None for what the store's retention says",
    )
    #: seconds for which a job whose arguments no worker can read is left to newer ones; 0: it is dead at once
    unreadable_ttl: float = _setting(3600.0, coerce.limit, "a number of seconds, or 0 or None not to wait")
    backend: str = _setting("sqlite", coerce.name, "the name of a storage backend, such as 'sqlite'")
    #: may hold a password: left out of the repr, shown through ``mask_url`` only
    db_url: str | None = _setting(None, coerce.optional(coerce.text), "a database URL")
    schema: str = _setting("taskito", coerce.anything, "the name of a schema")
    pool_size: int | None = _setting(
        None, coerce.optional(coerce.whole(1)), "a whole number of 1 or more, or None for the backend's own"
    )
    auto_migrate: bool = _setting(True, coerce.boolean, "true or false")
    durability: str = _setting("power", coerce.choice("power", "process"), "'power' or 'process'")
    #: names of the installed plugins to use; None: all of them
    plugins: tuple[str, ...] | None = _setting(
        None, coerce.optional(coerce.names), "a list of plugin names, or None for all that are installed"
    )
    limiter: str | None = _setting(None, coerce.optional(coerce.text), "the name or URL of a rate limiter")
    breaker: str | None = _setting(None, coerce.optional(coerce.text), "the name or URL of a circuit breaker")
    #: None: the sink of the storage backend; "none": nothing is kept
    metrics: str | None = _setting(None, coerce.maybe(coerce.text), "the name or URL of a metrics sink")
    #: bytes; below 64 MiB, which is what one frame between supervisor and child can carry
    max_payload: int = _setting(
        16 * MIB, coerce.whole(1, 60 * MIB), f"a whole number of bytes from 1 to {60 * MIB}"
    )

    origins: Mapping[str, Origin] = dataclasses.field(default_factory=dict, compare=False)
    #: the working directory when the settings were resolved; an app may change it later
    directory: str = dataclasses.field(default="", compare=False)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_shown(name, getattr(self, name))}" for name in RULES)
        return f"Settings({shown})"

    @contextmanager
    def said_where(self, *names: str) -> Iterator[None]:
        """Have a ConfigError that is raised inside say where the settings that it is about come from.

        ``names``: those it may be about; it is about those that it mentions, and if there are none about all.
        """
        try:
            yield
        except ConfigError as exc:
            mentioned = [name for name in names if re.search(rf"\b{name}\b", str(exc))] or names
            # In place: the error is another plugin's, and its traceback leads there.
            exc.args = (f"{exc}{self.place_of(*mentioned)}",)
            raise

    def place_of(self, *names: str) -> str:
        """Where these settings come from, in brackets; "" for those that nobody has said."""
        said = [name for name in names if self.origins[name].source is not Source.DEFAULT]
        return f" ({', '.join(f'{name} is from {self.origins[name]}' for name in said)})" if said else ""

    @property
    def storage(self) -> StorageConfig:
        """What a backend is opened by; ``Plugins.normalise`` still has to resolve the backend's name."""
        return StorageConfig(
            backend=self.backend,
            db_url=self.db_url,
            db_path=_absolute(self.db_path, self.directory or os.getcwd()),
            schema=self.schema,
            pool_size=self.pool_size,
            auto_migrate=self.auto_migrate,
            durability=self.durability,
        )


#: Every setting by name, in the order of the Queue's arguments.
RULES: Mapping[str, _Rule] = {
    field.name: field.metadata["rule"] for field in dataclasses.fields(Settings) if "rule" in field.metadata
}


def resolve(
    explicit: Mapping[str, object],
    *,
    environ: Mapping[str, str] | None = None,
    directory: str | Path | None = None,
) -> Settings:
    """Settle every setting and remember where it came from.

    A key that is absent from ``explicit``, or UNSET, was not said; None is a value. An empty environment
    variable counts as not set. ``directory`` is where the search for pyproject.toml starts
    (default: the working directory). A ``db_url`` that came without a ``backend`` selects one by its scheme.
    Raises ConfigError for an unknown name or a value that makes no sense.
    """
    environ = os.environ if environ is None else environ
    directory = os.path.abspath(directory or os.getcwd())
    project, project_file = project_table(directory)
    _refuse_unknown(explicit, project, project_file)
    for variable in set_variables(environ):
        refuse_slip(variable)
    found: dict[str, object] = {}
    origins: dict[str, Origin] = {}
    for name, rule in RULES.items():
        variable = ENV_PREFIX + name.upper()
        if explicit.get(name, UNSET) is not UNSET:
            value, origin = explicit[name], Origin(Source.ARGUMENT, name)
        elif environ.get(variable):
            value, origin = environ[variable], Origin(Source.ENVIRONMENT, variable)
        elif name in project:
            value, origin = project[name], Origin(Source.PROJECT, project_file)
        else:
            origins[name] = Origin(Source.DEFAULT, "")
            continue
        found[name] = _converted(name, rule, value, origin)
        origins[name] = origin
    _let_url_choose(found, origins)
    if origins["db_path"].source is Source.PROJECT:
        # A path in a file is meant relative to that file, wherever the command was started.
        found["db_path"] = _absolute(str(found["db_path"]), os.path.dirname(project_file))
    return Settings(**found, origins=origins, directory=directory)  # type: ignore[arg-type]


def project_table(directory: str | Path) -> tuple[dict[str, Any], str]:
    """``[tool.taskito]`` of the nearest pyproject.toml from ``directory`` upwards that has one, and its path.

    ``({}, "")`` if there is none. Raises ConfigError for a file that mentions taskito but is not TOML.
    """
    start = Path(directory)
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        try:
            content = file.read_bytes()
        except OSError:
            continue
        # A file without our table may be broken or huge: it is not parsed, which would cost milliseconds.
        if b"taskito" not in content:
            continue
        table = _parse(content, file)
        if table is not None:
            return table, str(file)
    return {}, ""


def _parse(content: bytes, file: Path) -> dict[str, Any] | None:
    import tomllib

    try:
        document = tomllib.loads(content.decode())
    except ValueError as exc:
        raise ConfigError(f"cannot read {file}: {exc}") from exc
    table = document.get("tool", {}).get("taskito")
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"[tool.taskito] in {file} must be a table, got {table!r}")
    return table


def _converted(name: str, rule: _Rule, value: object, origin: Origin) -> object:
    try:
        return rule.convert(value)
    except (ValueError, TypeError, OverflowError) as exc:
        shown = _shown(name, value)
        raise ConfigError(f"{name} must be {rule.expected}, got {shown} from {origin}") from exc


def _shown(name: str, value: object) -> str:
    """A value as people may see it: any of the URLs may hold a password."""
    return repr(mask_url(value)) if isinstance(value, str) and name in _MASKED else repr(value)


_MASKED = frozenset({"db_url", "limiter", "breaker", "metrics", "backend", "db_path"})


def _refuse_unknown(explicit: Mapping[str, object], project: Mapping[str, Any], project_file: str) -> None:
    for name in explicit:
        if name not in RULES:
            raise ConfigError(f"there is no setting {name!r}; the settings are {', '.join(RULES)}")
    for key in project:
        # Other keys belong to commands and plugins; only what is nearly a setting is surely a slip.
        close = difflib.get_close_matches(key, RULES, n=1, cutoff=0.8)
        if key not in RULES and close and not isinstance(project[key], dict):
            raise ConfigError(
                f"[tool.taskito] in {project_file} has no key {key!r}; did you mean {close[0]!r}?"
            )


def set_variables(environ: Mapping[str, str]) -> list[str]:
    """The variables ``TASKITO_*`` that say something, but for those that Kubernetes sets for a service."""
    return [
        variable
        for variable, value in environ.items()
        if variable.startswith(ENV_PREFIX) and value and not _OF_A_SERVICE.search(variable)
    ]


def refuse_slip(variable: str, known: Iterable[str] = ()) -> None:
    """Raise ConfigError for a variable that is nearly, and not, one of a setting, or one of ``known``.

    Other variables may be another program's: of an image, of a test, of a plugin.
    """
    names = VARIABLES.union(known)
    if variable in names:
        return
    bare = {name.removeprefix(ENV_PREFIX): name for name in names}
    if close := difflib.get_close_matches(variable.removeprefix(ENV_PREFIX), bare, n=1, cutoff=0.8):
        raise ConfigError(f"nothing reads the variable {variable}; did you mean {bare[close[0]]}?")


#: Those of the settings, and what is read elsewhere: by every command, and when plugins are loaded.
VARIABLES = frozenset(
    f"{ENV_PREFIX}{name.upper()}" for name in (*RULES, "app", "load_plugins", "trace_plugins")
)
#: In a pod beside a service that is called taskito, or taskito-worker.
_OF_A_SERVICE = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT$|_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?$")


def _let_url_choose(found: dict[str, object], origins: dict[str, Origin]) -> None:
    """Without a backend beside it, a URL chooses one by its scheme."""
    url = found.get("db_url")
    if not isinstance(url, str) or origins["backend"].source is not Source.DEFAULT:
        return
    scheme, separator, _ = url.partition("://")
    if not separator or not scheme:
        raise ConfigError(
            f"db_url {mask_url(url)!r} from {origins['db_url']} has no scheme that selects a backend; "
            "set backend too, or write it as a URL such as 'postgresql://host/name'"
        )
    found["backend"] = scheme.lower()
    origins["backend"] = origins["db_url"]


def _absolute(path: str, directory: str) -> str:
    if path == ":memory:" or path.startswith("file:"):
        return path
    return os.path.normpath(os.path.join(directory, os.path.expanduser(path)))
