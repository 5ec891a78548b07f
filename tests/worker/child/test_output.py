"""Text into lines: where they end, how many are kept, and who still writes when the job is over."""

from __future__ import annotations

import io
import sys

import pytest

from taskito.worker.child import output
from taskito.worker.child.output import LONGEST_LINE, MOST_KEPT, Capture


@pytest.fixture
def kept() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def capture(kept: list[tuple[str, str]]) -> Capture:
    return Capture(lambda note: kept.append((note[3], note[4])))


def test_a_line_is_kept_when_it_ends_however_it_was_written(capture, kept):
    for text in ("on", "e\ntwo\n", "", "thr"):
        capture.write("stdout", text)
    assert kept == [("stdout", "one"), ("stdout", "two")]

    capture.close()
    assert kept[2:] == [("stdout", "thr")]


def test_the_streams_do_not_end_each_others_lines(capture, kept):
    capture.write("stdout", "out ")
    capture.write("stderr", "err\n")
    capture.write("stdout", "again\n")

    assert kept == [("stderr", "err"), ("stdout", "out again")]


def test_a_progress_bar_becomes_its_last_line(capture, kept):
    capture.write("stderr", "\r  0%|          |")
    for step in range(1, 10_000):
        capture.write("stderr", f"\r{step // 100:3}%|##        |")
    capture.write("stderr", "\r100%|##########|\n")
    capture.write("stdout", "10%\r20%\rdone\r")
    capture.write("stdout", "\nline\r\n")
    capture.write("stdout", "half\rwhole\r")
    capture.close()

    assert kept == [
        ("stderr", "100%|##########|"),
        ("stdout", "done"),
        ("stdout", "line"),
        ("stdout", "whole"),
    ]


def test_a_line_that_does_not_end_is_kept_in_pieces(capture, kept):
    for _ in range(5):
        capture.write("stdout", "x" * (LONGEST_LINE // 2))

    assert [len(line) for _, line in kept] == [LONGEST_LINE, LONGEST_LINE]


def test_what_is_too_much_is_said_once(capture, kept):
    for _ in range(3):
        capture.write("stdout", ("x" * 1023 + "\n") * (MOST_KEPT // 1024))
    capture.write("stderr", "more\n")
    capture.close()

    assert len(kept) == MOST_KEPT // 1024 + 1
    assert kept[-1][1] == f"(what it printed beyond {MOST_KEPT} characters was not kept)"


def test_after_the_end_a_thread_of_the_job_prints_where_all_others_do(capture, kept):
    capture.close()

    assert not capture.write("stdout", "late\n")
    assert kept == []


def test_streams_that_somebody_else_put_in_stay(monkeypatch, kept):
    def swap() -> None:
        sys.stdout = mine

    mine = io.StringIO()
    monkeypatch.setattr(sys, "stdout", sys.stdout)

    output.captured(kept.append, swap)

    assert sys.stdout is mine


def test_a_process_without_streams_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)

    assert output.captured(lambda note: None, lambda: sys.stdout) is None
