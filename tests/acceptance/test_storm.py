"""Kills, freezes, restarts, clock jumps and failovers; what was acknowledged is counted afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.inside import Inside
from tests.acceptance.ledger import Ledger, Run
from tests.acceptance.storm import PROCS, Servers, Storm
from tests.faults.clock import SetClock
from tests.faults.harness import TASKITO, Worker, wait_until
from tests.faults.proxy import Wire
from tools.postgres_pair import Pair

HERE = Path(__file__).parent
SEED = 9
Start = Callable[..., Worker]
#: Seconds after the storm within which everything has ended.
CALM = 120.0
LENGTHS = [
    pytest.param(12.0, id="12s", marks=pytest.mark.timeout(300)),
    pytest.param(600.0, id="600s", marks=[pytest.mark.faults, pytest.mark.timeout(1200)]),
]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """In a file of its own, by the machine's clock, whatever becomes of the store."""
    opened = Ledger(f"sqlite://{tmp_path / 'ledger.db'}")
    opened.open()
    yield opened
    opened.close()


class Weather:
    """One storm over one store, and what is known after it."""

    def __init__(
        self, url: str, directory: Path, ledger: Ledger, start_worker: Start, servers: Servers | None
    ) -> None:
        self.url, self._directory, self._ledger, self._servers = url, directory, ledger, servers
        self._start_worker = start_worker
        self._clock = SetClock(directory)
        self.env = {
            "LEDGER": ledger.url,
            **self._clock.env,
            "TASKITO_DB_URL": url,
            "PYTHONPATH": os.pathsep.join(map(os.fspath, (directory, HERE, HERE.parent / "faults"))),
        }

    def rage(self, seconds: float) -> Storm:
        subprocess.run([str(TASKITO), "migrate"], env={**os.environ, **self.env}, check=True, cwd=HERE)
        with contextlib.closing(Inside(self.url)) as inside:
            inside.watch_ends()
        storm = Storm(self._start, self._clock, self._servers, SEED, seconds)
        producer = [
            sys.executable,
            str(HERE / "stormproducer.py"),
            str(SEED),
            str(seconds),
            str(self._answers),
        ]
        with subprocess.Popen(producer, env={**os.environ, **self.env}) as process:
            try:
                storm.rage()
                storm.calm()
                assert process.wait(60) == 0
            finally:
                process.kill()
        return storm

    def _start(self) -> Worker:
        return self._start_worker(
            "--procs", str(PROCS), procs=0, url=self.url, app="stormapp:queue", **self.env
        )

    @property
    def _answers(self) -> Path:
        return self._directory / "answers"

    def acknowledged(self) -> dict[str, int]:
        lines = self._answers.read_text().splitlines()
        return {job: result for line in lines for job, result in json.loads(line).items()}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(Inside(self.url)) as inside:
            return inside.rows(query)

    def settle(self, storm: Storm) -> None:
        """Until all has ended but the schedule, and that goes on."""
        query = """SELECT id, status, gate, scheduled_at, worker FROM {jobs}
                    WHERE status IN ('pending', 'running') AND task_name NOT LIKE '%tick'"""
        try:
            wait_until(lambda: not self.rows(query), CALM, "every job has ended")
        except AssertionError as exc:
            raise AssertionError(f"{exc}: {self.rows(query)[:10]}\n{storm.outputs()}") from None
        before = len(self.ticks())
        wait_until(lambda: len(self.ticks()) > before + 2, 30, f"the schedule goes on\n{storm.outputs()}")

    def ticks(self) -> list[Run]:
        return [run for run in self._ledger.runs() if run.task.endswith("tick")]

    def runs(self) -> list[Run]:
        return self._ledger.runs()


@pytest.fixture
def backend_url() -> str:
    """Each weather has a store of its own."""
    return ""


@pytest.fixture
def over_sqlite(tmp_path: Path, ledger: Ledger, start_worker: Start) -> Weather:
    return Weather(f"sqlite:///{tmp_path / 'jobs.db'}", tmp_path, ledger, start_worker, None)


@pytest.fixture
def over_postgres(pair: Pair, tmp_path: Path, ledger: Ledger, start_worker: Start) -> Iterator[Weather]:
    url = pair.primary.new_database("taskito_storm")
    with Wire(url) as wire:
        yield Weather(wire.url, tmp_path, ledger, start_worker, Servers(pair, wire))
    pair.primary.drop_database(pair.primary.url(url.rpartition("/")[2]))


@pytest.mark.parametrize("seconds", LENGTHS)
def test_in_a_storm_nothing_is_lost_completed_twice_or_stuck_on_sqlite(
    over_sqlite: Weather, seconds: float
) -> None:
    storm = over_sqlite.rage(seconds)

    count(over_sqlite, storm, seconds)


@pytest.mark.parametrize("seconds", LENGTHS)
def test_in_a_storm_nothing_is_lost_completed_twice_or_stuck_on_postgres(
    over_postgres: Weather, seconds: float
) -> None:
    storm = over_postgres.rage(seconds)

    count(over_postgres, storm, seconds)
    assert storm.happened.keys() & {"promote", "crash", "standby_goes"}, storm.happened


def count(weather: Weather, storm: Storm, seconds: float) -> None:
    """What must be true after any storm."""
    weather.settle(storm)
    codes = storm.stop()

    rows = weather.rows("SELECT id, status, result FROM {jobs}")
    stored = {job: (status, result) for job, status, result in rows}
    print(f"{dict(storm.happened)}, {len(weather.runs())} runs of {len(stored)} jobs")
    assert codes == [0] * len(codes), storm.outputs()
    acknowledged = weather.acknowledged()
    assert acknowledged.keys() - stored.keys() == set()
    assert wrong(acknowledged, stored, weather) == []
    assert weather.rows("SELECT job FROM {ends} GROUP BY job HAVING count(*) > 1") == []
    slots = Counter(job[:12] for job in {run.job for run in weather.ticks()})
    assert [slot for slot, count in slots.items() if count > 1] == []
    wait_until(lambda: not storm.left(), 10, "no process is left")
    # It was a storm.
    assert storm.happened.keys() >= {"kill", "freeze", "set_clock"}, storm.happened
    assert len(acknowledged) > seconds


def wrong(
    acknowledged: Mapping[str, int], stored: Mapping[str, tuple[str, bytes]], weather: Weather
) -> list[str]:
    """Jobs that did not end as they must: with their result, or killed too often."""
    worn_out = {
        job
        for (job,) in weather.rows(
            "SELECT id FROM {jobs} WHERE status = 'dead' AND (crashes > 2 OR interruptions > 2)"
        )
    }
    return [
        f"{job}: {stored[job]} instead of {result}"
        for job, result in acknowledged.items()
        if job not in worn_out and (stored[job][0] != "complete" or json.loads(stored[job][1]) != result)
    ]
