"""``taskito prune`` and ``taskito retention``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taskito import JobStatus, Queue
from taskito_core.storage_worker import Retention
from tests.cli.conftest import Run

APP = "--app=myapp:queue"


def test_retention_is_shown_and_changed_for_the_store(taskito: Run, project: Path) -> None:
    assert taskito("migrate", APP).returncode == 0

    before = taskito("retention", APP)
    changed = taskito("retention", APP, "--finished", "36h", "--dead", "forever")
    after = taskito("retention", APP, "--json")

    assert [line.split() for line in before.stdout.splitlines()] == [
        ["finished", "7d"],
        ["dead", "30d"],
        ["logs", "30d"],
        ["metrics", "7d"],
    ]
    assert [line.split()[1] for line in changed.stdout.splitlines()] == ["36h", "forever", "30d", "7d"]
    assert json.loads(after.stdout) == {
        "finished": 129600.0,
        "dead": None,
        "logs": 2592000.0,
        "metrics": 604800.0,
    }
    with Queue(project / ".taskito/taskito.db") as queue:
        assert queue.retention() == Retention(129600.0, None)


@pytest.mark.parametrize("value", ["soon", "-1", "7 weeks"])
def test_a_retention_that_means_nothing_is_wrong_usage(taskito: Run, value: str) -> None:
    refused = taskito("retention", APP, "--finished", value)

    assert refused.returncode == 2
    assert "is no duration" in refused.stderr


def test_prune_says_what_would_go_and_then_deletes_it(taskito: Run, project: Path) -> None:
    with Queue(project / ".taskito/taskito.db") as queue:
        ids = [queue.enqueue("myapp.add", (1, 2), result_ttl=ttl).id for ttl in (0, None, "forever")]
        assert [queue.cancel_job(job_id) for job_id in ids] == [True, True, True]

    would = taskito("prune", APP, "--dry-run")
    counted = taskito("prune", APP, "--dry-run", "--json")
    did = taskito("prune", APP)
    again = taskito("prune", APP, "--json")

    assert would.stdout == "1 finished jobs, 0 dead jobs and 0 lines of job logs would be deleted\n"
    assert json.loads(counted.stdout) == {"finished": 1, "dead": 0, "logs": 0, "dry_run": True}
    assert did.stdout == "1 finished jobs, 0 dead jobs and 0 lines of job logs deleted\n"
    assert json.loads(again.stdout) == {"finished": 0, "dead": 0, "logs": 0, "dry_run": False}
    with Queue(project / ".taskito/taskito.db") as queue:
        assert {job.id for job in queue.list_jobs(status=JobStatus.CANCELLED)} == set(ids[1:])
