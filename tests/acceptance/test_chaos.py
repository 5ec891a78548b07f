"""Every feature at once, producers that compete, and somebody who kills; then the promises are counted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from taskito_core.job import FINISHED
from taskito_core.limits import BreakerState
from tests.acceptance import invariants
from tests.acceptance.havoc import HERE, PROCS, Havoc, Sampler, producers
from tests.acceptance.history import History, read
from tests.acceptance.inside import Inside
from tests.acceptance.ledger import Ledger
from tests.faults.conftest import load
from tests.faults.harness import Worker, wait_until

SEED = 20


@pytest.fixture
def ledger(backend_url: str, tmp_path: Path) -> Iterator[Ledger]:
    """In the store's database, outside of its schema; with SQLite in a file of its own."""
    url = f"sqlite://{tmp_path / 'ledger.db'}" if backend_url.startswith("sqlite") else backend_url
    opened = Ledger(url)
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def app(backend_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("TASKITO_DB_URL", backend_url)
    monkeypatch.syspath_prepend(HERE)
    with load(HERE / "chaosapp.py") as module:
        yield module


class Chaos:
    """One run, from the first worker to the last."""

    def __init__(
        self, app: ModuleType, url: str, ledger: Ledger, start: Callable[[], Worker], directory: Path
    ) -> None:
        self._app, self._url, self._ledger, self._directory = app, url, ledger, directory
        self.havoc = Havoc(start, ledger, SEED)
        self.sampler = Sampler(url)

    def run(self, seconds: float) -> History:
        self._app.queue.storage.migrate()
        with contextlib.closing(Inside(self._url)) as inside:
            inside.watch()
        self.havoc.begin()
        began = self._ledger.now()
        self.sampler.start()
        try:
            env = {"TASKITO_DB_URL": self._url, "LEDGER": self._ledger.url, "PYTHONPATH": os.fspath(HERE)}
            with producers(SEED, seconds, self._directory, {**os.environ, **env}) as answers:
                self.havoc.wreak(seconds)
            self._drain(60 + 2 * seconds)
            ended = self._ledger.now()
            assert self.havoc.stop() == [0] * len(self.havoc.workers), self.havoc.outputs()
        finally:
            self.sampler.stop()
        return read(self._url, self._app, self._ledger, answers, began, ended)

    def _drain(self, timeout: float) -> None:
        """Until all has ended; the schedule goes on for as long as anything else does."""
        with contextlib.closing(Inside(self._url)) as inside:
            self._end(inside, "task_name NOT LIKE '%tick'", timeout)
            self._app.queue.pause_periodic(self._app.tick.name)
            self._end(inside, "task_name LIKE '%tick'", timeout)

    def _end(self, inside: Inside, which: str, timeout: float) -> None:
        query = f"""SELECT id, task_name, status, gate, scheduled_at FROM {{jobs}}
                     WHERE status IN ('pending', 'running') AND {which}"""
        try:
            wait_until(lambda: not inside.rows(query), timeout, f"every job has ended whose {which}")
        except AssertionError as exc:
            raise AssertionError(f"{exc}: {inside.rows(query)[:10]}\n{self.havoc.outputs()}") from None


@pytest.fixture
def chaos(app, backend_url, ledger, start_worker, tmp_path) -> Chaos:
    def start() -> Worker:
        env = {"LEDGER": ledger.url, "PYTHONPATH": os.fspath(HERE)}
        return start_worker("--procs", str(PROCS), procs=0, app="chaosapp:queue", **env)

    return Chaos(app, backend_url, ledger, start, tmp_path)


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(9.0, id="9s"),
        pytest.param(60.0, id="60s", marks=[pytest.mark.faults, pytest.mark.timeout(600)]),
    ],
)
def test_every_feature_keeps_its_promise_whatever_is_killed(chaos: Chaos, seconds: float) -> None:
    history = chaos.run(seconds)

    assert invariants.broken(history) == {}
    assert chaos.sampler.seen == []
    assert not chaos.havoc.left()
    print(f"killed {dict(chaos.havoc.kills)}, {len(history.runs)} runs of {len(history.jobs)} jobs")
    assert quiet(history) == []
    assert chaos.sampler.looks > seconds


def quiet(history: History) -> list[str]:
    """What did not happen at all, so that nothing was proved about it."""
    keyed = [answer for answer in history.answers if "key" in answer]
    errors = {(job.error or "").partition(" ")[0] for job in history.jobs.values()}
    happened = {
        "a worker was killed": any(kill.kind == "worker" for kill in history.kills),
        "a child was killed": any(kill.kind == "child" for kill in history.kills),
        "a kill took a job away": history.taken,
        "jobs ended in every way": {job.status for job in history.jobs.values()} == FINISHED,
        "a unique key was held": len(keyed) > len({job for answer in keyed for job in answer["jobs"]}),
        "jobs were cancelled for each reason": {"expired:", "cancelled:", "parent"} <= errors,
        "the breaker opened and let a probe pass": {turn.state for turn in history.turns} == {*BreakerState},
        "the rate was reached": len(history.runs_by_task("limited")) > history.rate.burst,
        "the schedule fired": len(history.ticks) > 1,
    }
    return [what for what, seen in happened.items() if not seen]
