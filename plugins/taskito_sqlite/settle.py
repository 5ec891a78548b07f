"""Recording how attempts ended, inside the worker's write transaction.

The token on the row is the fence: an outcome whose token is gone changes nothing. A finished row keeps
its token and ``job_errors`` keeps every failed attempt's, so an outcome that is sent again is known.
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
    DeadReason,
    ErrorInfo,
    ErrorKind,
    JobStatus,
    Outcome,
    Release,
    Retry,
    clean_text,
)
from taskito_sqlite import acts, sql
from taskito_sqlite.errors import UNSTORABLE
from taskito_sqlite.relations import Ripples

#: The ``error`` of a job that was asked to cancel and came back before it did.
CANCELLED_WHILE_RUNNING = "cancelled while running"


class Settled(NamedTuple):
    recorded: frozenset[str]
    queues: frozenset[str]  #: where jobs can be claimed that could not before
    awaited: frozenset[str]  #: doorbells of those who wait for a job that ended


def settle(connection: sqlite3.Connection, outcomes: Sequence[Outcome], now: int) -> Settled:
    """Record every outcome whose attempt is still on its row."""
    if not outcomes:
        return Settled(frozenset(), frozenset(), frozenset())
    completes = [outcome for outcome in outcomes if type(outcome) is Complete]
    recorded = _complete(connection, completes, now) if completes else set()
    ripples = Ripples(connection, now)
    if len(completes) != len(outcomes):
        for outcome in outcomes:
            if type(outcome) is not Complete and _record(connection, outcome, now, ripples):
                recorded.add(outcome.job_id)
    ripples.settle()
    return Settled(frozenset(recorded), frozenset(ripples.queues), tell_waiters(connection))


def _record(connection: sqlite3.Connection, outcome: Outcome, now: int, ripples: Ripples) -> bool:
    """Record one outcome that is not a result; False if its attempt is not on the row any more."""
    match outcome:
        case Retry() | Release() if _is_asked(connection, outcome):
            _stop(connection, _given_up(outcome), now)
        case Retry():
            values = _failure(outcome, now) | {"due": now + round(outcome.delay * 1000)}
            connection.execute(sql.FAILED_ATTEMPT, values)
            found = connection.execute(sql.RETRY, values).fetchone()
            if found is None:
                return _retried_or_stopped(connection, outcome, values)
            _back_in_line(outcome.job_id, found, outcome.delay > 0, ripples)
        case Release():
            due = None if outcome.delay is None else now + round(outcome.delay * 1000)
            values = {"id": outcome.job_id, "token": outcome.token, "lane": outcome.lane, "due": due}
            found = connection.execute(sql.RELEASE, values).fetchone()
            if found is None:
                fence = {(outcome.job_id, outcome.token)}
                return bool(_finished(connection, fence, JobStatus.CANCELLED))
            _back_in_line(outcome.job_id, found, bool(outcome.delay), ripples)
        case Dead():
            return _bury(connection, outcome, now)
        case Cancelled():
            return _stop(connection, outcome, now)
    return True


def _back_in_line(job_id: str, found: tuple[str, str | None], later: bool, ripples: Ripples) -> None:
    """A job is pending again; one of a key that is due later gives up its place until then."""
    queue, key = found
    if key is not None and later:
        ripples.step_back(job_id, key)
    else:
        ripples.queues.add(queue)


def _retried_or_stopped(connection: sqlite3.Connection, outcome: Retry, values: dict[str, object]) -> bool:
    """Was this retry recorded by an earlier sending, as what it is or as what it became?"""
    if connection.execute(sql.RETRIED_WITH, values).fetchone() is not None:
        return True
    return bool(_finished(connection, {(outcome.job_id, outcome.token)}, JobStatus.CANCELLED))


def _is_asked(connection: sqlite3.Connection, outcome: Retry | Release) -> bool:
    """Was this attempt, which still runs as far as the row says, asked to cancel?"""
    return connection.execute(acts.ASKED_OF, (outcome.job_id, outcome.token)).fetchone() is not None


def _given_up(outcome: Retry | Release) -> Cancelled:
    started_at = outcome.started_at if isinstance(outcome, Retry) else None
    return Cancelled(outcome.job_id, outcome.token, CANCELLED_WHILE_RUNNING, started_at)


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
    return bool(_finished(connection, {(outcome.job_id, outcome.token)}, JobStatus.CANCELLED))


def tell_waiters(connection: sqlite3.Connection) -> frozenset[str]:
    """The doorbells to ring for jobs that have ended; they are forgotten with this transaction."""
    rows = connection.execute(sql.AWAITED).fetchall()
    if not rows:
        return frozenset()
    connection.execute(sql.TOLD)
    return frozenset(bell for _, awaited in rows for bell in awaited.split("\n"))


def _complete(connection: sqlite3.Connection, completes: list[Complete], now: int) -> set[str]:
    try:
        changed = connection.executemany(sql.COMPLETE, [(*outcome, now) for outcome in completes]).rowcount
    except UNSTORABLE:
        # One result that SQLite cannot keep must not fail the others for ever.
        return {outcome.job_id for outcome in completes if _complete_one(connection, outcome, now)}
    if changed == len(completes):
        return {outcome.job_id for outcome in completes}
    return _finished(
        connection, {(outcome.job_id, outcome.token) for outcome in completes}, JobStatus.COMPLETE
    )


def _complete_one(connection: sqlite3.Connection, outcome: Complete, now: int) -> bool:
    try:
        connection.execute(sql.COMPLETE, (*outcome, now))
    except UNSTORABLE as exc:
        error = ErrorInfo(ErrorKind.REJECTED, type(exc).__name__, f"the result cannot be stored: {exc}")
        reason = DeadReason.REJECTED
        return _bury(connection, Dead(outcome.job_id, outcome.token, reason, None, error, None), now)
    return bool(_finished(connection, {(outcome.job_id, outcome.token)}, JobStatus.COMPLETE))


def _finished(connection: sqlite3.Connection, fences: set[tuple[str, int]], status: JobStatus) -> set[str]:
    """The ids that ended in this state under these tokens, now or earlier."""
    rows = connection.execute(sql.FINISHED_WITH, (json.dumps([job_id for job_id, _ in fences]),))
    return {job_id for job_id, token, found in rows if found == status and (job_id, token) in fences}


def _bury(connection: sqlite3.Connection, outcome: Dead, now: int) -> bool:
    values = _failure(outcome, now) | {"reason": outcome.reason}
    connection.execute(sql.FAILED_ATTEMPT, values)
    if connection.execute(sql.BURY, values).fetchone() is None:
        return bool(_finished(connection, {(outcome.job_id, outcome.token)}, JobStatus.DEAD))
    connection.execute(sql.DEAD_LETTER, values)
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
