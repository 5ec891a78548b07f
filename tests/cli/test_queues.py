"""``taskito queues limit``, and what ``queues list`` shows of limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taskito import Queue
from taskito_core.limits import QueueLimits, RateLimit
from tests.cli.conftest import Run

APP = "--app=myapp:queue"


def test_limits_are_set_shown_and_lifted(taskito: Run, project: Path) -> None:
    assert taskito("migrate", APP).returncode == 0

    none = taskito("queues", "limit", APP, "mail")
    some = taskito("queues", "limit", APP, "mail", "--concurrency", "5", "--rate", "90/90s")
    more = taskito("queues", "limit", APP, "mail", "--rate", "none", "--max-pending", "0", "--json")
    shown = taskito("queues", "list", APP)
    listed = json.loads(taskito("queues", "list", APP, "--json").stdout)

    assert none.stdout == "mail: no limits\n"
    assert some.stdout == "mail: 5 at once, 90/90s\n"
    limits = {"concurrency": 5, "rate": None, "max_pending": 0}
    assert json.loads(more.stdout) == limits
    assert "5 at once, 0 pending" in shown.stdout
    assert listed["mail"]["limits"] == limits
    with Queue(project / ".taskito/taskito.db") as queue:
        assert queue.queue_limits() == {"mail": QueueLimits(5, None, 0)}
        queue.set_queue_limits("mail", rate="100/m")
        assert queue.queue_limits()["mail"].rate == RateLimit(100 / 60, 100)
    lifted = taskito(
        "queues", "limit", APP, "mail", "--concurrency", "none", "--max-pending", "none", "--rate", "none"
    )
    assert lifted.stdout == "mail: no limits\n"


@pytest.mark.parametrize(
    ("option", "value"), [("--concurrency", "0"), ("--max-pending", "-1"), ("--rate", "often")]
)
def test_a_limit_that_makes_no_sense_is_wrong_usage(taskito: Run, option: str, value: str) -> None:
    assert taskito("migrate", APP).returncode == 0

    refused = taskito("queues", "limit", APP, "mail", option, value)

    assert refused.returncode == 2
    assert value in refused.stderr
