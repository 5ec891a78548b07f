"""The slot table: entries of one child do not meet, and a request meets the run that it names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskito.worker.ipc.slots import SlotTable


@pytest.fixture
def table() -> Iterator[SlotTable]:
    table = SlotTable.create(3, entries=2)
    yield table
    table.close()


def test_a_child_may_be_inside_of_as_many_jobs_as_it_has_entries(table: SlotTable) -> None:
    table.begin(1, 7, 1.5, entry=0)
    table.begin(1, 9, 2.5, entry=1)
    assert table.read(1) == ({7: 1.5, 9: 2.5}, 0)

    table.end(1, 1, entry=0)

    assert table.read(1) == ({9: 2.5}, 1)
    assert table.read(0) == table.read(2) == ({}, 0)
    table.clear(1)
    assert table.read(1) == ({}, 0)


def test_requests_reach_the_entry_of_the_run_they_name(table: SlotTable) -> None:
    table.begin(1, 7, 1.5, entry=0)
    table.begin(1, 9, 2.5, entry=1)

    table.set_interrupt(1, 9)
    table.set_cancel(1, 9)
    table.set_cancel(1, 8)

    assert [table.interrupt_seq(1, entry) for entry in (0, 1)] == [0, 9]
    assert [table.cancel_seq(1, entry) for entry in (0, 1)] == [0, 9]
    table.interrupt_taken(1, 1)
    assert table.interrupt_seq(1, 1) == 0
