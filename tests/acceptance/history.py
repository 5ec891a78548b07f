"""Everything that is known after a run of the chaos test: what was asked, ran, was killed and is stored."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from taskito.client.options.limits import parse_breaker, parse_rate
from taskito_core.job import Job, JobStatus
from taskito_core.limits import BreakerOptions, RateLimit
from tests.acceptance.inside import Inside
from tests.acceptance.ledger import Kill, Ledger, Run

#: Seconds between a moment that was read inside of a transaction and its commit, at most.
COMMIT = 0.1
#: Seconds that a killed process' last statement may take in the server, after the process is gone.
IN_FLIGHT = 2.0
#: Seconds after which the outcome of a run has been recorded, unless its worker was killed.
RECORDED = 3.0


class Turn(NamedTuple):
    """A circuit breaker changed."""

    at: float
    state: str
    probe_at: int | None


class Taken(NamedTuple):
    """An attempt that the product says was taken from its worker."""

    job: str
    token: int
    worker: int  #: pid


@dataclass(frozen=True, kw_only=True)
class History:
    """Records of one run, and what follows from them."""

    jobs: Mapping[str, Job]
    results: Mapping[str, Any]  #: of those that are complete
    answers: Sequence[Mapping[str, Any]]  #: of the producers
    runs: Sequence[Run]
    kills: Sequence[Kill]
    claims: Mapping[tuple[str, int], float]  #: (job, token) -> when
    turns: Sequence[Turn]
    taken: Sequence[Taken]
    began: float  #: every worker was up
    ended: float  #: the schedule was paused
    rate: RateLimit  #: of ``limited``
    breaker: BreakerOptions  #: of ``fragile``
    places: Mapping[str, int]  #: kind of place -> how many runs of one place may be under way at once

    @cached_property
    def asked(self) -> dict[str, Any]:
        """Every job a producer was told of, and the result it must have."""
        return {job: result for answer in self.answers for job, result in answer["jobs"].items()}

    @cached_property
    def parents(self) -> dict[str, list[str]]:
        return {job: ids for answer in self.answers for job, ids in answer.get("parents", {}).items()}

    @cached_property
    def tolerant(self) -> set[str]:
        """Jobs that run whatever became of their parents."""
        found = [answer for answer in self.answers if answer.get("on_error") == "collect"]
        return {job for answer in found for job in answer["parents"]}

    @cached_property
    def cancelled(self) -> dict[str, float]:
        """Jobs that the store said it cancelled, or would, and when that answer had come."""
        return {job: answer["answered"] for answer in self.answers for job in answer.get("cancelled", ())}

    @cached_property
    def ticks(self) -> list[Job]:
        """The jobs of the schedule."""
        return [job for job in self.jobs.values() if job.task_name.endswith("tick")]

    @cached_property
    def runs_of(self) -> Mapping[str, list[Run]]:
        """The runs of each job, in the order in which they were claimed."""
        found: dict[str, list[Run]] = defaultdict(list)
        for run in sorted(self.runs, key=lambda run: self.claims[run.job, run.token]):
            found[run.job].append(run)
        return found

    def runs_by_task(self, name: str) -> list[Run]:
        return [run for run in self.runs if run.task.endswith(f".{name}")]

    # ---- what a SIGKILL explains ----

    @cached_property
    def _deaths(self) -> dict[int, float]:
        """When a child was killed, or a worker with everything it had."""
        return {kill.pid: kill.at for kill in reversed(self.kills) if kill.kind != "zygote"}

    def death_of(self, run: Run) -> float | None:
        """A moment just before the process of this run was killed; None: it was not."""
        moments = [self._deaths[pid] for pid in (run.pid, run.session) if pid in self._deaths]
        return min(moments, default=None)

    def lost(self, run: Run) -> bool:
        """A kill may have kept the outcome of this run from being recorded."""
        death = self.death_of(run)
        return death is not None and run.began - IN_FLIGHT <= death <= (run.ended or death) + RECORDED

    def explains(self, taken: Taken) -> bool:
        """A kill took this attempt from its worker: of its own process, or, if it had not begun, of any."""
        for run in self.runs_of.get(taken.job, ()):
            if run.token == taken.token:
                return self.death_of(run) is not None
        return any(kill.session == taken.worker for kill in self.kills if kill.kind != "zygote")

    def stillborn(self, run: Run) -> bool:
        """Its first statement reached the server when its process was gone: nothing of it ran."""
        death = self.death_of(run)
        return run.ended is None and death is not None and death <= run.began

    def over(self, run: Run) -> float:
        """The moment before which it cannot have ended: its own end, or that of its process."""
        if run.ended is not None:
            return run.ended
        death = self.death_of(run)
        return run.began if death is None else max(run.began, death)


def read(url: str, app: ModuleType, ledger: Ledger, answers: Path, began: float, ended: float) -> History:
    """All of it, when nothing runs any more."""
    queue = app.queue
    with contextlib.closing(Inside(url)) as inside:
        ids = [row[0] for row in inside.rows("SELECT id FROM {jobs}")]
        taken = inside.rows(
            "SELECT job_id, token, worker FROM {job_errors} WHERE kind IN ('crash', 'interrupted')"
        )
        claims = inside.rows("SELECT job, token, at FROM {claims}")
        turns = [Turn(*row) for row in inside.rows("SELECT at, state, probe_at FROM {turns}")]
    jobs = {job.id: job for at in range(0, len(ids), 500) for job in queue.storage.get(ids[at : at + 500])}
    pids = {worker.id: worker.pid for worker in queue.workers()}
    complete = (job for job in jobs.values() if job.status is JobStatus.COMPLETE)
    return History(
        jobs=jobs,
        results={job.id: queue.serializer.loads(job.result) for job in complete},
        answers=[json.loads(line) for line in answers.read_text().splitlines()],
        runs=ledger.runs(),
        kills=ledger.kills(),
        claims={(job, token): at for job, token, at in claims},
        # A stable sort: in SQLite two changes of one millisecond are in their order already.
        turns=sorted(turns, key=lambda turn: turn.at),
        taken=[Taken(job, token, pids[worker]) for job, token, worker in taken],
        began=began,
        ended=ended,
        rate=parse_rate(app.LIMIT),
        breaker=parse_breaker(app.BREAKER),
        places={"unique": 1, **app.PLACES},
    )
