"""How long a store keeps what has ended, as a queue says it, and pruning by hand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from taskito import ConfigError, Pruned, Queue, Retention
from taskito_core.metrics import Tally


def test_what_is_kept_no_longer_goes_and_what_is_kept_for_ever_stays(queue: Queue) -> None:
    gone, kept = queue.enqueue("t"), queue.enqueue("t", result_ttl="forever")
    assert gone.cancel()
    assert kept.cancel()

    assert queue.set_retention(finished=0, logs=timedelta(days=2)) == Retention(0.0, 2592000.0, 172800.0)
    assert queue.retention().finished == 0.0
    assert queue.prune(dry_run=True) == Pruned(1, 0, 0)
    assert queue.get_job(gone.id) is not None
    assert queue.prune() == Pruned(1, 0, 0)
    assert queue.get_job(gone.id) is None
    assert queue.get_job(kept.id) is not None


@pytest.mark.parametrize("forever", [None, "forever", float("inf")])
def test_for_ever_is_said_in_three_ways(queue: Queue, forever: Any) -> None:
    assert queue.set_retention(finished=forever, metrics=1).finished is None
    assert queue.retention() == Retention(finished=None, metrics=1.0)


@pytest.mark.parametrize("value", [-1, "7d", float("nan"), True])
def test_a_retention_that_means_nothing_changes_nothing(queue: Queue, value: Any) -> None:
    with pytest.raises(ConfigError, match="dead must be"):
        queue.set_retention(finished=1, dead=value)

    assert queue.retention() == Retention()


def test_the_first_worker_of_a_store_says_what_is_kept_and_the_second_does_not(
    backend_url: str, caplog: pytest.LogCaptureFixture, wait_until: Callable[..., None]
) -> None:
    caplog.set_level("INFO", "taskito.worker")
    said = "kept in this store: finished jobs 7d, dead jobs 30d, job logs 30d, metrics 7d"
    for start in (1, 2):
        with Queue(db_url=backend_url, workers=1) as queue:
            task = queue.task(name=f"t{start}")(len)
            with queue.embedded_worker():
                assert task.delay("x").result() == 1
                wait_until(lambda: said in caplog.text)

    assert caplog.text.count(said) == 1


@pytest.mark.parametrize(("hours", "kept"), [(4, ["later"]), (6, ["early", "later"])])
def test_metrics_are_kept_as_long_as_the_retention_says(queue: Queue, hours: int, kept: list[str]) -> None:
    queue.set_retention(metrics=timedelta(hours=hours))
    config = queue.plugins.normalise(queue.settings.storage)
    for name, shift in (("early", 0), ("later", 5)):
        tally = Tally(name, "default")
        tally.add(True, 1.0, 0.0, 0)
        sink = queue.plugins.open_metrics(None, config)
        assert sink is not None
        with closing(sink):
            sink.clock_shift = shift * 3_600_000
            sink.record([tally])
            found = [one.task_name for one in sink.read(None, 86_400.0)]

    assert found == kept
