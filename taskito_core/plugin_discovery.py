"""Finding plugins and refusing the ones that would fail in silence.

pluggy skips what it does not know: a function without the marker, a hook with a slip
in its name. Both would mean a plugin that is installed and does nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pluggy

from taskito_core import hookspecs
from taskito_core.errors import ConfigError, did_you_mean
from taskito_core.hookspecs import PROJECT

GROUP = "taskito"
PREFIX = "taskito_"
HOOKS = tuple(sorted(name for name in vars(hookspecs) if name.startswith(PREFIX)))


class Found(NamedTuple):
    """One entry point, loaded or not."""

    name: str
    distribution: str
    version: str
    plugin: object
    problem: str | None  #: why it could not be loaded
    cause: BaseException | None = None

    @property
    def label(self) -> str:
        """How errors name it."""
        if self.distribution == self.name:
            return repr(self.name)
        return f"{self.name!r} of {self.distribution}"


def find_plugins(wanted: Sequence[str] | None, asked_by: str) -> Iterator[Found]:
    """Load the entry points of the group, by name; ``wanted`` names the ones to load, None means all.

    One whose import fails is still yielded, with its problem. Raises ConfigError for a
    wanted name that is not installed; ``asked_by`` says where that name was written.
    """
    from importlib.metadata import entry_points

    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    if wanted is not None:
        installed = {point.name for point in points}
        if missing := [name for name in wanted if name not in installed]:
            raise ConfigError(
                f"no installed plugin is called {' or '.join(map(repr, missing))}, as {asked_by} says; "
                f"installed: {', '.join(sorted(installed)) or 'none'}"
            )
        points = [point for point in points if point.name in wanted]
    for point in points:
        distribution = point.dist.name if point.dist else point.module
        version = point.dist.version if point.dist else ""
        try:
            found = Found(point.name, distribution, version, point.load(), None)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # whatever a module can raise while it is imported: sys.exit() too
            problem = (
                f"plugin {point.name!r} of {distribution} {version} cannot be imported from {point.value!r}: "
                f"{type(exc).__name__}: {exc}; "
                "mend it, uninstall it, or leave it out with TASKITO_LOAD_PLUGINS"
            )
            found = Found(point.name, distribution, version, None, problem, exc)
        yield found


def check_plugin(found: Found, manager: pluggy.PluginManager) -> None:
    """Register it and hold it to the rules. ConfigError names its distribution; it may be registered."""
    _refuse_unmarked(found, manager)
    try:
        manager.register(found.plugin, found.name)
        manager.check_pending()
        _refuse_wrong_shapes(found, manager)
    except (pluggy.PluginValidationError, ValueError) as exc:
        raise ConfigError(f"plugin {found.label} is refused: {_first_line(exc)}") from exc


def _refuse_unmarked(found: Found, manager: pluggy.PluginManager) -> None:
    for name in dir(found.plugin):
        member = getattr(found.plugin, name, None)
        marked = inspect.isroutine(member) and manager.parse_hookimpl_opts(found.plugin, name) is not None
        if not marked and not (name.startswith(PREFIX) and inspect.isroutine(member)):
            continue
        if name not in HOOKS:
            advice = did_you_mean(name, HOOKS) or f"; the hooks are {', '.join(HOOKS)}"
            raise ConfigError(
                f"plugin {found.label} implements {name!r}, which is no hook of taskito{advice}"
            )
        if not marked:
            raise ConfigError(
                f"plugin {found.label} defines {name!r} without @hookimpl, so it would never be called; "
                "mark it with taskito_core.hookimpl"
            )


def _refuse_wrong_shapes(found: Found, manager: pluggy.PluginManager) -> None:
    for caller in manager.get_hookcallers(found.plugin) or []:
        for implementation in caller.get_hookimpls():
            if implementation.plugin is not found.plugin:
                continue
            wraps = implementation.wrapper or implementation.hookwrapper
            if caller.name == "taskito_run_job" and not wraps:
                raise ConfigError(
                    f"plugin {found.label} implements 'taskito_run_job' itself, which would run jobs twice; "
                    "make it a wrapper: @hookimpl(wrapper=True)"
                )
            if caller.name != "taskito_run_job" and wraps:
                raise ConfigError(
                    f"plugin {found.label} wraps {caller.name!r}; only 'taskito_run_job' can be wrapped"
                )


def _first_line(exc: BaseException) -> str:
    """pluggy puts the plugin's repr on the first line and the reason on the ones that follow."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return "; ".join(lines[1:] or lines)


assert PROJECT == GROUP, "pluggy's project name and the entry point group are one word"
