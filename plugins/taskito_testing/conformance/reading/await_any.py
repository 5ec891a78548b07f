"""Waiting for the first end of many jobs."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from taskito_core.storage import Storage
from taskito_testing.conformance.base import PATIENCE, ConformanceBase, Connect
from taskito_testing.conformance.processes import Actors
from taskito_testing.factories import complete, dead, enqueue_and_claim, make_job, release


class AwaitAny(ConformanceBase):
    def test_ends_that_are_there_are_told_at_once(self, storage: Storage, worker: str) -> None:
        first, second, third = (enqueue_and_claim(storage, worker) for _ in range(3))
        storage.exchange(worker, [complete(first), dead(third)], None)
        ids = [first.id, second.id, third.id, "nobody"]

        assert set(storage.await_any(ids, PATIENCE, threading.Event())) == {first.id, third.id, "nobody"}
        assert set(storage.await_any(ids, 0.0, threading.Event())) == {first.id, third.id, "nobody"}

    def test_time_runs_out_while_none_of_them_ends(self, storage: Storage, worker: str) -> None:
        waiting, running, released = make_job(), *(enqueue_and_claim(storage, worker) for _ in range(2))
        storage.exchange(worker, [release(released)], None)
        storage.enqueue([waiting])
        ids = [waiting.id, running.id, released.id]

        assert storage.await_any(ids, 0.0, threading.Event()) == []
        assert storage.await_any(ids, 0.05, threading.Event()) == []
        assert storage.await_any([], 0.05, threading.Event()) == []

    def test_who_waits_can_be_woken(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        woken, begun = threading.Event(), time.monotonic()

        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(storage.await_any, [claimed.id], PATIENCE, woken)
            woken.set()

            assert waiting.result() == []
        assert time.monotonic() - begun < PATIENCE / 2
        assert storage.await_any([claimed.id], PATIENCE, woken) == [], "it is still set"

    def test_no_end_of_many_is_missed(self, storage: Storage, connect: Connect, worker: str) -> None:
        """They end at every possible moment of the check, the mark and the second check."""
        reader = connect()
        claims = [enqueue_and_claim(storage, worker) for _ in range(60)]
        left, begun = {claim.id for claim in claims}, time.monotonic()

        with ThreadPoolExecutor(1) as pool:
            for at in range(0, 60, 3):
                waiting = pool.submit(reader.await_any, sorted(left), PATIENCE, threading.Event())
                for claim in claims[at : at + 3]:
                    storage.exchange(worker, [complete(claim)], None)
                ended = set(waiting.result())
                assert ended <= {claim.id for claim in claims[: at + 3]}
                assert ended
                left -= ended

            for claim in claims:
                assert storage.await_finished(claim.id, PATIENCE)
            assert set(reader.await_any(sorted(left), 0.0, threading.Event())) == left
        assert time.monotonic() - begun < PATIENCE, "one missed end would have cost a whole wait"

    def test_one_of_many_that_ends_elsewhere_ends_the_wait(
        self, storage: Storage, processes: Actors, worker: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        others = [make_job() for _ in range(600)]
        storage.enqueue(others)
        settler = processes.start("settle", job_id=claimed.id, token=claimed.token)
        settler.go()
        begun = time.monotonic()

        ids = [*(job.id for job in others), claimed.id]
        assert storage.await_any(ids, PATIENCE, threading.Event()) == [claimed.id]

        assert time.monotonic() - begun < PATIENCE / 2
        assert settler.hear() == [claimed.id]
