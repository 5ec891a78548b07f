"""The worker's desk at the store: what it asks for next when the store is away or busy."""

from __future__ import annotations

import queue
import random
import selectors
import threading
from collections.abc import Iterator, Sequence

import pytest

from taskito.worker.dispatch.dispatcher import Dispatcher
from taskito.worker.dispatch.inflight import Entry
from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito.worker.ipc.wire import ResultKind, ResultMessage
from taskito.worker.store.admission import Gatekeeper
from taskito.worker.store.client import RETRY_LAST, StoreDesk
from taskito.worker.store.cron import Schedules
from taskito.worker.store.errands import Errands
from taskito.worker.store.lease import BEAT_INTERVAL
from taskito.worker.store.liveness import Neighbours
from taskito.worker.store.rounds import INTERVALS, Round
from taskito.worker.store.thread import Answer
from taskito_core import hookimpl
from taskito_core.errors import StorageUnavailable
from taskito_core.job import JobStatus, Outcome
from taskito_core.plugin_manager import Plugins
from taskito_core.retry import RetryPolicy
from taskito_core.storage import StorageConfig
from taskito_core.storage_worker import Exchange, Wakeups, Want, WorkerInfo
from taskito_kv.storage import MemoryStorage
from taskito_testing.factories import make_job, make_worker


class Unsteady(MemoryStorage):
    """A store that loses its answer to some calls, after it has done what was asked."""

    def __init__(self) -> None:
        super().__init__(StorageConfig(backend="memory", db_url=f"memory://desk-{random.random()}"))
        self.losing: list[str] = []

    def register(self, worker: WorkerInfo) -> None:
        super().register(worker)
        self._answer("register")

    def listen(self, worker_id: str, queues: Sequence[str]) -> Wakeups:
        wakeups = super().listen(worker_id, queues)
        self._answer("listen")
        return wakeups

    def exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        exchange = super().exchange(worker_id, outcomes, want)
        self._answer("exchange")
        return exchange

    def unregister(self, worker_id: str) -> None:
        super().unregister(worker_id)
        self._answer("unregister")

    def _answer(self, name: str) -> None:
        if name in self.losing:
            self.losing.remove(name)
            raise StorageUnavailable(f"the answer of {name} was lost")


class Listener:
    """A plugin that writes down what it hears, and on which thread."""

    def __init__(self, heard: list[tuple[str, str]]) -> None:
        self._heard = heard

    @hookimpl
    def taskito_worker_started(self) -> None:
        self._heard.append(("started", threading.current_thread().name))

    @hookimpl
    def taskito_jobs_finished(self, outcomes: Sequence[Outcome]) -> None:
        self._heard.append((f"finished {len(outcomes)}", threading.current_thread().name))

    @hookimpl
    def taskito_worker_stopping(self) -> None:
        self._heard.append(("stopping", threading.current_thread().name))


class Scene:
    """A desk, its store, and a clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.storage = Unsteady()
        tasks = {"work": TaskPolicy("work", "default", RetryPolicy(), 0.0)}
        self.dispatcher = Dispatcher(tasks, lambda: 0.0)
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.selector = selectors.DefaultSelector()
        worker = make_worker(tasks=("work",))
        self.names = [worker.id]
        self.heard: list[tuple[str, str]] = []
        plugins = Plugins()
        plugins.register(Listener(self.heard), "listener")
        gatekeeper = Gatekeeper(tasks, None, None)
        errands = Errands(self.storage, plugins, gatekeeper, Schedules("app:queue", (), gatekeeper.guarded))
        self.desk = StoreDesk(
            self.storage, worker, self.dispatcher, errands, self.answers.put, lambda: None,
            Neighbours(self.selector, lambda: None), lambda lanes: None,
            lambda lane, entry, force: None, lambda notices: None, self.names.append,
        )  # fmt: skip
        self.desk.start()

    def turn(self) -> str:
        """One request and its answer; the request's name, '' if none was due."""
        self.desk.turn(self.now)
        if self.desk.left or self.desk.next_deadline() != float("inf"):
            return ""
        answer = self.answers.get(timeout=20)
        self.desk.answer(answer, self.now)
        return answer.name

    def end(self, entries: Sequence[Entry]) -> None:
        """The only lane reports that these jobs returned."""
        done = [ResultMessage(entry.seq, ResultKind.RETURNED, self.now, 0.1, b"") for entry in entries]
        self.dispatcher.results(1, done, self.now)

    def settle(self) -> list[str]:
        """Every request that is due now."""
        names = []
        while name := self.turn():
            names.append(name)
            assert len(names) < 50, f"the desk does not come to rest: {names}"
        return names


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    assert scene.desk.stop(20)
    scene.selector.close()


def test_a_worker_at_rest_asks_for_nothing_until_its_next_beat(scene):
    scene.dispatcher.open_lane(1, None, scene.now)

    assert scene.settle() == ["register", "heartbeat", *Round, "exchange"]
    assert scene.desk.next_deadline() == scene.now + min(BEAT_INTERVAL, *INTERVALS.values())


def test_a_claim_that_failed_is_tried_again_after_the_delay_and_not_at_the_next_beat(scene):
    scene.dispatcher.open_lane(1, None, scene.now)
    scene.settle()
    scene.now += 1.0
    scene.storage.losing.append("exchange")
    scene.desk.woken(scene.now)

    assert scene.settle() == ["exchange"]
    assert scene.now < scene.desk.next_deadline() <= scene.now + RETRY_LAST
    scene.now = scene.desk.next_deadline()
    # And slots may have passed while the store was away.
    assert scene.settle() == ["exchange", Round.FIRE]


@pytest.mark.parametrize("name", ["register", "listen"])
def test_a_registration_whose_answer_was_lost_is_no_reason_to_give_up(scene, name):
    scene.storage.losing.append(name)

    scene.settle()
    assert scene.desk.booting
    scene.now = scene.desk.next_deadline()
    scene.settle()

    assert scene.desk.fatal is None
    assert scene.desk.registered
    assert scene.desk.worker.id == scene.names[-1]


def test_upkeep_goes_on_under_load_too(scene):
    scene.dispatcher.open_lane(1, None, scene.now)
    scene.settle()
    scene.now += INTERVALS[Round.PRUNE]
    scene.storage.enqueue([make_job(task_name="work") for _ in range(3)])
    scene.desk.woken(scene.now)

    first, *rounds, last = [scene.turn() for _ in range(5)]
    assert (first, sorted(rounds), last) == ("heartbeat", sorted(Round), "exchange")


def test_plugins_hear_of_a_workers_life_once_and_never_on_the_thread_of_the_loop(scene):
    scene.dispatcher.open_lane(1, None, scene.now)
    scene.storage.enqueue([make_job(task_name="work")])
    scene.settle()
    [(_, entries)] = scene.dispatcher.assign(scene.now)
    scene.end(entries)
    scene.settle()

    scene.storage.losing.append("unregister")
    scene.desk.leave()
    scene.settle()
    scene.now = scene.desk.next_deadline()
    scene.settle()

    assert scene.desk.left
    assert scene.heard == [(what, "taskito-store") for what in ("started", "finished 1", "stopping")]


def test_a_job_that_arrives_at_rest_is_claimed_without_being_asked_for(scene):
    scene.dispatcher.open_lane(1, None, scene.now)
    scene.settle()

    [job] = scene.storage.enqueue([make_job(task_name="work")])
    scene.desk.answer(scene.answers.get(timeout=20), scene.now)

    [(_, [entry])] = scene.dispatcher.assign(scene.now)
    assert entry.claim.id == job.id


def test_jobs_beyond_what_a_claim_that_stood_by_could_take_are_claimed_too(scene):
    scene.dispatcher.open_lane(1, None, scene.now)
    scene.settle()
    more = scene.dispatcher.want() + 1
    jobs = scene.storage.enqueue([make_job(task_name="work") for _ in range(more)])
    scene.desk.answer(scene.answers.get(timeout=20), scene.now)

    while entries := [entry for _, given in scene.dispatcher.assign(scene.now) for entry in given]:
        scene.end(entries)
        scene.settle()

    assert {job.status for job in scene.storage.get([job.id for job in jobs])} == {JobStatus.COMPLETE}


def test_nothing_is_asked_while_a_claim_that_stood_by_is_under_way(scene):
    scene.dispatcher.open_lane(1, None, scene.now)
    scene.settle()
    [job] = scene.storage.enqueue([make_job(task_name="work")])
    answer = scene.answers.get(timeout=20)

    scene.dispatcher.drain()
    scene.desk.leave()
    scene.desk.turn(scene.now)
    assert scene.desk.next_deadline() == float("inf")
    assert scene.answers.empty()
    scene.desk.answer(answer, scene.now)

    assert scene.settle() == ["exchange", "unregister"]
    assert scene.desk.left
    [back] = scene.storage.get([job.id])
    assert back.status is JobStatus.PENDING
