"""Plugins that end the program, or lose what a job returned: they are named, and nobody else is hurt."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from taskito import TaskFailedError
from tests.faults.harness import Worker, wait_until

EXITS_IN_OBSERVERS = """
import sys

@hookimpl
def taskito_worker_started(worker):
    sys.exit("not on this machine")

@hookimpl
def taskito_jobs_finished(outcomes):
    sys.exit(7)

@hookimpl
def taskito_child_stopping():
    raise GeneratorExit

@hookimpl
def taskito_worker_stopping(worker):
    sys.exit(8)
"""

RETURNS_NOTHING = """
@hookimpl(wrapper=True)
def taskito_run_job(context, call):
    try:
        yield
    except ValueError:
        pass
"""

RETURNS_A_BARE_VALUE = """
@hookimpl(wrapper=True)
def taskito_run_job(call):
    return (yield).value
"""


def install(directory: Path, name: str, code: str) -> None:
    """A distribution with one plugin, where workers of this test find it."""
    info = directory / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dist-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[taskito]\n{name} = {name}_hooks\n")
    (directory / f"{name}_hooks.py").write_text(f"from taskito_core import Returned, hookimpl\n{code}")


def told(worker: Worker, text: str) -> int:
    """In how many lines of the worker's log this is."""
    return sum(text in line for line in worker.output().splitlines())


@pytest.mark.parametrize("error", ["SystemExit(3)", "GeneratorExit('no')"])
def test_a_plugin_that_exits_when_it_is_imported_is_the_reason_why_no_worker_starts(
    start_worker, tmp_path, error
):
    install(tmp_path, "leaver", f"raise {error}\n")
    worker = start_worker(procs=0)

    assert worker.wait(20) == 3
    assert "plugin 'leaver' of dist-leaver 1.0 cannot be imported from 'leaver_hooks'" in worker.output()
    assert error.partition("(")[0] in worker.output()
    worker.nothing_left()


def test_a_plugin_that_exits_in_its_observers_is_named_and_the_worker_goes_on(start_worker, app, tmp_path):
    install(tmp_path, "leaver", EXITS_IN_OBSERVERS)
    worker = start_worker(procs=1)

    for number in range(3):
        assert app.add.delay(number, 1).result(30) == number + 1
    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0
    for hook in ("taskito_worker_started", "taskito_child_stopping", "taskito_worker_stopping"):
        assert told(worker, f"plugin 'leaver' of dist-leaver failed in {hook}") == 1
    assert told(worker, "plugin 'leaver' of dist-leaver failed in taskito_jobs_finished") == 3
    worker.nothing_left()


def test_a_wrapper_that_returns_nothing_costs_no_job_and_is_named(start_worker, app, tmp_path):
    install(tmp_path, "forgetful", RETURNS_NOTHING)
    install(tmp_path, "outside", RETURNS_NOTHING.replace("    yield\n", "    return (yield)\n"))
    worker = start_worker(procs=1)

    results = [app.add.delay(number, 1).result(30) for number in range(3)]
    failed = app.flaky.using(max_retries=1).delay(5, 9)
    with pytest.raises(TaskFailedError, match="attempt 1 of 5 fails on purpose"):
        failed.result(30)

    assert results == [1, 2, 3]
    assert len(failed.errors) == 2, "its own error, and its own retry"
    wait_until(lambda: told(worker, "returned nothing"), 10)
    # Both swallow a ValueError; but only one loses what a job returned.
    assert told(worker, "in plugin 'forgetful' of dist-forgetful returned nothing") == 1
    assert told(worker, "AttributeError") == 0


def test_a_wrapper_that_returns_something_else_fails_the_job_at_once_with_the_plugins_name(
    start_worker, app, tmp_path
):
    install(tmp_path, "bare", RETURNS_A_BARE_VALUE)
    start_worker(procs=1)

    job = app.add.using(max_retries=3).delay(20, 22)
    with pytest.raises(TaskFailedError, match=r"plugin 'bare' of dist-bare must return .*, got 42"):
        job.result(30)

    assert len(job.errors) == 1, "the job has run: to run it again would not help"
