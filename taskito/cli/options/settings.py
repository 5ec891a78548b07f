"""What variables and pyproject.toml say to commands: the names of their options, and slips in them.

A slip is refused, whichever command is run: what is nearly a name, and anything unknown in the table of a
command. Other unknown names may be a plugin's, a test's or an image's: ``unread`` lists them.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import click

from taskito.config.settings import ENV_PREFIX, RULES, VARIABLES, refuse_slip, set_variables
from taskito_core.errors import ConfigError, did_you_mean

Table = Mapping[str, Any]
#: A command of this name, which is one of the names that came with it.
Find = Callable[[str], click.Command | None]


def defaults(table: Table, names: Collection[str] = ()) -> dict[str, Any]:
    """``[tool.taskito]`` as click wants it: what is said for all commands, then what is said for one.

    ``graceful_timeout = 60`` and ``[tool.taskito.worker] graceful-timeout = 60`` both work.
    """
    common = {_key(key): value for key, value in table.items() if not isinstance(value, dict)}
    found: dict[str, Any] = {}
    for name in dict.fromkeys((*names, *_tables(table))):
        found[name] = common | {
            _key(key): common | {_key(inner): v for inner, v in value.items()}
            if isinstance(value, dict)
            else value
            for key, value in _tables(table).get(name, {}).items()
        }
    return found


def read_table(table: Table, file: str, names: Collection[str], find: Find) -> dict[str, Any]:
    """``table`` with every option of a command under its parameter's name. Raises ConfigError for a slip."""
    found = dict(table)
    for name, inner in _tables(table).items():
        if name in names and (command := find(name)) is not None:
            found[name] = _read_keys(inner, command, f"tool.taskito.{name}", file)
        elif close := difflib.get_close_matches(name, names, n=1, cutoff=0.8):
            raise ConfigError(f"[tool.taskito.{name}] in {file} is no command; did you mean {close[0]!r}?")
    for key in _unknown_keys(table, names, find):
        known = {*RULES, *_options(names, find).values()}
        if close := difflib.get_close_matches(_key(key), known, n=1, cutoff=0.8):
            raise ConfigError(f"[tool.taskito] in {file} has no key {key!r}; did you mean {close[0]!r}?")
    return found


def refuse_slips(environ: Mapping[str, str], names: Collection[str], find: Find) -> None:
    """Raise ConfigError for a variable that is nearly one of a setting or of an option."""
    for variable in set_variables(environ):
        if variable in VARIABLES:
            continue
        command = _command_of(variable, names)
        options = _options([command or "worker"], find)
        if command is None:
            # As if the command could be left out, which it can in the file.
            for full, option in options.items():
                if variable == f"{ENV_PREFIX}{option.upper()}":
                    raise ConfigError(f"nothing reads the variable {variable}; did you mean {full}?")
        refuse_slip(variable, options)


def unread(
    table: Table, file: str, environ: Mapping[str, str], names: Collection[str], find: Find
) -> list[str]:
    """A sentence for each variable and key that neither a command reads nor, by its name, a plugin.

    ``names``: of all commands, those of plugins too.
    """
    from importlib.metadata import entry_points  # of what a worker needs only

    mine = [f"{ENV_PREFIX}{point.name.upper()}_" for point in entry_points(group="taskito")]
    found = []
    for variable in set_variables(environ):
        command = _command_of(variable, names)
        known = VARIABLES if command is None else _options([command], find)
        if variable not in known and not variable.startswith((f"{ENV_PREFIX}TEST_", *mine)):
            found.append(f"nothing reads the environment variable {variable}")
    for key in _unknown_keys(table, names, find):
        found.append(f"nothing reads the key {key!r} of [tool.taskito] in {file}")
    return found


def _read_keys(table: Table, command: click.Command, where: str, file: str) -> dict[str, Any]:
    spelled = {
        _key(word.lstrip("-")): str(param.name)
        for param in command.params
        if isinstance(param, click.Option)
        for word in (str(param.name), *param.opts, *param.secondary_opts)
    }
    inner = command.commands if isinstance(command, click.Group) else {}
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and key in inner:
            found[key] = _read_keys(value, inner[key], f"{where}.{key}", file)
        elif _key(key) in spelled:
            found[spelled[_key(key)]] = value
        else:
            advice = did_you_mean(key, [*inner, *(word.replace("_", "-") for word in spelled)])
            raise ConfigError(f"[{where}] in {file} has no key {key!r}{advice}")
    return found


def _unknown_keys(table: Table, names: Collection[str], find: Find) -> list[str]:
    """What is said for all commands, and is neither a setting nor an option of any."""
    keys = [key for key, value in table.items() if not isinstance(value, dict) and _key(key) not in RULES]
    # Only now, because commands are imported for it; app is an option of nearly all.
    keys = [key for key in keys if key != "app"]
    known = _options(names, find).values() if keys else ()
    return [key for key in keys if _key(key) not in known]


def _options(names: Collection[str], find: Find) -> dict[str, str]:
    """The options of these commands and of those in them, by variable."""
    found = ((name, find(name)) for name in names)
    return {
        variable: option
        for name, command in found
        if command is not None
        for variable, option in _walk(command, f"{ENV_PREFIX}{_variable(name)}")
    }


def _walk(command: click.Command, prefix: str) -> Iterator[tuple[str, str]]:
    for param in command.params:
        if isinstance(param, click.Option):
            yield f"{prefix}_{_variable(str(param.name))}", str(param.name)
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _walk(inner, f"{prefix}_{_variable(name)}")


def _command_of(variable: str, names: Collection[str]) -> str | None:
    return next((name for name in names if variable.startswith(f"{ENV_PREFIX}{_variable(name)}_")), None)


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")


def _key(key: str) -> str:
    return key.replace("-", "_")


def _tables(table: Table) -> dict[str, Table]:
    return {key: value for key, value in table.items() if isinstance(value, dict)}
