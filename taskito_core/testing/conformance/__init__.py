"""The contracts of all a plugin may offer, as tests: one class to subclass, one URL to give.

Every topic is a mixin in a file of its own; the public name is the union of all of them,
so nobody can forget one. Names of tests are part of the public interface.
"""

from taskito_core.testing.conformance.atomicity import Atomicity
from taskito_core.testing.conformance.await_finished import AwaitFinished
from taskito_core.testing.conformance.breaker import CircuitBreakerConformance
from taskito_core.testing.conformance.cancel import Cancelling
from taskito_core.testing.conformance.claim import Claiming
from taskito_core.testing.conformance.counts import Counting
from taskito_core.testing.conformance.crash import Crash
from taskito_core.testing.conformance.deleting import Deleting
from taskito_core.testing.conformance.dependencies import Dependencies
from taskito_core.testing.conformance.errors import Errors
from taskito_core.testing.conformance.expiry import Expiry
from taskito_core.testing.conformance.facts import Knowing
from taskito_core.testing.conformance.fence import Fence
from taskito_core.testing.conformance.fork import Forking
from taskito_core.testing.conformance.heartbeat import Heartbeat
from taskito_core.testing.conformance.keys import Keys
from taskito_core.testing.conformance.lanes import Lanes
from taskito_core.testing.conformance.limiter import RateLimiterConformance
from taskito_core.testing.conformance.listing import Listing
from taskito_core.testing.conformance.metrics import MetricsConformance
from taskito_core.testing.conformance.model import Model
from taskito_core.testing.conformance.moves import Moves
from taskito_core.testing.conformance.notes import Notes
from taskito_core.testing.conformance.order import Order
from taskito_core.testing.conformance.pausing import Capping, Pausing
from taskito_core.testing.conformance.prune import Pruning
from taskito_core.testing.conformance.repeating import Repeating
from taskito_core.testing.conformance.rescue import Rescue
from taskito_core.testing.conformance.resend import Resending
from taskito_core.testing.conformance.roundtrip import RoundTrip
from taskito_core.testing.conformance.schedules import Schedules
from taskito_core.testing.conformance.schema import Schema
from taskito_core.testing.conformance.settle import Settling
from taskito_core.testing.conformance.surface import Surface
from taskito_core.testing.conformance.transactions import Transactions
from taskito_core.testing.conformance.unique import Unique
from taskito_core.testing.conformance.wakeups import Hearing

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
    Listing,
    Counting,
    Pruning,
    Expiry,
    Unique,
    Dependencies,
    Keys,
    Pausing,
    Capping,
    Cancelling,
    Repeating,
    Deleting,
    Notes,
    Schedules,
    Knowing,
    Transactions,
    Model,
    Errors,
    Forking,
    Crash,
):
    """Subclass it as ``TestSomething`` and define the fixture ``storage_url``: an EMPTY database per test."""
