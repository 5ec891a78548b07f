"""Asks limiter and breaker before jobs of guarded tasks are claimed. Used on the store thread only.

Jobs of a guarded task wait in a lane of their own. Tokens come first, then at most so many claims from that
lane; what was granted and not used goes back. So a limit is never exceeded, nothing is claimed in vain,
and a lane that must wait is simply not asked for, while the others go on.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from taskito.worker.dispatch.inflight import Entry
from taskito.worker.ipc.app_manifest import AppReport, TaskPolicy
from taskito_core.errors import StorageError
from taskito_core.job import Charge, Claim, Complete, Dead, DeadReason, Outcome, Retry
from taskito_core.limits import BreakerOptions, BreakerState, CircuitBreaker, RateLimit, RateLimiter, Wants
from taskito_core.plugin_manager import Plugins
from taskito_core.storage import Storage
from taskito_core.storage_worker import Want

log = logging.getLogger("taskito.worker")

#: Seconds a lane waits after its limiter or breaker could not be asked.
TROUBLE_PAUSE = 1.0
#: Seconds after which a lane is asked for again, whatever was said: somebody may have reset its breaker, or
#: given tokens back.
LONGEST_HOLD = 5.0
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


class Ending(NamedTuple):
    """How an attempt of a task with a breaker ended."""

    claim: tuple[str, int]  #: job id and token
    succeeded: bool | None  #: None: it tells nothing about the task, as when it never began


def open_gatekeeper(report: AppReport, plugins: Plugins) -> Gatekeeper:
    """The gatekeeper of an app, with a limiter and a breaker if its tasks need them. Raises ConfigError."""
    limits = any(policy.rate_limit is not None for policy in report.tasks.values())
    breaks = any(policy.breaker is not None for policy in report.tasks.values())
    limiter = plugins.open_limiter(report.limiter, report.storage) if limits else None
    breaker = plugins.open_breaker(report.breaker, report.storage) if breaks else None
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
        #: Task -> the claim that is its breaker's probe. None: a probe that came to nothing, and the breaker
        #: does not know. While there is one, older attempts that still run here must not decide for it.
        self._probing: dict[str, tuple[str, int] | None] = {}
        self._clock: tuple[int, float] | None = None  #: the store's clock, and ours at that moment
        self._trouble = False
        self._turn = 0  #: which limited lane is the first one next time

    # ---- before a claim ----

    def ask(self, storage: Storage, want: Want, free: int) -> Passage:
        """Take tokens for as many jobs as there are ``free`` children, and say what may be claimed."""
        now = time.monotonic()
        open_tasks = tuple(task for task in want.tasks if task not in self.guarded)
        lanes = [task for task in want.tasks if task in self.guarded]
        self._held_until = {lane: at for lane, at in self._held_until.items() if at > now}
        unheld = [lane for lane in lanes if lane not in self._held_until]
        due = storage.peek(want.queues, unheld) if unheld else {}
        ready = [lane for lane in due if self._is_due(due[lane], now)]
        passage = Passage(want, asked=free)
        # Lanes without a due job stay in the want, closed: the store tells when one arrives there.
        caps = {lane: 0 for lane in unheld if lane not in ready}
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
        # Not for a lane that was passed over: it would probe without a token.
        asking = {lane: self._breakers[lane] for lane, cap in caps.items() if cap and lane in self._breakers}
        if not asking or self._breaker is None:
            return
        for lane, admission in self._breaker.admit(asking).items():
            if not admission.admitted:
                self._hold(lane, now, admission.retry_after)
                del caps[lane]
            elif admission.state is BreakerState.HALF_OPEN:
                caps[lane] = 1
                passage.probes.add(lane)
                self._probing[lane] = None
            else:
                self._probing.pop(lane, None)  # It was reset, or another worker's probe closed it.

    def _hold(self, lane: str, now: float, seconds: float) -> None:
        self._held_until[lane] = now + min(max(seconds, 0.001), LONGEST_HOLD)

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
                elif task in passage.probes:
                    self._probing[task] = (claim.id, claim.token)
        unused = {
            task: (granted - seen[task], self._limits[task])
            for task, granted in passage.tokens.items()
            if granted > seen[task]
        }
        self._give_back(unused, passage)
        self._withdraw([task for task in passage.probes if not seen[task]])
        return frozenset(strays)

    def _give_back(self, unused: Wants, passage: Passage) -> None:
        if not unused or self._limiter is None:
            return
        try:
            self._limiter.give_back(unused)
        except StorageError as exc:
            log.debug("unused tokens were not given back, they refill: %s", exc)
            return
        for task in set(unused).intersection(passage.want.tasks):  # The others are held by their breakers.
            self._held_until.pop(task, None)  # There were fewer than were asked for, but there are some.

    def unclaimed(self, passage: Passage) -> None:
        """The claim failed. If it was made all the same, its jobs go back unbegun, so no probe is among them.

        Its tokens are lost: it may have taken long to fail, and a token that was held for long is not to be
        given back.
        """
        self._withdraw(passage.probes)

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

    def _allowed(self, passage: Passage, task: str) -> int:
        if task not in passage.want.tasks:
            return 0
        return passage.want.caps.get(task, passage.want.limit)

    def more(self, passage: Passage, claims: Sequence[Claim]) -> bool:
        """Was a lane left with jobs only because no more children were free?"""
        seen = Counter(claim.task_name for claim in claims)
        return passage.skipped or any(seen[task] >= passage.asked for task in passage.tokens)

    # ---- outcomes ----

    def judged(self, entries: Iterable[Entry]) -> dict[str, list[Ending]]:
        """What ``tell`` is to hear of these decided entries, by task, in order. On any thread."""
        endings: dict[str, list[Ending]] = {}
        for entry in entries if self._breakers else ():
            claim = entry.claim
            if claim.task_name in self._breakers:
                ending = Ending((claim.id, claim.token), _verdict(entry.outcome))
                endings.setdefault(claim.task_name, []).append(ending)
        return endings

    def tell(self, endings: Mapping[str, Sequence[Ending]]) -> bool:
        """Let the breakers know; True: a probe of ours ended well, or did not begin, so more may start.

        A failure here loses their counting of this batch, nothing else.
        """
        if not endings or self._breaker is None:
            return False
        heard: dict[str, tuple[Sequence[bool], BreakerOptions]] = {}
        unbegun: list[str] = []
        for task, ended in endings.items():
            counted = [one for one in ended if task not in self._probing or one.claim == self._probing[task]]
            verdicts = [one.succeeded for one in counted if one.succeeded is not None]
            if verdicts:
                heard[task] = verdicts, self._breakers[task]
            elif counted and task in self._probing:
                unbegun.append(task)
        self._withdraw(unbegun)
        for task in unbegun:
            self._held_until.pop(task, None)  # Refused because of the probe that did not begin.
        return self._record(heard) or bool(unbegun)

    def _record(self, heard: Mapping[str, tuple[Sequence[bool], BreakerOptions]]) -> bool:
        """Tell the breakers; True: a probe of ours closed one."""
        if not heard or self._breaker is None:
            return False
        try:
            states = self._breaker.record(heard)
        except StorageError as exc:
            lost = sum(len(verdicts) for verdicts, _ in heard.values())
            log.warning("%d outcomes were not counted by their breakers: %s", lost, exc)
            return False
        probed = [task for task in heard if task in self._probing]
        for task in probed:
            del self._probing[task]
            # Refused while the probe ran; if it failed, the breaker says so once more.
            self._held_until.pop(task, None)
        return any(states[task] is BreakerState.CLOSED for task in probed)

    def close(self) -> None:
        for keeper in (self._limiter, self._breaker):
            if keeper is not None:
                keeper.close()


def _verdict(outcome: Outcome | None) -> bool | None:
    match outcome:
        case Complete():
            return True
        case Retry(charge=charge) if charge is not Charge.INTERRUPTION:
            return False
        case Dead(reason=reason) if reason in _FAILURES:
            return False
        case _:
            return None
