"""Bounds the dispatcher keeps whatever it is given: bytes in a frame, runs of a job that is not ours."""

from __future__ import annotations

import pytest

from taskito_core.worker.dispatcher import MAX_FRAME_SIZE, Dispatcher
from taskito_core.worker.wire import MAX_MESSAGE, pack_jobs
from tests.worker.test_dispatcher import claim, learn_fast, policy

MIB = 1024 * 1024


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher({"work": policy()}, lambda: 0.0)


def test_many_large_payloads_of_a_fast_task_never_make_a_message_too_large_to_send(dispatcher):
    learn_fast(dispatcher)
    dispatcher.open_lane(1, None, 0.0)
    dispatcher.claimed([claim(n, payload=bytes(16 * MIB)) for n in range(8)], 0.0)

    [(_, frame)] = dispatcher.assign(0.0)

    assert len(pack_jobs(entry.message() for entry in frame)) < MAX_MESSAGE


def test_a_payload_larger_than_a_frame_travels_alone(dispatcher):
    learn_fast(dispatcher)
    dispatcher.open_lane(1, None, 0.0)
    dispatcher.claimed([claim(1, payload=bytes(MAX_FRAME_SIZE + 1)), claim(2)], 0.0)

    [(_, frame)] = dispatcher.assign(0.0)

    assert [entry.claim.id for entry in frame] == ["job1"]
