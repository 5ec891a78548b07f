"""Shutdown phases, peers, back-off and pace: pure, so they are tested with made-up times."""

from __future__ import annotations

import signal

import pytest

from taskito.worker.children.backoff import BootBackoff
from taskito.worker.dispatch.pace import FLOOR, UNKNOWN, Pace
from taskito.worker.store.lease import BEAT_INTERVAL, LEASE, PeerWatch
from taskito.worker.supervisor.shutdown import Phase, Shutdown
from taskito_core.storage_worker import Peer

INT, TERM, QUIT = signal.SIGINT, signal.SIGTERM, signal.SIGQUIT


@pytest.mark.parametrize(
    ("signals", "phase"),
    [
        ([], Phase.RUNNING),
        ([(INT, 0.0)], Phase.DRAINING),
        ([(INT, 0.0), (INT, 0.05)], Phase.DRAINING),
        ([(TERM, 0.0), (INT, 1.0)], Phase.INTERRUPTING),
        ([(INT, 0.0), (INT, 1.0), (INT, 1.2)], Phase.INTERRUPTING),
        ([(INT, 0.0), (INT, 1.0), (TERM, 2.1)], Phase.KILLING),
        ([(QUIT, 0.0)], Phase.INTERRUPTING),
        ([(QUIT, 10.0), (TERM, 10.1)], Phase.INTERRUPTING),
        ([(TERM, n / 200) for n in range(200)], Phase.INTERRUPTING),
    ],
)
def test_signals_lead_to_phases(signals, phase):
    shutdown = Shutdown(25.0)
    for signum, at in signals:
        shutdown.signal(signum, at)
    assert shutdown.phase is phase


def test_without_a_second_signal_the_worker_is_out_within_thirty_seconds():
    shutdown = Shutdown(25.0)
    shutdown.signal(TERM, 100.0)

    shutdown.tick(124.9)
    assert shutdown.phase is Phase.DRAINING
    shutdown.tick(125.0)
    assert shutdown.phase is Phase.INTERRUPTING
    shutdown.tick(128.0)
    assert shutdown.phase is Phase.KILLING
    assert shutdown.flush_by <= 130.0


@pytest.mark.parametrize(
    ("third", "interrupted", "unrecorded", "code"),
    [(None, 0, 0, 0), (None, 2, 0, 75), (None, 0, 1, 1), (INT, 1, 0, 130), (TERM, 0, 0, 143)],
)
def test_the_exit_code_says_how_it_ended(third, interrupted, unrecorded, code):
    shutdown = Shutdown(25.0)
    shutdown.signal(INT, 0.0)
    if third is not None:
        shutdown.signal(INT, 1.0)
        shutdown.signal(third, 3.0)
    assert shutdown.exit_code(interrupted, unrecorded) == code


def beats(watch: PeerWatch, start: float, seconds: float, beat: int | None) -> dict[str, int]:
    """Look every few seconds; ``beat`` None: the peer goes on beating."""
    suspects: dict[str, int] = {}
    for turn in range(int(seconds / BEAT_INTERVAL) + 1):
        peer = Peer("other", turn if beat is None else beat, "host")
        suspects = watch.look([peer], start + turn * BEAT_INTERVAL)
    return suspects


def test_a_peer_that_stands_still_for_a_whole_lease_is_suspect():
    watch = PeerWatch()
    assert beats(watch, 0.0, LEASE - BEAT_INTERVAL, beat=4) == {}
    assert watch.look([Peer("other", 4, "host")], LEASE) == {"other": 4}


def test_a_peer_that_beats_is_never_suspect():
    assert beats(PeerWatch(), 0.0, 10 * LEASE, beat=None) == {}


def test_after_an_outage_everybody_is_watched_anew():
    watch = PeerWatch()
    beats(watch, 0.0, 20.0, beat=4)

    assert watch.look([Peer("other", 4, "host")], 90.0) == {}
    assert watch.look([Peer("other", 4, "host")], 95.0) == {}


def test_a_peer_whose_processes_are_gone_needs_no_lease():
    assert PeerWatch().look([Peer("other", 4, "host")], 0.0, frozenset({"other"})) == {"other": 4}


def test_boot_failures_are_tried_again_ever_more_slowly():
    backoff = BootBackoff(lambda: 0.0)
    now, delays = 0.0, []
    for _ in range(12):
        delays.append(backoff.failed(now))
        now = backoff.not_before
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 30.0
    backoff.healthy()
    assert backoff.failed(now) == 0.1


def test_children_that_fail_of_one_cause_count_as_one_failure():
    backoff = BootBackoff(lambda: 0.0)
    backoff.failed(0.0)
    assert [backoff.failed(0.01) for _ in range(7)] == [pytest.approx(0.09)] * 7
    assert backoff.failed(0.2) == 0.2


def test_a_task_never_seen_is_taken_for_slow_until_it_is_seen():
    pace = Pace()
    assert pace.expected("new") == UNKNOWN
    pace.learn("new", 0.0)
    assert pace.expected("new") == FLOOR
