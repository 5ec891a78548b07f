"""From a canvas to jobs: who waits for whom, what each is told, and what is refused at once."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from taskito import ConfigError, JobNotFoundError, Queue, TaskMiddleware, chain, chord, chunks, group, starmap
from taskito_core.job import NewJob

Canvas = Any


def graph(tasks: SimpleNamespace, canvas: Canvas, **options: Any) -> list[tuple[str, list[int]]]:
    """What ``apply`` stored: each job's arguments, and the positions of the jobs it waits for."""
    canvas.apply(**options)
    jobs = tasks.queue.all_enqueued()
    position = {job.id: at for at, job in enumerate(jobs)}
    edges = [(position[edge.job_id], position[edge.parent_id]) for edge in edges_of(tasks.queue)]
    return [
        (repr(job.args[0]), sorted(parent for child, parent in edges if child == at))
        for at, job in enumerate(jobs)
    ]


def edges_of(queue: Queue) -> list[Any]:
    return queue.storage.edges([job.id for job in queue.all_enqueued()])


def new_jobs(tasks: SimpleNamespace) -> list[NewJob]:
    enqueued: list[NewJob] = tasks.queue.storage.enqueued
    return enqueued


def test_each_step_of_a_chain_waits_for_the_one_before(stored: SimpleNamespace) -> None:
    s = stored.show.s

    assert graph(stored, chain(s("a"), s("b"), s("c"))) == [("'a'", []), ("'b'", [0]), ("'c'", [1])]


def test_chains_of_chains_are_one_chain_however_they_are_written(stored: SimpleNamespace) -> None:
    a, b, c, d = (stored.show.s(name) for name in "abcd")

    for one in (a | b | c | d, a | (b | (c | d)), chain(chain(a), [b, chain(c, d)])):
        assert repr(one) == repr(chain(a, b, c, d))


def test_a_chain_may_be_longer_than_the_stack_is_deep(stored: SimpleNamespace) -> None:
    steps = stored.show.s(0)
    for number in range(1, 2000):
        steps = steps | stored.show.s(number)

    assert [parents for _, parents in graph(stored, steps)] == [[], *([at] for at in range(1999))]


def test_a_callback_waits_for_every_member_and_they_for_nobody(stored: SimpleNamespace) -> None:
    s = stored.show.s

    found = graph(stored, chord([s("a"), s("b"), s("c")], s("end")))

    assert found == [("'a'", []), ("'b'", []), ("'c'", []), ("'end'", [0, 1, 2])]


def test_parts_nest_and_their_ends_are_what_the_next_waits_for(stored: SimpleNamespace) -> None:
    s = stored.show.s
    inner = chord([s("c"), chain(s("d"), s("e"))], s("f"))

    found = graph(stored, chain(s("a"), group(s("b"), inner, group(s("g"))), s("z")))

    assert found == [
        ("'a'", []),
        ("'b'", [0]),
        ("'c'", [0]),
        ("'d'", [0]),
        ("'e'", [3]),
        ("'f'", [2, 4]),
        ("'g'", [0]),
        ("'z'", [1, 5, 6]),
    ]


def test_every_member_of_a_group_waits_for_every_member_of_the_group_before(stored: SimpleNamespace) -> None:
    s = stored.show.s

    found = graph(stored, chain(group(s("a"), s("b")), group(s("c"), s("d"))))

    assert found == [("'a'", []), ("'b'", []), ("'c'", [0, 1]), ("'d'", [0, 1])]


def test_parents_have_lower_ids_than_their_children(stored: SimpleNamespace) -> None:
    chord([chain(stored.show.s(n), stored.show.s(n)) for n in range(100)], stored.show.s("end")).apply()

    assert all(edge.parent_id < edge.job_id for edge in edges_of(stored.queue))
    assert len(edges_of(stored.queue)) == 200


def test_a_step_without_parts_before_it_hands_on_what_came_before(stored: SimpleNamespace) -> None:
    s = stored.show.s

    found = graph(stored, chain(s("a"), group(), chord([], group(group())), s("b")))

    assert found == [("'a'", []), ("'b'", [0])]


def test_empty_groups_are_applied_without_a_store() -> None:
    handle = group().apply()

    assert (handle.results(), handle.ids, handle.jobs, handle.statuses(), len(handle)) == ([], [], [], {}, 0)
    assert group(group(), []).apply().results() == [[]]


def test_what_is_collected_belongs_to_the_callback_and_to_nothing_after_it(stored: SimpleNamespace) -> None:
    s = stored.show.s
    inner = chain(group(), s("callback"), s("after"))

    chain(s("first"), chord([s("member")], inner, on_error="collect"), s("last")).apply()

    assert [job.tolerant for job in new_jobs(stored)] == [False, False, True, False, False]


def test_an_empty_header_collects_nothing(stored: SimpleNamespace) -> None:
    chain(stored.show.s("first"), chord([], stored.show.s("callback"), on_error="collect")).apply()

    assert [job.tolerant for job in new_jobs(stored)] == [False, False]


def test_options_of_a_step_win_over_those_of_the_whole(stored: SimpleNamespace) -> None:
    steps = chain(stored.show.using(queue="own").s(1), stored.show.s(2).set(priority=9), stored.show.s(3))

    steps.apply(queue="all", priority=5, expires=60, tags=["t"])

    jobs = new_jobs(stored)
    assert [(job.queue, job.priority) for job in jobs] == [("own", 5), ("all", 9), ("all", 5)]
    assert {(job.expires, job.tags) for job in jobs} == {(60.0, ("t",))}


def test_the_whole_depends_on_what_its_first_steps_depend_on(stored: SimpleNamespace) -> None:
    first = stored.show.delay("before")
    s = stored.show.s

    group(s("a"), chain(group(), s("b"), s("c"))).apply(depends_on=first)

    assert [job.parents for job in new_jobs(stored)][1:] == [
        (first.id,),
        (first.id,),
        (new_jobs(stored)[2].id,),
    ]


def test_a_later_step_may_depend_on_something_of_its_own(stored: SimpleNamespace) -> None:
    other = stored.show.delay("other")

    step = chain(stored.show.s("a"), stored.show.s("b").set(depends_on=[other])).apply()

    assert step.dependencies == sorted([other.id, new_jobs(stored)[1].id])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: chain(), "a chain must have at least one step"),
        (lambda t: chain([]), "a chain must have at least one step"),
        (lambda t: group(t.show), r"a group is made of steps such as task\.s\(\.\.\.\)"),
        (lambda t: t.show.s() | 7, "a chain is made of steps"),
        (lambda t: chord([t.show.s()], t.show), "a chord's callback is made of steps"),
        (lambda t: chord([t.show.s()], "show"), "a chord's callback is made of steps"),
        (lambda t: chord([], t.show.s(), on_error="ignore"), "on_error must be 'cancel' or 'collect'"),
        (lambda t: chunks(t.add, [(1, 2)], 0), "size must be a whole number of 1 or more, got 0"),
        (lambda t: t.show.s().set(unique_key="k").apply(), "a step of a canvas cannot have unique_key"),
        (lambda t: t.show.using(id="x").s().apply(), "a step of a canvas cannot have id"),
        (lambda t: t.show.s().set(connection=object()).apply(), "a step of a canvas cannot have connection"),
        (lambda t: group(t.show.s()).apply(id="x"), "a step of a canvas cannot have id"),
        (lambda t: t.show.s().apply(priority="high"), "priority must be a whole number"),
        (
            lambda t: chord([t.show.s()], t.show.s().set(depends_on="x"), on_error="collect").apply(),
            "the callback of a chord with on_error='collect' cannot have depends_on",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_stored(
    stored: SimpleNamespace, make: Callable[[SimpleNamespace], object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make(stored)

    assert stored.queue.all_enqueued() == []


def test_arguments_that_no_step_could_be_called_with_are_refused(stored: SimpleNamespace) -> None:
    add = stored.add
    for wrong in (
        add.s(1),
        add.s(1, 2, 3),
        chain(add.s(1, 2), add.s(1, 2)),
        chain(add.s(1, 2), add.si(1)),
        starmap(add, [(1, 2), (3,)]),
        chain(add.s(1, 2), starmap(add, [(1, 2)])),
    ):
        with pytest.raises(TypeError, match=r"task 'add' takes \(left"):
            wrong.apply()

    with pytest.raises(TypeError, match=r"apply\(\) has no option 'prio'; did you mean 'priority'"):
        group().apply(prio=1)  # type: ignore[call-arg]
    with pytest.raises(JobNotFoundError, match="nosuch"):
        add.s(1, 2).apply(depends_on="nosuch")
    assert stored.queue.all_enqueued() == []


def test_the_tasks_of_a_canvas_belong_to_one_queue(stored: SimpleNamespace, tmp_path: Any) -> None:
    other = Queue(tmp_path / "other.db").task(name="other")(lambda: 1)

    for mixed in (chord([other.s()], stored.show.s()), group(stored.show.s(), group(other.s()))):
        with pytest.raises(ConfigError, match="must belong to one Queue"):
            mixed.apply()


def test_a_hook_cannot_give_a_step_a_key_that_another_job_may_hold(tmp_path: Any) -> None:
    class Keys(TaskMiddleware):
        def on_enqueue(self, options: MutableMapping[str, Any]) -> None:
            options["unique_key"] = "the same"

    queue = Queue(tmp_path / "never.db", middleware=[Keys()])
    task = queue.task(name="t")(lambda: 1)

    with queue.test_mode(run=False), pytest.raises(ConfigError, match="cannot have unique_key"):
        group(task.s(), task.si()).apply()


def test_the_concurrency_key_of_a_step_is_made_of_arguments_that_are_known(stored: SimpleNamespace) -> None:
    book = stored.book
    by_amount = stored.queue.task(name="by", concurrency=2, concurrency_key="{amount}")(
        lambda account, amount: None
    )

    chain(book.s("ann", 1), by_amount.s(5), book.si("bob")).apply()
    assert [job.concurrency_key for job in new_jobs(stored)] == [
        "book:account:ann",
        "by:5",
        "book:account:bob",
    ]

    with pytest.raises(ConfigError, match="account is what another job will return"):
        chain(book.s("ann"), book.s(5)).apply()
    with pytest.raises(ConfigError, match="one job makes many calls"):
        starmap(book, [("ann", 1), ("bob", 2)]).apply()
    assert len(new_jobs(stored)) == 3


def test_ten_thousand_members_and_their_callback_are_one_batch(stored: SimpleNamespace) -> None:
    handle = chord((stored.add.s(n, n) for n in range(10_000)), stored.total.s()).apply(
        delay=timedelta(hours=1)
    )

    members, callback = new_jobs(stored)[:-1], new_jobs(stored)[-1]
    assert (len(members), callback.id) == (10_000, handle.id)
    assert callback.parents == tuple(job.id for job in members)
