"""Looking: filters, and pages that stay right while jobs come in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskito_core.errors import StorageError
from taskito_core.job import DeadReason, JobStatus
from taskito_core.storage import Storage
from taskito_core.storage_client import JobFilter
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.factories import (
    claim,
    complete,
    dead,
    enqueue_and_claim,
    error_info,
    make_job,
    release,
    retry,
)

_EVERYTHING = JobFilter()


class Listing(ConformanceBase):
    def test_get_returns_the_jobs_that_exist(self, storage: Storage) -> None:
        jobs = [make_job() for _ in range(3)]
        storage.enqueue(jobs)

        found = storage.get([jobs[2].id, "nobody", jobs[0].id])

        assert {job.id for job in found} == {jobs[0].id, jobs[2].id}
        assert len(found) == 2

    def test_get_of_nothing_is_nothing(self, storage: Storage) -> None:
        assert storage.get([]) == []
        assert storage.get(["nobody"]) == []

    def test_get_returns_a_job_asked_for_twice_once(self, storage: Storage) -> None:
        job = make_job()
        storage.enqueue([job])

        assert [found.id for found in storage.get([job.id, job.id])] == [job.id]

    def test_ids_are_found_by_their_beginning(self, storage: Storage, worker: str) -> None:
        """Of live and finished jobs, each once; no character means another."""
        names = ["abc", "abd", "ab", "b", "a", "AB", "ab%", "ab_", "abé", "ab\U0001f600"]
        storage.enqueue([make_job(id=name) for name in names])
        ended = claim(storage, worker, 2)
        storage.exchange(worker, [complete(ended[0]), dead(ended[1])], None)

        assert set(storage.ids_beginning("ab", 20)) == {name for name in names if name.startswith("ab")}
        assert storage.ids_beginning("abc", 20) == ["abc"]
        assert storage.ids_beginning("ab_", 20) == ["ab_"]
        assert storage.ids_beginning("x", 20) == []
        assert len(storage.ids_beginning("ab", 2)) == 2

    def test_jobs_are_listed_newest_first(self, storage: Storage) -> None:
        ids = _enqueue_one_by_one(storage, 5)

        assert [job.id for job in storage.list_jobs(_EVERYTHING, 10, None).jobs] == ids[::-1]

    def test_failed_jobs_are_listed_as_they_are_counted(self, storage: Storage, worker: str) -> None:
        """Of the pending ones those that have failed; other states that are asked for as ever."""
        storage.enqueue([make_job() for _ in range(5)])
        failed, failed_and_running, ended, released = claim(storage, worker, 4)
        storage.exchange(worker, [retry(failed, 60.0), retry(failed_and_running)], None)
        storage.exchange(worker, [complete(ended), release(released)], None)
        running = {again.id for again in claim(storage, worker, 1)}

        pending = JobFilter(statuses=(JobStatus.PENDING,), failed=True)
        found = {job.id for job in storage.list_jobs(pending, 10, None).jobs}

        assert len(found) == storage.counts().by_queue["default"].failed
        assert found == {failed.id, failed_and_running.id} - running
        both = JobFilter(statuses=(JobStatus.PENDING, JobStatus.COMPLETE), failed=True)
        assert {job.id for job in storage.list_jobs(both, 10, None).jobs} == found | {ended.id}
        any_state = {job.id for job in storage.list_jobs(JobFilter(failed=True), 10, None).jobs}
        assert any_state == found | {ended.id} | running

    def test_jobs_of_one_moment_are_listed_by_id_downwards(self, storage: Storage) -> None:
        storage.enqueue([make_job(id=name) for name in ("b", "c", "a")])

        jobs = storage.list_jobs(_EVERYTHING, 10, None).jobs

        order = [(job.created_at, job.id) for job in jobs]
        assert order == sorted(order, reverse=True)

    def test_finished_and_waiting_jobs_share_one_list(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [complete(claimed)], None)
        storage.clock_shift = 1_000
        waiting = make_job()
        storage.enqueue([waiting])

        assert [job.id for job in storage.list_jobs(_EVERYTHING, 10, None).jobs] == [waiting.id, claimed.id]

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
    def test_pages_give_every_job_once_in_order(self, storage: Storage, limit: int) -> None:
        ids = _enqueue_one_by_one(storage, 4)
        storage.clock_shift = 60_000
        storage.enqueue([make_job() for _ in range(3)])

        pages = _all_pages(storage, _EVERYTHING, limit)

        listed = [job_id for page in pages for job_id in page]
        assert sorted(listed[:3], reverse=True) == listed[:3]
        assert listed[3:] == ids[::-1]
        assert all(len(page) == limit for page in pages[:-1])

    def test_the_last_page_has_no_cursor(self, storage: Storage) -> None:
        _enqueue_one_by_one(storage, 3)

        assert storage.list_jobs(_EVERYTHING, 4, None).cursor is None
        assert storage.list_jobs(_EVERYTHING, 2, None).cursor is not None
        assert storage.list_jobs(JobFilter(queue="empty"), 2, None) == ([], None)

    def test_pages_stay_right_while_jobs_come_in(self, storage: Storage) -> None:
        ids = _enqueue_one_by_one(storage, 6)
        first = storage.list_jobs(_EVERYTHING, 2, None)

        storage.clock_shift = 60_000
        storage.enqueue([make_job() for _ in range(5)])
        second = storage.list_jobs(_EVERYTHING, 2, first.cursor)
        storage.enqueue([make_job() for _ in range(5)])
        third = storage.list_jobs(_EVERYTHING, 2, second.cursor)

        listed = [job.id for page in (first, second, third) for job in page.jobs]
        assert listed == ids[::-1]

    def test_a_cursor_holds_across_connections(self, storage: Storage, connect: Any) -> None:
        ids = _enqueue_one_by_one(storage, 3)
        cursor = storage.list_jobs(_EVERYTHING, 1, None).cursor

        page = connect().list_jobs(_EVERYTHING, 9, cursor)

        assert [job.id for job in page.jobs] == ids[1::-1]

    def test_a_cursor_that_is_none_is_refused(self, storage: Storage) -> None:
        with pytest.raises(StorageError):
            storage.list_jobs(_EVERYTHING, 1, "no cursor")
        with pytest.raises(StorageError):
            storage.dead_letters(1, "no cursor")

    def test_status_filters(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job() for _ in range(4)])
        a, b, c = claim(storage, worker, 3)
        storage.exchange(worker, [complete(a), dead(b)], None)
        by_status = {JobStatus.COMPLETE: {a.id}, JobStatus.DEAD: {b.id}, JobStatus.RUNNING: {c.id}}

        for status, ids in by_status.items():
            assert _found(storage, statuses=(status,)) == ids
        assert _found(storage, statuses=(JobStatus.COMPLETE, JobStatus.RUNNING)) == {a.id, c.id}
        assert _found(storage, statuses=(JobStatus.CANCELLED,)) == set()
        assert len(_found(storage, statuses=(JobStatus.PENDING,))) == 1

    def test_queue_and_task_filter(self, storage: Storage) -> None:
        mail = make_job(queue="mail", task_name="send")
        news = make_job(queue="news", task_name="send")
        other = make_job(queue="mail", task_name="Send")
        storage.enqueue([mail, news, other])

        assert _found(storage, queue="mail") == {mail.id, other.id}
        assert _found(storage, task_name="send") == {mail.id, news.id}
        assert _found(storage, queue="mail", task_name="send") == {mail.id}
        assert _found(storage, queue="mai") == set()

    def test_created_windows_filter_from_inclusive_to_exclusive(self, storage: Storage) -> None:
        ids = _enqueue_one_by_one(storage, 3)
        moments = [storage.get([job_id])[0].created_at for job_id in ids]

        assert _found(storage, created_after=moments[1]) == set(ids[1:])
        assert _found(storage, created_before=moments[1]) == set(ids[:1])
        assert _found(storage, created_after=moments[1], created_before=moments[2]) == {ids[1]}

    def test_finished_windows_filter_and_leave_out_what_has_not_finished(
        self, storage: Storage, worker: str
    ) -> None:
        storage.enqueue([make_job() for _ in range(4)])
        claims = claim(storage, worker, 3)
        for number, claimed in enumerate(claims):
            storage.clock_shift = 10_000 * number
            storage.exchange(worker, [complete(claimed)], None)
        ids = [c.id for c in claims]
        moments = [storage.get([job_id])[0].completed_at for job_id in ids]

        assert _found(storage, finished_after=moments[1]) == set(ids[1:])
        assert _found(storage, finished_before=moments[1]) == set(ids[:1])
        assert _found(storage, finished_after=moments[1], finished_before=moments[2]) == {ids[1]}
        assert _found(storage, finished_before=moments[2], created_after=0) == set(ids[:2])

    def test_error_text_filters_as_a_plain_substring(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job() for _ in range(4)])
        a, b, c, _ = claim(storage, worker, 4)
        storage.exchange(
            worker,
            [
                dead(a, error=error_info(type="ValueError", message="100% sure")),
                retry(b, 60.0, error=error_info(type="KeyError", message="'a_b' \\ [x]*")),
                dead(c, error=error_info(type="ValueError", message="1000 times")),
            ],
            None,
        )

        assert _found(storage, error="ValueError") == {a.id, c.id}
        assert _found(storage, error="valueerror") == set()
        assert _found(storage, error="100%") == {a.id}
        assert _found(storage, error="a_b") == {b.id}
        assert _found(storage, error="axb") == set()
        assert _found(storage, error="\\ [x]*") == {b.id}
        assert _found(storage, error="1%0") == set()

    def test_metadata_filters_by_equal_top_level_values(self, storage: Storage) -> None:
        values: dict[str, Any] = {
            "text": {"v": "1"},
            "integer": {"v": 1},
            "float": {"v": 1.5},
            "true": {"v": True},
            "false": {"v": False},
            "null": {"v": None},
            "nested": {"w": {"v": 1}, "v": [1]},
            "several": {"v": 2, "w": "x"},
        }
        storage.enqueue([make_job(id=name, metadata=json.dumps(data)) for name, data in values.items()])
        storage.enqueue([make_job(id="none")])

        assert _found(storage, metadata={"v": "1"}) == {"text"}
        assert _found(storage, metadata={"v": 1}) == {"integer"}
        assert _found(storage, metadata={"v": 1.5}) == {"float"}
        assert _found(storage, metadata={"v": True}) == {"true"}
        assert _found(storage, metadata={"v": False}) == {"false"}
        assert _found(storage, metadata={"v": None}) == {"null"}
        assert _found(storage, metadata={"v": 2, "w": "x"}) == {"several"}
        assert _found(storage, metadata={"v": 2, "w": "y"}) == set()
        assert _found(storage, metadata={"absent": "x"}) == set()

    @pytest.mark.parametrize("key", ["a.b", 'a"b', "a b", "$", "[0]", "ü", "a\\b", "", "'"])
    def test_metadata_keys_may_be_any_text(self, storage: Storage, key: str) -> None:
        wanted = make_job(metadata=json.dumps({key: "x"}))
        storage.enqueue([wanted, make_job(metadata=json.dumps({"a": {"b": "x"}, "b": "x"}))])

        assert _found(storage, metadata={key: "x"}) == {wanted.id}

    def test_a_tag_filters_whole_tags(self, storage: Storage) -> None:
        a = make_job(tags=("red", "big one"))
        b = make_job(tags=("redder",))
        storage.enqueue([a, b, make_job()])

        assert _found(storage, tag="red") == {a.id}
        assert _found(storage, tag="big one") == {a.id}
        assert _found(storage, tag="big") == set()
        assert _found(storage, tag="redder") == {b.id}

    def test_all_filters_that_are_set_must_match(self, storage: Storage, worker: str) -> None:
        wanted = make_job(queue="mail", tags=("x",), metadata='{"k": "v"}')
        storage.enqueue([wanted, make_job(queue="mail", tags=("x",)), make_job(queue="mail")])
        claims = claim(storage, worker, 9, queues=("mail",))
        storage.exchange(worker, [dead(c) for c in claims], None)
        where: dict[str, Any] = {
            "statuses": (JobStatus.DEAD,),
            "queue": "mail",
            "task_name": "job",
            "error": "wrong",
            "created_after": 0,
            "finished_before": storage.now() + 1_000,
        }

        assert _found(storage, **where) == {c.id for c in claims}
        assert _found(storage, **where, tag="x", metadata={"k": "v"}) == {wanted.id}
        assert _found(storage, **where, tag="y") == set()

    def test_filtered_pages_give_every_match_once(self, storage: Storage) -> None:
        jobs = [make_job(queue="odd" if number % 2 else "even") for number in range(20)]
        storage.enqueue(jobs)

        pages = _all_pages(storage, JobFilter(queue="odd"), 3)

        listed = [job_id for page in pages for job_id in page]
        assert sorted(listed) == sorted(job.id for job in jobs if job.queue == "odd")
        assert [len(page) for page in pages] == [3, 3, 3, 1]

    def test_dead_letters_come_in_pages_newest_first(self, storage: Storage, worker: str) -> None:
        storage.enqueue([make_job() for _ in range(5)])
        claims = claim(storage, worker, 5)
        for number, claimed in enumerate(claims):
            storage.clock_shift = number * 1_000
            storage.exchange(worker, [dead(claimed)], None)

        listed: list[str] = []
        cursor = None
        for expected in (2, 2, 1):
            page = storage.dead_letters(2, cursor)
            assert len(page.letters) == expected
            listed += [letter.job_id for letter in page.letters]
            cursor = page.cursor
        assert cursor is None
        assert listed == [c.id for c in claims][::-1]

    def test_no_dead_letters_are_an_empty_page(self, storage: Storage) -> None:
        assert storage.dead_letters(10, None) == ([], None)

    def test_letters_are_those_of_the_jobs_asked_for_that_have_one(
        self, storage: Storage, worker: str
    ) -> None:
        storage.enqueue([make_job() for _ in range(4)])
        one, other, unasked, living = claim(storage, worker, 4)
        storage.exchange(worker, [dead(one, DeadReason.NOT_RETRYABLE), dead(other), dead(unasked)], None)
        everybodys = {letter.job_id: letter for letter in storage.dead_letters(10, None).letters}

        found = storage.letters([living.id, other.id, "nobody", one.id, other.id])

        assert len(found) == 2
        assert {letter.job_id: letter for letter in found} == {
            job_id: everybodys[job_id] for job_id in (one.id, other.id)
        }
        assert everybodys[one.id].reason is DeadReason.NOT_RETRYABLE

    def test_letters_of_nobody_are_none(self, storage: Storage) -> None:
        assert storage.letters([]) == []
        assert storage.letters(["nobody", "a\0b", "\ud800"]) == []


def _found(storage: Storage, **where: Any) -> set[str]:
    page = storage.list_jobs(JobFilter(**where), 100, None)
    assert page.cursor is None
    return {job.id for job in page.jobs}


def _enqueue_one_by_one(storage: Storage, count: int) -> list[str]:
    """Jobs created a second apart; their ids, oldest first. Ids and ages run against each other."""
    ids = [f"{count - number:03}" for number in range(count)]
    for number, job_id in enumerate(ids):
        storage.clock_shift = number * 1_000
        storage.enqueue([make_job(id=job_id)])
    return ids


def _all_pages(storage: Storage, where: JobFilter, limit: int) -> list[list[str]]:
    pages: list[list[str]] = []
    cursor = None
    while True:
        page = storage.list_jobs(where, limit, cursor)
        pages.append([job.id for job in page.jobs])
        cursor = page.cursor
        if cursor is None:
            return pages
