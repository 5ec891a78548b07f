"""What crosses the socket from the app to the supervisor."""

from __future__ import annotations

import pytest

from taskito import Queue
from taskito.client.manifest import manifest_of
from taskito.worker.ipc.app_manifest import AppManifest


@pytest.mark.parametrize("plugins", [None, ("sqlite",)])
def test_a_report_arrives_as_it_was_sent_with_the_plugins_that_the_app_chose(tmp_path, plugins):
    path = str(tmp_path / "jobs.db")
    queue = Queue(db_path=path, plugins=plugins)

    @queue.task(retry_delays=[1, 2], timeout=5)
    def work() -> None: ...

    sent = manifest_of(queue, "app:queue")

    assert sent.plugins == plugins
    assert AppManifest.from_json(sent.to_json()) == sent


def test_a_periodic_task_arrives_as_it_was_declared(tmp_path):
    queue = Queue(db_path=str(tmp_path / "jobs.db"))

    @queue.periodic(
        "0 3 1 * *",
        name="billing ✓",
        timezone="Europe/Berlin",
        catch_up="all",
        args=[b"\0\xff"],
        queue="mail",
        priority=-3,
        result_ttl=60,
    )
    def bill(data: bytes) -> None: ...

    sent = manifest_of(queue, "app:queue")
    [entry] = sent.periodic

    assert (entry.name, entry.cron, entry.timezone) == ("billing ✓", "0 3 1 * *", "Europe/Berlin")
    assert (entry.app, entry.catch_up, entry.queue) == ("app:queue", "all", "mail")
    assert (entry.priority, entry.result_ttl) == (-3, 60)
    assert AppManifest.from_json(sent.to_json()).periodic == (entry,)
