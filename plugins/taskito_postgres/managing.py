"""What people do with jobs and queues: cancel, repeat, delete, pause. And the sweep, which workers do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from taskito_core import Edge, Facts, JobStatus, NewJob, Receipt, Replay, Swept
from taskito_postgres import controls, gates, sql
from taskito_postgres.arrays import Texts
from taskito_postgres.connection import again
from taskito_postgres.follow import Aftermath
from taskito_postgres.look import job_of, storable
from taskito_postgres.produce import Produce
from taskito_postgres.session import Session


class _Past(NamedTuple):
    """A job that has finished: what it was made from, in the order of the statements, and how it ended."""

    task_name: str
    payload: bytes
    queue: str
    priority: int
    max_retries: int | None
    timeout: float | None
    result_ttl: float | None
    metadata: str | None
    tags: str
    lane: str
    unique_key: str | None
    concurrency_key: str | None
    concurrency: int | None
    expires_after: int | None  #: milliseconds it had to start
    status: str
    error: str | None

    def again(self, new_id: str) -> NewJob:
        values = self._asdict()
        expires_after = values.pop("expires_after")
        del values["status"], values["error"]
        values["tags"] = tuple(json.loads(self.tags))
        expires = None if expires_after is None else expires_after / 1000
        return NewJob(id=new_id, expires=expires, **values)


class Manage(Produce):
    """``cancel`` to ``sweep``, and ``edges``, ``replays`` and ``facts`` of the contract."""

    _last_child = ""  #: how far the net below the dependants was drawn
    _last_key = ""  #: the same for the places

    # ---- cancel ----

    def cancel(self, ids: Sequence[str], reason: str) -> list[str]:
        parameters = {"ids": _possible(ids), "reason": reason, "shift": self.clock_shift}

        def work(session: Session) -> list[str]:
            past = Aftermath()
            cancelled = past.ended(session.rows(self._statements[controls.CANCEL], parameters))
            self._follow(session, past)
            self._announce(session, past)
            return cancelled

        return self._connections.on_pool(f"cancel {len(ids)} job(s)", work)

    def ask_to_cancel(self, ids: Sequence[str], force: bool) -> list[str]:
        parameters = {"ids": _possible(ids), "force": force}

        def work(session: Session) -> list[str]:
            asked = session.rows(self._statements[controls.ASK], parameters)
            if asked:
                workers = Texts({worker for _, worker in asked if worker is not None})
                alarm = {"channel": self._work_channel, "payloads": workers}
                session.rows(self._statements[sql.SHOUT], alarm)
            return [job_id for job_id, _ in asked]

        return self._connections.on_pool(f"ask {len(ids)} job(s) to stop", work)

    # ---- repeat ----

    def replay(self, job_id: str, new_id: str) -> Receipt | None:
        return self._repeat(controls.FINISHED_ONE, job_id, new_id)

    def retry_dead(self, job_id: str, new_id: str) -> Receipt | None:
        return self._repeat(controls.TAKE_LETTER, job_id, new_id)

    def _repeat(self, source: str, job_id: str, new_id: str) -> Receipt | None:
        if not storable(job_id):
            return None

        def work(session: Session) -> Receipt | None:
            try:
                with session.transaction():
                    intake = self._intake(session)
                    run = session.runner(self._statements)
                    rows = run(source, {"id": job_id})
                    if not rows:
                        return None
                    past = _Past(*rows[0])
                    [receipt] = intake.store([past.again(new_id)])
                    if not receipt.inserted:
                        raise _NotInserted(receipt)
                    run(controls.REMEMBER, self._history(past, job_id, new_id))
            except _NotInserted as kept:
                return kept.receipt
            self._after_commit(session, intake.rest, {past.queue})
            return receipt

        return self._connections.on_pool(f"run job {job_id} again", work)

    def _history(self, past: _Past, job_id: str, new_id: str) -> dict[str, Any]:
        return {
            "id": job_id,
            "new_id": new_id,
            "status": past.status,
            "error": past.error,
            "shift": self.clock_shift,
        }

    def replays(self, job_id: str) -> list[Replay]:
        rows = self._managed("read replays", controls.REPLAYS, {"id": job_id}) if storable(job_id) else []
        return [
            Replay(
                row[0],
                row[1],
                row[2],
                JobStatus(row[3]),
                row[4],
                None if row[5] is None else JobStatus(row[5]),
                row[6],
                row[7],
            )
            for row in rows
        ]

    # ---- delete ----

    def delete(self, ids: Sequence[str]) -> list[str]:
        return [row[0] for row in self._managed("delete jobs", controls.DELETE, {"ids": _possible(ids)})]

    def purge(self, status: JobStatus, before: int, limit: int) -> int:
        statement = self._statements[controls.PURGE]
        parameters = {"status": status.value, "before": before, "limit": max(limit, 0)}
        return len(
            self._connections.on_pool(
                f"purge {status} jobs", lambda session: session.searched(statement, parameters)
            )
        )

    # ---- queues ----

    def pause(self, queue: str) -> bool:
        parameters = {"queue": queue, "shift": self.clock_shift}
        return bool(self._managed(f"pause queue {queue}", controls.PAUSE, parameters))

    def resume(self, queue: str) -> bool:
        resumed = bool(self._managed(f"resume queue {queue}", controls.RESUME, {"queue": queue}))
        if resumed:
            self._ringer.later({queue})
        return resumed

    def paused(self) -> Mapping[str, int]:
        return dict(self._managed("list paused queues", controls.PAUSED, {}))

    # ---- look ----

    def edges(self, ids: Sequence[str]) -> list[Edge]:
        rows = self._managed("read dependencies", controls.EDGES, {"ids": _possible(ids)})
        return [Edge(*row) for row in rows]

    def facts(self, job_id: str) -> Facts | None:
        if not storable(job_id):
            return None
        statement = self._statements[controls.FACTS]
        parameters = {"id": job_id, "shift": self.clock_shift}
        rows = self._connections.on_pool(
            "look why a job does not run", lambda session: session.searched(statement, parameters)
        )
        if not rows:
            return None
        lane, parents, paused, places, holders, ahead, now, *job = rows[0]
        return Facts(
            job=job_of(tuple(job)),
            now=now,
            lane=lane,
            parents=tuple((parent, JobStatus(status)) for parent, status in json.loads(parents or "[]")),
            paused=paused,
            concurrency=places,
            holders=tuple(json.loads(holders or "[]")),
            ahead=ahead,
        )

    # ---- sweep ----

    def sweep(self, limit: int) -> Swept:
        limit = max(limit, 1)
        return self._connections.on_worker("sweep", lambda session: self._sweep(session, limit))

    def _sweep(self, session: Session, limit: int) -> Swept:
        def run(statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
            return again(lambda session: session.rows(self._statements[statement], parameters), session)

        shifted = {"limit": limit, "shift": self.clock_shift}
        past = Aftermath()
        expired = past.ended(run(gates.EXPIRE, shifted))
        past.keys |= {row[0] for row in run(gates.FALLEN_DUE, shifted)}
        unfreed = run(gates.UNFREED, {"limit": limit, "after": self._last_child})
        past.children = [row[0] for row in unfreed]
        in_turn = [job_id for job_id, is_in_turn in unfreed if is_in_turn]
        self._last_child = max(in_turn) if len(in_turn) >= limit else ""
        keys = run(gates.WITH_ROOM, {"limit": limit, "after": self._last_key})
        past.keys |= {key for key, has_room in keys if has_room}
        self._last_key = keys[-1][0] if len(keys) >= limit else ""
        self._follow(session, past)
        self._announce(session, past)
        [(next_at, now)] = run(gates.NEXT_SWEEP, {"shift": self.clock_shift})
        return Swept(expired, past.cancelled, past.opened, next_at, now)

    def _managed(self, doing: str, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        text = self._statements[statement]
        return self._connections.on_pool(doing, lambda session: session.rows(text, parameters))


class _NotInserted(Exception):
    """Undoes the transaction of a replay that stored nothing."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__(receipt.id)
        self.receipt = receipt


def _possible(ids: Sequence[str]) -> Texts:
    return Texts([job_id for job_id in ids if storable(job_id)])
