"""Recording how attempts ended, inside a write transaction: the worker's or the task's own.

The token on the row is the fence: an outcome whose token is gone changes nothing. A finished row keeps its
token and ``job_errors`` keeps the token of every failed attempt, so an outcome that is sent again is known.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from taskito_core import (
    Cancelled,
    Charge,
    Complete,
    Dead,
    JobStatus,
    Outcome,
    Release,
    Retry,
    clean_text,
    messages,
)
from taskito_sqlite.commit_watch import ExpectedCommit
from taskito_sqlite.gates import Cascade
from taskito_sqlite.sql import settle as sql
from taskito_sqlite.wakeups import WakeupsMixin, take_waiters


class Settled(NamedTuple):
    """What became of a batch of outcomes."""

    recorded: frozenset[str]
    queues: frozenset[str]  #: that have jobs to claim which they had not
    waiters: frozenset[str]  #: addresses of those who wait for a job that ended


class SettleMixin(WakeupsMixin):
    """``complete_in`` of the contract. What workers settle comes through ``exchange``."""

    def complete_in(self, connection: object, outcome: Complete) -> bool:
        """As ``Storage.complete_in``; the next settle or sweep of any worker runs the cascade."""

        def work(found: sqlite3.Connection) -> bool:
            return found.execute(sql.COMPLETE, (*outcome, self.now())).rowcount == 1

        def expected(completed: bool) -> ExpectedCommit | None:
            return ExpectedCommit(outcome.job_id, True, frozenset()) if completed else None

        return self._within(connection, work, expected)


def settle(connection: sqlite3.Connection, outcomes: Sequence[Outcome], now: int) -> Settled:
    """Record every outcome whose attempt is still on its row, and run the cascade."""
    if not outcomes:
        return Settled(frozenset(), frozenset(), frozenset())
    completes = [outcome for outcome in outcomes if type(outcome) is Complete]
    recorded = _complete(connection, completes, now) if completes else set()
    cascade = Cascade(connection, now)
    if len(completes) != len(outcomes):
        for outcome in outcomes:
            if type(outcome) is not Complete and _record(connection, outcome, now, cascade):
                recorded.add(outcome.job_id)
    cascade.run()
    return Settled(frozenset(recorded), frozenset(cascade.queues), take_waiters(connection))


def _record(connection: sqlite3.Connection, outcome: Outcome, now: int, cascade: Cascade) -> bool:
    """Record one outcome that is not a result; False if its attempt is not on the row any more."""
    match outcome:
        case Retry() | Release() if _is_asked_to_cancel(connection, outcome):
            return _stop(connection, _cancelled_instead(outcome), now)
        case Retry():
            return _retry(connection, outcome, now, cascade)
        case Release():
            return _release(connection, outcome, now, cascade)
        case Dead():
            return _bury(connection, outcome, now)
        case Cancelled():
            return _stop(connection, outcome, now)
    return True


# ---- results ----


def _complete(connection: sqlite3.Connection, completes: list[Complete], now: int) -> set[str]:
    changed = connection.executemany(sql.COMPLETE, [(*outcome, now) for outcome in completes]).rowcount
    if changed == len(completes):
        return {outcome.job_id for outcome in completes}
    return _already_finished(connection, completes, JobStatus.COMPLETE)


# ---- pending again ----


def _retry(connection: sqlite3.Connection, outcome: Retry, now: int, cascade: Cascade) -> bool:
    values = _failure(outcome, now) | {"due": now + round(outcome.delay * 1000)}
    connection.execute(sql.ADD_ERROR, values)
    found = connection.execute(sql.RETRY, values).fetchone()
    if found is not None:
        _pending_again(outcome.job_id, found, outcome.delay > 0, cascade)
        return True
    # An earlier sending may have recorded it, as what it is or as what it became.
    if connection.execute(sql.ALREADY_RETRIED, values).fetchone() is not None:
        return True
    return bool(_already_finished(connection, [outcome], JobStatus.CANCELLED))


def _release(connection: sqlite3.Connection, outcome: Release, now: int, cascade: Cascade) -> bool:
    due = None if outcome.delay is None else now + round(outcome.delay * 1000)
    values = {"id": outcome.job_id, "token": outcome.token, "lane": outcome.lane, "due": due, "now": now}
    found = connection.execute(sql.RELEASE, values).fetchone()
    if found is None:
        return bool(_already_finished(connection, [outcome], JobStatus.CANCELLED))
    _pending_again(outcome.job_id, found, bool(outcome.delay), cascade)
    return True


def _pending_again(job_id: str, found: tuple[str, str | None], later: bool, cascade: Cascade) -> None:
    """A job is pending again; if it has a key and is due later it gives up its slot until then."""
    queue, key = found
    if key is not None and later:
        cascade.leave_slot(job_id, key)
    else:
        cascade.queues.add(queue)


# ---- cancelled ----


def _is_asked_to_cancel(connection: sqlite3.Connection, outcome: Retry | Release) -> bool:
    values = {"id": outcome.job_id, "token": outcome.token}
    return connection.execute(sql.CANCEL_REQUESTED, values).fetchone() is not None


def _cancelled_instead(outcome: Retry | Release) -> Cancelled:
    started_at = outcome.started_at if isinstance(outcome, Retry) else None
    return Cancelled(outcome.job_id, outcome.token, messages.CANCELLED_WHILE_RUNNING, started_at)


def _stop(connection: sqlite3.Connection, outcome: Cancelled, now: int) -> bool:
    values = {
        "id": outcome.job_id,
        "token": outcome.token,
        "now": now,
        "error": clean_text(outcome.error, 500),
        "started_at": outcome.started_at,
    }
    if connection.execute(sql.STOP, values).fetchone() is not None:
        return True
    return bool(_already_finished(connection, [outcome], JobStatus.CANCELLED))


# ---- dead ----


def _bury(connection: sqlite3.Connection, outcome: Dead, now: int) -> bool:
    values = _failure(outcome, now) | {"reason": outcome.reason}
    connection.execute(sql.ADD_ERROR, values)
    if connection.execute(sql.BURY, values).fetchone() is None:
        return bool(_already_finished(connection, [outcome], JobStatus.DEAD))
    connection.execute(sql.ADD_LETTER, values)
    return True


def _failure(outcome: Retry | Dead, now: int) -> dict[str, object]:
    error = outcome.error
    # Cleaned once more: a lone surrogate here would fail the whole batch.
    return {
        "id": outcome.job_id,
        "token": outcome.token,
        "now": now,
        "started_at": outcome.started_at,
        "kind": error.kind,
        "type": clean_text(error.type),
        "message": clean_text(error.message),
        "traceback": None if error.traceback is None else clean_text(error.traceback),
        "error": clean_text(error.summary),
        "retry": outcome.charge is Charge.RETRY,
        "crash": outcome.charge is Charge.CRASH,
        "interruption": outcome.charge is Charge.INTERRUPTION,
    }


def _already_finished(
    connection: sqlite3.Connection, outcomes: Sequence[Outcome], status: JobStatus
) -> set[str]:
    """The ids of the jobs that ended in this state under these tokens, now or by an earlier sending."""
    fences = {(outcome.job_id, outcome.token) for outcome in outcomes}
    rows = connection.execute(sql.ALREADY_FINISHED, {"ids": json.dumps([job_id for job_id, _ in fences])})
    return {job_id for job_id, token, found in rows if found == status and (job_id, token) in fences}
