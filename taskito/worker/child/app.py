"""What a child needs of the app whose jobs it runs: its tasks, their callbacks, and a storage of its own.

The runtime's ``Queue`` fulfils it. The worker knows no client, so the program that starts a child
brings the app along: see ``LoadApp``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from taskito.config.settings import Settings
    from taskito.running_job.child_resources import ChildResources
    from taskito.running_job.middleware import Chain
    from taskito.serialization.serializers import Serializer
    from taskito.worker.ipc.app_manifest import AppManifest, TaskPolicy
    from taskito_core.plugin_manager import Plugins
    from taskito_core.storage import Storage


class AppTask(Protocol):
    """One task: its function, and how its jobs are run."""

    @property
    def name(self) -> str: ...
    @property
    def function(self) -> Callable[..., Any]: ...
    @property
    def is_async(self) -> bool: ...
    @property
    def policy(self) -> TaskPolicy: ...
    @property
    def serializer(self) -> Serializer: ...
    @property
    def capture_output(self) -> bool: ...

    def is_retryable(self, error: BaseException, /) -> bool:
        """May an attempt that raised this be tried again?"""
        ...


class CallbackChains(Protocol):
    """The app's own callbacks and middleware."""

    def chain(self, task_name: str, task: Any, /) -> Chain:
        """All that concern this task, in the order of their calls."""
        ...

    @property
    def resources(self) -> ChildResources:
        """What is made in each child before its first job."""
        ...


class App(Protocol):
    """The app in this process. Any thread may use it."""

    @property
    def tasks(self) -> Mapping[str, AppTask]: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def plugins(self) -> Plugins: ...
    @property
    def callbacks(self) -> CallbackChains: ...

    @property
    def storage(self) -> Storage:
        """This process's own, made without I/O and opened by its first use."""
        ...

    def serializer_of(self, task_name: str, /) -> Serializer:
        """What reads the results of this task, which may be another app's."""
        ...

    def close(self) -> None:
        """Give back what this process opened."""
        ...


#: Imports ``module:attribute``. Raises ConfigError for a wrong name, and whatever the app's own code raises.
LoadApp = Callable[[str], "tuple[App, AppManifest]"]
