"""The contracts of all a plugin may offer, as tests: one class to subclass, one URL to give.

Every topic is a mixin in a file of its own; the public name is the union of all of them,
so none can be forgotten. Names of tests are part of the public interface.
"""

from taskito_testing.conformance.attempts.claim import Claiming
from taskito_testing.conformance.attempts.crash import Crash
from taskito_testing.conformance.attempts.fence import Fence
from taskito_testing.conformance.attempts.heartbeat import Heartbeat
from taskito_testing.conformance.attempts.lanes import Lanes
from taskito_testing.conformance.attempts.moves import Moves
from taskito_testing.conformance.attempts.order import Order
from taskito_testing.conformance.attempts.rescue import Rescue
from taskito_testing.conformance.attempts.resend import Resending
from taskito_testing.conformance.attempts.settle import Settling
from taskito_testing.conformance.attempts.wakeups import Hearing
from taskito_testing.conformance.errors import Errors
from taskito_testing.conformance.fork import Forking
from taskito_testing.conformance.jobs.atomicity import Atomicity
from taskito_testing.conformance.jobs.cancel import Cancelling
from taskito_testing.conformance.jobs.clock import ClockSetBack
from taskito_testing.conformance.jobs.deleting import Deleting
from taskito_testing.conformance.jobs.dependencies import Dependencies
from taskito_testing.conformance.jobs.expiry import Expiry
from taskito_testing.conformance.jobs.keys import Keys
from taskito_testing.conformance.jobs.missing_parents import MissingParents
from taskito_testing.conformance.jobs.notes import Notes
from taskito_testing.conformance.jobs.pausing import Capping, Pausing
from taskito_testing.conformance.jobs.prune import Pruning
from taskito_testing.conformance.jobs.repeating import Repeating
from taskito_testing.conformance.jobs.retention import Retaining
from taskito_testing.conformance.jobs.reviving import Reviving
from taskito_testing.conformance.jobs.roundtrip import RoundTrip
from taskito_testing.conformance.jobs.schedules import Schedules
from taskito_testing.conformance.jobs.spacing import Spacing
from taskito_testing.conformance.jobs.transactions import Transactions
from taskito_testing.conformance.jobs.unique import Unique
from taskito_testing.conformance.limits.breaker import CircuitBreakerConformance
from taskito_testing.conformance.limits.limiter import RateLimiterConformance
from taskito_testing.conformance.limits.queues import QueueLimiting
from taskito_testing.conformance.metrics import MetricsConformance
from taskito_testing.conformance.model import Model
from taskito_testing.conformance.reading.await_any import AwaitAny
from taskito_testing.conformance.reading.await_finished import AwaitFinished
from taskito_testing.conformance.reading.counts import Counting
from taskito_testing.conformance.reading.facts import Knowing
from taskito_testing.conformance.reading.listing import Listing
from taskito_testing.conformance.reading.texts import Texts
from taskito_testing.conformance.schema import Schema
from taskito_testing.conformance.surface import Surface

__all__ = [
    "CircuitBreakerConformance",
    "MetricsConformance",
    "RateLimiterConformance",
    "StorageConformance",
]


class StorageConformance(
    Surface,
    Schema,
    RoundTrip,
    Atomicity,
    Moves,
    Settling,
    Fence,
    Resending,
    Order,
    Claiming,
    Lanes,
    Heartbeat,
    Rescue,
    Hearing,
    AwaitFinished,
    AwaitAny,
    Listing,
    Counting,
    Pruning,
    QueueLimiting,
    Retaining,
    ClockSetBack,
    Expiry,
    Unique,
    Dependencies,
    MissingParents,
    Keys,
    Pausing,
    Capping,
    Cancelling,
    Repeating,
    Reviving,
    Deleting,
    Notes,
    Schedules,
    Spacing,
    Knowing,
    Texts,
    Transactions,
    Model,
    Errors,
    Forking,
    Crash,
):
    """Subclass it as ``TestSomething`` and define the fixture ``storage_url``: an EMPTY database per test."""
