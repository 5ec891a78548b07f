"""What users import, and from where it says it comes."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from types import ModuleType

import taskito
import taskito_core

ROOT = Path(__file__).resolve().parents[2]
#: What the facade's own source needs.
_NO_NAMES = {"annotations", "import_module", "TYPE_CHECKING"}

NAMES = [
    "AsyncTask",
    "AttemptError",
    "Blocker",
    "BlockerKind",
    "BreakerRecord",
    "Call",
    "ChildResource",
    "ConfigError",
    "DeadLetter",
    "DeadReason",
    "EnqueuedJob",
    "ErrorKind",
    "FailedMember",
    "GroupResult",
    "JobCancelled",
    "JobContext",
    "JobExplanation",
    "JobNotFoundError",
    "JobOptions",
    "JobResult",
    "JobSpec",
    "JobStatus",
    "JsonSerializer",
    "ListPage",
    "LogEntry",
    "MaxRetriesExceededError",
    "PayloadTooLarge",
    "PeriodicEntry",
    "PeriodicState",
    "PickleSerializer",
    "Pruned",
    "Queue",
    "QueueFull",
    "QueueLimits",
    "ReplayRecord",
    "Retention",
    "SerializationError",
    "Serializer",
    "Signature",
    "SoftTimeoutError",
    "Stats",
    "StorageError",
    "StorageUnavailable",
    "Task",
    "TaskCancelledError",
    "TaskFailedError",
    "TaskMetrics",
    "TaskMiddleware",
    "TaskOptions",
    "TaskTimeoutError",
    "TaskitoError",
    "WorkerInfo",
    "WorkerShutdown",
    "__version__",
    "chain",
    "chord",
    "chunks",
    "current_job",
    "group",
    "starmap",
]


def test_the_facade_has_these_names_and_no_others() -> None:
    assert taskito.__all__ == NAMES
    public = {name for name in dir(taskito) if not name.startswith("_")} - _NO_NAMES
    public = {name for name in public if not isinstance(getattr(taskito, name), ModuleType)}
    assert public == set(NAMES) - {"__version__"}


def test_the_lazy_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(Path(taskito.__file__).read_text())
    [guarded] = [node for node in tree.body if isinstance(node, ast.If)]

    seen = {
        alias.name: node.module
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert seen == taskito._HOMES  # type: ignore[attr-defined]


def test_every_class_says_where_it_is_imported_from() -> None:
    for package in (taskito, taskito_core):
        for name in package.__all__:
            thing = getattr(package, name)
            if isinstance(thing, type):
                assert thing.__module__ in ("taskito", "taskito_core"), thing
                assert getattr(__import__(thing.__module__), thing.__name__) is thing


def test_the_facade_defines_nothing_itself() -> None:
    source = Path(taskito.__file__).read_text()

    assert not any(line.startswith(("def ", "class ", "async ")) for line in source.splitlines())


def test_the_version_is_the_distribution_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["version"] == taskito.__version__ == taskito_core.__version__


def test_every_exception_is_one_of_ours() -> None:
    outside = {"JobCancelled", "SoftTimeoutError", "WorkerShutdown"}
    for name in NAMES:
        thing = getattr(taskito, name)
        if isinstance(thing, type) and issubclass(thing, BaseException):
            assert issubclass(thing, taskito.TaskitoError) is (name not in outside)
    assert issubclass(taskito.JobNotFoundError, KeyError)
    assert issubclass(taskito.MaxRetriesExceededError, taskito.TaskFailedError)
    assert not issubclass(taskito.SoftTimeoutError, Exception)
