"""Waiting for one job's end."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from taskito_core.storage import Capability, Storage
from taskito_testing.conformance.base import PATIENCE, ConformanceBase, Connect
from taskito_testing.conformance.processes import Actors
from taskito_testing.factories import complete, dead, enqueue_and_claim, make_job, release, retry


class AwaitFinished(ConformanceBase):
    def test_a_job_that_is_not_in_the_store_counts_as_finished(self, storage: Storage) -> None:
        assert storage.await_finished("nobody", PATIENCE) is True

    @pytest.mark.parametrize("outcome", [complete, dead])
    def test_a_finished_job_is_told_at_once(self, storage: Storage, worker: str, outcome: Any) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [outcome(claimed)], None)

        assert storage.await_finished(claimed.id, PATIENCE) is True
        assert storage.await_finished(claimed.id, 0.0) is True

    @pytest.mark.parametrize("timeout", [0.0, 0.05])
    def test_time_runs_out_on_a_job_that_waits(self, storage: Storage, timeout: float) -> None:
        job = make_job()
        storage.enqueue([job])

        assert storage.await_finished(job.id, timeout) is False

    def test_time_runs_out_on_a_job_that_runs(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)

        assert storage.await_finished(claimed.id, 0.05) is False

    @pytest.mark.parametrize("outcome", [retry, release])
    def test_an_attempt_that_does_not_end_the_job_is_no_end(
        self, storage: Storage, worker: str, outcome: Any
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [outcome(claimed)], None)

        assert storage.await_finished(claimed.id, 0.05) is False

    @pytest.mark.parametrize("outcome", [complete, dead])
    def test_the_end_of_the_job_ends_the_wait(
        self, storage: Storage, connect: Connect, worker: str, outcome: Any
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        reader = connect()
        begun = time.monotonic()

        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(reader.await_finished, claimed.id, PATIENCE)
            storage.exchange(worker, [outcome(claimed)], None)

            assert waiting.result() is True
        assert time.monotonic() - begun < PATIENCE / 2

    def test_the_same_connection_may_wait_and_settle(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        begun = time.monotonic()

        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(storage.await_finished, claimed.id, PATIENCE)
            storage.exchange(worker, [complete(claimed)], None)

            assert waiting.result() is True
        assert time.monotonic() - begun < PATIENCE / 2

    def test_several_may_wait_for_one_job(self, storage: Storage, connect: Connect, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        readers = [connect(), connect()]
        begun = time.monotonic()

        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(r.await_finished, claimed.id, PATIENCE) for r in readers * 2]
            storage.exchange(worker, [complete(claimed)], None)

            assert all(each.result() for each in waiting)
        assert time.monotonic() - begun < PATIENCE / 2

    def test_one_after_another_no_end_is_missed(
        self, storage: Storage, connect: Connect, worker: str
    ) -> None:
        # The job ends at every possible moment of the waiter's check, mark and second check.
        reader = connect()
        waits = []

        with ThreadPoolExecutor(1) as pool:
            for _ in range(40):
                claimed = enqueue_and_claim(storage, worker)
                waiting = pool.submit(reader.await_finished, claimed.id, PATIENCE)
                storage.exchange(worker, [complete(claimed)], None)
                settled = time.monotonic()
                assert waiting.result() is True
                waits.append(time.monotonic() - settled)

        # One missed end would have cost a whole wait; a polling interval would show in most of them.
        assert max(waits) < PATIENCE / 2
        if Capability.WAKEUPS in storage.capabilities:
            assert statistics.median(waits) < 0.25

    def test_an_end_in_another_process_ends_the_wait(
        self, storage: Storage, processes: Actors, worker: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        settler = processes.start("settle", job_id=claimed.id, token=claimed.token)
        settler.go()
        begun = time.monotonic()

        assert storage.await_finished(claimed.id, PATIENCE) is True

        assert time.monotonic() - begun < PATIENCE / 2
        assert settler.hear() == [claimed.id]
