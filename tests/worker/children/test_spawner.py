"""How fast children that cannot start are tried again: with made-up times."""

from __future__ import annotations

import pytest

from taskito.worker.children.spawner import BootBackoff


def test_boot_failures_are_tried_again_ever_more_slowly():
    backoff = BootBackoff(lambda: 0.0)
    now, delays = 0.0, []
    for _ in range(12):
        delays.append(backoff.failed(now))
        now = backoff.not_before
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 30.0
    backoff.healthy()
    assert backoff.failed(now) == 0.1


def test_children_that_fail_of_one_cause_count_as_one_failure():
    backoff = BootBackoff(lambda: 0.0)
    backoff.failed(0.0)
    assert [backoff.failed(0.01) for _ in range(7)] == [pytest.approx(0.09)] * 7
    assert backoff.failed(0.2) == 0.2
