"""How zygote and children are started and how they end: command lines and exit codes.

On a command line there are descriptors, numbers and names, never a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from taskito.worker.ipc.child_options import ChildOptions
from taskito_core.errors import ConfigError

#: The app could not be imported, or a plugin's ``taskito_child_started`` raised; FAILED named the reason.
EXIT_BOOT_FAILED = 3
#: The supervisor is gone: there is nothing to run for.
EXIT_SUPERVISOR_GONE = 71
#: A task broke the sockets to the supervisor, by closing or overwriting descriptors that are not its own.
EXIT_CHANNEL_BROKEN = 72


class ZygoteArguments(NamedTuple):
    """``python -m taskito.client.child_process zygote APP --channel 5 …``; descriptors are inherited."""

    app: str
    channel: int  #: stream socket to the supervisor
    trace: int  #: file for stacks
    slots: int
    slot_count: int
    lifeline: int  #: kept open as long as the process lives
    options: ChildOptions


class ChildArguments(NamedTuple):
    """``python -m taskito.client.child_process child APP --slot 0 …``; descriptors are inherited."""

    app: str
    slot: int
    data: int
    control: int
    trace: int
    slots: int
    slot_count: int
    lifeline: int
    supervisor: int  #: its pid
    options: ChildOptions


def parse_zygote(argv: Sequence[str]) -> ZygoteArguments:
    """Raises ConfigError for anything but what our own supervisor writes."""
    app, numbers, options = _parse(argv, ("channel", "trace", "slots", "slot_count", "lifeline"))
    return ZygoteArguments(app, **numbers, options=options)


def parse_child(argv: Sequence[str]) -> ChildArguments:
    """Raises ConfigError for anything but what our own supervisor writes."""
    names = ("slot", "data", "control", "trace", "slots", "slot_count", "lifeline", "supervisor")
    app, numbers, options = _parse(argv, names)
    return ChildArguments(app, **numbers, options=options)


def _parse(argv: Sequence[str], numeric: Sequence[str]) -> tuple[str, dict[str, int], ChildOptions]:
    """(app, numbers by name, options of children).

    Not argparse: importing it would cost every start as much as all of this module's work.
    """
    if not argv or len(argv) % 2 == 0:
        raise ConfigError(f"expected APP and pairs of --name value, got {list(argv)}")
    given = {
        name.removeprefix("--").replace("-", "_"): value
        for name, value in zip(argv[1::2], argv[2::2], strict=True)
    }
    options = ChildOptions.from_argument(given.pop("options", "{}"))
    if set(given) != set(numeric):
        raise ConfigError(f"expected the options {', '.join(numeric)}, got {', '.join(given) or 'none'}")
    try:
        return argv[0], {name: int(given[name]) for name in numeric}, options
    except ValueError as exc:
        raise ConfigError(f"expected whole numbers in {list(argv[1:])}: {exc}") from None
