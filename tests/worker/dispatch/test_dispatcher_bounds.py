"""Bounds the dispatcher keeps whatever it is given: bytes in a frame, runs of a job that is not ours."""

from __future__ import annotations

import pytest

from taskito.worker.dispatch.dispatcher import MAX_FRAME_SIZE, Dispatcher
from taskito.worker.dispatch.inflight import Exit
from taskito.worker.ipc.wire import MAX_MESSAGE, pack_jobs
from taskito_core.job import ErrorInfo, ErrorKind
from tests.worker.dispatch.test_dispatcher import claim, learn_fast, policy, sent

MIB = 1024 * 1024


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher({"work": policy()}, lambda: 0.0)


def test_many_large_payloads_of_a_fast_task_never_make_a_message_too_large_to_send(dispatcher):
    learn_fast(dispatcher)
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(n, payload=bytes(16 * MIB)) for n in range(8)], 0.0)

    [(_, frame)] = dispatcher.assign(0.0)

    assert len(pack_jobs(entry.message() for entry in frame)) < MAX_MESSAGE


def test_a_payload_larger_than_a_frame_travels_alone(dispatcher):
    learn_fast(dispatcher)
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1, payload=bytes(MAX_FRAME_SIZE + 1)), claim(2)], 0.0)

    [(_, frame)] = dispatcher.assign(0.0)

    assert [entry.claim.id for entry in frame] == ["job1"]


def test_what_a_killed_child_had_not_begun_is_not_run_here_if_it_was_given_to_another_worker(dispatcher):
    learn_fast(dispatcher)
    dispatcher.executors.open(1, 0.0)
    dispatcher.executors.open(2, 0.0)
    dispatcher.claimed([claim(n) for n in range(6)], 0.0)
    running = sent(dispatcher)[1][0]
    killed = Exit(ErrorInfo(ErrorKind.CRASH, "SIGKILL", "killed"), {running: 0.0}, 0, ours=True)

    assert dispatcher.revoke({"job0", "job1", "job2"}) == [1]
    dispatcher.lose_executor(1, killed, 0.1)

    assert sent(dispatcher, 0.1) == {}
    # One Release is still to be recorded, which the store will not match; the rest is forgotten.
    assert [entry.claim.id for entry in dispatcher.take_outbox()] == ["job0"]
    assert {job_id for job_id, _ in dispatcher.holding()} == {"job0", "job3", "job4", "job5"}


def test_what_was_revoked_and_handed_back_is_forgotten(dispatcher):
    learn_fast(dispatcher)
    dispatcher.executors.open(1, 0.0)
    dispatcher.claimed([claim(1), claim(2)], 0.0)
    [[_, second]] = sent(dispatcher).values()

    dispatcher.revoke({"job2"})
    dispatcher.returned(1, [second])

    assert [job_id for job_id, _ in dispatcher.holding()] == ["job1"]
    assert dispatcher.next_surplus() == float("inf")
