"""The fixtures of the fault tests: a real worker on each backend, and its app."""

from __future__ import annotations

from tests.faults.conftest import app, start_worker

__all__ = ["app", "start_worker"]
