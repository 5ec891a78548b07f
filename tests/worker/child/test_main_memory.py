"""What a child tells of the memory of a run: the peak of that run alone, or that it was not measured."""

from __future__ import annotations

import pytest

from taskito.worker.ipc.wire import ResultKind
from tests.worker.child.driver import Child

MIB = 1024 * 1024


def test_a_run_has_the_peak_that_it_reached_whatever_it_gave_back(any_child: Child) -> None:
    # Longer than a millisecond, so that the next of this task is measured too.
    small = any_child.run("allocate", 1, 0.005).peak_memory
    large = any_child.run("allocate", 64).peak_memory

    assert small > 0
    assert 60 * MIB < large - small < 80 * MIB


def test_the_peak_of_one_run_is_not_that_of_the_next(child: Child) -> None:
    large = child.run("allocate", 64).peak_memory

    small = child.run("allocate", 1).peak_memory

    assert 0 < small < large - 50 * MIB


def test_of_quick_tasks_one_in_sixty_one_is_measured(child: Child) -> None:
    jobs = [child.job("add", n, 0) for n in range(200)]

    child.send(*jobs)

    measured = [seq for seq in (job.seq for job in jobs) if child.result(seq).peak_memory]
    # The first of its task, and then the jobs that the child's count makes it look at.
    assert measured[0] == 1
    assert 3 <= len(measured) <= 20
    assert {62, 123, 184} <= set(measured)


def test_a_task_that_took_long_is_measured_each_time(child: Child) -> None:
    results = [child.run("allocate", 1, 0.005) for _ in range(5)]

    assert all(result.peak_memory > MIB for result in results)


def test_a_child_that_can_open_nothing_goes_on_unmeasured(child: Child) -> None:
    child.run("no_more_files")

    result = child.run("allocate", 1)

    assert (result.kind, result.peak_memory) == (ResultKind.RETURNED, 0)


@pytest.mark.parametrize("task", ["fail", "of another app"])
def test_a_run_that_fails_has_a_peak_too(child: Child, task: str) -> None:
    arguments = ("plain",) if task == "fail" else ()

    assert child.run(task, *arguments).peak_memory > MIB
