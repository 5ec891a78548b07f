"""What a job is expected to take."""

from __future__ import annotations

from taskito.worker.dispatch.prefetch import FLOOR, UNKNOWN, Pace


def test_a_task_never_seen_is_taken_for_slow_until_it_is_seen():
    pace = Pace()
    assert pace.expected("new") == UNKNOWN
    pace.learn("new", 0.0)
    assert pace.expected("new") == FLOOR
