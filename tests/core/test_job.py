"""Ids, the state machine as data, and texts that every store can keep."""

from __future__ import annotations

import time
import uuid

import pytest

from taskito_core.job import (
    FINISHED,
    MOVES,
    ErrorInfo,
    ErrorKind,
    JobStatus,
    Move,
    clean_text,
    new_id,
)


def test_ids_are_uuids_of_version_7_and_say_when_they_were_made() -> None:
    made = new_id()

    parsed = uuid.UUID(made)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert abs(int(made[:12], 16) - time.time() * 1000) < 60_000


def test_only_reviving_leads_out_of_a_finished_state_and_each_other_one_is_left() -> None:
    before = {transition.before for move, transition in MOVES.items() if move is not Move.REVIVE}

    assert before == set(JobStatus) - FINISHED
    assert all(status.finished for status in FINISHED)
    assert {transition.after for transition in MOVES.values()} == set(JobStatus)


@pytest.mark.parametrize(
    ("text", "kept"),
    [("plain ü \n", "plain ü \n"), ("a\0b", "a\\x00b"), ("\ud800", "\\ud800"), ("", "")],
    ids=["plain", "NUL", "surrogate", "empty"],
)
def test_what_a_store_cannot_keep_is_shown_by_its_escape(text: str, kept: str) -> None:
    assert clean_text(text) == kept


def test_a_long_text_loses_its_middle() -> None:
    cleaned = clean_text("a" * 500 + "z" * 500, 10)

    assert cleaned == "aaaaa\n[... 990 characters left out ...]\nzzzzz"


def test_a_summary_is_one_line() -> None:
    assert ErrorInfo(ErrorKind.RAISED, "E", "one\ntwo").summary == "E: one"
    assert ErrorInfo(ErrorKind.RAISED, "E", "").summary == "E"
    assert len(ErrorInfo(ErrorKind.RAISED, "E", "x" * 999).summary) == 500
