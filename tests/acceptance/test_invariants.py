"""The audit of the chaos test finds what it is there to find: a clean history, and each way to spoil it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taskito_core.job import Job, JobStatus
from taskito_core.limits import BreakerOptions, RateLimit
from tests.acceptance import invariants
from tests.acceptance.havoc import NEVER
from tests.acceptance.history import History, Taken, Turn
from tests.acceptance.inside import Inside
from tests.acceptance.ledger import Kill, Run

NOW = 1_000.0
WORKER, CHILD = 10, 11
COMPLETE, PENDING, DEAD, CANCELLED = (
    JobStatus.COMPLETE,
    JobStatus.PENDING,
    JobStatus.DEAD,
    JobStatus.CANCELLED,
)


def job(name: str, task: str, status: JobStatus = COMPLETE, at: float = NOW, **fields: Any) -> Job:
    """Stored at ``at``, ended half a second later."""
    moment = int(at * 1000)
    given: dict[str, Any] = {
        **dict.fromkeys(("result", "error", "max_retries", "timeout", "result_ttl", "worker", "metadata")),
        **dict.fromkeys(("priority", "retry_count", "crashes", "interruptions"), 0),
        **{"claimed_at": moment, "started_at": moment, "completed_at": moment + 500, "token": 1},
        **fields,
    }
    return Job(
        id=name,
        task_name=f"chaosapp.{task}",
        queue="default",
        status=status,
        payload=b"",
        created_at=moment,
        scheduled_at=moment,
        tags=(),
        **given,
    )


def run(name: str, task: str, began: float, ended: float | None = None, **fields: Any) -> Run:
    """A tenth of a second long, unless it says otherwise."""
    given = {"token": 1, "pid": CHILD, "session": WORKER, "place": "", "how": "returned", **fields}
    ended = began + 0.1 if ended is None and given["how"] is not None else ended
    return Run(job=name, task=f"chaosapp.{task}", began=began, ended=ended, **given)


def tick(second: int, more: str = "") -> str:
    """The id of a job of the schedule."""
    return f"{int((NOW + second) * 1000):012x}{more}"


def history(**changes: Any) -> History:
    """A job, a parent with its child, two of one unique key, a probe, and three slots."""
    jobs = [
        job("plain", "square"),
        job("parent", "square"),
        job("child", "square"),
        job("first", "single"),
        job("second", "single", at=NOW + 1),
        job("probe", "fragile"),
        *(job(tick(n), "tick", at=NOW + n) for n in range(3)),
    ]
    runs = [
        run("plain", "square", NOW + 0.1),
        run("parent", "square", NOW + 0.1),
        run("child", "square", NOW + 0.3),
        run("first", "single", NOW + 0.1, place="unique:u"),
        run("second", "single", NOW + 1.1, place="unique:u"),
        run("probe", "fragile", NOW + 0.2),
        *(run(tick(n), "tick", NOW + n) for n in range(3)),
    ]
    answers = [
        {"asked": NOW, "answered": NOW, "jobs": {"plain": 4, "probe": 4}},
        {"asked": NOW, "answered": NOW, "jobs": {"parent": 4, "child": 4}, "parents": {"child": ["parent"]}},
        {"asked": NOW, "answered": NOW + 0.01, "jobs": {"first": "u"}, "key": "u"},
        {"asked": NOW + 1, "answered": NOW + 1.01, "jobs": {"second": "u"}, "key": "u"},
    ]
    given: dict[str, Any] = {
        "jobs": jobs,
        "results": {name: right for answer in answers for name, right in answer["jobs"].items()},
        "answers": answers,
        "runs": runs,
        "kills": [],
        "turns": [Turn(NOW, "open", None), Turn(NOW + 0.15, "half_open", 1_000_150)],
        "taken": [],
        "began": NOW - 0.5,
        "ended": NOW + 2.5 + invariants.SLOT_LATE,
        "rate": RateLimit(1.0, 1),
        "breaker": BreakerOptions(3, cooldown=0.5),
        "places": {"unique": 1},
        **changes,
    }
    given["results"] = {**dict.fromkeys(one.id for one in given["jobs"]), **given["results"]}
    given["claims"] = {(one.job, one.token): one.began - 0.01 for one in given["runs"]}
    return History(**{**given, "jobs": {one.id: one for one in given["jobs"]}})


CLEAN = history()


def with_job(changed: Job, *runs: Run, **changes: Any) -> History:
    """The clean one with this job in place of its own, and these runs beside the others."""
    others = [one for one in CLEAN.jobs.values() if one.id != changed.id]
    return history(jobs=[*others, changed], runs=[*CLEAN.runs, *runs], **changes)


def with_answer(**answer: Any) -> list[Any]:
    return [*CLEAN.answers, {"asked": NOW, "answered": NOW, "jobs": {}, **answer}]


KILL = Kill(NOW + 0.15, "child", CHILD, WORKER)
AGAIN = run("plain", "square", NOW + 0.4, token=2, pid=12)

SPOILED: dict[str, tuple[Callable[[History], Any], History]] = {
    "a job is gone": (
        invariants.every_job_is_accounted_for_and_final,
        history(answers=with_answer(jobs={"gone": 4})),
    ),
    "a job that nobody asked for": (
        invariants.every_job_is_accounted_for_and_final,
        with_job(job("strange", "square"), run("strange", "square", NOW)),
    ),
    "a job that does not end": (
        invariants.every_job_is_accounted_for_and_final,
        with_job(job("plain", "square", PENDING)),
    ),
    "a wrong result": (
        invariants.every_end_is_the_right_one,
        history(results={**CLEAN.results, "plain": 5}),
    ),
    "dead for no reason": (invariants.every_end_is_the_right_one, with_job(job("plain", "square", DEAD))),
    "cancelled for no reason": (
        invariants.every_end_is_the_right_one,
        with_job(job("plain", "square", CANCELLED, error="cancelled: somebody asked for it")),
    ),
    "cancelled for a parent that completed": (
        invariants.every_end_is_the_right_one,
        with_job(job("child", "square", CANCELLED, error="parent parent was dead")),
    ),
    "expired after it ran": (
        invariants.every_end_is_the_right_one,
        with_job(job("plain", "square", CANCELLED, error="expired: not started", expires_at=1_000_050)),
    ),
    "complete although it was cancelled": (
        invariants.what_is_cancelled_is_not_begun_again,
        history(answers=with_answer(cancelled=["plain"])),
    ),
    "run although it was cancelled before": (
        invariants.what_is_cancelled_is_not_begun_again,
        with_job(
            job("plain", "square", CANCELLED, error=invariants.CANCELLED),
            answers=with_answer(cancelled=["plain"], answered=NOW + 0.2),
        ),
    ),
    "claimed after it was cancelled": (
        invariants.what_is_cancelled_is_not_begun_again,
        with_job(
            job("plain", "square", CANCELLED, error="cancelled while running"),
            answers=with_answer(cancelled=["plain"]),
        ),
    ),
    "claimed after its time": (
        invariants.what_expires_is_not_begun_later,
        with_job(job("plain", "square", expires_at=999_999)),
    ),
    "run twice": (invariants.what_is_not_killed_runs_once_per_attempt, history(runs=[*CLEAN.runs, AGAIN])),
    "run twice and uncharged": (
        invariants.what_is_not_killed_runs_once_per_attempt,
        history(runs=[*CLEAN.runs, AGAIN], kills=[KILL]),
    ),
    "complete without a run": (
        invariants.what_is_not_killed_runs_once_per_attempt,
        history(runs=[one for one in CLEAN.runs if one.job != "plain"]),
    ),
    "a run that nobody ended": (
        invariants.what_is_not_killed_runs_once_per_attempt,
        with_job(job("plain", "square", crashes=1), run("plain", "square", NOW, token=0, how=None)),
    ),
    "a retry charged for nothing": (
        invariants.nothing_is_charged_but_failures_and_kills,
        with_job(job("plain", "square", retry_count=1)),
    ),
    "a failure that is not charged": (
        invariants.nothing_is_charged_but_failures_and_kills,
        history(runs=[*CLEAN.runs, run("plain", "square", NOW - 1, token=0, how="OnPurpose")]),
    ),
    "taken from a healthy worker": (
        invariants.nothing_is_charged_but_failures_and_kills,
        history(taken=[Taken("plain", 0, WORKER)]),
    ),
    "taken from a healthy child": (
        invariants.nothing_is_charged_but_failures_and_kills,
        with_job(
            job("plain", "square", crashes=1),
            taken=[Taken("plain", 1, WORKER)],
            kills=[KILL._replace(pid=12)],
        ),
    ),
    "a charge without a reason": (
        invariants.nothing_is_charged_but_failures_and_kills,
        with_job(job("plain", "square", interruptions=1)),
    ),
    "a job beside itself": (
        invariants.no_job_runs_beside_itself,
        history(runs=[*CLEAN.runs, run("plain", "square", NOW + 0.15, token=2, pid=12)]),
    ),
    "a second run before the first was killed": (
        invariants.no_job_runs_beside_itself,
        with_job(
            job("plain", "square", crashes=1),
            run("plain", "square", NOW, token=0, how=None),
            kills=[KILL],
        ),
    ),
    "too many at one place": (
        invariants.no_key_has_more_runs_than_places,
        history(runs=[*CLEAN.runs, run("probe", "single", NOW + 0.15, token=2, place="unique:u")]),
    ),
    "two live jobs of a unique key": (
        invariants.no_unique_key_has_two_live_jobs,
        with_job(job("second", "single", at=NOW + 0.2)),
    ),
    "a unique key answered with a job that has ended": (
        invariants.no_unique_key_has_two_live_jobs,
        history(answers=with_answer(asked=NOW + 1, answered=NOW + 1, jobs={"first": "u"}, key="u")),
    ),
    "a child before its parent": (
        invariants.children_begin_after_their_parents_are_complete,
        history(runs=[*CLEAN.runs, run("parent", "square", NOW + 0.5, token=2)]),
    ),
    "a child of a dead parent": (
        invariants.children_begin_after_their_parents_are_complete,
        with_job(job("parent", "square", DEAD)),
    ),
    "too many starts": (
        invariants.a_rate_is_never_exceeded,
        history(runs=[*CLEAN.runs, *(run("plain", "limited", NOW, token=n) for n in range(2, 7))]),
    ),
    "a start while the breaker is open": (
        invariants.a_breaker_lets_nothing_pass_but_probes,
        history(turns=[Turn(NOW - 1, "open", None)]),
    ),
    "two starts for one probe": (
        invariants.a_breaker_lets_nothing_pass_but_probes,
        history(runs=[*CLEAN.runs, run("plain", "fragile", NOW + 0.3, token=2)]),
    ),
    "a second probe beside the first": (
        invariants.a_breaker_lets_nothing_pass_but_probes,
        history(turns=[*CLEAN.turns, Turn(NOW + 0.3, "half_open", 1_000_300)]),
    ),
    "a slot that fired twice": (
        invariants.every_slot_fires_once,
        with_job(job(tick(1, "again"), "tick", at=NOW + 1)),
    ),
    "a slot that did not fire": (
        invariants.every_slot_fires_once,
        history(jobs=[one for one in CLEAN.jobs.values() if one.id != tick(1)]),
    ),
}


def test_a_clean_history_breaks_nothing() -> None:
    assert invariants.broken(CLEAN) == {}


@pytest.mark.parametrize("what", SPOILED)
def test_the_audit_finds(what: str) -> None:
    check, spoiled = SPOILED[what]

    assert list(check(spoiled))


def test_every_invariant_is_seen_to_fail() -> None:
    assert {check for check, _ in SPOILED.values()} == set(invariants.INVARIANTS)


def test_a_kill_explains_a_second_run() -> None:
    killed = with_job(
        job("plain", "square", crashes=1), AGAIN, kills=[KILL], taken=[Taken("plain", 1, WORKER)]
    )

    assert invariants.broken(killed) == {}


def test_a_run_ends_at_the_latest_when_its_worker_is_killed() -> None:
    unfinished = run("plain", "square", NOW, token=0, how=None)
    killed = with_job(
        job("plain", "square", interruptions=1), unfinished, kills=[KILL._replace(at=NOW + 0.05)]
    )

    assert killed.over(unfinished) == NOW + 0.05
    assert invariants.broken(replace(killed, taken=[Taken("plain", 0, WORKER)])) == {}


#: What the sampler looks for, by name: rows (id, task, status, unique key, concurrency key) that show it.
BAD_ROWS = {
    "two live jobs of one unique key": [
        ("a", "single", "pending", "u", None),
        ("b", "single", "running", "u", None),
    ],
    "more jobs running than their key has places": [
        ("a", "keyed", "running", None, "keyed:ann"),
        ("b", "keyed", "running", None, "keyed:ann"),
    ],
    "a job running before its parents are complete": [
        ("child", "square", "running", None, None),
        ("parent", "square", "pending", None, None),
    ],
}


@pytest.mark.parametrize("what", NEVER)
def test_the_sampler_finds(what: str, sqlite_path: Path) -> None:
    with closing(sqlite3.connect(sqlite_path)) as store:
        store.execute("CREATE TABLE jobs (id, task_name, status, unique_key, concurrency_key)")
        store.execute("CREATE TABLE job_dependencies (job_id, parent_id)")
        store.execute("INSERT INTO job_dependencies VALUES ('child', 'parent')")
        store.executemany("INSERT INTO jobs VALUES (?, ?, ?, ?, ?)", BAD_ROWS[what])
        store.commit()

    with closing(Inside(f"sqlite://{sqlite_path}")) as inside:
        assert {name for name, query in NEVER.items() if inside.rows(query)} == {what}
