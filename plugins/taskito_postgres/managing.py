"""``Managing`` of the contract: what can be done with stored jobs beside running them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from taskito_core import (
    Complete,
    Edge,
    Facts,
    JobStatus,
    LogEntry,
    LogFilter,
    NewJob,
    Note,
    PeriodicEntry,
    PeriodicState,
    Progress,
    Receipt,
    Replay,
    Swept,
)
from taskito_postgres import controls, external, gates, periodic, rows, sayings, settle, sql
from taskito_postgres.aftermath import Loose
from taskito_postgres.arrays import Bigints, Doubles, Texts
from taskito_postgres.look import FAST_POLL, SLOW_POLL, Look, job_of, storable
from taskito_postgres.relations import Relating
from taskito_postgres.session import Session

#: Children and keys that one sweep looks at beside what is known to be due.
NET = 200


class Managing(Look):
    """On the pool; each method is one transaction, and then what follows from it."""

    _net_after: tuple[str, str] = ("", "")  #: the last child and the last key that sweeps have looked at

    # ---- cancel, repeat, delete ----

    def cancel(self, ids: Sequence[str], reason: str) -> list[str]:
        possible = [job_id for job_id in ids if storable(job_id)]
        parameters = {"ids": Texts(possible), "reason": reason, "shift": self.clock_shift}

        def work(session: Session) -> list[str]:
            loose = Loose()
            cancelled = loose.ended(session.rows(self._statements[controls.CANCEL], parameters))
            self._follow(session, loose)
            return cancelled

        return self._connections.on_pool("cancel jobs", work)

    def ask_to_cancel(self, ids: Sequence[str], force: bool) -> list[str]:
        possible = [job_id for job_id in ids if storable(job_id)]

        def work(session: Session) -> list[str]:
            asked = session.rows(self._statements[controls.ASK], {"ids": Texts(possible), "force": force})
            workers = {"channel": self._work_channel, "workers": Texts({row[1] for row in asked})}
            if asked:
                session.rows(self._statements[controls.ALARM], workers)
            return [row[0] for row in asked]

        return self._connections.on_pool("ask jobs to stop", work)

    def replay(self, job_id: str, new_id: str) -> Receipt | None:
        return self._repeat(controls.FINISHED_ONE, job_id, new_id)

    def retry_dead(self, job_id: str, new_id: str) -> Receipt | None:
        return self._repeat(controls.TAKE_LETTER, job_id, new_id)

    def _repeat(self, original: str, job_id: str, new_id: str) -> Receipt | None:
        """Enqueue again what ``original`` finds, and write it down unless the job itself is gone."""
        if not storable(job_id):
            return None

        def work(session: Session) -> Receipt | None:
            run = session.runner(self._statements)
            try:
                with session.transaction():
                    row = next(iter(run(original, {"id": job_id})), None)
                    if row is None:
                        return None
                    job = _copy(row, new_id)
                    stored = Relating(run, [job], self.clock_shift).store()
                    if not stored.inserted:
                        raise _KeyIsHeld(stored.stand_ins.get(new_id, new_id))
                    status, error = row[-2:]
                    parameters = {"new_id": new_id, "id": job_id, "status": status, "error": error}
                    run(controls.REMEMBER, parameters | {"shift": self.clock_shift})
            except _KeyIsHeld as held:  # Rolled back: nothing was changed.
                return Receipt(held.holder, False)
            keys = {job.concurrency_key} if job.concurrency_key is not None else set[str]()
            self._follow(session, Loose(keys=keys, queues={job.queue}))
            return Receipt(new_id, True)

        return self._connections.on_pool("run a job again", work)

    def delete(self, ids: Sequence[str]) -> list[str]:
        possible = [job_id for job_id in ids if storable(job_id)]
        found = self._rows("delete jobs", controls.DELETE, {"ids": Texts(possible)})
        return [row[0] for row in found]

    def purge(self, status: JobStatus, before: int, limit: int) -> int:
        parameters = {"status": status.value, "before": before, "limit": limit}
        return len(self._rows("purge jobs", controls.PURGE, parameters))

    # ---- queues ----

    def pause(self, queue: str) -> bool:
        parameters = {"queue": queue, "shift": self.clock_shift}
        return bool(self._rows("pause a queue", controls.PAUSE, parameters))

    def resume(self, queue: str) -> bool:
        resumed = bool(self._rows("resume a queue", controls.RESUME, {"queue": queue}))
        if resumed:
            self._ring([queue])
        return resumed

    def paused(self) -> Mapping[str, int]:
        return dict(self._rows("list paused queues", controls.PAUSED, {}))

    # ---- upkeep by the workers ----

    def sweep(self, limit: int) -> Swept:
        def work(session: Session) -> Swept:
            child, key = self._net_after
            with session.turn() as turn:
                parameters = {"limit": limit, "shift": self.clock_shift}
                expired = turn.run(self._statements[gates.EXPIRE], parameters)
                turn.cut()
                due = turn.run(self._statements[gates.FALLEN_DUE], parameters)
                net = {"limit": NET}
                unfreed = turn.run(self._statements[gates.UNFREED], net | {"after": child})
                roomy = turn.run(self._statements[gates.WITH_ROOM], net | {"after": key})
            loose = Loose()
            gone = loose.ended(expired.fetchall())
            loose.children = list(dict.fromkeys(row[0] for row in unfreed.fetchall()))
            seen = roomy.fetchall()
            loose.keys |= {row[0] for row in due.fetchall()} | {row[0] for row in seen if row[1]}
            self._net_after = (_next(loose.children, child), _next([row[0] for row in seen], key))
            self._aftermath().tie_up(session, loose)
            [(next_at, now)] = session.rows(self._statements[gates.NEXT_SWEEP], {"shift": self.clock_shift})
            swept = Swept(gone, list(loose.cancelled), list(loose.opened), next_at, now)
            self._follow(session, loose)
            return swept

        return self._connections.on_worker("sweep", work)

    def note(self, notes: Sequence[Note]) -> None:
        newest = {one.job_id: one.progress for one in notes if isinstance(one, Progress)}
        entries = [one for one in notes if isinstance(one, LogEntry)]
        progress = {"ids": Texts(newest.keys()), "progress": Doubles(newest.values())}

        def work(session: Session) -> None:
            listened = None
            with session.turn() as turn:
                turn.commit_lazily()
                if newest:
                    turn.run(self._statements[sayings.PROGRESS], progress)
                    turn.run(self._statements[sayings.PROGRESS_AFTER], progress)
                if entries:
                    turn.run(self._statements[sayings.LOG], _columns(entries))
                    ids = {"ids": Texts({entry.job_id for entry in entries})}
                    listened = turn.run(self._statements[sayings.LISTENED_TO], ids)
            awaited = [row[0] for row in listened.fetchall()] if listened is not None else []
            self._tell(session, Loose(awaited=awaited))

        if notes:
            self._connections.on_worker("store what jobs said", work)

    # ---- schedules ----

    def register_periodic(self, app: str, entries: Sequence[tuple[PeriodicEntry, int]]) -> list[str]:
        def work(session: Session) -> list[str]:
            with session.turn() as turn:
                declared = [
                    turn.run(self._statements[periodic.DECLARE], self._declared(app, entry, next_run))
                    for entry, next_run in entries
                ]
                names = {"app": app, "names": Texts(entry.name for entry, _ in entries)}
                turn.run(self._statements[periodic.FORGET], names | {"shift": self.clock_shift})
            known = {row[0] for cursor in declared for row in cursor.fetchall()}
            return [entry.name for entry, _ in entries if entry.name not in known]

        return self._connections.on_worker("declare periodic tasks", work)

    def _declared(self, app: str, entry: PeriodicEntry, next_run: int) -> dict[str, Any]:
        return {
            "name": entry.name,
            "app": app,
            "task_name": entry.task_name,
            "cron": entry.cron,
            "timezone": entry.timezone,
            "catch_up": entry.catch_up,
            "queue": entry.queue,
            "payload": entry.payload,
            "priority": entry.priority,
            "max_retries": entry.max_retries,
            "timeout": None if entry.timeout is None else float(entry.timeout),
            "result_ttl": None if entry.result_ttl is None else float(entry.result_ttl),
            "metadata": entry.metadata,
            "tags": json.dumps(entry.tags),
            "next_run": next_run,
            "shift": self.clock_shift,
        }

    def due_periodic(self, app: str) -> list[PeriodicState]:
        parameters = {"app": app, "shift": self.clock_shift}
        found = self._rows("look for due periodic tasks", periodic.DUE, parameters)
        return [periodic.state(row) for row in found]

    def fire_periodic(self, state: PeriodicState, jobs: Sequence[NewJob], next_run: int) -> bool:
        for job in jobs:
            rows.check(job)
        slot = {"name": state.entry.name, "slot": state.next_run, "next_run": next_run}

        def work(session: Session) -> bool:
            run = session.runner(self._statements)
            with session.transaction():
                if not run(periodic.FIRE, slot):
                    return False
                stored = Relating(run, jobs, self.clock_shift).store()
            new = [job for job in jobs if job.id in stored.inserted]
            keys = {job.concurrency_key for job in new if job.concurrency_key is not None}
            self._follow(session, Loose(keys=keys, queues={job.queue for job in new}))
            return True

        return self._connections.on_worker("fire a periodic task", work)

    def periodic(self) -> list[PeriodicState]:
        return [periodic.state(row) for row in self._rows("list periodic tasks", periodic.ALL, {})]

    def enable_periodic(self, name: str, enabled: bool, next_run: int | None) -> bool:
        parameters = {"name": name, "enabled": enabled, "next_run": next_run}
        return bool(self._rows("pause or resume a periodic task", periodic.ENABLE, parameters))

    # ---- inside a transaction of the task's own ----

    def complete_in(self, connection: object, outcome: Complete) -> bool:
        self._connections.prepare()
        parameters = settle.results([outcome], self.clock_shift)
        with self._connections.translated("complete a job in your transaction"):
            return external.run(connection, self._statements, lambda run: bool(run(sql.COMPLETE, parameters)))

    # ---- look ----

    def edges(self, ids: Sequence[str]) -> list[Edge]:
        possible = [job_id for job_id in ids if storable(job_id)]
        return [Edge(*row) for row in self._rows("read edges", controls.EDGES, {"ids": Texts(possible)})]

    def replays(self, job_id: str) -> list[Replay]:
        return [
            Replay(old, new, at, JobStatus(before), error, status and JobStatus(status), new_error, result)
            for old, new, at, before, error, status, new_error, result in self._rows(
                "read replays", controls.REPLAYS, {"id": job_id}
            )
        ]

    def logs(self, where: LogFilter, limit: int) -> list[LogEntry]:
        parameters = {
            "job_id": where.job_id,
            "task_name": where.task_name,
            "levels": Texts(where.levels) if where.levels else None,
            "since": where.since,
            "after": where.after,
            "limit": limit,
        }
        return [LogEntry._make(row) for row in self._search("read logs", sayings.LOGS, parameters)]

    def await_logs(self, job_id: str, after: str | None, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        news = {"id": job_id, "after": after}
        with self._connections.translated("listen for what jobs say"):
            event = self._finishes.expect(job_id)
        try:
            self._ask(job_id)
            while not self._rows("look for news of a job", sayings.HAS_NEWS, news)[0][0]:
                rest = deadline - time.monotonic()
                if rest <= 0:
                    return False
                event.wait(min(rest, SLOW_POLL if self._finishes.hears else FAST_POLL))
                event.clear()
            return True
        finally:
            self._finishes.forget(job_id, event)

    def facts(self, job_id: str) -> Facts | None:
        if not storable(job_id):
            return None
        found = self._rows("look at a job", controls.FACTS, {"id": job_id, "shift": self.clock_shift})
        if not found:
            return None
        lane, parents, paused, places, holders, ahead, now, *job = found[0]
        waits = tuple((one, JobStatus(status)) for one, status in json.loads(parents or "[]"))
        held_by = tuple(json.loads(holders or "[]"))
        return Facts(job_of(tuple(job)), now, lane, waits, paused, places, held_by, ahead)

    # ---- inside ----

    def _follow(self, session: Session, loose: Loose) -> None:
        """Do what follows from a change, tell who waits for jobs that ended, and ring for new ones."""
        self._aftermath().tie_up(session, loose)
        self._tell(session, loose)
        if loose.queues:
            session.rows(self._statements[sql.RING], self._bell(sorted(loose.queues)))


class _KeyIsHeld(Exception):
    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


def _next(seen: Sequence[str], before: str) -> str:
    """Where the next round of the net begins: after the last seen, or at the start once it found few."""
    return max((*seen, before)) if len(seen) >= NET else ""


def _columns(entries: Iterable[LogEntry]) -> dict[str, Any]:
    ids, job_ids, task_names, tokens, moments, levels, messages, extras = zip(*entries, strict=True)
    return {
        "ids": Texts(ids),
        "job_ids": Texts(job_ids),
        "task_names": Texts(task_names),
        "tokens": Bigints(tokens),
        "moments": Bigints(moments),
        "levels": Texts(levels),
        "messages": Texts(messages),
        "extras": Texts(extras),
    }


def _copy(row: tuple[Any, ...], new_id: str) -> NewJob:
    (
        task_name, payload, queue, priority, max_retries, timeout, result_ttl, metadata, tags, lane,
        unique_key, key, places, patience, *_,
    ) = row  # fmt: skip
    return NewJob(
        id=new_id,
        task_name=task_name,
        payload=payload,
        queue=queue,
        priority=priority,
        max_retries=max_retries,
        timeout=timeout,
        result_ttl=result_ttl,
        metadata=metadata,
        tags=tuple(json.loads(tags)),
        lane=lane,
        expires=None if patience is None else max(patience, 0) / 1000,
        unique_key=unique_key,
        concurrency_key=key,
        concurrency=places,
    )
