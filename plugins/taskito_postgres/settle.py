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
    ErrorInfo,
    Outcome,
    Release,
    Retry,
    clean_text,
    messages,
)
from taskito_postgres import external
from taskito_postgres.arrays import Bigints, Blobs, Texts
from taskito_postgres.gates import Cascade, GatesMixin
from taskito_postgres.session import Cursor, RoundTrip, Statements
from taskito_postgres.sql import settle as sql
from taskito_postgres.sql import wakeups

Kind = TypeVar("Kind", Complete, Dead, Retry, Release, Cancelled)

#: Bytes of results in one statement: an array of PostgreSQL ends at 1 GB.
MAX_BYTES = 64 * 1024 * 1024
#: Milliseconds no delay exceeds (30,000 years), so that a moment still fits BIGINT.
MAX_DELAY = 10**15

_STATUS_AFTER = {Complete: "complete", Dead: "dead", Retry: "pending", Cancelled: "cancelled"}


class SettleMixin(GatesMixin):
    """``complete_in`` of the contract."""

    def complete_in(self, connection: object, outcome: Complete) -> bool:
        doing = f"complete job {outcome.job_id}"
        self._connections.ready(doing)
        parameters = _results([outcome], self.clock_shift)
        with (
            self._connections.translated(doing),
            external.borrowed(connection, self._statements) as borrowed,
        ):
            if not borrowed.run(sql.COMPLETE_EXTERNAL, parameters):
                # Another transaction may just have changed the row: then this waits until it is over.
                if not borrowed.run(sql.LOCK_ROWS, _fences([outcome])):
                    return False
                borrowed.run(sql.COMPLETE_EXTERNAL, parameters)
            borrowed.notify(wakeups.NOTIFY, self._ends([outcome.job_id]))
        return True


@dataclass(slots=True)
class Settling:
    """The statements of one batch, sent; their answers are read when the round trip is over."""

    finished: list[Cursor] = field(default_factory=list)  #: rows (id, awaited, key, has dependants)
    returned: list[Cursor] = field(default_factory=list)  #: rows (id, queue, key): pending again

    def recorded(self, cascade: Cascade) -> set[str]:
        """Ids recorded; what follows is added to ``cascade``, and the queues that have jobs again."""
        recorded: set[str] = set()
        for cursor in self.finished:
            recorded.update(cascade.add_ended(cursor.fetchall()))
        for cursor in self.returned:
            for job_id, queue, key in cursor.fetchall():
                recorded.add(job_id)
                cascade.queues.add(queue)
                if key is not None:
                    cascade.keys.add(key)
        return recorded


def send(trip: RoundTrip, statements: Statements, outcomes: Sequence[Outcome], shift: int) -> Settling:
    """Send what records these outcomes. Each kind is sorted by id, so that two settlers cannot deadlock."""
    settling = Settling()
    for batch in _by_weight(_of(outcomes, Complete)):
        settling.finished.append(trip.run(statements[sql.COMPLETE], _results(batch, shift)))
    if buried := _of(outcomes, Dead):
        reasons = Texts(dead.reason.value for dead in buried)
        parameters = {**_failures(buried, shift), "reasons": reasons}
        settling.finished.append(trip.run(statements[sql.BURY], parameters))
    if retries := _of(outcomes, Retry):
        delays = Bigints(_milliseconds(retry.delay) for retry in retries)
        parameters = {**_failures(retries, shift), "delays": delays}
        settling.returned.append(trip.run(statements[sql.RETRY], parameters))
    if released := _of(outcomes, Release):
        settling.returned.append(trip.run(statements[sql.RELEASE], _releases(released, shift)))
    back: list[Retry | Release] = [*retries, *released]
    if back:
        back.sort(key=itemgetter(0))
        # Those of jobs that were asked to cancel were left out by the two statements before.
        reasons_to_stop = [messages.CANCELLED_WHILE_RUNNING] * len(back)
        stops = _stops(back, reasons_to_stop, shift, requested=True)
        settling.finished.append(trip.run(statements[sql.STOP], stops))
    if stopped := _of(outcomes, Cancelled):
        errors = [outcome.error for outcome in stopped]
        settling.finished.append(trip.run(statements[sql.STOP], _stops(stopped, errors, shift)))
    return settling


def send_again(trip: RoundTrip, statements: Statements, outcomes: Sequence[Outcome], shift: int) -> Settling:
    """Send outcomes that matched no row: their rows may have changed, or an earlier sending recorded them."""
    trip.run(statements[sql.LOCK_ROWS], _fences(outcomes))
    settling = send(trip, statements, outcomes, shift)
    settling.finished.append(_ask_recorded(trip, statements, outcomes))
    return settling


def _ask_recorded(trip: RoundTrip, statements: Statements, outcomes: Sequence[Outcome]) -> Cursor:
    """Ask which of these are recorded, by whichever sending; rows as for ``finished``.

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
    return trip.run(statements[sql.ALREADY_RECORDED], parameters)


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


# ---- parameters ----


def _fences(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    by_id = sorted(outcomes, key=itemgetter(0))
    return {
        "ids": Texts(outcome.job_id for outcome in by_id),
        "tokens": Bigints(outcome.token for outcome in by_id),
    }


def _results(batch: list[Complete], shift: int) -> dict[str, Any]:
    ids, tokens, results, started = zip(*batch, strict=True)
    return {
        "ids": Texts(ids),
        "tokens": Bigints(tokens),
        "results": Blobs(results),
        "started": Bigints(started),
        "shift": shift,
    }


def _failures(batch: Sequence[Retry] | Sequence[Dead], shift: int) -> dict[str, Any]:
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
        "shift": shift,
    }


def _clean(error: ErrorInfo) -> ErrorInfo:
    # Once more, although the worker does it: one NUL would fail the whole batch, and again when it is resent.
    traceback = None if error.traceback is None else clean_text(error.traceback)
    return ErrorInfo(error.kind, clean_text(error.type), clean_text(error.message), traceback)


def _stops(
    batch: Sequence[Cancelled | Retry | Release], errors: Sequence[str], shift: int, requested: bool = False
) -> dict[str, Any]:
    return {
        "ids": Texts(outcome.job_id for outcome in batch),
        "tokens": Bigints(outcome.token for outcome in batch),
        "errors": Texts(clean_text(error) for error in errors),
        "started": Bigints(None if isinstance(outcome, Release) else outcome.started_at for outcome in batch),
        "requested": requested,
        "shift": shift,
    }


def _releases(batch: list[Release], shift: int) -> dict[str, Any]:
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
