"""Paused queues, lanes with a cap, and what can be seen of lanes without claiming."""

from __future__ import annotations

import pytest

from taskito_core.storage import Storage
from taskito_testing.conformance.base import PATIENCE, ConformanceBase, Connect
from taskito_testing.factories import claim, complete, enqueue_and_claim, make_job, want


class Pausing(ConformanceBase):
    def test_nothing_is_claimed_from_a_paused_queue(
        self, storage: Storage, connect: Connect, worker: str
    ) -> None:
        paused, served = make_job(queue="mail"), make_job()
        storage.enqueue([paused, served])

        assert connect().pause("mail") is True

        assert [c.id for c in claim(storage, worker, 9, queues=("mail", "default"))] == [served.id]

    def test_a_resumed_queue_is_served_again(self, storage: Storage, connect: Connect, worker: str) -> None:
        job = make_job(queue="mail")
        storage.enqueue([job])
        storage.pause("mail")
        assert claim(storage, worker, queues=("mail",)) == []

        assert connect().resume("mail") is True

        assert [c.id for c in claim(storage, worker, queues=("mail",))] == [job.id]

    def test_pausing_and_resuming_tell_whether_they_changed_anything(self, storage: Storage) -> None:
        assert [storage.pause("mail"), storage.pause("mail")] == [True, False]
        assert [storage.resume("mail"), storage.resume("mail")] == [True, False]

    def test_the_paused_queues_are_known_and_since_when(self, storage: Storage, connect: Connect) -> None:
        before = storage.now()
        storage.pause("büro")
        storage.clock_shift = 60_000
        storage.pause("büro")
        storage.pause("mail")

        paused = connect().paused()

        assert sorted(paused) == ["büro", "mail"]
        assert before <= paused["büro"] < before + 30_000 < paused["mail"]
        storage.resume("büro")
        assert sorted(storage.paused()) == ["mail"]

    def test_a_running_job_of_a_paused_queue_ends_as_ever(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.pause("default")

        assert storage.exchange(worker, [complete(claimed)], None).recorded == {claimed.id}

    def test_a_paused_queue_takes_jobs_and_has_no_next_due(self, storage: Storage, worker: str) -> None:
        storage.pause("default")

        assert storage.enqueue([make_job(delay=60.0)])[0].inserted

        assert storage.exchange(worker, [], want(1)).next_due is None

    @pytest.mark.usefixtures("needs_wakeups")
    def test_resuming_wakes_who_waits_for_the_queue(
        self, storage: Storage, connect: Connect, worker: str
    ) -> None:
        storage.pause("default")
        storage.enqueue([make_job()])
        wakeups = storage.listen(worker, ["default"])
        assert storage.exchange(worker, [], want(1)).claims == []

        connect().resume("default")

        assert wakeups.wait(PATIENCE / 2)
        assert len(claim(storage, worker)) == 1
        wakeups.close()


class Capping(ConformanceBase):
    def test_a_job_may_be_born_in_a_lane(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job(lane="mail")])

        assert claim(storage, worker, tasks=("job",)) == []
        assert len(claim(storage, worker, tasks=("job", "mail"))) == 1

    def test_no_more_of_a_lane_is_claimed_than_its_cap(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job(lane="mail", priority=9) for _ in range(5)])
        plain = [make_job() for _ in range(3)]
        storage.enqueue(plain)

        claims = claim(storage, worker, 9, tasks=("mail",), caps={"mail": 2})

        assert len(claims) == 5
        assert sorted(c.id for c in claims[2:]) == sorted(job.id for job in plain)

    def test_a_cap_counts_over_all_queues(self, storage: Storage, worker: str) -> None:
        queues = ("a", "b", "c")
        storage.enqueue([make_job(lane="mail", queue=queue) for queue in queues for _ in range(2)])

        claims = claim(storage, worker, 9, queues=queues, tasks=("mail",), caps={"mail": 3})

        assert [c.queue for c in claims] == ["a", "a", "b"]

    def test_a_cap_of_nothing_claims_nothing_of_the_lane(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job(lane="mail"), make_job(lane="news")])

        claims = claim(storage, worker, 9, tasks=("mail", "news"), caps={"mail": 0})

        assert len(claims) == 1
        assert len(claim(storage, worker, 9, tasks=("mail",))) == 1

    def test_caps_do_not_raise_the_limit(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job(lane="mail") for _ in range(4)])

        assert len(claim(storage, worker, 2, tasks=("mail",), caps={"mail": 3})) == 2

    def test_a_peek_finds_the_lanes_that_have_jobs_and_when_they_are_due(self, storage: Storage) -> None:
        now = storage.now()
        storage.enqueue(
            [
                make_job(lane="mail", scheduled_at=now + 60_000, priority=9),
                make_job(lane="mail", scheduled_at=now + 30_000),
                make_job(lane="news", scheduled_at=now - 1_000),
                make_job(lane="far", queue="elsewhere"),
                make_job(),
            ]
        )

        assert storage.peek(["default"], ["mail", "news", "far", "none"]) == {
            "mail": now + 30_000,
            "news": now - 1_000,
        }

    def test_a_peek_leaves_out_what_cannot_be_claimed(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.enqueue(
            [
                make_job(lane="child", parents=(claimed.id,)),
                make_job(lane="expired", expires=1.0),
                make_job(lane="paused", queue="mail"),
                make_job(lane="left"),
            ]
        )
        storage.pause("mail")
        storage.clock_shift = 2_000

        lanes = ["child", "expired", "paused", "left"]

        assert list(storage.peek(["default", "mail"], lanes)) == ["left"]

    def test_a_peek_changes_nothing(self, storage: Storage, worker: str) -> None:
        job = make_job(lane="mail")
        storage.enqueue([job])

        storage.peek(["default"], ["mail"])

        assert [c.id for c in claim(storage, worker, tasks=("mail",))] == [job.id]
