"""Commands that look at jobs and change what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taskito import JobStatus, Queue, current_job
from tests.cli.conftest import Run


def words(text: str) -> list[str]:
    return text.split()


def test_a_job_is_enqueued_into_a_new_store_shown_and_explained(ask: Run) -> None:
    done = ask("enqueue", "--app", "myapp:queue", "add", "2", '"x"', "--delay", "1h", "--unique-key", "k")

    assert done.returncode == 0, done.stderr
    job_id = done.stdout.strip()
    shown = json.loads(ask("jobs", "show", job_id, "--json").stdout)
    assert (shown["task_name"], shown["status"]) == ("myapp.add", "pending")
    assert ask("enqueue", "myapp.add", "1", "--unique-key", "k").stdout.strip() == job_id
    explained = json.loads(ask("explain", job_id, "--json").stdout)
    assert {one["kind"] for one in explained["blockers"]} == {"not due", "no worker"}
    assert "due at" in ask("explain", job_id).stdout


def test_an_unknown_job_is_said_to_be_unknown(ask: Run, queue: Queue) -> None:
    queue.enqueue("t")

    for command in (("jobs", "show"), ("jobs", "cancel"), ("explain",)):
        done = ask(*command, "nosuch")
        assert done.returncode == 1, command
        assert done.stdout == ""
        assert "'nosuch'" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_selection_is_listed_in_pages(ask: Run, queue: Queue) -> None:
    mails = [queue.enqueue("mail.send", queue="mail", tags=["new"]).id for _ in range(5)]
    queue.enqueue("other")

    first = json.loads(ask("jobs", "list", "--queue", "mail", "--limit", "3", "--json").stdout)
    rest = ask("jobs", "list", "--queue", "mail", "-q", "--cursor", first["cursor"])

    assert sorted([job["id"] for job in first["jobs"]] + words(rest.stdout)) == sorted(mails)
    assert sorted(words(ask("jobs", "list", "--tag", "new", "-q").stdout)) == sorted(mails)
    assert ask("jobs", "list", "--status", "dead", "-q").stdout == ""


def test_what_a_selection_does_is_tried_dry_asked_about_and_done(ask: Run, queue: Queue) -> None:
    mails = [queue.enqueue("mail.send", queue="mail").id for _ in range(3)]
    kept = queue.enqueue("other")

    dry = ask("jobs", "cancel", "--queue", "mail", "--dry-run")
    unanswered = ask("jobs", "cancel", "--queue", "mail")
    assert sorted(words(dry.stdout)) == sorted(mails)
    assert unanswered.returncode != 0
    assert queue.stats()["cancelled"] == 0

    done = ask("jobs", "cancel", "--queue", "mail", "--yes")

    assert sorted(words(done.stdout)) == sorted(mails)
    assert (queue.stats()["cancelled"], kept.refresh().status) == (3, JobStatus.PENDING)
    deleted = ask("jobs", "delete", *mails)
    assert deleted.returncode == 0, deleted.stderr
    assert queue.get_job(mails[0]) is None


@pytest.mark.parametrize("verb", ["cancel", "retry", "delete"])
def test_nothing_is_done_to_jobs_that_nobody_named(ask: Run, verb: str) -> None:
    none = ask("jobs", verb)
    both = ask("jobs", verb, "x", "--queue", "mail")
    strange = ask("jobs", "cancel", "--status", "dead", "--yes")

    assert (none.returncode, both.returncode, strange.returncode) == (2, 2, 2)
    assert "say which jobs" in none.stderr
    assert "not both" in both.stderr
    assert "pending, running" in strange.stderr


def test_dead_jobs_are_listed_run_again_deleted_and_purged(ask: Run, queue: Queue) -> None:
    @queue.task(name="broken", max_retries=0)
    def broken() -> None:
        current_job.log("about to break", level="warning")
        raise ValueError("on purpose")

    with queue.embedded_worker(threads=1):
        dead = [broken.delay() for _ in range(4)]
        for job in dead:
            with pytest.raises(Exception, match="on purpose"):
                job.result(30)
    ids = [job.id for job in dead]

    listed = ask("dead", "list")
    assert all(job_id in listed.stdout for job_id in ids)
    assert "on purpose" in listed.stdout
    assert sorted(words(ask("jobs", "list", "--error", "on purpose", "-q").stdout)) == sorted(ids)
    assert "about to break" in ask("logs", ids[0]).stdout
    entries = json.loads(ask("logs", "--level", "warning", "--json").stdout)
    assert sorted(entry["job_id"] for entry in entries) == sorted(ids)

    [again] = words(ask("dead", "retry", ids[0]).stdout)
    assert queue.get_job(again) is not None
    assert words(ask("dead", "delete", ids[1]).stdout) == [ids[1]]
    assert queue.get_job(ids[1]) is None
    assert ask("dead", "purge", "--older-than", "0", "--yes").returncode == 0
    assert list(queue.dead_letters()) == []


def test_a_queue_is_paused_until_it_is_resumed(ask: Run, queue: Queue) -> None:
    queue.enqueue("t")

    assert "paused" in ask("queues", "pause", "default").stdout
    assert "already" in ask("queues", "pause", "default").stdout
    assert queue.paused_queues() == ["default"]
    assert json.loads(ask("queues", "list", "--json").stdout)["default"]["paused"] is True
    assert "resumed" in ask("queues", "resume", "default").stdout
    assert "not paused" in ask("queues", "resume", "default").stdout


def test_periodic_tasks_are_listed_paused_resumed_and_run(ask: Run, backend_url: str, project: Path) -> None:
    with Queue(db_url=backend_url) as queue:

        @queue.periodic("0 7 1 1 *", timezone="Europe/Berlin", name="yearly")
        def yearly() -> str:
            return "done"

        with queue.embedded_worker(threads=1):
            while not queue.periodic_tasks():
                pass

            assert "Europe/Berlin" in ask("cron", "list").stdout
            fires = ask("cron", "next", "yearly", "--count", "2").stdout.splitlines()
            assert [("01-01" in fire, "07:00" in fire) for fire in fires] == [(True, True)] * 2
            assert ask("cron", "pause", "yearly").returncode == 0
            assert [state.enabled for state in queue.periodic_tasks()] == [False]
            assert ask("cron", "resume", "yearly").returncode == 0
            job = queue.get_job(ask("cron", "run", "yearly").stdout.strip())
            assert job is not None
            assert job.result(30) == "done"

        unknown = ask("cron", "pause", "yaerly")
        assert unknown.returncode != 0
        assert "yearly" in unknown.stderr
