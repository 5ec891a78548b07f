"""What an ended attempt adds to the metrics. Pure."""

from __future__ import annotations

from taskito_core.job import Claim
from taskito_core.metrics import Tallies
from taskito_core.retry import Crashed, Raised, Returned

#: How attempts end that count. One that was handed back, or whose result was lost with its process, has
#: not finished.
FINISHED = (Returned, Raised, Crashed)


def measure(
    tallies: Tallies, claim: Claim, succeeded: bool, started_at: int, ran: float, peak_memory: int
) -> None:
    """Count an attempt that began at ``started_at`` by the store's clock and ran ``ran`` seconds."""
    # Two machines' clocks may have had a part in it: no wait is negative.
    waited = max(0, started_at - claim.due_at) / 1000
    tallies.of(claim.task_name, claim.queue).add(succeeded, ran, waited, peak_memory)
