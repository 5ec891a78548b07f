"""Periodic tasks over real workers: each slot once, paused ones never."""

from __future__ import annotations


def test_two_workers_fire_each_slot_once(app, start, wait_until):
    start(procs=1)
    worker = start(procs=1)

    wait_until(lambda: len(worker.lines("tick")) >= 4, 30)

    ids = [line[1] for line in worker.lines("tick")]
    assert len(ids) == len(set(ids))
    slots = sorted(job.to_dict()["scheduled_at"] for job in app.queue.list_jobs(task_name=app.tick.name))
    assert len(slots) == len(set(slots))
    assert all(slot % 1000 == 0 for slot in slots)


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
