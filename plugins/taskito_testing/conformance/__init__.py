"""The contracts of all a plugin may offer, as tests: one class to subclass, one URL to give.

Every topic is a mixin in a file of its own; the public name is the union of all of them,
so none can be forgotten. Names of tests are part of the public interface.
"""

from taskito_testing.conformance.atomicity import Atomicity
from taskito_testing.conformance.await_finished import AwaitFinished
from taskito_testing.conformance.breaker import CircuitBreakerConformance
from taskito_testing.conformance.cancel import Cancelling
from taskito_testing.conformance.claim import Claiming
from taskito_testing.conformance.counts import Counting
from taskito_testing.conformance.crash import Crash
from taskito_testing.conformance.deleting import Deleting
from taskito_testing.conformance.dependencies import Dependencies
from taskito_testing.conformance.errors import Errors
from taskito_testing.conformance.expiry import Expiry
from taskito_testing.conformance.facts import Knowing
from taskito_testing.conformance.fence import Fence
from taskito_testing.conformance.fork import Forking
from taskito_testing.conformance.heartbeat import Heartbeat
from taskito_testing.conformance.keys import Keys
from taskito_testing.conformance.lanes import Lanes
from taskito_testing.conformance.limiter import RateLimiterConformance
from taskito_testing.conformance.listing import Listing
from taskito_testing.conformance.metrics import MetricsConformance
from taskito_testing.conformance.model import Model
from taskito_testing.conformance.moves import Moves
from taskito_testing.conformance.notes import Notes
from taskito_testing.conformance.order import Order
from taskito_testing.conformance.pausing import Capping, Pausing
from taskito_testing.conformance.prune import Pruning
from taskito_testing.conformance.repeating import Repeating
from taskito_testing.conformance.rescue import Rescue
from taskito_testing.conformance.resend import Resending
from taskito_testing.conformance.roundtrip import RoundTrip
from taskito_testing.conformance.schedules import Schedules
from taskito_testing.conformance.schema import Schema
from taskito_testing.conformance.settle import Settling
from taskito_testing.conformance.surface import Surface
from taskito_testing.conformance.texts import Texts
from taskito_testing.conformance.transactions import Transactions
from taskito_testing.conformance.unique import Unique
from taskito_testing.conformance.wakeups import Hearing

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
    Texts,
    Transactions,
    Model,
    Errors,
    Forking,
    Crash,
):
    """Subclass it as ``TestSomething`` and define the fixture ``storage_url``: an EMPTY database per test."""
