"""Two real servers whose clocks differ change places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from tests.faults.clock import SetClock
from tests.faults.harness import Worker, finished, wait_until
from tests.faults.proxy import Wire
from tools.postgres_pair import Pair

# Made before any test looks for what it leaves behind.
pytestmark = [pytest.mark.usefixtures("pair"), pytest.mark.timeout(180)]

HOUR = 3_600_000


@pytest.fixture
def wire(pair: Pair) -> Iterator[Wire]:
    """One address of a database that both have."""
    made = pair.primary.new_database("taskito_test")
    with Wire(made) as leading:
        yield leading
    pair.primary.drop_database(made)


@pytest.fixture
def backend_url(wire: Wire) -> str:
    return wire.url


@pytest.mark.parametrize("ahead", [HOUR, -HOUR], ids=["behind", "ahead"])
def test_a_new_primary_with_another_time_holds_up_no_job_and_fires_no_slot_twice(
    clock_app: ModuleType,
    start_worker: Callable[..., Worker],
    clock: SetClock,
    wire: Wire,
    pair: Pair,
    ahead: int,
) -> None:
    # The time of the first server; the second has the true one.
    clock.ahead(ahead)
    storage = clock_app.queue.storage
    worker = start_worker(procs=2, app="clockapp:queue", **clock.env)
    wait_until(lambda: len(worker.lines("tick")) >= 2, 30)
    storage.clock_shift = ahead
    waiting = [clock_app.nap.delay(0.2).id for _ in range(20)] + [clock_app.limited.delay().id]
    later = clock_app.nap.apply_async((0,), delay=8).id
    failing = clock_app.fails_once.delay().id

    pair.switch_over()
    clock.ahead(0)
    storage.clock_shift = 0
    wire.move(pair.primary.url())
    wait_until(lambda: len(pair.primary.connections(wire.url)) >= 1, message="the worker has found it")
    fresh = clock_app.nap.delay(0).id

    finished(storage, [*waiting, later, failing, fresh], 40)
    before = len(worker.lines("tick"))
    wait_until(lambda: len(worker.lines("tick")) >= before + 3, 30, "slots go on")
    once = [*waiting, later, fresh]
    assert worker.starts() == Counter([*once, failing, failing])
    assert {job.status.value for job in storage.get([*once, failing])} == {"complete"}
    slots = Counter(line[1] for line in worker.lines("tick"))
    assert max(slots.values()) == 1
    assert worker.output().count("the store's clock was set back by") == (ahead > 0)
