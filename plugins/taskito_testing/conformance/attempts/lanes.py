"""Lanes: where a job waits that only workers knowing its task may see."""

from __future__ import annotations

from taskito_core.storage import Storage
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.factories import claim, complete, enqueue_and_claim, make_job, release, retry, want

_LONG_AGO = 1_600_000_000_000


class Lanes(ConformanceBase):
    def test_a_job_released_to_a_lane_is_seen_only_by_workers_that_know_the_task(
        self, storage: Storage, worker: str, other: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker, task_name="report")
        storage.exchange(worker, [release(claimed, lane="report")], None)

        assert claim(storage, worker, 9, tasks=("mail",)) == []
        assert claim(storage, worker, 9, tasks=()) == []
        [found] = claim(storage, other, 9, tasks=("mail", "report"))
        assert found.id == claimed.id

    def test_the_releasing_call_itself_does_not_claim_it_again(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker, task_name="report")

        answer = storage.exchange(worker, [release(claimed, lane="report")], want(9, tasks=("mail",)))

        assert answer.recorded == {claimed.id}
        assert answer.claims == []
        assert answer.next_due is None

    def test_jobs_outside_lanes_are_served_whatever_their_task(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job(task_name="unheard of")])

        assert len(claim(storage, worker, 9, tasks=("mail",))) == 1

    def test_a_lane_the_worker_does_not_serve_does_not_count_for_next_due(
        self, storage: Storage, worker: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [release(claimed, lane="report")], None)
        [again] = claim(storage, worker, tasks=("report",))
        storage.exchange(worker, [retry(again, 60.0)], None)

        assert storage.exchange(worker, [], want(1, tasks=("mail",))).next_due is None
        assert storage.exchange(worker, [], want(1, tasks=("report",))).next_due is not None

    def test_lanes_of_a_queue_share_one_order(self, storage: Storage, worker: str) -> None:
        wanted = {"queues": ("default", "later"), "tasks": ("a", "b")}
        jobs = [
            make_job(task_name="a", priority=1, scheduled_at=_LONG_AGO),
            make_job(task_name="b", priority=9, scheduled_at=_LONG_AGO),
            make_job(task_name="c", priority=5, scheduled_at=_LONG_AGO),
            make_job(task_name="a", priority=5, scheduled_at=_LONG_AGO - 1),
            make_job(task_name="b", priority=99, scheduled_at=_LONG_AGO, queue="later"),
        ]
        storage.enqueue(jobs)
        claims = claim(storage, worker, 5, **wanted)
        lanes = {"a": "a", "b": "b", "c": None}
        storage.exchange(worker, [release(c, lane=lanes[c.task_name]) for c in claims], None)

        order = [c.id for c in claim(storage, worker, 5, **wanted)]

        assert order == [jobs[1].id, jobs[3].id, jobs[2].id, jobs[0].id, jobs[4].id]

    def test_a_job_stays_in_its_lane_until_it_is_moved(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [release(claimed, lane="report")], None)
        [again] = claim(storage, worker, tasks=("report",))
        storage.exchange(worker, [release(again)], None)
        [once_more] = claim(storage, worker, tasks=("report",))
        storage.exchange(worker, [retry(once_more)], None)

        assert claim(storage, worker, tasks=("mail",)) == []
        assert len(claim(storage, worker, tasks=("report",))) == 1

    def test_a_lane_does_not_stand_in_front_of_other_jobs(self, storage: Storage, worker: str) -> None:
        blocked = [make_job(task_name="report", priority=9) for _ in range(30)]
        storage.enqueue(blocked)
        claims = claim(storage, worker, 30)
        storage.exchange(worker, [release(c, lane="report") for c in claims], None)
        modest = make_job(task_name="mail")
        storage.enqueue([modest])

        assert [c.id for c in claim(storage, worker, 5, tasks=("mail",))] == [modest.id]

    def test_the_lanes_that_hold_jobs_are_named_with_their_queues(
        self, storage: Storage, worker: str
    ) -> None:
        """Due or not, as often as it likes; not of running, ended or gated jobs, nor of lanes left empty."""
        assert storage.lanes() == []
        storage.enqueue([make_job(queue="gone", lane="a"), make_job(queue="ran", lane="a")])
        [ended] = claim(storage, worker, queues=("gone",), tasks=("a",))
        claim(storage, worker, queues=("ran",), tasks=("a",))
        parent = make_job(queue="default")
        storage.enqueue(
            [
                *[parent, make_job(), make_job(queue="gated", parents=(parent.id,))],
                *[make_job(queue="default", lane=lane, delay=60.0) for lane in ("b", "a", "a")],
                *[make_job(queue="späteste", lane=lane, priority=n) for n in range(3) for lane in "yx"],
            ]
        )
        storage.exchange(worker, [complete(ended)], None)

        found = storage.lanes()

        expected = {("default", ""), ("default", "a"), ("default", "b"), ("späteste", "x"), ("späteste", "y")}
        assert (set(found), len(found)) == (expected, 5)

    def test_a_lane_may_have_any_name(self, storage: Storage, worker: str) -> None:
        name = 'büro."mail" o\'clock %s {}'
        claimed = enqueue_and_claim(storage, worker, task_name=name)
        storage.exchange(worker, [release(claimed, lane=name)], None)

        assert claim(storage, worker, tasks=("mail",)) == []
        assert len(claim(storage, worker, tasks=(name,))) == 1
