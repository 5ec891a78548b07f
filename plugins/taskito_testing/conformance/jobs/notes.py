"""What running jobs say: progress and log entries, who reads them and who waits for them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from taskito_core.storage import Storage
from taskito_core.storage_client import LogFilter
from taskito_core.storage_worker import LogEntry, Progress
from taskito_testing.conformance.base import PATIENCE, ConformanceBase, Connect
from taskito_testing.factories import complete, enqueue_and_claim, make_job, make_log, retry


class Notes(ConformanceBase):
    def test_the_newest_progress_of_a_job_wins(self, storage: Storage, worker: str) -> None:
        mine, other = enqueue_and_claim(storage, worker), enqueue_and_claim(storage, worker)
        assert storage.get([mine.id])[0].progress is None

        storage.note([Progress(mine.id, 1.0), Progress(other.id, 7.5), Progress(mine.id, 99.25)])
        assert storage.get([mine.id])[0].progress == 99.25
        storage.note([Progress(mine.id, 3.0)])

        assert storage.get([mine.id])[0].progress == 3.0
        assert storage.get([other.id])[0].progress == 7.5

    def test_progress_stays_when_the_job_ends(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.note([Progress(claimed.id, 50.0)])
        storage.exchange(worker, [complete(claimed)], None)

        assert storage.get([claimed.id])[0].progress == 50.0
        storage.note([Progress(claimed.id, 100.0)])
        assert storage.get([claimed.id])[0].progress == 100.0

    def test_a_log_entry_comes_back_as_it_went(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        entry = make_log(
            claimed.id,
            task_name="büro.mail",
            token=claimed.token,
            logged_at=1_700_000_000_001,
            level="published",
            message="viele\nZeilen ☃" * 100,
            extra='{"a": [1, null]}',
        )

        storage.note([entry])

        assert storage.logs(LogFilter(), 9) == [entry]

    def test_an_entry_sent_twice_is_stored_once(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        first, second = make_log(claimed.id, id="1"), make_log(claimed.id, id="2")

        storage.note([first])
        storage.note([first._replace(message="changed"), second, second])

        assert storage.logs(LogFilter(), 9) == [first, second]

    def test_what_unknown_jobs_say_is_dropped_and_the_rest_kept(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)
        entry = make_log(claimed.id)

        storage.note([make_log("unknown"), Progress("unknown", 1.0), entry, Progress(claimed.id, 2.0)])

        assert storage.logs(LogFilter(), 9) == [entry]
        assert storage.get([claimed.id])[0].progress == 2.0

    def test_nothing_said_is_no_error(self, storage: Storage) -> None:
        storage.note([])

        assert storage.logs(LogFilter(), 9) == []

    def test_entries_come_oldest_first_by_id_and_no_more_than_the_limit(
        self, storage: Storage, worker: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        entries = [make_log(claimed.id, id=f"{n:02}", logged_at=100 - n) for n in range(6)]
        storage.note(entries[::-1])

        assert storage.logs(LogFilter(), 4) == entries[:4]
        assert storage.logs(LogFilter(after="03"), 9) == entries[4:]

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            (LogFilter(), "abcd"),
            (LogFilter(job_id="one"), "abc"),
            (LogFilter(task_name="news"), "bd"),
            (LogFilter(levels=("info",)), "ad"),
            (LogFilter(levels=("error", "debug")), "bc"),
            (LogFilter(since=2_000), "bcd"),
            (LogFilter(after="b"), "cd"),
            (LogFilter(job_id="one", levels=("info", "error"), since=1_000, after="a"), "b"),
            (LogFilter(job_id="two", task_name="job"), ""),
        ],
        ids=["all", "job", "task", "level", "levels", "since", "after", "everything", "nothing"],
    )
    def test_every_field_of_a_filter_must_match(
        self, storage: Storage, where: LogFilter, expected: str
    ) -> None:
        storage.enqueue([make_job(id="one"), make_job(id="two")])
        said: list[LogEntry] = [
            make_log("one", id="a", logged_at=1_000, level="info"),
            make_log("one", id="b", logged_at=2_000, level="error", task_name="news"),
            make_log("one", id="c", logged_at=3_000, level="debug"),
            make_log("two", id="d", logged_at=4_000, level="info", task_name="news"),
        ]
        storage.note(said)

        assert "".join(entry.id for entry in storage.logs(where, 9)) == expected

    def test_waiting_for_entries_returns_at_once_if_there_are_some(
        self, storage: Storage, worker: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.note([make_log(claimed.id, id="5")])

        assert storage.await_logs(claimed.id, None, 0.0) is True
        assert storage.await_logs(claimed.id, "4", 0.0) is True
        assert storage.await_logs(claimed.id, "5", 0.0) is False

    def test_waiting_for_entries_ends_with_its_timeout(self, storage: Storage, worker: str) -> None:
        claimed = enqueue_and_claim(storage, worker)

        assert storage.await_logs(claimed.id, None, 0.05) is False

    def test_a_job_that_has_finished_or_is_unknown_is_not_waited_for(
        self, storage: Storage, worker: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        storage.exchange(worker, [complete(claimed)], None)

        assert storage.await_logs(claimed.id, None, PATIENCE) is True
        assert storage.await_logs("unknown", None, PATIENCE) is True

    @pytest.mark.parametrize("what", ["an entry", "the end", "a cancel"])
    def test_who_waits_for_entries_is_told(
        self, storage: Storage, connect: Connect, worker: str, what: str
    ) -> None:
        claimed = enqueue_and_claim(storage, worker)
        if what == "a cancel":
            storage.exchange(worker, [retry(claimed)], None)
        reader = connect()
        begun = time.monotonic()

        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(reader.await_logs, claimed.id, None, PATIENCE)
            if what == "an entry":
                storage.note([make_log(claimed.id)])
            elif what == "the end":
                storage.exchange(worker, [complete(claimed)], None)
            else:
                storage.cancel([claimed.id], "no")

            assert waiting.result() is True
        assert time.monotonic() - begun < PATIENCE / 2
