"""Asks limiter and breaker before jobs of guarded tasks are claimed. Used on the store thread only.

Jobs of a guarded task wait in a lane of their own. First tokens are taken, then at most so many jobs are
claimed from that lane, and what was granted and not used is given back. So a limit is never exceeded, nothing
is claimed in vain, and a lane that must wait is not asked for while the others go on. No more is claimed of a
task with a breaker than can begin at once: the next failure may open it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from taskito.worker.dispatch.inflight import InFlight
from taskito.worker.ipc.app_manifest import AppManifest, TaskPolicy
from taskito.worker.store.requests import AttemptEnding
from taskito_core.errors import StorageError
from taskito_core.job import Charge, Claim, Complete, Dead, DeadReason, Outcome, Retry
from taskito_core.limits import BreakerOptions, BreakerState, CircuitBreaker, RateLimit, RateLimiter, Wants
from taskito_core.plugin_manager import Plugins
from taskito_core.storage import Storage
from taskito_core.storage_worker import Want

log = logging.getLogger("taskito.worker")

#: Seconds a lane waits after its limiter or breaker could not be asked.
TROUBLE_PAUSE = 1.0
#: Seconds after which a lane is asked for again in any case: meanwhile its breaker may have been reset, or
#: tokens given back.
LONGEST_HOLD = 5.0
#: What a breaker counts as a failure: the task's own, not what happened to its worker.
_FAILURES = (DeadReason.RETRIES, DeadReason.NOT_RETRYABLE, DeadReason.CRASHES, DeadReason.REJECTED)


@dataclass(slots=True)
class Permit:
    """What was allowed for one claim."""

    want: Want  #: as the store is to be asked
    free: int  #: children that could begin a job at once
    tokens: dict[str, int] = field(default_factory=dict)  #: granted, by task
    probes: set[str] = field(default_factory=set)  #: tasks whose half-open breaker let one job through
    asked: int = 0  #: tokens asked for per task: more children were not free
    closed: set[str] = field(default_factory=set)  #: tasks with a breaker that is closed
    shut: set[str] = field(default_factory=set)  #: tasks with a breaker that is open
    skipped: bool = False  #: a lane was not even asked for, because no child would have been left for it
    again_at: float | None = None  #: monotonic time at which a lane that is held up may be asked for again

    def retry_after(self) -> float | None:
        """Seconds until ``again_at``. It may have passed during the claim: then 0.0, and not None."""
        return None if self.again_at is None else max(0.0, self.again_at - time.monotonic())


class EndingsRecorded(NamedTuple):
    """What came of telling the breakers how attempts ended."""

    more: bool  #: a probe of ours ended well, or did not begin, so more may start
    shut: frozenset[str]  #: tasks with a breaker that is open now


NOTHING_RECORDED = EndingsRecorded(False, frozenset())


def open_admission_control(manifest: AppManifest, plugins: Plugins) -> AdmissionControl:
    """With a limiter and a breaker, if tasks of the app need them. Raises ConfigError."""
    limits = any(policy.rate_limit is not None for policy in manifest.tasks.values())
    breaks = any(policy.breaker is not None for policy in manifest.tasks.values())
    limiter = plugins.open_limiter(manifest.limiter, manifest.storage) if limits else None
    breaker = plugins.open_breaker(manifest.breaker, manifest.storage) if breaks else None
    return AdmissionControl(manifest.tasks, limiter, breaker)


class AdmissionControl:
    """Decides how many jobs of each guarded task of one app may start now."""

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
        #: Task -> the claim that is its breaker's probe. None: a probe that came to nothing, and the breaker
        #: does not know. While there is one, older attempts that still run here must not decide for it.
        self._probing: dict[str, tuple[str, int] | None] = {}
        self._clock: tuple[int, float] | None = None  #: the store's clock, and ours at that moment
        self._trouble = False
        self._first = 0  #: which limited lane comes first next time

    # ---- before a claim ----

    def ask(
        self, storage: Storage, want: Want, free: int, endings: Mapping[str, Sequence[AttemptEnding]]
    ) -> Permit:
        """Take tokens for as many jobs as there are ``free`` children, and decide what may be claimed.

        ``endings`` are those that are recorded after this claim: a failure among them may open a breaker, so
        that lane is left to the next claim.
        """
        now = time.monotonic()
        open_tasks = tuple(task for task in want.tasks if task not in self.guarded)
        lanes = [task for task in want.tasks if task in self.guarded]
        self._held_until = {lane: at for lane, at in self._held_until.items() if at > now}
        unheld = [lane for lane in lanes if lane not in self._held_until]
        due = storage.peek(want.queues, unheld) if unheld else {}
        ready = [lane for lane in due if self._is_due(due[lane], now)]
        permit = Permit(want, free)
        failing = self._failing(endings)
        permit.skipped = not failing.isdisjoint(ready)
        ready = [lane for lane in ready if lane not in failing]
        # Lanes without a due job stay in the want, closed: the store tells when one arrives there.
        caps = {lane: 0 for lane in unheld if lane not in ready}
        if ready and free > 0:
            caps |= self._allow(ready, permit, now)
        permit.skipped |= bool(ready) and free == 0
        permit.again_at = min(self._held_until.values(), default=None)
        wanted = want.tasks if len(caps) == len(lanes) else (*open_tasks, *caps)
        permit.want = want._replace(
            tasks=wanted, caps={lane: cap for lane, cap in caps.items() if cap < want.limit}
        )
        return permit

    def _failing(self, endings: Mapping[str, Sequence[AttemptEnding]]) -> set[str]:
        """Tasks with a failure that their breaker does not know of yet. A probe's lane is shut as it is."""
        return {
            task
            for task, ended in endings.items()
            if task not in self._probing and any(one.succeeded is False for one in ended)
        }

    def _allow(self, ready: Sequence[str], permit: Permit, now: float) -> dict[str, int]:
        """Lane -> how many of its jobs may start; lanes that must wait are missing."""
        caps = dict.fromkeys(ready, permit.want.limit)
        try:
            self._take_tokens(caps, permit, now)
            self._pass_breakers(caps, permit, now)
            self._trouble = False
        except StorageError as exc:
            if not self._trouble:
                log.warning("limited tasks wait: their limiter or breaker cannot be asked: %s", exc)
            self._trouble = True
            for lane in ready:
                self._hold(lane, now, TROUBLE_PAUSE)
            return {}
        return caps

    def _take_tokens(self, caps: dict[str, int], permit: Permit, now: float) -> None:
        limited = [lane for lane in caps if lane in self._limits]
        if not limited or self._limiter is None:
            return
        # As many tokens as there are free children, and each lane is first in rotation: a waiting token ages.
        self._first = (self._first + 1) % len(limited)
        chosen = (limited[self._first :] + limited[: self._first])[: permit.free]
        for lane in set(limited).difference(chosen):
            caps[lane] = 0
            permit.skipped = True
        permit.asked = max(1, permit.free // len(chosen))
        asking = {lane: (permit.asked, self._limits[lane]) for lane in chosen}
        for lane, grant in self._limiter.acquire(asking).items():
            if grant.granted < permit.asked:
                self._hold(lane, now, grant.retry_after)
            if grant.granted:
                caps[lane] = permit.tokens[lane] = grant.granted
            else:
                del caps[lane]

    def _pass_breakers(self, caps: dict[str, int], permit: Permit, now: float) -> None:
        # Not for a lane that was passed over: it would probe without a token.
        asking = {lane: self._breakers[lane] for lane, cap in caps.items() if cap and lane in self._breakers}
        if not asking or self._breaker is None:
            return
        for lane, admission in self._breaker.admit(asking).items():
            if not admission.admitted:
                if admission.state is BreakerState.OPEN:
                    permit.shut.add(lane)
                self._hold(lane, now, admission.retry_after)
                del caps[lane]
            elif admission.state is BreakerState.HALF_OPEN:
                caps[lane] = 1
                permit.probes.add(lane)
                self._probing[lane] = None
            else:
                self._probing.pop(lane, None)  # It was reset, or another worker's probe closed it.
                permit.closed.add(lane)
                caps[lane] = min(caps[lane], permit.free)

    def _hold(self, lane: str, now: float, seconds: float) -> None:
        self._held_until[lane] = now + min(max(seconds, 0.001), LONGEST_HOLD)

    def _is_due(self, moment: int, now: float) -> bool:
        if self._clock is None:
            return True
        store, ours = self._clock
        return moment <= store + (now - ours) * 1000 + 1

    # ---- after it ----

    def claimed(self, permit: Permit, claims: Sequence[Claim], store_now: int) -> frozenset[str]:
        """Give back what was not used; the ids of claims that must go to their task's lane and wait there.

        Those were found elsewhere: their producer did not know that the task is guarded.
        """
        self._clock = (store_now, time.monotonic())
        seen: Counter[str] = Counter()
        unguarded = set()
        for claim in claims:
            if (task := claim.task_name) in self.guarded:
                seen[task] += 1
                if seen[task] > self._allowed(permit, task):
                    unguarded.add(claim.id)
                elif task in permit.probes:
                    self._probing[task] = (claim.id, claim.token)
        unused = {
            task: (granted - seen[task], self._limits[task])
            for task, granted in permit.tokens.items()
            if granted > seen[task]
        }
        self._give_back(unused, permit)
        self._withdraw([task for task in permit.probes if not seen[task]])
        return frozenset(unguarded)

    def _give_back(self, unused: Wants, permit: Permit) -> None:
        if not unused or self._limiter is None:
            return
        try:
            self._limiter.give_back(unused)
        except StorageError as exc:
            log.debug("unused tokens were not given back, they refill: %s", exc)
            return
        for task in set(unused).intersection(permit.want.tasks):  # The others are held by their breakers.
            self._held_until.pop(task, None)  # There were fewer than were asked for, but there are some.

    def unclaimed(self, permit: Permit) -> None:
        """The claim failed. If it was made all the same, its jobs go back unbegun, so no probe is among them.

        Its tokens are lost: it may have taken long to fail, and a token that was held for long is not to be
        given back.
        """
        self._withdraw(permit.probes)

    def _withdraw(self, tasks: Collection[str]) -> None:
        if not tasks or self._breaker is None:
            return
        try:
            self._breaker.withdraw(sorted(tasks))
        except StorageError as exc:
            log.debug("probes were not withdrawn, they are given up after the cooldown: %s", exc)
            return
        for task in tasks:
            self._probing.pop(task, None)

    def _allowed(self, permit: Permit, task: str) -> int:
        if task not in permit.want.tasks:
            return 0
        return permit.want.caps.get(task, permit.want.limit)

    def more(self, permit: Permit, claims: Sequence[Claim]) -> bool:
        """Was a lane left with jobs only because no more children were free?"""
        seen = Counter(claim.task_name for claim in claims)
        if any(seen[task] >= permit.free for task in permit.closed):
            return True
        return permit.skipped or any(seen[task] >= permit.asked for task in permit.tokens)

    # ---- outcomes ----

    def endings_of(self, entries: Iterable[InFlight]) -> dict[str, list[AttemptEnding]]:
        """What ``record`` is to be given of these decided entries, by task, in order. On any thread."""
        endings: dict[str, list[AttemptEnding]] = {}
        for entry in entries if self._breakers else ():
            claim = entry.claim
            if claim.task_name in self._breakers:
                ending = AttemptEnding((claim.id, claim.token), _succeeded(entry.outcome))
                endings.setdefault(claim.task_name, []).append(ending)
        return endings

    def record(self, endings: Mapping[str, Sequence[AttemptEnding]]) -> EndingsRecorded:
        """Tell the breakers. A failure here loses their counting of this batch, nothing else."""
        if not endings or self._breaker is None:
            return NOTHING_RECORDED
        counts: dict[str, tuple[Sequence[bool], BreakerOptions]] = {}
        unbegun: list[str] = []
        for task, ended in endings.items():
            counted = [one for one in ended if task not in self._probing or one.claim == self._probing[task]]
            successes = [one.succeeded for one in counted if one.succeeded is not None]
            if successes:
                counts[task] = successes, self._breakers[task]
            elif counted and task in self._probing:
                unbegun.append(task)
        self._withdraw(unbegun)
        for task in unbegun:
            self._held_until.pop(task, None)  # Refused because of the probe that did not begin.
        recorded = self._record(counts)
        return recorded._replace(more=recorded.more or bool(unbegun))

    def _record(self, counts: Mapping[str, tuple[Sequence[bool], BreakerOptions]]) -> EndingsRecorded:
        if not counts or self._breaker is None:
            return NOTHING_RECORDED
        try:
            states = self._breaker.record(counts)
        except StorageError as exc:
            lost = sum(len(successes) for successes, _ in counts.values())
            log.warning("%d outcomes were not counted by their breakers: %s", lost, exc)
            return NOTHING_RECORDED
        probed = [task for task in counts if task in self._probing]
        for task in probed:
            del self._probing[task]
            # Refused while the probe ran; if it failed, the breaker refuses once more.
            self._held_until.pop(task, None)
        more = any(states[task] is BreakerState.CLOSED for task in probed)
        return EndingsRecorded(more, frozenset(task for task in counts if states[task] is BreakerState.OPEN))

    def close(self) -> None:
        for opened in (self._limiter, self._breaker):
            if opened is not None:
                opened.close()


def _succeeded(outcome: Outcome | None) -> bool | None:
    match outcome:
        case Complete():
            return True
        case Retry(charge=charge) if charge is not Charge.INTERRUPTION:
            return False
        case Dead(reason=reason) if reason in _FAILURES:
            return False
        case _:
            return None
