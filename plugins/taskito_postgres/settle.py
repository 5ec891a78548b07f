"""Outcomes on their way into the store: one statement per kind, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, TypeVar

from taskito_core import (
    Cancelled,
    Complete,
    Dead,
    DeadReason,
    ErrorInfo,
    ErrorKind,
    Outcome,
    Release,
    Retry,
    clean_text,
)
from taskito_postgres import sql, upkeep
from taskito_postgres.aftermath import Loose
from taskito_postgres.arrays import Bigints, Blobs, Texts
from taskito_postgres.session import Cursor, Turn
from taskito_postgres.sql import Statements

Kind = TypeVar("Kind", Complete, Dead, Retry, Release, Cancelled)

#: Bytes of results in one statement: an array of PostgreSQL ends at 1 GB.
MAX_BYTES = 64 * 1024 * 1024
#: Milliseconds no delay exceeds (30,000 years), so that a moment still fits BIGINT.
MAX_DELAY = 10**15


@dataclass(slots=True)
class Settling:
    """The statements of one batch, sent; their answers are read when the turn is over."""

    finished: list[Cursor] = field(default_factory=list)  #: rows as ``sql.ENDED``
    returned: list[Cursor] = field(default_factory=list)  #: rows (id, queue, key): pending again

    def answers(self, loose: Loose) -> set[str]:
        """The ids recorded; what follows from them goes into ``loose``."""
        recorded: set[str] = set()
        for cursor in self.finished:
            recorded.update(loose.ended(cursor.fetchall()))
        for cursor in self.returned:
            for job_id, queue, key in cursor.fetchall():
                recorded.add(job_id)
                if key is None:
                    loose.queues.add(queue)
                else:
                    loose.keys.add(key)
        return recorded


def send(turn: Turn, statements: Statements, outcomes: Sequence[Outcome], shift: int) -> Settling:
    """Send what records these outcomes. Each kind is sorted by id, so that two settlers cannot deadlock."""
    settling = Settling()
    for batch in _by_weight(_of(outcomes, Complete)):
        settling.finished.append(turn.run(statements[sql.COMPLETE], results(batch, shift)))
    if buried := _of(outcomes, Dead):
        reasons = [dead.reason.value for dead in buried]
        settling.finished.append(turn.run(statements[sql.BURY], _failures(buried, reasons, shift)))
    if stopped := _of(outcomes, Cancelled):
        settling.finished.append(turn.run(statements[sql.STOP], _stopped(stopped, False, shift)))
    if retries := _of(outcomes, Retry):
        delays = [str(min(int(max(retry.delay, 0.0) * 1000), MAX_DELAY)) for retry in retries]
        settling.returned.append(turn.run(statements[sql.RETRY], _failures(retries, delays, shift)))
    if released := _of(outcomes, Release):
        settling.returned.append(turn.run(statements[sql.RELEASE], _handed_back(released, shift)))
    return settling


def send_again(turn: Turn, statements: Statements, outcomes: Sequence[Outcome], shift: int) -> Settling:
    """The same for outcomes that matched no row: those asked to cancel meanwhile are recorded as that."""
    settling = send(turn, statements, outcomes, shift)
    asked = [
        Cancelled(one.job_id, one.token, upkeep.ASKED, one.started_at if isinstance(one, Retry) else None)
        for one in outcomes
        if isinstance(one, Retry | Release)
    ]
    if asked:
        asked.sort(key=itemgetter(0))
        settling.finished.append(turn.run(statements[sql.STOP], _stopped(asked, True, shift)))
    return settling


def ask_earlier(turn: Turn, statements: Statements, outcomes: Sequence[Outcome]) -> Cursor:
    """Ask which are recorded, by whatever sending; rows as ``sql.ENDED``. Releases leave no trace."""
    told = [outcome for outcome in outcomes if not isinstance(outcome, Release)]
    errors = [_clean(outcome.error) if isinstance(outcome, Dead | Retry) else None for outcome in told]
    parameters = {
        "ids": Texts(outcome.job_id for outcome in told),
        "tokens": Bigints(outcome.token for outcome in told),
        "statuses": Texts(_STATUS_AFTER[type(outcome)] for outcome in told),
        "kinds": Texts(error and error.kind.value for error in errors),
        "types": Texts(error and error.type for error in errors),
        "messages": Texts(error and error.message for error in errors),
    }
    return turn.run(statements[sql.EARLIER], parameters)


def rejected(outcome: Outcome, why: Exception) -> Dead:
    """What stands in for an outcome that the store cannot keep: the job failed, and this is why."""
    error = ErrorInfo(ErrorKind.REJECTED, type(why).__name__, f"the outcome could not be stored: {why}")
    return Dead(outcome.job_id, outcome.token, DeadReason.REJECTED, None, error, None)


_STATUS_AFTER = {Complete: "complete", Dead: "dead", Retry: "pending", Cancelled: "cancelled"}


def _of(outcomes: Iterable[Outcome], kind: type[Kind]) -> list[Kind]:
    return sorted((outcome for outcome in outcomes if type(outcome) is kind), key=itemgetter(0))


def _by_weight(batch: list[Complete]) -> Iterator[list[Complete]]:
    if sum(len(complete.result) for complete in batch) <= MAX_BYTES:
        if batch:
            yield batch
        return
    weight, start = 0, 0
    for index, complete in enumerate(batch):
        weight += len(complete.result)
        if weight > MAX_BYTES and index > start:
            yield batch[start:index]
            weight, start = len(complete.result), index
    yield batch[start:]


def results(batch: list[Complete], shift: int) -> dict[str, Any]:
    ids, tokens, results, started = zip(*batch, strict=True)
    return {
        "ids": Texts(ids),
        "tokens": Bigints(tokens),
        "results": Blobs(results),
        "started": Bigints(started),
        "shift": shift,
    }


def _failures(batch: Sequence[Retry] | Sequence[Dead], extras: list[str], shift: int) -> dict[str, Any]:
    errors = [_clean(outcome.error) for outcome in batch]
    return {
        "ids": Texts(outcome.job_id for outcome in batch),
        "tokens": Bigints(outcome.token for outcome in batch),
        "charges": Texts("" if outcome.charge is None else outcome.charge.value for outcome in batch),
        "kinds": Texts(error.kind.value for error in errors),
        "types": Texts(error.type for error in errors),
        "messages": Texts(error.message for error in errors),
        "tracebacks": Texts(error.traceback for error in errors),
        "summaries": Texts(error.summary for error in errors),
        "started": Bigints(outcome.started_at for outcome in batch),
        "extras": Texts(extras),
        "shift": shift,
    }


def _clean(error: ErrorInfo) -> ErrorInfo:
    # Once more, whoever made it: one NUL would fail the whole batch, and again when it is sent again.
    traceback = None if error.traceback is None else clean_text(error.traceback)
    return ErrorInfo(error.kind, clean_text(error.type), clean_text(error.message), traceback)


def _handed_back(batch: list[Release], shift: int) -> dict[str, Any]:
    ids, tokens, lanes, delays = zip(*batch, strict=True)
    late = [None if delay is None else min(int(max(delay, 0.0) * 1000), MAX_DELAY) for delay in delays]
    return {
        "ids": Texts(ids),
        "tokens": Bigints(tokens),
        "lanes": Texts(lanes),
        "delays": Bigints(late),
        "shift": shift,
    }


def _stopped(batch: list[Cancelled], asked: bool, shift: int) -> dict[str, Any]:
    ids, tokens, errors, started = zip(*batch, strict=True)
    return {
        "ids": Texts(ids),
        "tokens": Bigints(tokens),
        "errors": Texts(clean_text(error, 500) for error in errors),
        "started": Bigints(started),
        "asked": asked,
        "shift": shift,
    }
