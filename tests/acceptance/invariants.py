"""What must be true after any run, whatever was killed. Each function names what is not."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

from taskito_core.job import Job, JobStatus
from taskito_core.messages import CANCELLED_BEFORE_START as CANCELLED
from taskito_core.retry import MAX_INTERRUPTIONS, RetryPolicy
from tests.acceptance.history import COMMIT, History, Turn
from tests.acceptance.ledger import Run

Findings = Iterator[str]

#: Seconds from the permission to start to the first line of the task, beyond the refill for which a token
#: stays good: the answer to a claim, a frame to a child, and the ledger's own statement, on a machine whose
#: CPUs have many times more processes to run.
LATE = 0.4
#: Seconds between a slot and the moment it is fired, at most: whoever would have fired it may just have died.
SLOT_LATE = 3.0
WINDOWS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
#: The tasks that may run out of retries, and how many they have.
RETRIES = {"doomed": 1, "fragile": 2}
FAILED = (JobStatus.DEAD, JobStatus.CANCELLED)


def every_job_is_accounted_for_and_final(history: History) -> Findings:
    known = {*history.asked, *(job.id for job in history.ticks)}
    yield from (f"{job} was promised and is not stored" for job in history.asked.keys() - history.jobs.keys())
    yield from (f"nobody asked for {history.jobs[job]}" for job in history.jobs.keys() - known)
    yield from (f"not final: {job}" for job in history.jobs.values() if not job.status.finished)


def every_end_is_the_right_one(history: History) -> Findings:
    for job in history.jobs.values():
        match job.status:
            case JobStatus.COMPLETE:
                if (right := _result(history, job)) != history.results[job.id]:
                    yield f"{history.results[job.id]!r} instead of {right!r}: {job}"
            case JobStatus.DEAD:
                if not _worn_out(job) and job.retry_count != RETRIES.get(_task(job)):
                    yield f"dead, and neither killed too often nor out of retries: {job}"
            case JobStatus.CANCELLED if not _may_be_cancelled(history, job):
                yield f"cancelled for no reason: {job}"


def _result(history: History, job: Job) -> Any:
    """What it must have returned; of a callback, from what became of the members."""
    right = history.asked.get(job.id)
    if job.id in history.tolerant:
        members = history.parents[job.id]
        return [history.results.get(member, str(history.jobs[member].status)) for member in members]
    return right


def _may_be_cancelled(history: History, job: Job) -> bool:
    error = job.error or ""
    if error.startswith("expired: "):
        return job.expires_at is not None and not history.runs_of[job.id]
    if error.startswith("cancelled"):
        return job.id in history.cancelled
    bad = [parent for parent in history.parents.get(job.id, ()) if history.jobs[parent].status in FAILED]
    reasons = {f"parent {parent} was {history.jobs[parent].status}" for parent in bad}
    return job.id not in history.tolerant and error in reasons


def what_is_cancelled_is_not_begun_again(history: History) -> Findings:
    for job_id, answered in history.cancelled.items():
        job = history.jobs[job_id]
        if job.status is not JobStatus.CANCELLED:
            yield f"was to be cancelled: {job}"
        for run in history.runs_of[job_id]:
            if history.claims[run.job, run.token] > answered:
                yield f"claimed after it was cancelled: {run}"
            if job.error == CANCELLED and not history.lost(run):
                yield f"cancelled before it began, and run all the same: {run}"


def what_expires_is_not_begun_later(history: History) -> Findings:
    for job in history.jobs.values():
        begun = job.expires_at is not None and job.claimed_at is not None
        if begun and job.claimed_at >= job.expires_at:  # type: ignore[operator]  # neither is None
            yield f"claimed {job.claimed_at - job.expires_at} ms too late: {job}"  # type: ignore[operator]


# ---- how often ----


def what_is_not_killed_runs_once_per_attempt(history: History) -> Findings:
    """Each end of a run is recorded once, unless a kill came between."""
    for job in history.jobs.values():
        runs = history.runs_of[job.id]
        recorded = [run for run in runs if not history.lost(run)]
        if job.status is JobStatus.COMPLETE and (not runs or runs[-1].how != "returned"):
            yield f"complete, but its last run has not returned: {job} {runs}"
        yield from (f"ended by nobody: {run}" for run in recorded if run.how is None)
        yield from (
            f"returned, and run again: {run}" for run in recorded if run.how == "returned" and run != runs[-1]
        )
        possible = 1 + job.retry_count + job.crashes + job.interruptions
        if len(runs) > possible + sum(run.how == "SnoozeRequest" for run in runs):
            yield f"{len(runs)} runs are too many: {job} {runs}"


def nothing_is_charged_but_failures_and_kills(history: History) -> Findings:
    """Being refused by a limit, a breaker or a full place costs no retry; nor do snoozes."""
    for job in history.jobs.values():
        failures = [run for run in history.runs_of[job.id] if run.how == "OnPurpose"]
        lost = sum(history.lost(run) for run in failures)
        # The failure that is one too many ends the job and is not counted.
        charged = job.retry_count + (job.status is JobStatus.DEAD and not _worn_out(job))
        if not len(failures) - lost <= charged <= len(failures):
            yield f"{len(failures)} failures, of which {lost} may be lost, and {charged} charged: {job}"
        taken = sum(one.job == job.id for one in history.taken)
        if job.crashes + job.interruptions != taken:
            yield f"taken away {taken} times: {job}"
    yield from (
        f"taken away, and no kill explains it: {one}" for one in history.taken if not history.explains(one)
    )


# ---- not at once ----


def no_job_runs_beside_itself(history: History) -> Findings:
    for runs in history.runs_of.values():
        alive = [run for run in runs if not history.stillborn(run)]
        for before, after in pairwise(alive):
            if after.began < history.over(before):
                yield f"{after} began {history.over(before) - after.began:.4f} s before the end of {before}"


def no_key_has_more_runs_than_places(history: History) -> Findings:
    by_place: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(history.runs, key=lambda run: run.began):
        if run.place and not history.stillborn(run):
            by_place[run.place].append(run)
    for place, runs in by_place.items():
        limit = history.places[place.partition(":")[0]]
        for number, run in enumerate(runs):
            beside = [other for other in runs[:number] if history.over(other) > run.began]
            if len(beside) >= limit:
                yield f"{run} began beside {beside}"


def no_unique_key_has_two_live_jobs(history: History) -> Findings:
    """By when jobs began and ceased to live, and by what the producers were answered."""
    by_key: dict[str, set[str]] = defaultdict(set)
    for answer in history.answers:
        if "key" in answer:
            [job_id] = answer["jobs"]
            by_key[answer["key"]].add(job_id)
            born, died = _life(history.jobs[job_id])
            if born > answer["answered"] + COMMIT or died < answer["asked"] - COMMIT:
                yield f"not alive when it was named: {history.jobs[job_id]} {answer}"
    for jobs in by_key.values():
        lives = sorted((history.jobs[job_id] for job_id in jobs), key=_life)
        for before, after in pairwise(lives):
            if _life(after)[0] < _life(before)[1] - COMMIT:
                yield f"{after} was stored while {before} lived"


def _life(job: Job) -> tuple[float, float]:
    return job.created_at / 1000, math.inf if job.completed_at is None else job.completed_at / 1000


# ---- after one another ----


def children_begin_after_their_parents_are_complete(history: History) -> Findings:
    for child, parents in history.parents.items():
        job, runs = history.jobs[child], history.runs_of[child]
        failed = [parent for parent in parents if history.jobs[parent].status in FAILED]
        if failed and child not in history.tolerant and (runs or job.status is not JobStatus.CANCELLED):
            yield f"not cancelled with its parents {failed}: {job}"
        last = max((history.over(run) for parent in parents for run in history.runs_of[parent]), default=0.0)
        yield from (f"{run} began before a parent had ended" for run in runs if run.began < last)


# ---- not too often ----


def a_rate_is_never_exceeded(history: History) -> Findings:
    moments = sorted(run.began for run in history.runs_by_task("limited"))
    rate, burst = history.rate.rate, history.rate.burst
    for window in WINDOWS:
        # A token is good for one refill.
        most = math.floor(burst + rate * (window + 1 / rate + LATE))
        for number, moment in enumerate(moments):
            if (count := bisect_right(moments, moment + window) - number) > most:
                yield f"{count} starts within {window} s from {moment:.3f} on, {most} are allowed"


def a_breaker_lets_nothing_pass_but_probes(history: History) -> Findings:
    turns = _changes(history.turns)
    probes: dict[int | None, list[Run]] = defaultdict(list)
    for run in history.runs_by_task("fragile"):
        claimed = history.claims[run.job, run.token]
        turn = turns[max(0, bisect_right(turns, claimed, key=lambda turn: turn.at) - 1)]
        # Permission and claim are two transactions: what was allowed before it opened is claimed just after.
        if turn.state == "open" and claimed - turn.at > LATE:
            yield f"claimed {claimed - turn.at:.3f} s after the breaker opened: {run}"
        if turn.state == "half_open":
            probes[turn.probe_at].append(run)
    for probe_at, runs in probes.items():
        if probe_at is None or len(runs) > 1:
            yield f"one probe was let through at {probe_at}, and these ran: {runs}"
    for before, after in pairwise(turns):
        both = before.state == after.state == "half_open" and None not in (before.probe_at, after.probe_at)
        if both and after.probe_at - before.probe_at < history.breaker.cooldown * 1000:  # type: ignore[operator]
            yield f"a second probe beside another: {before} {after}"


def _changes(turns: Iterable[Turn]) -> list[Turn]:
    """Without those that changed nothing."""
    found: list[Turn] = []
    for turn in turns:
        if not found or (turn.state, turn.probe_at) != (found[-1].state, found[-1].probe_at):
            found.append(turn)
    return found


# ---- on time ----


def every_slot_fires_once(history: History) -> Findings:
    # The id of a job begins with its slot; what it is scheduled for changes when it is tried again.
    slots = Counter(int(job.id[:12], 16) for job in history.ticks)
    yield from (f"slot {slot} fired {count} times" for slot, count in slots.items() if count > 1)
    first, last = math.ceil(history.began), math.floor(history.ended - SLOT_LATE)
    yield from (f"slot {slot} did not fire" for slot in range(first, last + 1) if slot * 1000 not in slots)
    yield from (f"not a whole second: {slot}" for slot in slots if slot % 1000)


INVARIANTS: tuple[Callable[[History], Findings], ...] = (
    every_job_is_accounted_for_and_final,
    every_end_is_the_right_one,
    what_is_cancelled_is_not_begun_again,
    what_expires_is_not_begun_later,
    what_is_not_killed_runs_once_per_attempt,
    nothing_is_charged_but_failures_and_kills,
    no_job_runs_beside_itself,
    no_key_has_more_runs_than_places,
    no_unique_key_has_two_live_jobs,
    children_begin_after_their_parents_are_complete,
    a_rate_is_never_exceeded,
    a_breaker_lets_nothing_pass_but_probes,
    every_slot_fires_once,
)


def broken(history: History) -> dict[str, list[str]]:
    """The invariants that do not hold, each with the first of its findings."""
    found = {check.__name__: list(check(history)) for check in INVARIANTS}
    return {name: findings[:5] for name, findings in found.items() if findings}


def _worn_out(job: Job) -> bool:
    return job.crashes > RetryPolicy().max_crashes or job.interruptions >= MAX_INTERRUPTIONS


def _task(job: Job) -> str:
    return job.task_name.rpartition(".")[2]
