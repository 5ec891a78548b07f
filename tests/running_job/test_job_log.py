"""The lines of a job's log: their ids are their order, whatever the machine's clock does."""

from __future__ import annotations

import time

import pytest

from taskito.running_job import job_log


def test_a_line_comes_after_those_before_it_also_if_the_clock_was_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = iter([5_000, 5_000, 4_000, 9, 6_000])
    true_time = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: true_time + next(shown) * 1_000_000_000)

    lines = [job_log.log("said", "info", None) for _ in range(5)]

    ids = [line[1] for line in lines]
    assert ids == sorted(ids)
    assert [(line[2] - lines[0][2]) // 1_000_000 for line in lines] == [0, 0, -1, -5, 1]
