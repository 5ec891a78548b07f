"""Outcomes on their way into the store: one statement per kind, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, TypeVar

from taskito_core import (
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
from taskito_postgres import sql
from taskito_postgres.arrays import Bigints, Blobs, Texts
from taskito_postgres.session import Cursor, Turn
from taskito_postgres.sql import Statements

Kind = TypeVar("Kind", Complete, Dead, Retry, Release)

#: Bytes of results in one statement: an array of PostgreSQL ends at 1 GB.
MAX_BYTES = 64 * 1024 * 1024
#: Milliseconds no delay exceeds (30,000 years), so that a moment still fits BIGINT.
MAX_DELAY = 10**15


@dataclass(slots=True)
class Settling:
    """The statements of one batch, sent; their answers are read when the turn is over."""

    finished: list[Cursor] = field(default_factory=list)  #: rows (id, awaited)
    returned: list[Cursor] = field(default_factory=list)  #: rows (id, queue): pending again

    def answers(self) -> tuple[set[str], list[str], set[str]]:
        """Ids recorded, those of them that somebody awaits, and the queues that have jobs again."""
        recorded: set[str] = set()
        awaited: list[str] = []
        queues: set[str] = set()
        for cursor in self.finished:
            for job_id, is_awaited in cursor.fetchall():
                recorded.add(job_id)
                if is_awaited:
                    awaited.append(job_id)
        for cursor in self.returned:
            for job_id, queue in cursor.fetchall():
                recorded.add(job_id)
                queues.add(queue)
        return recorded, awaited, queues


def send(turn: Turn, statements: Statements, outcomes: Sequence[Outcome], shift: int) -> Settling:
    """Send what records these outcomes. Each kind is sorted by id, so that two settlers cannot deadlock."""
    settling = Settling()
    for batch in _by_weight(_of(outcomes, Complete)):
        settling.finished.append(turn.run(statements[sql.COMPLETE], _results(batch, shift)))
    if buried := _of(outcomes, Dead):
        reasons = [dead.reason.value for dead in buried]
        settling.finished.append(turn.run(statements[sql.BURY], _failures(buried, reasons, shift)))
    if retries := _of(outcomes, Retry):
        delays = [str(min(int(max(retry.delay, 0.0) * 1000), MAX_DELAY)) for retry in retries]
        settling.returned.append(turn.run(statements[sql.RETRY], _failures(retries, delays, shift)))
    if released := _of(outcomes, Release):
        settling.returned.append(turn.run(statements[sql.RELEASE], _handed_back(released)))
    return settling


def ask_earlier(turn: Turn, statements: Statements, outcomes: Sequence[Outcome]) -> Cursor:
    """Ask which of these are recorded, by whatever sending; rows (id,). Releases leave no trace to find."""
    told = [outcome for outcome in outcomes if not isinstance(outcome, Release)]
    errors = [None if isinstance(outcome, Complete) else _clean(outcome.error) for outcome in told]
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


_STATUS_AFTER = {Complete: "complete", Dead: "dead", Retry: "pending"}


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


def _results(batch: list[Complete], shift: int) -> dict[str, Any]:
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


def _handed_back(batch: list[Release]) -> dict[str, Any]:
    ids, tokens, lanes = zip(*batch, strict=True)
    return {"ids": Texts(ids), "tokens": Bigints(tokens), "lanes": Texts(lanes)}
