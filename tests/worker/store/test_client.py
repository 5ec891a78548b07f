"""The store client: what the worker asks of the store next, when that is away or busy too."""

from __future__ import annotations

import queue
import random
import selectors
import threading
from collections.abc import Iterator, Sequence

import pytest

from taskito.worker.dispatch.dispatcher import Dispatcher
from taskito.worker.dispatch.inflight import Executor, InFlight
from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito.worker.ipc.failure_events import FailureEvent
from taskito.worker.ipc.wire import ResultKind, ResultMessage
from taskito.worker.store.admission import AdmissionControl
from taskito.worker.store.client import StoreClient
from taskito.worker.store.cron import Schedules
from taskito.worker.store.lease import BEAT_INTERVAL
from taskito.worker.store.liveness import PeerLifelines
from taskito.worker.store.outage import RETRY_LAST
from taskito.worker.store.request_timer import SLOW_ANSWER
from taskito.worker.store.requests import ExchangeResult, Reply, Request, Wakeup
from taskito.worker.store.thread import StoreCalls, StoreThread
from taskito.worker.store.timers import INTERVALS, Upkeep
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
        super().__init__(StorageConfig(backend="memory", db_url=f"memory://client-{random.random()}"))
        self.losing: list[str] = []
        self.answering = threading.Event()  #: cleared: exchanges wait, as a commit does for a standby
        self.answering.set()
        self.asked = threading.Event()  #: an exchange was asked for

    def register(self, worker: WorkerInfo) -> None:
        super().register(worker)
        self._answer("register")

    def listen(self, worker_id: str, queues: Sequence[str]) -> Wakeups:
        wakeups = super().listen(worker_id, queues)
        self._answer("listen")
        return wakeups

    def exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        self.asked.set()
        assert self.answering.wait(20)
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
    """A plugin that writes down what it is told, and on which thread."""

    def __init__(self, told: list[tuple[str, str]]) -> None:
        self._told = told

    @hookimpl
    def taskito_worker_started(self) -> None:
        self._told.append(("started", threading.current_thread().name))

    @hookimpl
    def taskito_jobs_finished(self, outcomes: Sequence[Outcome]) -> None:
        self._told.append((f"finished {len(outcomes)}", threading.current_thread().name))

    @hookimpl
    def taskito_worker_stopping(self) -> None:
        self._told.append(("stopping", threading.current_thread().name))


class RestOfTheWorker:
    """StoreEvents, of which only the ids are kept."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.cancelled: list[str] = []

    def jobs_revoked(self, executor_ids: Sequence[int]) -> None: ...

    def cancel_asked(self, executor: Executor, entry: InFlight, force: bool) -> None:
        self.cancelled.append(entry.claim.id)

    def attempts_failed(self, events: Sequence[FailureEvent]) -> None: ...

    def renamed(self, worker_id: str) -> None:
        self.names.append(worker_id)


class Watched(StoreCalls):
    """Keeps the names of the requests, in order."""

    names: list[str]

    def perform(self, request: Request) -> Reply:
        self.names.append(request.name)
        return super().perform(request)


class Scene:
    """A store client, its store, and a clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.storage = Unsteady()
        tasks = {"work": TaskPolicy("work", "default", RetryPolicy(), 0.0)}
        self.dispatcher = Dispatcher(tasks, lambda: 0.0)
        self.replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        self.selector = selectors.DefaultSelector()
        worker = make_worker(tasks=("work",))
        self.names = [worker.id]
        self.told: list[tuple[str, str]] = []
        plugins = Plugins()
        plugins.register(Listener(self.told), "listener")
        admission = AdmissionControl(tasks, None, None)
        schedules = Schedules("app:queue", (), admission.guarded)
        self.calls = Watched(self.storage, plugins, admission, schedules)
        self.calls.names = []
        self.rest = RestOfTheWorker(self.names)
        self.client = StoreClient(
            StoreThread(self.calls, self.post),
            admission,
            worker,
            self.dispatcher,
            PeerLifelines(self.selector, lambda: None),
            self.rest,
        )
        self.client.start()

    def step(self) -> str:
        """One request and its reply; the request's name, '' if none was due."""
        self.client.step(self.now)
        if self.client.left or not self.client.busy:
            return ""
        self.take_reply()
        return self.calls.names[-1]

    def post(self, message: Reply | Wakeup) -> None:
        if not isinstance(message, Wakeup):
            self.replies.put(message)

    def take_reply(self) -> None:
        self.client.take(self.replies.get(timeout=20), self.now)

    def end(self, entries: Sequence[InFlight]) -> None:
        """The only executor reports that these jobs returned."""
        done = [ResultMessage(entry.seq, ResultKind.RETURNED, self.now, 0.1, b"") for entry in entries]
        self.dispatcher.results(1, done, self.now)

    def settle(self) -> list[str]:
        """Every request that is due now."""
        names = []
        while name := self.step():
            names.append(name)
            assert len(names) < 50, f"the client does not come to rest: {names}"
        return names


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    assert scene.client.stop(20)
    scene.selector.close()


def test_a_worker_at_rest_asks_for_nothing_until_its_next_beat(scene):
    scene.dispatcher.executors.open(1, scene.now)

    assert scene.settle() == ["register", "listen", "heartbeat", *Upkeep, "exchange"]
    assert scene.client.next_deadline() == scene.now + min(BEAT_INTERVAL, *INTERVALS.values())


def test_a_claim_that_failed_is_tried_again_after_the_delay_and_not_at_the_next_beat(scene):
    scene.dispatcher.executors.open(1, scene.now)
    scene.settle()
    scene.now += 1.0
    scene.storage.losing.append("exchange")
    scene.client.woken()

    assert scene.settle() == ["exchange"]
    assert scene.now < scene.client.next_deadline() <= scene.now + RETRY_LAST
    scene.now = scene.client.next_deadline()
    # And slots may have passed while the store was away.
    assert scene.settle() == ["exchange", Upkeep.FIRE]


@pytest.mark.parametrize("name", ["register", "listen"])
def test_a_registration_whose_answer_was_lost_is_no_reason_to_give_up(scene, name):
    scene.storage.losing.append(name)

    scene.settle()
    assert scene.client.booting
    scene.now = scene.client.next_deadline()
    scene.settle()

    assert scene.client.fatal is None
    assert scene.client.registered
    assert scene.names == [scene.client.worker.id]  # The one that its log has said.
    assert [one.id for one in scene.storage.workers()] == [scene.client.worker.id]


def test_upkeep_goes_on_under_load_too(scene):
    scene.dispatcher.executors.open(1, scene.now)
    scene.settle()
    scene.now += INTERVALS[Upkeep.PRUNE]
    scene.storage.enqueue([make_job(task_name="work") for _ in range(3)])
    scene.client.woken()

    first, *upkeep, last = [scene.step() for _ in range(len(Upkeep) + 2)]
    assert (first, sorted(upkeep), last) == ("heartbeat", sorted(Upkeep), "exchange")


def test_plugins_hear_of_a_workers_life_once_and_never_on_the_thread_of_the_loop(scene):
    scene.dispatcher.executors.open(1, scene.now)
    scene.storage.enqueue([make_job(task_name="work")])
    scene.settle()
    [(_, entries)] = scene.dispatcher.assign(scene.now)
    scene.end(entries)
    scene.settle()

    scene.storage.losing.append("unregister")
    scene.client.leave()
    scene.settle()
    scene.now = scene.client.next_deadline()
    scene.settle()

    assert scene.client.left
    assert scene.told == [(what, "taskito-store") for what in ("started", "finished 1", "stopping")]


def test_a_job_that_arrives_at_rest_is_claimed_without_being_asked_for(scene):
    scene.dispatcher.executors.open(1, scene.now)
    scene.settle()

    [job] = scene.storage.enqueue([make_job(task_name="work")])
    scene.take_reply()

    [(_, [entry])] = scene.dispatcher.assign(scene.now)
    assert entry.claim.id == job.id


def test_jobs_beyond_what_a_claim_that_stood_by_could_take_are_claimed_too(scene):
    scene.dispatcher.executors.open(1, scene.now)
    scene.settle()
    more = scene.dispatcher.want() + 1
    jobs = scene.storage.enqueue([make_job(task_name="work") for _ in range(more)])
    scene.take_reply()

    while entries := [entry for _, given in scene.dispatcher.assign(scene.now) for entry in given]:
        scene.end(entries)
        scene.settle()

    assert {job.status for job in scene.storage.get([job.id for job in jobs])} == {JobStatus.COMPLETE}


def test_nothing_is_asked_while_a_claim_that_stood_by_is_under_way(scene):
    scene.dispatcher.executors.open(1, scene.now)
    scene.settle()
    [job] = scene.storage.enqueue([make_job(task_name="work")])
    reply = scene.replies.get(timeout=20)

    scene.dispatcher.drain()
    scene.client.leave()
    scene.client.step(scene.now)
    assert scene.client.busy
    assert scene.replies.empty()
    assert isinstance(reply, ExchangeResult)
    scene.client.take(reply, scene.now)

    assert scene.settle() == ["exchange", "unregister"]
    assert scene.client.left
    [back] = scene.storage.get([job.id])
    assert back.status is JobStatus.PENDING


def test_a_worker_beats_while_the_store_does_not_answer_and_hears_that_a_job_is_to_stop(scene):
    scene.dispatcher.executors.open(1, scene.now)
    scene.dispatcher.executors.open(2, scene.now)
    scene.settle()
    [job] = scene.storage.enqueue([make_job(task_name="work")])
    scene.take_reply()
    scene.dispatcher.assign(scene.now)
    scene.settle()
    scene.storage.answering.clear()
    scene.storage.asked.clear()
    scene.storage.enqueue([make_job(task_name="work")])
    assert scene.storage.asked.wait(20)
    scene.client.step(scene.now)
    assert scene.client.busy
    before = scene.storage.workers()[0].beat
    asked = scene.storage.ask_to_cancel([job.id], force=False)

    for beats in (1, 2, 3):
        scene.now = scene.client.next_deadline()
        scene.client.step(scene.now)
        assert scene.client.next_deadline() == float("inf"), "one at a time"
        scene.take_reply()
        assert scene.storage.workers()[0].beat == before + beats
        assert scene.client.next_deadline() == scene.now + BEAT_INTERVAL

    assert asked == [job.id]
    assert set(scene.rest.cancelled) == {job.id}
    scene.storage.answering.set()
    scene.take_reply()
    assert not scene.client.busy


def test_a_request_that_is_answered_in_time_has_no_heartbeat_beside_it(scene):
    scene.dispatcher.executors.open(1, scene.now)
    scene.settle()
    scene.storage.answering.clear()
    scene.now += BEAT_INTERVAL - 0.5
    scene.client.woken()
    scene.client.step(scene.now)

    assert scene.client.next_deadline() == scene.now + SLOW_ANSWER
    scene.storage.answering.set()
    scene.take_reply()
    assert scene.client.next_deadline() <= scene.now + 0.5
