"""When a child has done enough, by its options."""

from __future__ import annotations

import pytest

from taskito.worker.ipc.child_options import ChildOptions, Lifespan


def test_a_child_without_a_bound_lives_for_ever() -> None:
    lifespan = Lifespan(ChildOptions(), lambda: 0.5)

    assert not lifespan.is_over(10**9)


@pytest.mark.parametrize(("number", "last"), [(0.0, 90), (0.5, 100), (1.0, 110)])
def test_a_child_is_replaced_after_its_jobs_give_or_take_a_tenth(number: float, last: int) -> None:
    lifespan = Lifespan(ChildOptions(max_jobs=100), lambda: number)

    assert not lifespan.is_over(last - 1)
    assert lifespan.is_over(last)


@pytest.mark.parametrize("number", [0.0, 1.0])
def test_a_child_may_run_one_job_at_least(number: float) -> None:
    assert Lifespan(ChildOptions(max_jobs=1), lambda: number).is_over(1)
