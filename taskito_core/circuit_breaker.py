"""What a call does to a circuit breaker: its state, before and after. Pure.

Every backend keeps the state where all workers see it, and lets one change it at a time, as is decided here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from taskito_core.limits import Admission, BreakerOptions, BreakerRecord, BreakerState

#: Seconds after which to ask again while another worker's probe runs: it may end at any moment.
PROBE_AGAIN = 1.0


class Breaker(NamedTuple):
    """The state of one circuit breaker."""

    state: BreakerState = BreakerState.CLOSED
    failures: tuple[int, ...] = ()  #: their moments, oldest first; at most as many as open it
    opened_at: int | None = None
    probe_at: int | None = None  #: when the probe of the half-open state was let through; it is known by this

    def admit(self, options: BreakerOptions, now: int) -> tuple[Breaker, Admission]:
        """May a job start? Half-open, one may: it is the probe of the worker that asked."""
        breaker = self._under(options, now)
        if breaker.state is BreakerState.CLOSED:
            return breaker, Admission(True, BreakerState.CLOSED, 0.0)
        if wait := breaker._wait(options, now):
            again = wait if breaker.state is BreakerState.OPEN else min(wait, PROBE_AGAIN)
            return breaker, Admission(False, breaker.state, again)
        probing = breaker._replace(state=BreakerState.HALF_OPEN, probe_at=now)
        return probing, Admission(True, BreakerState.HALF_OPEN, 0.0)

    def withdraw(self, probe: int | None) -> Breaker:
        """A start did not happen: if it was ``probe``, and that is still the one, another may be."""
        return self._replace(probe_at=None) if self._probed_by(probe) else self

    def record(
        self, successes: Sequence[bool], options: BreakerOptions, now: int, probe: int | None = None
    ) -> Breaker:
        """Attempts ended; ``probe`` is the ``probe_at`` that the recorder was admitted with, if it was."""
        breaker = self
        for succeeded in successes:
            if breaker.state is BreakerState.CLOSED:
                if not succeeded:
                    recent = (*breaker._recent(options, now), now)[-options.threshold :]
                    breaker = breaker._replace(failures=recent)._under(options, now)
            elif breaker._probed_by(probe):
                breaker = Breaker() if succeeded else Breaker(BreakerState.OPEN, breaker.failures, now)
        return breaker

    def report(self, task_name: str, options: BreakerOptions, now: int) -> BreakerRecord:
        """The breaker as people see it."""
        closed = self.state is BreakerState.CLOSED
        failures = self._recent(options, now) if closed else self.failures
        wait = 0.0 if closed else self._wait(options, now)
        limits = (options.threshold, options.window, options.cooldown)
        return BreakerRecord(task_name, self.state, len(failures), self.opened_at, *limits, wait)

    def _under(self, options: BreakerOptions, now: int) -> Breaker:
        """The same breaker under options that may have changed, by a clock that may have been set back."""
        if self.state is BreakerState.CLOSED:
            recent = self._recent(options, now)
            full = len(recent) >= options.threshold
            return Breaker(BreakerState.OPEN, recent[-options.threshold :], now) if full else self
        opened_at = None if self.opened_at is None else min(self.opened_at, now)
        probe_at = None if self.probe_at is None else min(self.probe_at, now)
        return self._replace(opened_at=opened_at, probe_at=probe_at)

    def _wait(self, options: BreakerOptions, now: int) -> float:
        """Seconds until a probe may start."""
        since = self.opened_at if self.state is BreakerState.OPEN else self.probe_at
        return 0.0 if since is None else max(0, since + _milliseconds(options.cooldown) - now) / 1000

    def _recent(self, options: BreakerOptions, now: int) -> tuple[int, ...]:
        since = now - _milliseconds(options.window)
        # A moment of a clock that was set back since is taken for now: else it would stay for too long.
        return tuple(min(moment, now) for moment in self.failures if moment > since)

    def _probed_by(self, probe: int | None) -> bool:
        return self.state is BreakerState.HALF_OPEN and probe is not None and probe == self.probe_at


class Probes:
    """Which half-open breakers one object was admitted to probe: what others record does not count.

    Every step is one operation on a dict, so threads need no lock.
    """

    def __init__(self) -> None:
        self._held: dict[str, int] = {}

    def get(self, task_name: str) -> int | None:
        """The ``probe`` of this object, for ``Breaker.record`` and ``Breaker.withdraw``."""
        return self._held.get(task_name)

    def admitted(self, task_name: str, admission: Admission, breaker: Breaker) -> None:
        """Remember the answer of ``Breaker.admit`` and the state that was stored with it."""
        if admission.admitted and breaker.probe_at is not None:
            self._held[task_name] = breaker.probe_at

    def stored(self, task_name: str, breaker: Breaker) -> None:
        """Forget a probe that has ended: the breaker as it is stored now."""
        if breaker.probe_at is None or breaker.probe_at != self._held.get(task_name):
            self._held.pop(task_name, None)


KeptBreaker = tuple[Breaker, BreakerOptions]
#: From a task's name, what is stored (None: nothing yet) and the store's time, to what is to be stored.
BreakerStep = Callable[[str, KeptBreaker | None, int], KeptBreaker | None]


class StoredBreaker(ABC):
    """The calls of ``CircuitBreaker`` that change something, for a store that can take steps."""

    def __init__(self) -> None:
        self._probes = Probes()

    def admit(self, tasks: Mapping[str, BreakerOptions]) -> dict[str, Admission]:
        """As ``CircuitBreaker.admit``."""
        answers: dict[str, Admission] = {}

        def step(task: str, kept: KeptBreaker | None, now: int) -> KeptBreaker:
            breaker, answers[task] = (kept[0] if kept else Breaker()).admit(tasks[task], now)
            return breaker, tasks[task]

        for task, (breaker, _) in self._step("ask circuit breakers", tasks, step).items():
            self._probes.admitted(task, answers[task], breaker)
        return answers

    def withdraw(self, task_names: Sequence[str]) -> None:
        """As ``CircuitBreaker.withdraw``."""

        def step(task: str, kept: KeptBreaker | None, now: int) -> KeptBreaker | None:
            return kept and (kept[0].withdraw(self._probes.get(task)), kept[1])

        for task, (breaker, _) in self._step("withdraw probes", task_names, step).items():
            self._probes.stored(task, breaker)

    def record(
        self, outcomes: Mapping[str, tuple[Sequence[bool], BreakerOptions]]
    ) -> dict[str, BreakerState]:
        """As ``CircuitBreaker.record``."""

        def step(task: str, kept: KeptBreaker | None, now: int) -> KeptBreaker:
            successes, options = outcomes[task]
            breaker = kept[0] if kept else Breaker()
            return breaker.record(successes, options, now, self._probes.get(task)), options

        states = {}
        for task, (breaker, _) in self._step("tell circuit breakers", outcomes, step).items():
            self._probes.stored(task, breaker)
            states[task] = breaker.state
        return states

    def reset(self, task_name: str) -> bool:
        """As ``CircuitBreaker.reset``."""

        def step(task: str, kept: KeptBreaker | None, now: int) -> KeptBreaker | None:
            return kept and (Breaker(), kept[1])

        return bool(self._step("reset a circuit breaker", [task_name], step))

    @abstractmethod
    def _step(self, doing: str, tasks: Iterable[str], step: BreakerStep) -> dict[str, KeptBreaker]:
        """Take a step with each breaker, as if no other process did meanwhile; a step may be taken again.

        What is stored afterwards, of those that exist then. ``doing`` is what an error says has failed.
        """


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)
