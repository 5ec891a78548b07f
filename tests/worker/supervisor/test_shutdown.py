"""Which signal or deadline leads to which phase, and to which exit code: with made-up times."""

from __future__ import annotations

import signal

import pytest

from taskito.worker.supervisor.shutdown import Phase, Shutdown

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
