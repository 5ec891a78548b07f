"""What becomes of the rest of a canvas when a part of it fails, is cancelled or is run again."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from taskito import FailedMember, JobStatus, Queue, TaskCancelledError, TaskFailedError, chain, chord, group

Run = Callable[[], None]


def test_a_failed_step_cancels_everything_that_follows(
    tasks: SimpleNamespace, run: Run, queue: Queue
) -> None:
    job = chain(tasks.add.s(1, 2), tasks.fail.s(), tasks.show.s("a"), tasks.show.s("b")).apply()
    run()

    with pytest.raises(TaskCancelledError, match=r"parent \w+ was cancelled"):
        job.result(0)
    stats = queue.stats()
    assert (stats["complete"], stats["dead"], stats["cancelled"]) == (1, 1, 2)


def test_a_failed_member_cancels_the_callback_whose_error_names_it(tasks: SimpleNamespace, run: Run) -> None:
    job = chord([tasks.add.s(1, 2), tasks.fail.s(), tasks.add.s(3, 4)], tasks.show.s()).apply()
    _, failed, _ = job.dependencies  # sorted, and ids are made in order
    run()

    with pytest.raises(TaskCancelledError, match=f"parent {failed} was dead"):
        job.result(0)


def test_the_other_members_of_a_group_run_on_and_the_first_failure_is_raised(
    tasks: SimpleNamespace, run: Run
) -> None:
    handle = group(tasks.add.s(1, 2), tasks.fail.s(), tasks.add.s(3, 4)).apply()
    run()

    assert handle.statuses() == {JobStatus.COMPLETE: 2, JobStatus.DEAD: 1}
    with pytest.raises(TaskFailedError, match="ValueError: on purpose"):
        handle.results(0)


def test_a_collecting_callback_gets_a_record_for_each_failed_member(
    queue: Queue, tasks: SimpleNamespace, run: Run
) -> None:
    @queue.task(name="collect")
    def collect(results: list[object]) -> list[object]:
        return [(one.status, one.error) if isinstance(one, FailedMember) else one for one in results]

    header = [tasks.add.s(1, 2), tasks.fail.s(), chain(tasks.fail.s(), tasks.add.s(1))]
    job = chord(header, collect.s(), on_error="collect").apply()
    run()

    first, second, third = job.result(0)
    assert (first, second) == (3, ("dead", "ValueError: on purpose"))
    assert third[0] == "cancelled"
    assert "was dead" in third[1]


def test_a_callback_may_return_its_failed_members_and_hand_them_on(
    queue: Queue, tasks: SimpleNamespace, run: Run
) -> None:
    @queue.task(name="pass_on")
    def pass_on(results: list[object]) -> dict[str, object]:
        return {"results": results}

    header = [tasks.add.s(1, 2), tasks.fail.s()]
    job = chain(chord(header, pass_on.s(), on_error="collect"), pass_on.s()).apply()
    run()

    [result, failed] = job.result(0)["results"]["results"]
    assert result == 3
    assert type(failed) is FailedMember
    assert failed[1:] == ("fail", "dead", "ValueError: on purpose")


def test_a_collecting_callback_runs_when_all_members_have_ended_not_before(
    tasks: SimpleNamespace, run: Run
) -> None:
    late = tasks.add.s(1, 2).set(delay=3600)
    job = chord([tasks.fail.s(), late], tasks.show.s(), on_error="collect").apply()
    run()

    assert job.status is JobStatus.PENDING


def test_what_follows_a_collecting_callback_does_not_forgive_it(tasks: SimpleNamespace, run: Run) -> None:
    job = chain(chord([tasks.add.s(1, 2)], tasks.fail.s(), on_error="collect"), tasks.show.s()).apply()
    run()

    with pytest.raises(TaskCancelledError, match="was dead"):
        job.result(0)


def test_cancelling_a_step_cancels_what_follows(tasks: SimpleNamespace, run: Run, queue: Queue) -> None:
    job = chain(tasks.add.s(1, 2).set(delay=3600), tasks.add.s(3), tasks.add.s(4)).apply()
    [parent] = job.dependencies
    [first] = queue.get_job(parent).dependencies  # type: ignore[union-attr]

    assert queue.cancel_job(first)

    assert job.status is JobStatus.CANCELLED
    run()
    assert queue.stats()["cancelled"] == 3


def test_a_replayed_callback_reads_the_same_results_again(tasks: SimpleNamespace, run: Run) -> None:
    job = chord([tasks.add.s(1, 2), tasks.add.s(3, 4)], tasks.total.s()).apply()
    run()

    again = job.replay()
    run()

    assert (job.result(0), again.result(0)) == (10, 10)


def test_a_replayed_callback_of_a_failed_member_says_which_result_is_missing(
    tasks: SimpleNamespace, run: Run
) -> None:
    job = chord([tasks.fail.s()], tasks.show.s()).apply()
    [member] = job.dependencies
    run()

    again = job.replay()
    run()

    with pytest.raises(TaskFailedError, match=f"the result of job {member} is needed .* it is dead"):
        again.result(0)


def test_a_step_whose_results_were_deleted_fails_for_good(
    queue: Queue, tasks: SimpleNamespace, run: Run
) -> None:
    job = chain(tasks.add.s(1, 2), tasks.show.s()).apply()
    run()
    queue.storage.delete(job.dependencies)

    again = job.replay()
    run()

    with pytest.raises(TaskFailedError, match="is needed and it is stored no more"):
        again.result(0)
