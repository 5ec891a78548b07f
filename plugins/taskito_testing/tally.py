"""A pytest plugin for ``taskito_testing.check``: what passed, and what did not run for which reason."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from taskito.config.settings import mask_url
from taskito_core.storage import Capability
from taskito_testing.opening import open_storage

_outcomes: Counter[str] = Counter()
_skipped: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or not report.passed:
        _outcomes[report.outcome] += 1
    if report.skipped and isinstance(report.longrepr, tuple):
        _skipped[report.longrepr[2].removeprefix("Skipped: ")] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End with a table. Absence is printed, never silent."""
    url = os.environ.get("TASKITO_CHECK_URL")
    if not url:
        return
    storage = open_storage(url)
    powers = [
        f"{power} {'claimed' if power in storage.capabilities else 'not claimed'}" for power in Capability
    ]
    storage.close()
    write = terminalreporter.write_line
    terminalreporter.section(mask_url(url))
    write(f"required: {_outcomes['passed']} passed, {_outcomes['failed']} failed")
    write(f"optional: {', '.join(powers)}")
    for reason, count in _skipped.most_common():
        write(f"not run: {count} ({reason})")
