"""Between the worker and its sink: batches once a second, and a sink that fails harms nobody."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence

import pytest

from conftest import WaitUntil
from taskito.worker.store import metrics as recording
from taskito.worker.store.metrics import INTERVAL, PATIENCE, MetricsRecorder
from taskito_core.errors import StorageUnavailable
from taskito_core.metrics import Tallies, Tally


class Sink:
    """Keeps the batches; fails, or stands still, as the test wishes."""

    clock_shift = 0

    def __init__(self) -> None:
        self.batches: list[list[Tally]] = []
        self.tries = 0
        self.fails = False
        self.jams = False
        self.flows = threading.Event()
        self.flows.set()
        self.closed = 0

    def record(self, batch: Sequence[Tally]) -> None:
        self.tries += 1
        self.flows.wait(30)
        if self.fails:
            raise StorageUnavailable("the sink is away")
        self.batches.append(list(batch))

    def read(self, task_name: str | None, since: float) -> list[Tally]:
        return [tally for batch in self.batches for tally in batch]

    def close(self) -> None:
        self.closed += 1
        if self.jams:
            raise RuntimeError("it is stuck")

    def counts(self) -> list[int]:
        return [sum(tally.count for tally in batch) for batch in self.batches]


class Scene:
    def __init__(self) -> None:
        self.sink = Sink()
        self.tallies = Tallies()
        self.recorder = MetricsRecorder(self.sink, self.tallies)
        self.recorder.start()

    def attempt(self, task: str = "task") -> None:
        self.tallies.of(task, "default").add(True, 0.1, 0.0, 0)

    def hand_over(self, now: float) -> None:
        """A step in which attempts are seen, and the one in which they are due."""
        self.recorder.step(now)
        self.recorder.step(now + INTERVAL)

    def end(self) -> None:
        self.sink.flows.set()
        self.recorder.finish()
        assert self.recorder.join(30)


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    if scene.recorder.join(0.0) is False:
        scene.end()


def test_attempts_of_one_second_are_recorded_as_one_batch(scene: Scene, wait_until: WaitUntil) -> None:
    scene.attempt()
    scene.recorder.step(100.0)
    scene.attempt()
    scene.recorder.step(100.0 + INTERVAL / 2)
    assert scene.recorder.next_deadline() == 100.0 + INTERVAL
    scene.attempt("other")

    scene.recorder.step(100.0 + INTERVAL)

    wait_until(lambda: scene.sink.batches)
    [batch] = scene.sink.batches
    assert [(tally.task_name, tally.count) for tally in batch] == [("other", 1), ("task", 2)]


def test_a_worker_that_runs_nothing_records_nothing_and_is_not_woken(scene: Scene) -> None:
    for second in range(5):
        scene.recorder.step(100.0 + second)

    assert scene.recorder.next_deadline() == float("inf")
    scene.end()
    assert scene.sink.tries == 0


def test_the_rest_is_recorded_at_the_end_and_the_sink_is_closed(scene: Scene) -> None:
    scene.attempt()

    scene.end()

    assert scene.sink.counts() == [1]
    assert scene.sink.closed == 1


def test_a_sink_without_work_is_closed_and_opens_again(
    scene: Scene, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "IDLE_AFTER", 0.02)
    scene.attempt()
    scene.hand_over(100.0)
    wait_until(lambda: scene.sink.closed)

    scene.attempt()
    scene.hand_over(200.0)

    wait_until(lambda: len(scene.sink.batches) == 2)
    wait_until(lambda: scene.sink.closed == 2)


def test_a_sink_that_fails_to_close_is_used_again(
    scene: Scene, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recording, "IDLE_AFTER", 0.02)
    scene.sink.jams = True
    scene.attempt()
    scene.hand_over(100.0)
    wait_until(lambda: scene.sink.closed)

    scene.attempt()
    scene.hand_over(200.0)

    wait_until(lambda: len(scene.sink.batches) == 2)
    assert "the metrics sink failed to close" in caplog.text


def test_a_sink_that_stands_still_keeps_nobody_waiting_and_piles_nothing_up(
    scene: Scene, wait_until: WaitUntil
) -> None:
    scene.sink.flows.clear()
    scene.attempt()
    scene.hand_over(100.0)
    wait_until(lambda: scene.sink.tries)

    for second in range(50):
        scene.attempt()
        scene.hand_over(200.0 + 2 * second)

    # One batch waits for the thread; everything after it is one tally here.
    assert len(list(scene.tallies)) == 1
    assert scene.recorder.next_deadline() == float("inf")
    scene.end()
    assert sum(scene.sink.counts()) == 51
    assert len(scene.sink.batches) <= 4


def test_what_a_sink_did_not_take_is_sent_again_with_what_came_since(
    scene: Scene, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "taskito.worker")
    scene.sink.fails = True
    for second in (100.0, 200.0, 300.0):
        scene.attempt()
        tries = scene.sink.tries
        scene.hand_over(second)
        wait_until(lambda tries=tries: scene.sink.tries > tries)

    scene.sink.fails = False
    scene.attempt()
    scene.hand_over(400.0)

    wait_until(lambda: scene.sink.batches)
    assert scene.sink.counts() == [4]
    scene.end()
    lost, found = (record.getMessage() for record in caplog.records)
    assert "the sink is away" in lost
    assert found.endswith("; 0 attempts are missing in them")


def test_a_sink_that_came_back_is_found_by_itself(
    scene: Scene, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "RETRY_AFTER", 0.02)
    scene.sink.fails = True
    scene.attempt()
    scene.hand_over(100.0)
    wait_until(lambda: scene.sink.tries >= 3)

    scene.sink.fails = False

    wait_until(lambda: scene.sink.batches)
    assert scene.sink.counts() == [1]


def test_after_a_long_outage_what_waited_is_dropped_and_counted(
    scene: Scene, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "taskito.worker")
    now = [5000.0]
    monkeypatch.setattr(recording.time, "monotonic", lambda: now[0])
    scene.sink.fails = True
    scene.attempt()
    scene.attempt()
    scene.hand_over(100.0)
    wait_until(lambda: scene.sink.tries == 1)

    now[0] += PATIENCE
    scene.attempt()
    scene.hand_over(200.0)
    wait_until(lambda: scene.sink.tries == 2)
    scene.sink.fails = False
    scene.attempt()
    scene.hand_over(300.0)
    wait_until(lambda: scene.sink.batches)

    assert scene.sink.counts() == [1]
    scene.end()
    assert caplog.records[-1].getMessage().endswith("; 3 attempts are missing in them")
