"""The storage contract as tests: one class to subclass, one URL to give.

Every topic is a mixin in a file of its own; the public name is the union of all of them,
so nobody can forget one. Names of tests are part of the public interface.
"""

from taskito_core.testing.conformance.claim import Claiming
from taskito_core.testing.conformance.fence import Fence
from taskito_core.testing.conformance.moves import Moves
from taskito_core.testing.conformance.order import Order
from taskito_core.testing.conformance.surface import Surface

__all__ = ["StorageConformance"]


class StorageConformance(Surface, Moves, Fence, Order, Claiming):
    """Subclass it as ``TestSomething`` and define the fixture ``storage_url``: an EMPTY database per test."""
