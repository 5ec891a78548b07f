"""Periodic tasks over real workers: each slot once, paused ones never, each by a worker that knows it."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from taskito import JobStatus


@pytest.fixture
def start_version(start):
    """``start_version("old")``: a worker of that version of the app in fleetapp.py."""
    return lambda version: start(procs=1, app="fleetapp:queue", VERSION=version)


def names(app):
    return [state.entry.name.removeprefix("fleetapp.") for state in app.queue.periodic_tasks()]


def test_two_workers_fire_each_slot_once(app, start, wait_until):
    start(procs=1)
    worker = start(procs=1)

    wait_until(lambda: len(worker.lines("tick")) >= 4, 30)

    ids = [line[1] for line in worker.lines("tick")]
    assert len(ids) == len(set(ids))
    slots = sorted(job.to_dict()["scheduled_at"] for job in app.queue.list_jobs(task_name=app.tick.name))
    assert len(slots) == len(set(slots))
    assert all(slot.endswith(".000+00:00") for slot in slots)


def test_a_paused_task_fires_no_more_also_after_a_restart_until_it_is_resumed(app, start, wait_until):
    worker = start(procs=1)
    wait_until(lambda: worker.lines("tick"), 30)

    app.queue.pause_periodic(app.tick.name)
    worker.kill_everything()
    before = len(app.queue.list_jobs(task_name=app.tick.name))
    again = start(procs=1)
    assert app.nap.delay(1.5).result(60) == "rested"

    assert len(app.queue.list_jobs(task_name=app.tick.name)) == before
    app.queue.resume_periodic(app.tick.name)
    seen = len(again.lines("tick"))
    wait_until(lambda: len(again.lines("tick")) > seen, 30)


def test_a_periodic_task_runs_now_if_somebody_wants_it(app, start):
    start(procs=1)
    app.queue.enqueue(app.tick.name).result(60)
    app.queue.pause_periodic(app.tick.name)

    job = app.queue.run_periodic(app.tick.name)

    assert job.result(60) is None


def test_a_task_resumed_while_no_worker_runs_fires_when_one_does(app, start, wait_until):
    worker = start(procs=1)
    wait_until(app.queue.periodic_tasks, 30)
    app.queue.pause_periodic(app.tick.name)
    worker.kill_everything()
    before = len(worker.lines("tick"))

    app.queue.resume_periodic(app.tick.name)
    again = start(procs=1)

    wait_until(lambda: len(again.lines("tick")) >= before + 2, 30)


def test_a_run_that_somebody_wanted_now_is_not_lost_with_the_worker(app, start, wait_until):
    worker = start(procs=1)
    wait_until(app.queue.periodic_tasks, 30)
    app.queue.pause_periodic(app.tick.name)
    worker.kill_everything()

    job = app.queue.run_periodic(app.tick.name)
    again = start(procs=1)

    assert job.result(60) is None
    assert ["tick", job.id] in again.lines("tick")


def test_five_workers_started_at_once_fire_each_slot_once(app, start_version, wait_until):
    with ThreadPoolExecutor(5) as pool:
        [worker, *_] = pool.map(start_version, ["new"] * 5)
    seen = len(worker.lines("staying"))

    wait_until(lambda: len(worker.lines("staying")) >= seen + 4, 60)

    ran = [line[2] for line in worker.lines("staying")]
    fired = app.queue.list_jobs(task_name="fleetapp.staying", limit=1000)
    slots = sorted(datetime.fromisoformat(job.to_dict()["scheduled_at"]).timestamp() for job in fired)
    assert len(ran) == len(set(ran))
    assert slots == list(range(round(slots[0]), round(slots[0]) + len(slots)))


def test_old_and_new_workers_of_a_deploy_fire_what_they_know_and_keep_what_they_do_not(
    app, start_version, wait_until
):
    old = start_version("old")
    wait_until(lambda: old.lines("leaving"), 30)

    new = start_version("new")
    seen = len(new.lines("leaving"))
    wait_until(lambda: len(new.lines("coming")) >= 3, 30)
    wait_until(lambda: len(new.lines("leaving")) >= seen + 3, 30)

    assert names(app) == ["coming", "leaving", "staying"]
    assert {tuple(line[:2]) for line in new.lines()} >= {("coming", "new"), ("leaving", "old")}
    assert not {("coming", "old"), ("leaving", "new")} & {tuple(line[:2]) for line in new.lines()}
    assert app.queue.list_jobs(status=JobStatus.DEAD) == []


def test_after_a_deploy_what_only_the_old_version_knew_rests_until_that_is_back(
    app, start_version, wait_until
):
    old, new = start_version("old"), start_version("new")
    wait_until(lambda: old.lines("leaving"), 30)
    old.kill_everything()

    leaving = functools.partial(app.queue.list_jobs, task_name="fleetapp.leaving", limit=1000)
    fired, seen = len(leaving()), len(new.lines("coming"))
    wait_until(lambda: len(new.lines("coming")) >= seen + 3, 30)

    assert len(leaving()) == fired
    assert names(app) == ["coming", "leaving", "staying"]
    start_version("old")
    wait_until(lambda: len(leaving()) > fired, 30)
