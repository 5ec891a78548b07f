"""Hearing that work arrived. A wait may always end early: it is only ever asserted that it ends in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from taskito_core.storage import Storage
from taskito_core.storage_worker import Wakeups
from taskito_testing.conformance.base import PATIENCE, ConformanceBase, Connect
from taskito_testing.conformance.processes import Actors
from taskito_testing.factories import claim, complete, make_job, want


class Hearing(ConformanceBase):
    @pytest.fixture
    def wakeups(self, storage: Storage, worker: str) -> Iterator[Wakeups]:
        wakeups = storage.listen(worker, ["default"])
        yield wakeups
        wakeups.close()

    def test_a_wait_ends_with_its_timeout(self, wakeups: Wakeups) -> None:
        begun = time.monotonic()

        wakeups.wait(0.05)
        wakeups.wait(0.0)

        assert time.monotonic() - begun < PATIENCE / 2

    @pytest.mark.usefixtures("needs_wakeups")
    def test_a_job_that_arrives_ends_the_wait(
        self, storage: Storage, connect: Connect, worker: str, wakeups: Wakeups
    ) -> None:
        assert storage.exchange(worker, [], want(1)).claims == []
        producer = connect()

        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(_waited, wakeups)
            producer.enqueue([make_job()])
            assert waiting.result() < PATIENCE / 2

        assert len(claim(storage, worker)) == 1

    @pytest.mark.usefixtures("needs_wakeups")
    def test_a_job_that_came_before_the_wait_ends_it_at_once(
        self, storage: Storage, connect: Connect, worker: str, wakeups: Wakeups
    ) -> None:
        storage.exchange(worker, [], want(1))
        connect().enqueue([make_job()])

        assert _waited(wakeups) < PATIENCE / 2

    @pytest.mark.usefixtures("needs_wakeups")
    def test_a_job_of_the_future_wakes_too_because_next_due_has_changed(
        self, storage: Storage, connect: Connect, worker: str, wakeups: Wakeups
    ) -> None:
        assert storage.exchange(worker, [], want(1)).next_due is None
        connect().enqueue([make_job(delay=60.0)])

        assert _waited(wakeups) < PATIENCE / 2
        assert storage.exchange(worker, [], want(1)).next_due is not None

    @pytest.mark.usefixtures("needs_wakeups")
    def test_a_worker_that_got_less_than_it_wanted_is_rung(
        self, storage: Storage, connect: Connect, worker: str, wakeups: Wakeups
    ) -> None:
        storage.enqueue([make_job()])
        assert len(claim(storage, worker, 2)) == 1
        connect().enqueue([make_job()])

        assert _waited(wakeups) < PATIENCE / 2

    @pytest.mark.usefixtures("needs_wakeups")
    def test_a_waiting_worker_that_settles_meanwhile_is_still_rung(
        self, storage: Storage, connect: Connect, worker: str, wakeups: Wakeups
    ) -> None:
        storage.enqueue([make_job()])
        [claimed] = claim(storage, worker, 2)
        storage.exchange(worker, [complete(claimed)], None)
        connect().enqueue([make_job()])

        assert _waited(wakeups) < PATIENCE / 2

    @pytest.mark.usefixtures("needs_wakeups")
    def test_wakeups_come_for_every_queue_they_were_made_for(
        self, storage: Storage, connect: Connect, worker: str
    ) -> None:
        queues = ("default", "büro mail", "q" * 200)
        wakeups = storage.listen(worker, queues)
        producer = connect()

        for queue in queues:
            while storage.exchange(worker, [], want(9, queues=queues)).claims:
                pass
            producer.enqueue([make_job(queue=queue)])
            assert _waited(wakeups) < PATIENCE / 2
        wakeups.close()

    @pytest.mark.usefixtures("needs_wakeups")
    def test_every_waiting_worker_hears_of_its_queue(
        self, storage: Storage, connect: Connect, worker: str, other: str
    ) -> None:
        mine, theirs = storage.listen(worker, ["mail"]), storage.listen(other, ["news"])
        storage.exchange(worker, [], want(1, queues=("mail",)))
        storage.exchange(other, [], want(1, queues=("news",)))

        connect().enqueue([make_job(queue="mail"), make_job(queue="news")])

        assert _waited(mine) < PATIENCE / 2
        assert _waited(theirs) < PATIENCE / 2
        mine.close()
        theirs.close()

    @pytest.mark.usefixtures("needs_wakeups")
    def test_no_wakeup_is_lost_between_a_claim_and_a_wait(
        self, storage: Storage, connect: Connect, worker: str, wakeups: Wakeups
    ) -> None:
        # Producer and consumer alternate as fast as they can: in each round a wakeup could be missed.
        rounds = 60
        producer = connect()
        taken = threading.Semaphore(1)
        begun = time.monotonic()

        def produce() -> None:
            for _ in range(rounds):
                assert taken.acquire(timeout=PATIENCE)
                producer.enqueue([make_job()])

        with ThreadPoolExecutor(1) as pool:
            producing = pool.submit(produce)
            for _ in range(rounds):
                while not (claims := claim(storage, worker)):
                    wakeups.wait(PATIENCE)
                storage.exchange(worker, [complete(c) for c in claims], None)
                taken.release()
            producing.result()

        # One lost wakeup would have cost a whole wait.
        assert time.monotonic() - begun < PATIENCE

    @pytest.mark.usefixtures("needs_wakeups")
    def test_a_job_from_another_process_ends_the_wait(
        self, storage: Storage, processes: Actors, worker: str, wakeups: Wakeups
    ) -> None:
        assert storage.exchange(worker, [], want(1)).claims == []
        producer = processes.start("enqueue", ids=["from afar"], batch=1)
        producer.go()

        assert _waited(wakeups) < PATIENCE / 2

        # A wakeup delivers nothing: what counts is what the next claim finds.
        assert producer.hear() == ["from afar"]
        assert [c.id for c in claim(storage, worker)] == ["from afar"]

    def test_an_interrupt_ends_the_wait_of_another_thread(self, wakeups: Wakeups) -> None:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(_waited, wakeups)
            wakeups.interrupt()

            assert waiting.result() < PATIENCE / 2

    def test_an_interrupt_that_comes_early_ends_the_next_wait(self, wakeups: Wakeups) -> None:
        wakeups.interrupt()

        assert _waited(wakeups) < PATIENCE / 2

    def test_interrupts_never_block(self, wakeups: Wakeups) -> None:
        begun = time.monotonic()
        for _ in range(20_000):
            wakeups.interrupt()

        assert _waited(wakeups) < PATIENCE / 2
        assert time.monotonic() - begun < PATIENCE

    def test_an_interrupt_in_the_middle_of_a_wait_is_heard(self, wakeups: Wakeups) -> None:
        # Interrupt from a timer, so that the wait has surely begun on most machines.
        timer = threading.Timer(0.2, wakeups.interrupt)
        timer.start()

        assert _waited(wakeups) < PATIENCE / 2
        timer.join()

    def test_the_wakeups_of_two_workers_are_apart(self, storage: Storage, worker: str, other: str) -> None:
        mine, theirs = storage.listen(worker, ["default"]), storage.listen(other, ["default"])
        mine.close()

        theirs.interrupt()

        assert _waited(theirs) < PATIENCE / 2
        theirs.close()


def _waited(wakeups: Wakeups) -> float:
    """Seconds that a wait of up to PATIENCE took."""
    begun = time.monotonic()
    wakeups.wait(PATIENCE)
    return time.monotonic() - begun
