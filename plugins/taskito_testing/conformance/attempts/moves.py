"""The state machine, cell by cell: what ``MOVES`` allows happens, anything else changes nothing."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from taskito_core.job import MOVES, Job, JobStatus, Move, Outcome
from taskito_core.storage import Storage
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.factories import (
    cancelled,
    claim,
    complete,
    dead,
    enqueue_and_claim,
    release,
    retry,
)


class _Case(NamedTuple):
    """One job in the state under test, and what a move against it needs."""

    job_id: str
    worker: str
    outcomes: dict[Move, Outcome]


class Moves(ConformanceBase):
    @pytest.mark.parametrize("move", [move for move in Move if move is not Move.REVIVE])  # see ``Reviving``
    @pytest.mark.parametrize("state", list(JobStatus))
    def test_a_move_happens_exactly_where_the_table_allows_it(
        self, storage: Storage, worker: str, state: JobStatus, move: Move
    ) -> None:
        case = _job_in(storage, worker, state)
        before = _row(storage, case.job_id)
        errors = storage.errors(case.job_id)

        _apply(storage, case, move)

        after = _row(storage, case.job_id)
        if MOVES[move].before is state:
            assert after.status is MOVES[move].after
        else:
            assert after == before
            assert storage.errors(case.job_id) == errors


def _row(storage: Storage, job_id: str) -> Job:
    [job] = storage.get([job_id])
    return job


def _job_in(storage: Storage, worker: str, state: JobStatus) -> _Case:
    claimed = enqueue_and_claim(storage, worker)
    to_state: dict[JobStatus, list[Outcome]] = {
        JobStatus.PENDING: [release(claimed)],
        JobStatus.RUNNING: [],
        JobStatus.COMPLETE: [complete(claimed)],
        JobStatus.DEAD: [dead(claimed)],
        JobStatus.CANCELLED: [cancelled(claimed)],
    }
    storage.exchange(worker, to_state[state], None)
    assert _row(storage, claimed.id).status is state
    outcomes: dict[Move, Outcome] = {
        Move.COMPLETE: complete(claimed, b"another result"),
        Move.RETRY: retry(claimed),
        Move.RELEASE: release(claimed),
        Move.BURY: dead(claimed),
        Move.STOP: cancelled(claimed, "another reason"),
    }
    return _Case(claimed.id, worker, outcomes)


def _apply(storage: Storage, case: _Case, move: Move) -> None:
    if move is Move.CLAIM:
        claim(storage, case.worker)
    elif move is Move.RESCUE:
        [beat] = [info.beat for info in storage.workers() if info.id == case.worker]
        storage.rescue({case.worker: beat})
    elif move is Move.CANCEL:
        storage.cancel([case.job_id], "not wanted any more")
    else:
        storage.exchange(case.worker, [case.outcomes[move]], None)
