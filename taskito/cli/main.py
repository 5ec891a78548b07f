"""The command ``taskito``: finds the command that was asked for and turns errors into exit codes.

Commands are imported when they are needed, so that ``taskito --help`` is quick, and plugins are asked for
theirs only where they may have some. Standard output carries only the answer; what went wrong goes to
standard error, in one line.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Iterable
from typing import Any

import click
from click.core import ParameterSource

from taskito.cli.exits import exit_for
from taskito.cli.options import settings
from taskito.cli.options.completion import join_split_words
from taskito.cli.plugin_commands import PluginCommands
from taskito.config.settings import project_table
from taskito_core.errors import TaskitoError, did_you_mean

#: name -> where its click command is. The order is the order of ``taskito --help``.
COMMANDS = {
    "worker": "taskito.cli.worker:worker",
    "info": "taskito.cli.info:info",
    "enqueue": "taskito.cli.enqueue:enqueue",
    "wait": "taskito.cli.wait:wait",
    "jobs": "taskito.cli.jobs:jobs",
    "dead": "taskito.cli.dead:dead",
    "explain": "taskito.cli.logs:explain",
    "logs": "taskito.cli.logs:logs",
    "cron": "taskito.cli.cron:cron",
    "queues": "taskito.cli.queues:queues",
    "prune": "taskito.cli.prune:prune",
    "retention": "taskito.cli.prune:retention",
    "migrate": "taskito.cli.migrate:migrate",
    "backup": "taskito.cli.backup:backup",
    "doctor": "taskito.cli.doctor:doctor",
    "plugin": "taskito.cli.plugin:plugin",
}

#: Commands that a plugin brings -> the distribution to install.
BROUGHT = {"dashboard": "taskito-dashboard"}


class Commands(click.Group):
    """A group that imports a command when it is asked for; behind taskito's own come those of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(_of_plugins().commands)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        command = _own(name)
        if command is None:
            command = _of_plugins().commands.get(name)
            if command is None:
                _warn(_of_plugins().unloaded)
        elif isinstance(command, click.Group):
            _of_plugins()  # which may add to it
        if command is not None:
            _show_variables(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            hint = f"; a plugin brings it: pip install {BROUGHT[name]}" if name in BROUGHT else ""
            hint = hint or did_you_mean(name, self.list_commands(ctx))
            raise click.UsageError(f"there is no command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        join_split_words(os.environ)
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            table, file = project_table(os.getcwd())
            find = functools.partial(self.get_command, ctx)
            settings.refuse_slips(os.environ, COMMANDS, find)
            ctx.default_map = settings.defaults(settings.read_table(table, file, COMMANDS, find), COMMANDS)
            return super().invoke(ctx)
        except (TaskitoError, TimeoutError) as exc:
            raise exit_for(exc) from exc
        except click.NoSuchOption as exc:
            if not exc.option_name[1:2].isdigit():
                raise
            hint = "an argument that begins with '-' comes after '--', as in: add -- -1 2"
            raise click.UsageError(f"there is no option {exc.option_name!r}; {hint}", exc.ctx) from None
        except click.BadParameter as exc:
            raise _said_where(exc) from None


def _own(name: str) -> click.Command | None:
    """The command of this name that is not a plugin's."""
    if name not in COMMANDS:
        return None
    module, _, attribute = COMMANDS[name].partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    return command


@functools.cache
def _of_plugins() -> PluginCommands:
    """The commands of plugins, which are asked for them once."""
    commands = PluginCommands(_own)
    commands.load()
    _warn(commands.refused)
    return commands


def _warn(problems: Iterable[str]) -> None:
    for problem in problems:
        click.echo(f"Warning: {problem}", err=True)


def _said_where(exc: click.BadParameter) -> click.BadParameter:
    """The same, saying so if the wrong value is from a variable or from the file."""
    if exc.ctx is None or exc.param is None or exc.param.name is None:
        return exc
    match exc.ctx.get_parameter_source(exc.param.name):
        case ParameterSource.DEFAULT_MAP:
            place = f"[tool.taskito] in {project_table(os.getcwd())[1]}"
        case ParameterSource.ENVIRONMENT:
            place = f"the variable {exc.ctx.auto_envvar_prefix}_{exc.param.name.upper()}"
        case _:
            return exc
    return click.BadParameter(f"{exc.message} (from {place})", exc.ctx, exc.param, exc.param_hint)


def _show_variables(command: click.Command) -> None:
    """Let ``--help`` show the environment variable of every option."""
    for param in command.params:
        if isinstance(param, click.Option):
            param.show_envvar = True
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _show_variables(inner)


@click.command(
    cls=Commands,
    context_settings={
        "auto_envvar_prefix": "TASKITO",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 80,
    },
)
@click.version_option(
    package_name="taskito-core",
    message="taskito %(version)s",
    # TASKITO_VERSION in the environment of a container is about its image, and no wish to see ours.
    allow_from_autoenv=False,
)
def main() -> None:
    """Run Python jobs in worker processes and keep them in a database.

    Every option can also be set by the environment variable its help names, or by a key in
    [tool.taskito] of pyproject.toml ([tool.taskito.worker] for one command). An option on the
    command line beats the variable, and the variable beats the file.

    \b
    Exit codes: 0 done, 1 internal error or a check that failed, 2 wrong usage
    or setting, 3 the app could not be loaded, 4 the store could not be reached.
    """


if __name__ == "__main__":
    main()
