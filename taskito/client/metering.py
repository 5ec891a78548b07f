"""What the attempts of tasks took, as people ask about it."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

from taskito.client import aio, options
from taskito.client.inspect import Reading
from taskito_core.errors import ConfigError
from taskito_core.metrics import Metrics, TaskMetrics, summarise

if TYPE_CHECKING:
    from taskito.config.settings import Settings
    from taskito_core.plugin_manager import Plugins
    from taskito_core.storage import StorageConfig


class Metering(Reading):
    """Each raises StorageUnavailable if the sink does not answer."""

    settings: Settings
    plugins: Plugins
    storage_config: StorageConfig
    _sinks: dict[int, Metrics]  # by process id

    @property
    def sink(self) -> Metrics:
        """This process's door to the metrics, as ``storage``. Raises ConfigError if none are kept."""
        found = self._sinks.get(os.getpid())
        if found is None:
            if (made := self.plugins.open_metrics(self.settings.metrics, self.storage_config)) is None:
                why = "the setting metrics says so" if self.settings.metrics else "the backend offers no sink"
                raise ConfigError(f"no metrics are kept: {why}; give metrics the name or URL of a sink")
            found = self._sinks.setdefault(os.getpid(), made)
        return found

    def metrics(self, task_name: str | None = None, since: float | timedelta = 3600) -> list[TaskMetrics]:
        """What the attempts of the last ``since`` seconds took: one record per task, by name.

        ``task_name``: of this task only; [] if it has not run. Workers write about once a second, whole
        minutes are read, and those of the last seven days are there. Raises ConfigError if no
        metrics are kept.
        """
        wanted = None if task_name is None else options.name("task_name", task_name)
        return summarise(self.sink.read(wanted, options.seconds("since", since)))

    ametrics = aio.twin(metrics)
