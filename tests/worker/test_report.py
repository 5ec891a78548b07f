"""What crosses the socket from the app to the supervisor."""

from __future__ import annotations

import pytest

from taskito import Queue
from taskito_core.app import report
from taskito_core.report import AppReport


@pytest.mark.parametrize("plugins", [None, ("sqlite",)])
def test_a_report_arrives_as_it_was_sent_with_the_plugins_that_the_app_chose(tmp_path, plugins):
    path = str(tmp_path / "jobs.db")
    queue = Queue(db_path=path, plugins=plugins)

    @queue.task(retry_delays=[1, 2], timeout=5)
    def work() -> None: ...

    sent = report(queue, "app:queue")

    assert sent.plugins == plugins
    assert AppReport.from_json(sent.to_json()) == sent
