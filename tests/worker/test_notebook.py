"""What jobs said on its way to the store, and the upkeep that comes round."""

from __future__ import annotations

import pytest

from taskito.worker.store.job_log import BATCH, MAX_ENTRIES, NEVER, PATIENCE, Notebook
from taskito.worker.store.rounds import INTERVALS, Round, Rounds
from taskito_core.storage_worker import LogEntry, Progress


def line(number: int) -> LogEntry:
    return LogEntry(f"{number:032x}", "job1", "work", 1, 0, "info", f"line {number}", None)


def test_an_empty_notebook_is_never_due():
    book = Notebook()

    assert book.due() == NEVER
    assert book.take() == []


def test_a_note_waits_a_moment_for_company_and_no_longer():
    book = Notebook()

    book.add(line(1), 10.0)
    book.add(line(2), 10.05)

    assert book.due() == 10.0 + PATIENCE
    assert book.take() == [line(1), line(2)]
    assert book.due() == NEVER


def test_only_the_newest_progress_of_a_job_travels():
    book = Notebook()

    for percent in (1.0, 2.0, 3.0):
        book.add(Progress("job1", percent), 0.0)
    book.add(Progress("job2", 50.0), 0.0)

    assert book.take() == [Progress("job1", 3.0), Progress("job2", 50.0)]


def test_what_the_store_did_not_take_comes_again_before_what_is_newer():
    book = Notebook()
    book.add(Progress("job1", 1.0), 0.0)
    book.add(line(1), 0.0)
    batch = book.take()
    book.add(Progress("job1", 2.0), 1.0)
    book.add(line(2), 1.0)

    book.put_back(batch, 1.5)

    assert book.take() == [Progress("job1", 2.0), line(1), line(2)]


def test_entries_travel_in_batches_and_the_rest_stays_due():
    book = Notebook()
    for number in range(BATCH + 1):
        book.add(line(number), 0.0)

    assert len(book.take()) == BATCH
    assert book.due() == PATIENCE
    assert book.take() == [line(BATCH)]


def test_while_the_store_is_away_the_oldest_entries_are_dropped_and_counted():
    book = Notebook()

    for number in range(MAX_ENTRIES + 5):
        book.add(line(number), 0.0)

    assert book.dropped == 5
    assert book.take()[0] == line(5)


def test_every_round_is_due_at_first_and_then_after_its_interval():
    rounds = Rounds()
    done = []

    while (what := rounds.due(100.0)) is not None:
        done.append(what)
        rounds.done(what, 100.0)

    assert sorted(done) == sorted(Round)
    assert rounds.next() == 100.0 + min(INTERVALS.values())


@pytest.mark.parametrize(
    ("pause", "due"), [(0.5, 100.5), (-3.0, 100.0), (1e9, 100.0 + INTERVALS[Round.SWEEP])]
)
def test_a_round_comes_sooner_if_something_is_known_and_never_later_than_its_interval(pause, due):
    rounds = Rounds()
    for what in Round:
        rounds.done(what, 1000.0)

    rounds.done(Round.SWEEP, 100.0, pause)

    assert rounds.next() == due


def test_what_becomes_known_later_moves_a_round_forward_and_never_back():
    rounds = Rounds()
    for what in Round:
        rounds.done(what, 100.0)

    rounds.sooner(Round.FIRE, 101.0)
    rounds.sooner(Round.FIRE, 150.0)

    assert rounds.due(101.0) is Round.FIRE
