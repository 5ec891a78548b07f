"""The app: one queue, one task. Where the jobs are kept is decided by TASKITO_* settings alone."""

from __future__ import annotations

from measure import UNPARSABLE, Measurement, measure
from taskito import Queue

queue = Queue()


@queue.task(name="measure", dont_retry_on=UNPARSABLE, timeout=120)
def measure_file(path: str) -> Measurement:
    """Measure one source file. One that does not parse goes to the dead letter at once."""
    return measure(path)
