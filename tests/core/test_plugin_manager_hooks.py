"""Calling plugins: what one of them raises harms no other, and names the plugin."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import pytest

from taskito_core import Returned, hookimpl
from taskito_core.errors import SoftTimeoutError
from taskito_core.plugin_manager import Plugins


@pytest.fixture
def plugins() -> Plugins:
    return Plugins()


def test_running_a_job_that_returns_none_runs_it_once(plugins: Plugins) -> None:
    runs: list[int] = []

    answer = plugins.hook.taskito_run_job(context=None, call=lambda: runs.append(1))

    assert answer == Returned(None)
    assert runs == [1]


def test_a_wrapper_sees_the_result_and_the_exception_of_the_run(plugins: Plugins) -> None:
    seen: list[object] = []

    class Wrapper:
        @hookimpl(wrapper=True)
        def taskito_run_job(self) -> Iterator[None]:
            try:
                answer = yield
            except ValueError as exc:
                seen.append(exc)
                raise
            seen.append(answer)
            return answer

    plugins.register(Wrapper(), "wrapper")

    assert plugins.hook.taskito_run_job(context=None, call=lambda: 7) == Returned(7)
    with pytest.raises(ValueError, match="invalid literal"):
        plugins.hook.taskito_run_job(context=None, call=lambda: int("x"))
    assert seen[0] == Returned(7)
    assert isinstance(seen[1], ValueError)


class Observer:
    def __init__(self, seen: list[object], error: BaseException | None = None) -> None:
        self.seen, self.error = seen, error

    @hookimpl
    def taskito_jobs_enqueued(self, jobs: Sequence[object]) -> None:
        if self.error is not None:
            raise self.error
        self.seen.append(jobs)


@pytest.mark.parametrize("error", [RuntimeError("observer is broken"), SystemExit(3)], ids=repr)
def test_an_observer_that_raises_is_logged_by_name_and_stops_nobody(
    plugins: Plugins, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    seen: list[object] = []
    plugins.register(Observer(seen), "first")
    plugins.register(Observer(seen, error), "broken one")
    plugins.register(Observer(seen), "last")

    with caplog.at_level(logging.ERROR, "taskito.plugins"):
        plugins.observe("taskito_jobs_enqueued", jobs=[1])

    assert seen == [[1], [1]]
    assert "broken one" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SoftTimeoutError()], ids=repr)
def test_what_ends_a_producers_thread_from_outside_goes_through_its_observers(
    plugins: Plugins, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    plugins.register(Observer([], error), "slow one")

    with pytest.raises(type(error)):
        plugins.observe("taskito_jobs_enqueued", jobs=[1])

    assert "slow one" in caplog.text, "it says where it was interrupted"


def test_a_plugin_that_was_taken_away_is_called_no_more(plugins: Plugins) -> None:
    seen: list[object] = []
    plugins.register(Observer(seen), "observer")
    plugins.unregister("observer")
    plugins.unregister("never there")

    plugins.observe("taskito_jobs_enqueued", jobs=[1])

    assert seen == []
