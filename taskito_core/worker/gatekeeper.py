"""Asks limiter and breaker before jobs of guarded tasks are claimed. Used on the store thread only.

Jobs of a guarded task wait in a lane of their own. Tokens come first, then at most so many claims from that
lane; what was granted and not used goes back. So a limit is never exceeded, nothing is claimed in vain,
and a lane that must wait is simply not asked for, while the others go on.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from taskito_core.errors import StorageError
from taskito_core.job import Charge, Claim, Complete, Dead, DeadReason, Retry
from taskito_core.limits import BreakerOptions, BreakerState, CircuitBreaker, RateLimit, RateLimiter
from taskito_core.plugins import Plugins
from taskito_core.report import AppReport, TaskPolicy
from taskito_core.storage import Storage, Want
from taskito_core.worker.lanes import Entry

log = logging.getLogger("taskito.worker")

#: Seconds a lane waits after its limiter or breaker could not be asked.
TROUBLE_PAUSE = 1.0
#: What a breaker counts as a failure: the task's own, not what happened to its worker.
_FAILURES = (DeadReason.RETRIES, DeadReason.NOT_RETRYABLE, DeadReason.CRASHES)


@dataclass(slots=True)
class Passage:
    """What was allowed for one claim."""

    want: Want  #: as the store is to be asked
    tokens: dict[str, int] = field(default_factory=dict)  #: granted, by task
    probes: set[str] = field(default_factory=set)  #: tasks whose half-open breaker let one job through
    asked: int = 0  #: tokens asked for per task: more children were not free
    skipped: bool = False  #: a lane was not even asked for, because no child would have been left for it
    again_at: float | None = None  #: monotonic time at which a lane that is held up may be asked for again

    def retry_after(self) -> float | None:
        """Seconds until ``again_at``. It may have passed during the claim: then 0.0, and not None."""
        return None if self.again_at is None else max(0.0, self.again_at - time.monotonic())


def open_gates(report: AppReport, plugins: Plugins) -> Gatekeeper:
    """The gatekeeper of an app, with a limiter and a breaker if its tasks need them. Raises ConfigError."""
    own = report.storage.backend
    limits = any(policy.rate_limit is not None for policy in report.tasks.values())
    breaks = any(policy.breaker is not None for policy in report.tasks.values())
    limiter = plugins.open_limiter(report.limiter or own, report.storage) if limits else None
    breaker = plugins.open_breaker(report.breaker or own, report.storage) if breaks else None
    return Gatekeeper(report.tasks, limiter, breaker)


class Gatekeeper:
    """The guarded tasks of one app."""

    def __init__(
        self, tasks: Mapping[str, TaskPolicy], limiter: RateLimiter | None, breaker: CircuitBreaker | None
    ) -> None:
        self._limiter = limiter
        self._breaker = breaker
        self._limits: dict[str, RateLimit] = {
            name: policy.rate_limit for name, policy in tasks.items() if policy.rate_limit is not None
        }
        self._breakers: dict[str, BreakerOptions] = {
            name: policy.breaker for name, policy in tasks.items() if policy.breaker is not None
        }
        self.guarded = frozenset({*self._limits, *self._breakers})
        self._held_until: dict[str, float] = {}  #: monotonic time before which a lane need not be asked for
        self._clock: tuple[int, float] | None = None  #: the store's clock, and ours at that moment
        self._trouble = False
        self._turn = 0  #: which limited lane is the first one next time

    # ---- before a claim ----

    def ask(self, storage: Storage, want: Want, free: int) -> Passage:
        """Take tokens for as many jobs as there are ``free`` children, and say what may be claimed."""
        now = time.monotonic()
        open_tasks = tuple(task for task in want.tasks if task not in self.guarded)
        lanes = [task for task in want.tasks if task in self.guarded]
        due = storage.peek(want.queues, lanes)
        self._held_until = {lane: at for lane, at in self._held_until.items() if at > now}
        held = set(self._held_until)
        ready = [lane for lane in due if lane not in held and self._is_due(due[lane], now)]
        passage = Passage(want, asked=free)
        # Lanes without a due job stay in the want, closed: the store tells when one arrives there.
        caps = {lane: 0 for lane in lanes if lane not in held and lane not in ready}
        if ready and free > 0:
            caps |= self._allow(ready, passage, now)
        passage.skipped |= bool(ready) and free == 0
        passage.again_at = min(self._held_until.values(), default=None)
        wanted = want.tasks if len(caps) == len(lanes) else (*open_tasks, *caps)
        passage.want = want._replace(
            tasks=wanted, caps={lane: cap for lane, cap in caps.items() if cap < want.limit}
        )
        return passage

    def _allow(self, ready: Sequence[str], passage: Passage, now: float) -> dict[str, int]:
        """Lane -> how many of its jobs may start; lanes that must wait are missing."""
        caps = dict.fromkeys(ready, passage.want.limit)
        try:
            self._take_tokens(caps, passage, now)
            self._pass_breakers(caps, passage, now)
            self._trouble = False
        except StorageError as exc:
            if not self._trouble:
                log.warning("limited tasks wait: their limiter or breaker cannot be asked: %s", exc)
            self._trouble = True
            for lane in ready:
                self._hold(lane, now, TROUBLE_PAUSE)
            return {}
        return caps

    def _take_tokens(self, caps: dict[str, int], passage: Passage, now: float) -> None:
        limited = [lane for lane in caps if lane in self._limits]
        if not limited or self._limiter is None:
            return
        # As many tokens as there are free children, in turn: a token that waits for a child grows old.
        self._turn = (self._turn + 1) % len(limited)
        chosen = (limited[self._turn :] + limited[: self._turn])[: passage.asked]
        for lane in set(limited).difference(chosen):
            caps[lane] = 0
            passage.skipped = True
        passage.asked = max(1, passage.asked // len(chosen))
        asking = {lane: (passage.asked, self._limits[lane]) for lane in chosen}
        for lane, grant in self._limiter.acquire(asking).items():
            if grant.granted < passage.asked:
                self._hold(lane, now, grant.retry_after)
            if grant.granted:
                caps[lane] = passage.tokens[lane] = grant.granted
            else:
                del caps[lane]

    def _pass_breakers(self, caps: dict[str, int], passage: Passage, now: float) -> None:
        asking = {lane: self._breakers[lane] for lane in caps if lane in self._breakers}
        if not asking or self._breaker is None:
            return
        for lane, admission in self._breaker.admit(asking).items():
            if not admission.admitted:
                self._hold(lane, now, admission.retry_after)
                del caps[lane]
            elif admission.state is BreakerState.HALF_OPEN:
                caps[lane] = 1
                passage.probes.add(lane)

    def _hold(self, lane: str, now: float, seconds: float) -> None:
        self._held_until[lane] = now + max(seconds, 0.001)

    def _is_due(self, moment: int, now: float) -> bool:
        if self._clock is None:
            return True
        store, ours = self._clock
        return moment <= store + (now - ours) * 1000 + 1

    # ---- after it ----

    def claimed(self, passage: Passage, claims: Sequence[Claim], store_now: int) -> frozenset[str]:
        """Give back what was not used; the ids of claims that must go to their task's lane and wait there.

        Those were found elsewhere: enqueued by somebody who did not know that the task is guarded.
        """
        self._clock = (store_now, time.monotonic())
        seen: Counter[str] = Counter()
        strays = set()
        for claim in claims:
            if (task := claim.task_name) in self.guarded:
                seen[task] += 1
                if seen[task] > self._allowed(passage, task):
                    strays.add(claim.id)
        unused = {
            task: (granted - seen[task], self._limits[task])
            for task, granted in passage.tokens.items()
            if granted > seen[task]
        }
        idle_probes = [task for task in passage.probes if not seen[task]]
        try:
            if unused and self._limiter is not None:
                self._limiter.give_back(unused)
            if idle_probes and self._breaker is not None:
                self._breaker.withdraw(idle_probes)
        except StorageError as exc:
            # Tokens that are lost refill, and a lost probe is given up after the cooldown.
            log.debug("unused permissions were not given back: %s", exc)
        return frozenset(strays)

    def _allowed(self, passage: Passage, task: str) -> int:
        if task not in passage.want.tasks:
            return 0
        return passage.want.caps.get(task, passage.want.limit)

    def more(self, passage: Passage, claims: Sequence[Claim]) -> bool:
        """Was a lane left with jobs only because no more children were free?"""
        seen = Counter(claim.task_name for claim in claims)
        return passage.skipped or any(seen[task] >= passage.asked for task in passage.tokens)

    # ---- outcomes ----

    def judged(self, entries: Iterable[Entry]) -> dict[str, list[bool]]:
        """What the breakers are to hear of these decided entries: task -> successes, in order."""
        heard: dict[str, list[bool]] = {}
        for entry in entries if self._breakers else ():
            if (task := entry.claim.task_name) in self._breakers:
                match entry.outcome:
                    case Complete():
                        heard.setdefault(task, []).append(True)
                    case Retry(charge=charge) if charge is not Charge.INTERRUPTION:
                        heard.setdefault(task, []).append(False)
                    case Dead(reason=reason) if reason in _FAILURES:
                        heard.setdefault(task, []).append(False)
                    case _:
                        pass
        return heard

    def tell(self, heard: Mapping[str, Sequence[bool]]) -> None:
        """Let the breakers know. A failure here loses their counting of this batch, nothing else."""
        if not heard or self._breaker is None:
            return
        try:
            self._breaker.record({task: (seen, self._breakers[task]) for task, seen in heard.items()})
        except StorageError as exc:
            log.warning(
                "%d outcomes were not counted by their breakers: %s", sum(map(len, heard.values())), exc
            )
        for task in heard:
            self._held_until.pop(task, None)  # A probe that ended may have closed it.

    def close(self) -> None:
        for gate in (self._limiter, self._breaker):
            if gate is not None:
                gate.close()
