"""The admission of one worker, over a store, a limiter and breakers in memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from taskito.worker.dispatch.inflight import InFlight
from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito.worker.store.admission import AdmissionControl
from taskito.worker.store.cron import Schedules
from taskito.worker.store.requests import ExchangeJobs, ExchangeResult
from taskito.worker.store.thread import StoreCalls
from taskito_core.errors import StorageUnavailable
from taskito_core.job import Claim, Outcome, new_id
from taskito_core.limits import BreakerOptions, BreakerState, Grant, RateLimit, Wants
from taskito_core.plugin_manager import Plugins
from taskito_core.retry import RetryPolicy
from taskito_core.storage import StorageConfig
from taskito_core.storage_worker import Exchange, Want
from taskito_kv.limits import MemoryCircuitBreaker, MemoryRateLimiter
from taskito_kv.storage import MemoryStorage
from taskito_testing.factories import (
    make_job,
    make_worker,
    want,
)

#: Nothing is refilled, and nothing cools down, while a test runs.
FEW, OPTIONS = RateLimit(rate=0.001, burst=3), BreakerOptions(threshold=2, window=3600, cooldown=3600)


class Unsteady(MemoryStorage):
    """A store that claims, and whose answer is lost, as often as it is told."""

    losing = 0

    def exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        answer = super().exchange(worker_id, outcomes, want)
        if self.losing:
            self.losing -= 1
            raise StorageUnavailable("the answer was lost")
        return answer


class Limiter(MemoryRateLimiter):
    """Counts its calls, and may be away."""

    away = False
    asked = 0

    def acquire(self, wants: Wants) -> dict[str, Grant]:
        self.asked += 1
        if self.away:
            raise StorageUnavailable("the limiter is away")
        return super().acquire(wants)


class Worker:
    """The store thread of one worker that knows the tasks ``free``, ``limited``, ``fragile`` and ``both``."""

    def __init__(self, url: str, limit: RateLimit = FEW, options: BreakerOptions = OPTIONS) -> None:
        config = StorageConfig(backend="memory", db_url=url)
        plain = partial(TaskPolicy, queue="default", retry=RetryPolicy(), timeout=0.0)
        self.tasks = {
            "free": plain("free"),
            "limited": plain("limited", rate_limit=limit),
            "fragile": plain("fragile", breaker=options),
            "both": plain("both", rate_limit=limit, breaker=options),
        }
        self.storage, self.limiter, self.breaker = (
            Unsteady(config),
            Limiter(config),
            MemoryCircuitBreaker(config),
        )
        self.admission = AdmissionControl(self.tasks, self.limiter, self.breaker)
        schedules = Schedules("app:queue", (), self.admission.guarded)
        self.calls = StoreCalls(self.storage, Plugins(), self.admission, schedules)
        self.id = f"worker-{new_id()}"
        self.storage.register(make_worker(id=self.id, tasks=tuple(self.tasks)))

    def enqueue(self, task_name: str, count: int = 1) -> list[str]:
        lane = "" if task_name == "free" else task_name
        # Due for long: what has just fallen due may be looked for a moment later, as clocks differ.
        jobs = [make_job(task_name=task_name, lane=lane, scheduled_at=1) for _ in range(count)]
        return [receipt.id for receipt in self.storage.enqueue(jobs)]

    def exchange(
        self, *ended: tuple[Claim, Outcome], free: int = 4, limit: int | None = None
    ) -> ExchangeResult:
        """Settle what ended, and claim up to ``limit`` jobs for so many free children; None: one for each."""
        entries = []
        for claim, outcome in ended:
            entry = InFlight(1, claim, self.tasks[claim.task_name], 0.0, 0.0)
            entry.outcome = outcome
            entries.append(entry)
        limit = free if limit is None else limit
        wanted = want(limit, tasks=tuple(self.tasks)) if limit else None
        outcomes = [outcome for _, outcome in ended]
        endings = self.admission.endings_of(entries)
        result = self.calls.perform(ExchangeJobs(self.id, outcomes, endings, wanted, free))
        assert isinstance(result, ExchangeResult)
        return result

    def claim(self, *ended: tuple[Claim, Outcome], free: int = 4) -> list[Claim]:
        return self.exchange(*ended, free=free).exchange.claims

    def start_probe(self) -> Claim:
        """Take a breaker that is open through its cooldown, and one job as its probe."""
        self.breaker.clock_shift += round(OPTIONS.cooldown * 1000)
        [probe] = self.claim()
        return probe

    def state(self, task_name: str = "fragile") -> BreakerState:
        [record] = [one for one in self.breaker.read() if one.task_name == task_name]
        return record.state


def names(claims: Sequence[Claim]) -> list[str]:
    return sorted(claim.task_name for claim in claims)
