"""What goes in comes out: every byte, every letter, every millisecond."""

from __future__ import annotations

import json

import pytest

from taskito_core.job import Job, JobStatus
from taskito_core.storage import Storage
from taskito_testing.conformance.base import ConformanceBase
from taskito_testing.factories import (
    claim,
    complete,
    dead,
    enqueue_and_claim,
    error_info,
    make_job,
    make_worker,
    want,
)

_BYTES = {
    "empty": b"",
    "one zero": b"\0",
    "every byte": bytes(range(256)),
    "looks like text": b"\\x41 {1,2} %s 'quoted' \"twice\"",
    "not utf-8": b"\xff\xfe\xfa" * 50,
    "a mebibyte": bytes(range(256)) * 4096,
}
_TEXTS = {
    "umlauts": "prüfung-straße",
    "emoji": "📬 post 👩‍👩‍👧",
    "right to left": "מכתבים",
    "quotes": 'o\'clock "now" `then`',
    "sql": "'; DROP TABLE jobs; --",
    "patterns": "100% _under_ %s {} $1 ?",
    "blanks": "  two words  ",
    "backslashes": "a\\b\\n",
    "dots and slashes": "app.mail/today:send",
    "long": "q" * 200,
}
_each_bytes = pytest.mark.parametrize("data", list(_BYTES.values()), ids=list(_BYTES))
_each_text = pytest.mark.parametrize("text", list(_TEXTS.values()), ids=list(_TEXTS))


class RoundTrip(ConformanceBase):
    @_each_bytes
    def test_a_payload_comes_back_byte_by_byte(self, storage: Storage, worker: str, data: bytes) -> None:
        claimed = enqueue_and_claim(storage, worker, payload=data)

        assert claimed.payload == data
        assert _row(storage, claimed.id).payload == data

    @_each_bytes
    def test_a_result_comes_back_byte_by_byte(self, storage: Storage, worker: str, data: bytes) -> None:
        claimed = enqueue_and_claim(storage, worker)

        storage.exchange(worker, [complete(claimed, data)], None)

        assert _row(storage, claimed.id).result == data

    @_each_text
    def test_a_queue_may_have_any_name(self, storage: Storage, worker: str, text: str) -> None:
        claimed = enqueue_and_claim(storage, worker, queue=text)

        assert claimed.queue == text
        assert _row(storage, claimed.id).queue == text
        assert list(storage.counts().by_queue) == [text]

    @_each_text
    def test_a_task_may_have_any_name(self, storage: Storage, worker: str, text: str) -> None:
        claimed = enqueue_and_claim(storage, worker, task_name=text)

        assert claimed.task_name == text
        assert _row(storage, claimed.id).task_name == text

    @_each_text
    def test_an_id_may_be_any_text(self, storage: Storage, worker: str, text: str) -> None:
        claimed = enqueue_and_claim(storage, worker, id=text)
        answer = storage.exchange(worker, [complete(claimed)], None)

        assert answer.recorded == {text}
        assert _row(storage, text).status is JobStatus.COMPLETE

    @_each_text
    def test_errors_keep_their_words(self, storage: Storage, worker: str, text: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        error = error_info(type=text, message=f"{text}\n{text}", traceback=f"\t{text}\r\n")

        storage.exchange(worker, [dead(claimed, error=error)], None)

        [row] = storage.errors(claimed.id)
        [letter] = storage.dead_letters(9, None).letters
        assert (row.type, row.message, row.traceback) == (error.type, error.message, error.traceback)
        assert (letter.error, letter.traceback) == (error.summary, error.traceback)
        assert _row(storage, claimed.id).error == error.summary

    @_each_text
    def test_tags_and_workers_keep_their_words(self, storage: Storage, text: str) -> None:
        job = make_job(tags=(text, "plain", f"{text},{text}"))
        me = make_worker(id=text, host=text, app=text, queues=(text, "default"), tasks=(text,))
        storage.enqueue([job])

        storage.register(me)

        assert _row(storage, job.id).tags == job.tags
        [info] = storage.workers()
        assert (info.id, info.host, info.app, info.queues, info.tasks) == (
            me.id,
            me.host,
            me.app,
            me.queues,
            me.tasks,
        )

    def test_every_field_of_a_new_job_comes_back(self, storage: Storage) -> None:
        new = make_job(
            task_name="mail.send",
            payload=b"\1\2",
            queue="mail",
            priority=-7,
            scheduled_at=1_700_000_000_001,
            max_retries=5,
            timeout=12.25,
            result_ttl=0.5,
            metadata=json.dumps({"user": 7, "name": "Ümit", "nested": {"list": [1, None, True]}}),
            tags=("b", "a"),
        )
        before = storage.now()

        storage.enqueue([new])

        job = _row(storage, new.id)
        assert job == Job(
            id=new.id,
            task_name="mail.send",
            queue="mail",
            status=JobStatus.PENDING,
            payload=b"\1\2",
            result=None,
            error=None,
            priority=-7,
            created_at=job.created_at,
            scheduled_at=1_700_000_000_001,
            claimed_at=None,
            started_at=None,
            completed_at=None,
            retry_count=0,
            max_retries=5,
            crashes=0,
            interruptions=0,
            timeout=12.25,
            result_ttl=0.5,
            worker=None,
            token=None,
            metadata=new.metadata,
            tags=("b", "a"),
        )
        assert before <= job.created_at <= storage.now()

    def test_what_was_not_said_comes_back_as_not_said(self, storage: Storage) -> None:
        new = make_job()

        storage.enqueue([new])

        job = _row(storage, new.id)
        assert (job.max_retries, job.timeout, job.result_ttl, job.metadata) == (None, None, None, None)
        assert (job.queue, job.priority, job.tags) == ("default", 0, ())
        assert job.scheduled_at == job.created_at

    def test_zero_is_not_the_same_as_not_said(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker, max_retries=0, timeout=0.0, result_ttl=0.0)

        job = _row(storage, claimed.id)
        assert (job.max_retries, job.timeout, job.result_ttl) == (0, 0.0, 0.0)
        assert (claimed.max_retries, claimed.timeout) == (0, 0.0)

    @pytest.mark.parametrize("moment", [1, 999, 1_700_000_000_001, 253_402_300_799_999])
    def test_a_moment_is_kept_to_the_millisecond(self, storage: Storage, moment: int) -> None:
        new = make_job(scheduled_at=moment)

        storage.enqueue([new])

        assert _row(storage, new.id).scheduled_at == moment

    @pytest.mark.parametrize("delay", [0.0, 0.001, 0.25, 1.5, 86_400.0])
    def test_a_delay_counts_from_the_insert(self, storage: Storage, delay: float) -> None:
        new = make_job(delay=delay)

        storage.enqueue([new])

        job = _row(storage, new.id)
        assert job.scheduled_at - job.created_at == round(delay * 1000)

    @pytest.mark.parametrize("priority", [-1_000_000_000, -1, 0, 1, 1_000_000_000])
    def test_a_priority_is_kept(self, storage: Storage, priority: int) -> None:
        new = make_job(priority=priority)

        storage.enqueue([new])

        assert _row(storage, new.id).priority == priority

    def test_the_largest_token_is_kept(self, storage: Storage, worker: str) -> None:
        token = 2**63 - 1
        storage.enqueue([make_job()])

        [claimed] = storage.exchange(worker, [], want(1, token=token)).claims
        answer = storage.exchange(worker, [complete(claimed)], None)

        assert answer.recorded == {claimed.id}
        assert _row(storage, claimed.id).token == token

    def test_a_large_batch_comes_back_whole(self, storage: Storage, worker: str) -> None:
        jobs = [
            make_job(
                id=f"{number:05}\t,\\",
                payload=bytes([number % 256]) * (number % 7),
                metadata=None if number % 3 else json.dumps({"n": number, "tab": "\t\\N\n"}),
                tags=(f"tag {number}", "\\N") if number % 2 else (),
                timeout=number / 8,
                scheduled_at=1_700_000_000_000 + number,
            )
            for number in range(3_000)
        ]

        receipts = storage.enqueue(jobs)

        assert [(receipt.id, receipt.inserted) for receipt in receipts] == [(job.id, True) for job in jobs]
        stored = {job.id: job for job in storage.get([job.id for job in jobs])}
        for job in jobs:
            row = stored[job.id]
            assert (row.payload, row.metadata, row.tags) == (job.payload, job.metadata, job.tags)
            assert (row.timeout, row.scheduled_at) == (job.timeout, job.scheduled_at)
        assert [c.id for c in claim(storage, worker, 3)] == [job.id for job in jobs[:3]]


def _row(storage: Storage, job_id: str) -> Job:
    [job] = storage.get([job_id])
    return job
