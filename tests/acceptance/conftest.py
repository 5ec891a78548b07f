"""The fixtures of the fault tests, for runs of thousands of jobs."""

from __future__ import annotations

from tests.faults.conftest import app, start_worker

__all__ = ["app", "start_worker"]
