"""What the steps of a canvas hand to each other, on every backend."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from taskito import JobResult, JobStatus, Queue, chain, chord, chunks, group, starmap

Run = Callable[[], None]


def test_what_a_step_returns_comes_first_among_the_arguments_of_the_next(
    tasks: SimpleNamespace, run: Run
) -> None:
    job = chain(tasks.add.s(1, 2), tasks.add.s(10), tasks.show.s("then", key=1)).apply()
    run()

    assert job.result(0) == "(13, 'then', ('key', 1))"


def test_a_step_that_wants_nothing_waits_all_the_same(tasks: SimpleNamespace, run: Run) -> None:
    job = (tasks.add.s(1, 2) | tasks.show.si("alone")).apply()
    assert job.to_dict()["waits_behind"] == "parents"
    run()

    assert job.result(0) == "('alone',)"


def test_results_of_a_group_come_in_the_order_of_its_members(tasks: SimpleNamespace, run: Run) -> None:
    handle = group(tasks.add.s(n, n).set(priority=n) for n in range(5)).apply()
    assert handle.statuses() == {JobStatus.PENDING: 5}
    run()

    assert handle.results(0) == [0, 2, 4, 6, 8]
    assert [job.result(0) for job in handle.jobs] == [0, 2, 4, 6, 8]
    assert [job.result(0) for job in handle] == [0, 2, 4, 6, 8]
    assert list(handle) == handle.jobs
    assert handle.statuses() == {JobStatus.COMPLETE: 5}


def test_a_callback_gets_the_list_of_results(tasks: SimpleNamespace, run: Run) -> None:
    job = chord((tasks.add.s(n, n) for n in range(5)), tasks.total.s()).apply()
    run()

    assert job.result(0) == 20


def test_results_are_nested_as_the_groups_are(tasks: SimpleNamespace, run: Run) -> None:
    add = tasks.add
    inner = group(chain(add.s(1, 2), add.s(3)), group(), chord([add.s(4, 4)], tasks.total.s()))

    job = chord([add.s(0, 0), inner], tasks.show.s()).apply()
    handle = group(add.s(0, 0), inner).apply()
    run()

    assert job.result(0) == "([0, [6, [], 8]],)"
    assert handle.results(0) == [0, [6, [], 8]]


def test_a_result_goes_to_every_member_of_a_group_that_follows(tasks: SimpleNamespace, run: Run) -> None:
    handle = chain(tasks.add.s(1, 1), group(tasks.add.s(1), tasks.add.s(2))).apply()
    run()

    assert handle.results(0) == [3, 4]


def test_an_empty_group_hands_on_an_empty_list(tasks: SimpleNamespace, run: Run) -> None:
    first, later = (
        chord([], tasks.total.s()).apply(),
        chain(tasks.add.s(1, 1), group(), tasks.total.s()).apply(),
    )
    run()

    assert (first.result(0), later.result(0)) == (0, 0)


def test_a_starmap_is_one_job_and_chunks_are_several(tasks: SimpleNamespace, run: Run, queue: Queue) -> None:
    mapped = starmap(tasks.add, [(1, 2), (3, 4)]).apply()
    chunked = chunks(tasks.add, ((n, n) for n in range(5)), 2).apply()
    assert queue.stats()["pending"] == 4
    run()

    assert mapped.result(0) == [3, 7]
    assert chunked.results(0) == [[0, 2], [4, 6], [8]]


def test_each_call_of_a_starmap_gets_what_the_step_before_returned(tasks: SimpleNamespace, run: Run) -> None:
    job = chain(tasks.add.s(1, 2), starmap(tasks.show, [("a",), ("b",)]), tasks.show.s()).apply()
    run()

    assert job.result(0) == repr(([repr((3, "a")), repr((3, "b"))],))


def test_coroutine_functions_are_steps_too(queue: Queue, tasks: SimpleNamespace, run: Run) -> None:
    @queue.task(name="double")
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    job = chain(tasks.add.s(1, 2), double.s(), starmap(tasks.add, [(1,)])).apply()
    mapped = starmap(double, [(1,), (2,)]).apply()
    run()

    assert (job.result(0), mapped.result(0)) == ([7], [2, 4])


def test_each_result_is_read_as_its_own_task_wrote_it(tasks: SimpleNamespace, run: Run) -> None:
    job = chain(tasks.pickled.s(1 + 0j), tasks.pickled.s(), tasks.show.s()).apply()
    mixed = chord([tasks.pickled.s(2 + 0j), tasks.add.s(1, 1)], tasks.show.s()).apply()
    run()

    assert job.result(0) == repr((-1 + 0j,))
    assert mixed.result(0) == repr(([2j, 2],))


def test_a_large_group_is_read_in_pages(tasks: SimpleNamespace, run: Run) -> None:
    handle = group(tasks.add.s(n, n) for n in range(1201)).apply()
    job = chord((tasks.add.s(n, 0) for n in range(1201)), tasks.total.s()).apply()
    run()

    assert handle.results(0) == [2 * n for n in range(1201)]
    assert job.result(0) == sum(range(1201))


def test_the_coroutine_twins(tasks: SimpleNamespace, run: Run) -> None:
    async def main() -> None:
        handle = await group(tasks.add.s(1, 1), tasks.add.s(2, 2)).aapply()
        await asyncio.to_thread(run)
        assert await handle.aresults(0) == [2, 4]

    asyncio.run(main())


def test_results_of_a_group_have_one_time_limit(tasks: SimpleNamespace) -> None:
    handle = group(tasks.add.s(1, 1), tasks.add.s(2, 2)).apply()

    with pytest.raises(TimeoutError, match=r"is still pending after 0\.01 seconds"):
        handle.results(0.01)


def test_a_coroutine_that_gives_up_waiting_leaves_no_thread(
    tasks: SimpleNamespace, wait_until: Callable[..., None]
) -> None:
    def waiting() -> list[threading.Thread]:
        return [one for one in threading.enumerate() if one.name.startswith("taskito-aio")]

    handle = group(tasks.add.s(1, 1)).apply()

    async def main() -> None:
        for wait in (handle.aresults(None), anext(handle.jobs[0].astream(None))):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wait, 0.05)

    asyncio.run(main())
    wait_until(lambda: not waiting(), message="the threads of given-up waits end")


def test_a_canvas_is_part_of_the_transaction_it_is_applied_in(tmp_path: Path) -> None:
    with Queue(tmp_path / "own.db") as queue:
        add = queue.task(name="add")(lambda left, right: left + right)
        queue.stats()
        with closing(sqlite3.connect(tmp_path / "own.db")) as connection:
            undone = chain(add.s(1, 2), add.s(3)).apply(connection=connection)
            connection.rollback()
            kept = chain(add.s(1, 2), add.s(3)).apply(connection=connection)
            connection.commit()

        assert queue.get_job(undone.id) is None
        assert len(kept.dependencies) == 1


def test_depends_on_makes_the_whole_wait(queue: Queue, tasks: SimpleNamespace, run: Run) -> None:
    before: JobResult[int] = tasks.add.using(delay=3600).delay(1, 1)
    handle = group(tasks.add.s(1, 2), chain(tasks.add.s(3, 4), tasks.add.s(5))).apply(depends_on=before)
    run()
    assert handle.statuses() == {JobStatus.PENDING: 2}

    before.cancel()

    assert handle.statuses() == {JobStatus.CANCELLED: 2}
