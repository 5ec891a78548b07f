"""Notes of jobs on their way to the store: what travels when, and what is dropped."""

from __future__ import annotations

from taskito.worker.store.job_log import BATCH, MAX_ENTRIES, NEVER, PATIENCE, REPORT_INTERVAL, JobLogBuffer
from taskito_core.storage_worker import LogEntry, Progress


def line(number: int) -> LogEntry:
    return LogEntry(f"{number:032x}", "job1", "work", 1, 0, "info", f"line {number}", None)


def test_an_empty_buffer_is_never_due():
    notes = JobLogBuffer()

    assert notes.due() == NEVER
    assert notes.take() == []


def test_a_note_waits_a_moment_for_company_and_no_longer():
    notes = JobLogBuffer()

    notes.add(line(1), 10.0)
    notes.add(line(2), 10.05)

    assert notes.due() == 10.0 + PATIENCE
    assert notes.take() == [line(1), line(2)]
    assert notes.due() == NEVER


def test_only_the_newest_progress_of_a_job_travels():
    notes = JobLogBuffer()

    for percent in (1.0, 2.0, 3.0):
        notes.add(Progress("job1", percent), 0.0)
    notes.add(Progress("job2", 50.0), 0.0)

    assert notes.take() == [Progress("job1", 3.0), Progress("job2", 50.0)]


def test_what_the_store_did_not_take_comes_again_before_what_is_newer():
    notes = JobLogBuffer()
    notes.add(Progress("job1", 1.0), 0.0)
    notes.add(line(1), 0.0)
    batch = notes.take()
    notes.add(Progress("job1", 2.0), 1.0)
    notes.add(line(2), 1.0)

    notes.put_back(batch, 1.5)

    assert notes.take() == [Progress("job1", 2.0), line(1), line(2)]


def test_entries_travel_in_batches_and_the_rest_stays_due():
    notes = JobLogBuffer()
    for number in range(BATCH + 1):
        notes.add(line(number), 0.0)

    assert len(notes.take()) == BATCH
    assert notes.due() == PATIENCE
    assert notes.take() == [line(BATCH)]


def test_while_the_store_is_away_the_oldest_entries_are_dropped_and_reported(caplog):
    notes = JobLogBuffer()

    for number in range(MAX_ENTRIES + 5):
        notes.add(line(number), 0.0)
    notes.report_dropped(0.0)
    notes.add(line(MAX_ENTRIES + 5), 0.1)
    notes.report_dropped(0.1)
    notes.report_dropped(REPORT_INTERVAL)
    notes.report_dropped(2 * REPORT_INTERVAL)

    assert notes.take()[0] == line(6)
    first, second = caplog.messages
    assert first.startswith(
        "5 log entries of jobs were dropped, the oldest first: the store did not take them"
    )
    assert second.startswith("1 log entries")
