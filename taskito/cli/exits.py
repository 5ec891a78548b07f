"""Exit codes, and errors as one line without a traceback."""

from __future__ import annotations

import sys

import click

from taskito.config.text import printable
from taskito_core.errors import ConfigError, StorageUnavailable, TaskitoError
from taskito_core.redact import mask_text

INTERNAL = 1
USAGE = 2
APP = 3  #: the app failed to load
STORE = 4  #: the store could not be reached


class Refusal(click.ClickException):
    """An error for people: printed as one line on standard error."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(printable(mask_text(message)))
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance as well


def exit_for(exc: TaskitoError | TimeoutError) -> Refusal:
    """The line and the exit code that an error which is meant for people ends a command with."""
    if isinstance(exc, StorageUnavailable):
        return Refusal(str(exc), STORE)
    if isinstance(exc, ConfigError):
        # Found in sys.modules and not imported: its error cannot have been raised without the module.
        app = sys.modules.get("taskito.client.load_app")
        return Refusal(str(exc), APP if app and isinstance(exc, app.AppLoadError) else USAGE)
    return Refusal(str(exc), INTERNAL)
