"""The commands that plugins add to ``taskito``, by the hook ``taskito_register_commands``."""

from __future__ import annotations

from collections.abc import Callable

import click

from taskito_core.errors import ConfigError
from taskito_core.plugin_manager import Plugins


class PluginCommands(click.Group):
    """The group that plugins are given: keeps what they add, and refuses a name that is taken.

    ``find`` returns the command of taskito's own with this name, or None.
    """

    def __init__(self, find: Callable[[str], click.Command | None]) -> None:
        super().__init__("taskito")
        self._find = find
        self.refused: list[str] = []  #: a sentence for each plugin whose commands are not all there
        self.unloaded: list[str] = []  #: a sentence for each plugin that could not even be loaded

    def load(self) -> None:
        """Ask every plugin for its commands. One that fails does not keep the others from adding theirs."""
        try:
            plugins = Plugins.discover(tolerant=True)
        except ConfigError as exc:
            self.unloaded.append(str(exc))
            return
        self.unloaded += [one.problem for one in plugins.listing() if one.problem is not None]
        self.refused += plugins.register_commands(self)

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """As in click; a name such as ``plugin check`` is that of a command in a group that exists.

        Raises ConfigError for a name that is taken, and for a group that does not exist.
        """
        path = name or cmd.name
        if not path:
            raise ConfigError("a command needs a name")
        parent, _, last = path.rpartition(" ")
        if self._command(path) is not None:
            raise ConfigError(f"the command {path!r} cannot be added: there is one of this name already")
        cmd.name = last
        if not parent:
            super().add_command(cmd, last)
            return
        group = self._command(parent)
        if not isinstance(group, click.Group):
            raise ConfigError(f"the command {path!r} cannot be added: there is no group {parent!r}")
        group.add_command(cmd, last)

    def _command(self, path: str) -> click.Command | None:
        """The command that ``path`` leads to, taskito's own or a plugin's."""
        first, *rest = path.split(" ")
        found = self._find(first) or self.commands.get(first)
        for name in rest:
            found = found.commands.get(name) if isinstance(found, click.Group) else None
        return found
