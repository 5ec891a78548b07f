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
from taskito_postgres.arrays import Bigints, Blobs, Texts
from taskito_postgres.follow import Aftermath
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

    finished: list[Cursor] = field(default_factory=list)  #: rows (id, awaited, key, has dependants)
    returned: list[Cursor] = field(default_factory=list)  #: rows (id, queue, key): pending again

    def answers(self, past: Aftermath) -> set[str]:
        """Ids recorded; what follows is noted in ``past``, and the queues that have jobs again."""
        recorded: set[str] = set()
        for cursor in self.finished:
            recorded.update(past.ended(cursor.fetchall()))
        for cursor in self.returned:
            for job_id, queue, key in cursor.fetchall():
                recorded.add(job_id)
                past.queues.add(queue)
                if key is not None:
                    past.keys.add(key)
        return recorded


def send(turn: Turn, statements: Statements, outcomes: Sequence[Outcome], shift: int) -> Settling:
    """Send what records these outcomes. Each kind is sorted by id, so that two settlers cannot deadlock."""
    settling = Settling()
    for batch in _by_weight(_of(outcomes, Complete)):
        settling.finished.append(turn.run(statements[sql.COMPLETE], _results(batch, shift)))
    if buried := _of(outcomes, Dead):
        reasons = [dead.reason.value for dead in buried]
        settling.finished.append(turn.run(statements[sql.BURY], _failures(buried, reasons, shift)))
    if retries := _of(outcomes, Retry):
        delays = [str(_milliseconds(retry.delay)) for retry in retries]
        settling.returned.append(turn.run(statements[sql.RETRY], _failures(retries, delays, shift)))
    if released := _of(outcomes, Release):
        settling.returned.append(turn.run(statements[sql.RELEASE], _handed_back(released, shift)))
    back: list[Retry | Release] = [*retries, *released]
    if back:
        back.sort(key=itemgetter(0))
        # Whose jobs somebody has asked to cancel were left out by the two before.
        stops = _stops(back, [upkeep.ASKED] * len(back), shift, asked=True)
        settling.finished.append(turn.run(statements[sql.STOP], stops))
    if stopped := _of(outcomes, Cancelled):
        errors = [outcome.error for outcome in stopped]
        settling.finished.append(turn.run(statements[sql.STOP], _stops(stopped, errors, shift)))
    return settling


def hold(turn: Turn, statements: Statements, outcomes: Iterable[Outcome]) -> None:
    """Keep the rows that these outcomes are about as they are, until the transaction ends."""
    by_id = sorted(outcomes, key=itemgetter(0))
    parameters = {
        "ids": Texts(outcome.job_id for outcome in by_id),
        "tokens": Bigints(outcome.token for outcome in by_id),
    }
    turn.run(statements[sql.HOLD], parameters)


def ask_earlier(turn: Turn, statements: Statements, outcomes: Sequence[Outcome]) -> Cursor:
    """Ask which of these are recorded, by whatever sending; rows as for ``finished``.

    Releases leave no trace to find.
    """
    told = [outcome for outcome in outcomes if not isinstance(outcome, Release)]
    errors = [_clean(outcome.error) if isinstance(outcome, (Retry, Dead)) else None for outcome in told]
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


def _stops(
    batch: Sequence[Cancelled | Retry | Release], errors: Sequence[str], shift: int, asked: bool = False
) -> dict[str, Any]:
    return {
        "ids": Texts(outcome.job_id for outcome in batch),
        "tokens": Bigints(outcome.token for outcome in batch),
        "errors": Texts(clean_text(error) for error in errors),
        "started": Bigints(None if isinstance(outcome, Release) else outcome.started_at for outcome in batch),
        "asked": asked,
        "shift": shift,
    }


def _handed_back(batch: list[Release], shift: int) -> dict[str, Any]:
    return {
        "ids": Texts(release.job_id for release in batch),
        "tokens": Bigints(release.token for release in batch),
        "lanes": Texts(release.lane for release in batch),
        "delays": Bigints(
            None if release.delay is None else _milliseconds(release.delay) for release in batch
        ),
        "shift": shift,
    }


def _milliseconds(delay: float) -> int:
    return min(int(max(delay, 0.0) * 1000), MAX_DELAY)
