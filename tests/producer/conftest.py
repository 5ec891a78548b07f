"""A queue on each backend in turn, and a worker that is worked by hand: one job at a time, in this thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from taskito import Queue
from taskito.worker.child.runner import Runner
from taskito.worker.dispatch.inflight import Entry
from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito.worker.ipc.wire import ResultKind, unpack_error
from taskito_core.job import ErrorInfo, ErrorKind, Outcome
from taskito_core.retry import Crashed, Raised, Returned, decide
from taskito_core.storage_worker import WorkerInfo
from taskito_testing import make_worker, want

Work = Callable[..., list[Outcome]]


@pytest.fixture
def queue(backend_url: str) -> Iterator[Queue]:
    with Queue(db_url=backend_url, workers=1, default_retry=0) as queue:
        yield queue


class HandWorker:
    """Claims what is due, runs it here, and settles as a supervisor would."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.info: WorkerInfo = make_worker(queues=("default",), tasks=tuple(queue.tasks))
        self.runner = Runner(queue)
        queue.storage.register(self.info)

    def work(self, limit: int = 100, crash: bool = False) -> list[Outcome]:
        """Run the jobs that are due; with ``crash``, as if the process died under each."""
        queues = tuple({"default"} | {task.policy.queue for task in self.queue.tasks.values()})
        wanted = want(limit, queues=queues, tasks=tuple(self.queue.tasks))
        claims = self.queue.storage.exchange(self.info.id, [], wanted).claims
        outcomes: list[Outcome] = []
        for claim in claims:
            policy: TaskPolicy = self.queue.tasks[claim.task_name].policy
            entry = Entry(len(outcomes) + 1, claim, policy, claimed=0.0, work=0.0)
            kind, body = self.runner.run(entry.message())
            if crash:
                ended: Crashed | Returned | Raised = Crashed(ErrorInfo(ErrorKind.CRASH, "SIGKILL", "it died"))
            elif kind is ResultKind.RETURNED:
                ended = Returned(body)
            else:
                ended = Raised(*unpack_error(body))
            outcomes.append(decide(claim, ended, policy.retry, 0.0, claim.claimed_at))
        self.queue.storage.exchange(self.info.id, outcomes, None)
        return outcomes

    def close(self) -> None:
        self.runner.close()
        self.queue.storage.unregister(self.info.id)


@pytest.fixture
def work(queue: Queue) -> Iterator[Work]:
    """``work()``: run everything that is due on ``queue``; the outcomes."""
    workers: list[HandWorker] = []

    def run(**options: object) -> list[Outcome]:
        if not workers:
            workers.append(HandWorker(queue))
        return workers[0].work(**options)  # type: ignore[arg-type]

    yield run
    for worker in workers:
        worker.close()
