"""Limits of a queue: how many of its jobs run at once, how often they start, how many may be pending."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from taskito_core.errors import QueueFull
from taskito_core.job import Claim, NewJob, Receipt
from taskito_core.limits import QueueLimits, RateLimit
from taskito_core.storage import Storage
from taskito_core.storage_client import JobFilter
from taskito_testing.conformance.base import ConformanceBase, Connect, NewWorker
from taskito_testing.factories import claim, complete, make_job, make_worker, release, retry, want

#: Producers, or workers, at the same time.
AT_ONCE = 4


def _claim(storage: Storage, worker: str, limit: int, *queues: str) -> list[Claim]:
    return storage.exchange(worker, [], want(limit, queues=queues or ("default",))).claims


def _fill(storage: Storage, count: int, queue: str = "default") -> list[NewJob]:
    jobs = [make_job(queue=queue) for _ in range(count)]
    storage.enqueue(jobs)
    return jobs


class QueueLimiting(ConformanceBase):
    # ---- settings ----

    def test_limits_are_set_replaced_and_removed_for_every_connection(
        self, storage: Storage, connect: Connect
    ) -> None:
        mail = QueueLimits(3, RateLimit(10 / 60, 10), 500)
        storage.limit_queue("mail", mail)
        storage.limit_queue("other", QueueLimits(max_pending=0))

        assert connect().queue_limits() == {"mail": mail, "other": QueueLimits(max_pending=0)}
        storage.limit_queue("mail", QueueLimits(concurrency=1))
        storage.limit_queue("other", QueueLimits())
        storage.limit_queue("never", QueueLimits())
        assert connect().queue_limits() == {"mail": QueueLimits(concurrency=1)}

    # ---- concurrency ----

    def test_no_more_jobs_of_a_queue_run_than_its_concurrency(
        self, storage: Storage, worker: str, other: str
    ) -> None:
        storage.limit_queue("mail", QueueLimits(concurrency=2))
        _fill(storage, 5, "mail")
        _fill(storage, 2)

        first = _claim(storage, worker, 9, "mail", "default")
        assert [one.queue for one in first] == ["mail", "mail", "default", "default"]
        assert _claim(storage, other, 9, "mail", "default") == []

        storage.exchange(worker, [complete(first[0])], None)
        assert [one.queue for one in _claim(storage, other, 9, "default", "mail")] == ["mail"]
        storage.exchange(worker, [release(first[1])], None)
        [again] = _claim(storage, other, 9, "mail")
        assert again.id == first[1].id

    def test_a_queue_at_its_limit_holds_up_no_other_and_says_when_to_ask_again(
        self, storage: Storage, worker: str
    ) -> None:
        storage.limit_queue("mail", QueueLimits(concurrency=1))
        _fill(storage, 2, "mail")

        exchange = storage.exchange(worker, [], want(5, queues=("mail", "default")))

        assert len(exchange.claims) == 1
        assert exchange.next_due is not None
        assert exchange.now < exchange.next_due <= exchange.now + 1_000

    def test_a_limited_queue_keeps_its_place_among_the_wanted_ones(
        self, storage: Storage, worker: str
    ) -> None:
        storage.limit_queue("b", QueueLimits(concurrency=2))
        for queue in "abc":
            _fill(storage, 3, queue)

        claims = _claim(storage, worker, 6, "a", "b", "c")

        assert [one.queue for one in claims] == ["a", "a", "a", "b", "b", "c"]

    def test_many_workers_at_once_do_not_exceed_it(
        self, storage: Storage, connect: Connect, new_worker: NewWorker
    ) -> None:
        storage.limit_queue("default", QueueLimits(concurrency=3))
        _fill(storage, 40)
        workers = [(connect(), new_worker()) for _ in range(AT_ONCE)]

        def work(who: tuple[Storage, str]) -> int:
            connection, worker = who
            most = 0
            for _ in range(10):
                claims = _claim(connection, worker, 2)
                running = connection.counts().by_queue["default"].running
                most = max(most, running)
                connection.exchange(worker, [complete(one) for one in claims], None)
            return most

        with ThreadPoolExecutor(AT_ONCE) as pool:
            assert max(pool.map(work, workers)) <= 3
        assert storage.counts(exact=True).by_queue["default"].complete > 0

    def test_a_limit_that_is_lowered_or_lifted_holds_from_the_next_claim_on(
        self, storage: Storage, connect: Connect, worker: str
    ) -> None:
        _fill(storage, 9)
        claims = _claim(storage, worker, 3)
        elsewhere = connect()

        elsewhere.limit_queue("default", QueueLimits(concurrency=2))
        assert _claim(storage, worker, 3) == []
        storage.exchange(worker, [complete(one) for one in claims[:2]], None)
        assert len(_claim(storage, worker, 3)) == 1
        elsewhere.limit_queue("default", QueueLimits(concurrency=4))
        assert len(_claim(storage, worker, 3)) == 2
        elsewhere.limit_queue("default", QueueLimits())
        assert len(_claim(storage, worker, 3)) == 3

    def test_a_worker_that_waits_is_woken_when_room_is_left_and_when_the_limit_is_lifted(
        self, storage: Storage, connect: Connect, new_worker: NewWorker
    ) -> None:
        first, second, other = new_worker(), new_worker(), connect()
        storage.limit_queue("default", QueueLimits(concurrency=1))
        _fill(storage, 3)
        [claimed] = _claim(storage, first, 1)
        wakeups = other.listen(second, ("default",))
        try:
            for act in (
                lambda: storage.exchange(first, [complete(claimed)], want(0)),
                lambda: storage.limit_queue("default", QueueLimits()),
            ):
                other.exchange(second, [], want(5))
                wakeups.wait(0.0)
                act()
                ends = time.monotonic() + 10.0
                while not wakeups.wait(1.0) and time.monotonic() < ends:
                    pass
                assert time.monotonic() < ends
        finally:
            wakeups.close()

    def test_lanes_and_caps_hold_inside_a_limited_queue(self, storage: Storage, worker: str) -> None:
        storage.limit_queue("default", QueueLimits(concurrency=5))
        storage.enqueue([make_job(lane="job") for _ in range(4)])
        plain = _fill(storage, 4)

        exchange = storage.exchange(worker, [], want(9, tasks=("job",), caps={"job": 2}))

        assert len(exchange.claims) == 5
        assert len({one.id for one in exchange.claims} & {one.id for one in plain}) >= 3

    # ---- rate ----

    def test_no_more_jobs_of_a_queue_start_than_its_rate_allows(
        self, storage: Storage, connect: Connect, worker: str, other: str
    ) -> None:
        storage.limit_queue("mail", QueueLimits(rate=RateLimit(1 / 60, 3)))
        _fill(storage, 9, "mail")

        assert len(_claim(storage, worker, 2, "mail")) == 2
        exchange = connect().exchange(other, [], want(5, queues=("mail",)))
        assert len(exchange.claims) == 1
        assert exchange.next_due is not None
        assert 55_000 < exchange.next_due - exchange.now <= 60_000
        storage.clock_shift = 61_000
        assert len(_claim(storage, worker, 5, "mail")) == 1
        storage.clock_shift = 61_000 + 3_600_000
        assert len(_claim(storage, worker, 9, "mail")) == 3

    def test_what_a_claim_does_not_find_costs_no_token(self, storage: Storage, worker: str) -> None:
        storage.limit_queue("default", QueueLimits(rate=RateLimit(1 / 3600, 2)))
        for _ in range(5):
            assert claim(storage, worker, 9) == []
        _fill(storage, 3)

        assert len(claim(storage, worker, 9)) == 2

    def test_a_changed_rate_keeps_what_is_in_the_bucket(self, storage: Storage, worker: str) -> None:
        storage.limit_queue("default", QueueLimits(rate=RateLimit(1 / 3600, 2)))
        _fill(storage, 30)
        assert len(claim(storage, worker, 9)) == 2

        storage.limit_queue("default", QueueLimits(rate=RateLimit(1.0, 5)))
        assert len(claim(storage, worker, 9)) <= 1
        storage.clock_shift = 60_000
        assert len(claim(storage, worker, 9)) == 5

    def test_a_clock_that_was_set_back_gives_no_starts(self, storage: Storage, worker: str) -> None:
        storage.limit_queue("default", QueueLimits(rate=RateLimit(1 / 60, 1)))
        _fill(storage, 5)
        storage.clock_shift = 7_200_000
        assert len(claim(storage, worker, 9)) == 1
        storage.heartbeat(worker, [])

        storage.clock_shift = 0
        storage.heartbeat(worker, [])
        storage.sweep(9)

        assert claim(storage, worker, 9) == []
        storage.clock_shift = 62_000
        assert len(claim(storage, worker, 9)) == 1

    # ---- pending ceiling ----

    @pytest.mark.parametrize("size", [1, 4])
    def test_a_full_queue_refuses_what_would_be_too_many_and_stores_nothing_of_it(
        self, storage: Storage, worker: str, size: int
    ) -> None:
        storage.limit_queue("mail", QueueLimits(max_pending=5))
        kept = _fill(storage, 5, "mail")

        batch = [make_job(queue="mail") for _ in range(size)]
        with pytest.raises(QueueFull, match=f"queue 'mail' may hold 5 .* no room for {size} more"):
            storage.enqueue([make_job(), *batch])
        assert {job.id for job in storage.list_jobs(JobFilter(), 99, None).jobs} == {one.id for one in kept}

        assert storage.enqueue([free := make_job()]) == [Receipt(free.id, True)]
        [claimed, *_] = _claim(storage, worker, 1, "mail")
        assert storage.enqueue([batch[0]]) == [Receipt(batch[0].id, True)]
        with pytest.raises(QueueFull):
            storage.enqueue([make_job(queue="mail")])
        storage.exchange(worker, [retry(claimed)], None)
        with pytest.raises(QueueFull):
            storage.enqueue([make_job(queue="mail")])

    def test_a_batch_over_a_ceiling_is_refused_however_large(self, storage: Storage) -> None:
        storage.limit_queue("default", QueueLimits(max_pending=2_500))

        with pytest.raises(QueueFull):
            storage.enqueue([make_job() for _ in range(2_501)])
        assert len(storage.enqueue([make_job() for _ in range(2_500)])) == 2_500

    def test_jobs_behind_gates_and_later_ones_are_pending_too(self, storage: Storage) -> None:
        storage.limit_queue("default", QueueLimits(max_pending=4))
        parent = make_job(queue="elsewhere")
        storage.enqueue([parent])
        storage.enqueue(
            [
                make_job(parents=(parent.id,)),
                make_job(delay=3600.0),
                *(make_job(concurrency_key="k", concurrency=1) for _ in range(2)),
            ]
        )

        for one_more in (make_job(), make_job(parents=(parent.id,)), make_job(unique_key="u")):
            with pytest.raises(QueueFull):
                storage.enqueue([one_more])

    def test_what_stores_nothing_is_not_refused(self, storage: Storage) -> None:
        storage.enqueue([held := make_job(unique_key="u"), call := make_job(call_key="c", delay=60.0)])
        storage.limit_queue("default", QueueLimits(max_pending=1))

        assert storage.enqueue([held]) == [Receipt(held.id, False)]
        assert storage.enqueue([make_job(unique_key="u")]) == [Receipt(held.id, False)]
        assert storage.enqueue([make_job(call_key="c", delay=60.0)]) == [Receipt(call.id, False)]
        with pytest.raises(QueueFull):
            storage.enqueue([make_job()])

    def test_many_producers_at_once_do_not_exceed_it(self, storage: Storage, connect: Connect) -> None:
        storage.limit_queue("default", QueueLimits(max_pending=20))
        producers = [connect() for _ in range(AT_ONCE)]

        def produce(connection: Storage) -> int:
            stored = 0
            for size in (1, 2, 3, 1, 2, 3, 1, 1):
                try:
                    stored += len(connection.enqueue([make_job() for _ in range(size)]))
                except QueueFull:
                    continue
            return stored

        with ThreadPoolExecutor(AT_ONCE) as pool:
            stored = sum(pool.map(produce, producers))
        assert storage.counts().by_queue["default"].pending == stored == 20

    def test_a_replay_and_a_worker_pass_a_full_queue(self, storage: Storage, worker: str) -> None:
        [job] = _fill(storage, 1)
        storage.exchange(worker, [complete(claim(storage, worker)[0])], None)
        storage.limit_queue("default", QueueLimits(max_pending=0))

        assert storage.replay(job.id, "replay") == Receipt("replay", True)
        storage.register(make_worker(id="another"))
        assert [one.id for one in claim(storage, "another", 9)] == ["replay"]
