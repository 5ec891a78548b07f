"""Who gets which job, what comes of it, and how much to claim: the worker's state machine.

Pure: events and monotonic times come in, entries and numbers go out; no clock is read, nothing is
sent, stored or slept on here. A claim is in exactly one place from ``claimed`` until ``settled``:
the buffer, one executor's outstanding jobs, or the outbox of decided outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from taskito.worker.dispatch import results
from taskito.worker.dispatch.executors import RECALL_AFTER, Executors
from taskito.worker.dispatch.inflight import NEVER, Executor, Exit, InFlight
from taskito.worker.dispatch.lanes import Lanes
from taskito.worker.dispatch.prefetch import Pace, PrefetchBuffer
from taskito.worker.dispatch.results import FINISHED, measure
from taskito.worker.dispatch.sharing import BUDGET, MAX_FRAME, MAX_FRAME_SIZE, Frame, Sharing
from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito.worker.ipc.child_options import ChildOptions
from taskito.worker.ipc.wire import ResultKind, ResultMessage
from taskito_core.job import Claim, Complete, Outcome, Release
from taskito_core.metrics import Tallies
from taskito_core.retry import HandedBack, Result, RetryPolicy, Returned, decide, refuse

#: What is expected to begin within so many seconds is claimed ahead, so that no child waits for the store.
LOOK_AHEAD = 0.025
#: What is not expected to begin within so many seconds is handed back: other workers may have a child free.
#: More than LOOK_AHEAD, or each job that takes a little longer than others would cost some that wait behind.
PATIENCE = 0.04
#: A job that took so many seconds longer than expected is late.
LATE = 0.002
#: Bytes of payloads that may wait in the buffer, about.
MAX_BUFFERED_SIZE = 64 * 1024 * 1024
#: Jobs claimed by one exchange, at most.
MAX_CLAIM = 500
#: A job with a token of a rate limit that could not begin for one refill, or for so long, gives it up.
FRESH = 0.01


class Dispatcher:
    """Inbox of claims, from the store to a child and back."""

    def __init__(
        self,
        tasks: Mapping[str, TaskPolicy],
        rng: Callable[[], float],
        options: ChildOptions | None = None,
    ) -> None:
        self._tasks = tasks
        self._sharing = Sharing(tasks, options or ChildOptions())
        self._rng = rng  #: random numbers in [0, 1) for the jitter
        self._next_seq = 1
        self._outbox: list[InFlight] = []
        self._in_flight: dict[int, InFlight] = {}
        self.executors = Executors()
        self.pace = Pace()
        self.tallies = Tallies()  #: of the attempts that ended; what records them takes them out
        self._buffer = PrefetchBuffer(self.pace)
        self._mean_size = 1.0  #: bytes of a payload, a moving average
        self._stalled = False  #: a claim went back for want of a child, and no job has ended since
        self._now = 0.0  #: when jobs were last given out: the moment that ``want`` is about
        self._surplus_at = NEVER  #: when all that waits in the buffer is to be handed back, if no job ends
        self.lanes = Lanes(tasks)
        self.draining = False
        self.fenced = 0  #: outcomes of jobs that the store had given to another worker
        self.interrupted = 0  #: jobs that were broken off by a shutdown

    # ---- executors ----

    def lose_executor(self, executor_id: int, how: Exit, now: float) -> None:
        """The child is gone and everything it wrote was read: account for all it held."""
        executor = self.executors.remove(executor_id)
        if executor is None:
            return
        unreported = how.done - executor.received
        back: list[InFlight] = []
        for entry in executor.outstanding.values():
            if entry.seq in how.running:
                result, began = results.of_exit(entry, how), how.running[entry.seq]
                if isinstance(result, FINISHED):
                    measure(self.tallies, entry.claim, False, entry.store_time(began), now - began, 0)
                self._decide(entry, result, None)
            elif unreported > 0:
                unreported -= 1
                self._decide(entry, results.of_lost_result(how), None)
            else:
                back.append(entry)
        self._back_to_buffer(back)

    # ---- the store's side ----

    def want(self) -> int:
        """How many jobs to claim now."""
        if self.draining:
            return 0
        free, soon, spare, mean = 0, 0, 0.0, self.pace.mean
        for executor in self.executors:
            if executor.closing:
                continue
            accepts = self._accepts(executor)
            free += accepts
            # The job that it is given first is not claimed ahead.
            starts, seconds = executor.soon(LOOK_AHEAD, self._now, mean if accepts else 0.0)
            soon += starts
            spare += seconds
        waiting = len(self._buffer)
        ahead = max(soon - waiting, int((spare - self._buffer.work) / mean))
        ahead = min(ahead, int(MAX_BUFFERED_SIZE / max(1.0, self._mean_size)) - waiting)
        if self._stalled:
            ahead = 0
        else:
            free += self._sharing.free(self.executors)  # Beside others.
        return max(0, min(MAX_CLAIM - waiting, max(0, free - waiting) + max(0, ahead)))

    def free(self) -> int:
        """How many jobs executors could begin at once."""
        return self.executors.free() + (0 if self._stalled else self._sharing.free(self.executors))

    def claimed(self, claims: Iterable[Claim], now: float, unguarded: Collection[str] = ()) -> None:
        """These claims are ours from now on; ``unguarded`` (ids) must go to the lane of their task."""
        fresh: list[InFlight] = []
        limited: list[InFlight] = []
        tasks, in_flight = self._tasks, self._in_flight
        for claim in claims:
            policy = tasks.get(claim.task_name)
            seq = self._next_seq
            self._next_seq += 1
            company = self._sharing.company(claim)
            in_flight[seq] = entry = InFlight(seq, claim, policy or _STRANGER, now, 0.0, company)
            self._mean_size += 0.2 * (len(claim.payload) - self._mean_size)
            if policy is None or claim.id in unguarded:
                # Some other app's, or another version's: off to a lane we do not serve.
                self._outcome(entry, Release(claim.id, claim.token, lane=claim.task_name))
            elif claim.interruptions and (refusal := refuse(claim, policy.retry)) is not None:
                self._outcome(entry, refusal)
            elif self.draining:
                self._outcome(entry, Release(claim.id, claim.token))
            elif policy.rate_limit is not None:
                entry.fresh_until = now + max(1.0 / policy.rate_limit.rate, FRESH)
                limited.append(entry)
            else:
                fresh.append(entry)
        self._buffer.extend(fresh)
        # Before what waits already: their tokens are counted from now.
        self._buffer.to_front(limited)

    def take_outbox(self) -> list[InFlight]:
        """Everything decided and not yet recorded. ``settled`` or ``unsettled`` must follow."""
        batch, self._outbox = self._outbox, []
        return batch

    def settled(self, batch: Sequence[InFlight], recorded: frozenset[str]) -> list[InFlight]:
        """This batch reached the store; returns the entries whose jobs it had given to another worker."""
        in_flight = self._in_flight
        fenced = [entry for entry in batch if entry.claim.id not in recorded]
        for entry in batch:
            in_flight.pop(entry.seq, None)
        fenced = [entry for entry in fenced if not isinstance(entry.outcome, Release)]
        self.fenced += len(fenced)
        return fenced

    def unsettled(self, batch: list[InFlight]) -> None:
        """The store did not answer: this batch has to be sent again, before anything newer."""
        self._outbox[:0] = batch

    @property
    def unrecorded(self) -> int:
        """How many outcomes wait to be recorded."""
        return len(self._outbox)

    def holding(self) -> list[tuple[str, int]]:
        """(job id, token) of every claim in flight, for the heartbeat."""
        return [(entry.claim.id, entry.claim.token) for entry in self._in_flight.values()]

    def idle(self) -> bool:
        """True if no claim is in flight."""
        return not self._in_flight

    # ---- the children's side ----

    def assign(self, now: float) -> list[Frame]:
        """Bind buffered jobs to the executors that are free now: (executor, jobs of one frame)."""
        self._now = now
        if not self.draining and self.executors.reopen(now):
            self._stalled = False
        if not self._buffer:
            return []
        if self._sharing.enabled:
            frames, stale = self._sharing.assign(self.executors, self._buffer, now)
            for entry in stale:
                self._outcome(entry, Release(entry.claim.id, entry.claim.token))
            return frames
        ready = [executor for executor in self.executors if self._accepts(executor)]
        ready.sort(key=lambda executor: executor.work)
        frames = []
        for position, executor in enumerate(ready):
            # An even share, so that a short backlog does not fill one child while others are idle.
            share = -(-len(self._buffer) // (len(ready) - position))
            if frame := self._fill(executor, min(share, MAX_FRAME, executor.room()), now):
                frames.append((executor, frame))
        return frames

    def results(self, executor_id: int, messages: Sequence[ResultMessage], now: float) -> None:
        """A child reported ended runs. One that it does not hold is counted, and otherwise ignored."""
        executor = self.executors.get(executor_id)
        if executor is None:
            return
        self._stalled = False
        executor.received += len(messages)
        executor.progress = now
        executor.responds()
        was_late, executor.late = executor.late, False
        for message in messages:
            entry = executor.take_back(message.seq)
            if entry is None:
                continue
            claim = entry.claim
            self.pace.learn(claim.task_name, message.ran)
            executor.late = message.ran > entry.work + LATE
            started = entry.store_time(message.started)
            if message.kind is ResultKind.RETURNED:
                # What the general way comes to, without its detours: nearly every job ends like this.
                measure(self.tallies, claim, True, started, message.ran, message.peak_memory)
                self._outcome(entry, Complete(claim.id, claim.token, message.body, started))
                continue
            entry.apart = message.kind is ResultKind.RECORDED
            if message.kind is ResultKind.UNREADABLE:
                self.lanes.unreadable(claim.task_name, now)
            result = results.of_message(entry, message, self.draining)
            if isinstance(result, FINISHED):
                succeeded = isinstance(result, Returned)
                measure(self.tallies, claim, succeeded, started, message.ran, message.peak_memory)
            self._decide(entry, result, started)
        if executor.late and was_late:
            self._expect_more(executor)

    def returned(self, executor_id: int, seqs: Iterable[int]) -> None:
        """A child handed back jobs it has not begun."""
        executor = self.executors.get(executor_id)
        if executor is None:
            return
        back = [entry for seq in seqs if (entry := executor.take_back(seq)) is not None]
        # While it is inside of the job that held the others up, it gets nothing to put behind it.
        if executor.shares and back:
            executor.leave_alone(self._now)
        else:
            executor.recalled = bool(executor.outstanding) and not executor.shares
        self._back_to_buffer(back)

    def return_surplus(self, now: float) -> None:
        """Hand back what waits in the buffer and is not expected to begin soon. After ``assign``."""
        if not self._buffer:
            return
        starts, spare, self._surplus_at = self.executors.soon(PATIENCE, now)
        for entry in self._buffer.take_surplus(starts, spare):
            self._outcome(entry, Release(entry.claim.id, entry.claim.token))
            self._stalled = True

    def next_surplus(self) -> float:
        """When ``return_surplus`` has something to do next without an event; infinity: never."""
        return self._surplus_at if self._buffer else NEVER

    # ---- endings ----

    def drain(self) -> list[Executor]:
        """Claim and begin nothing more; the executors whose unbegun jobs should be asked back."""
        self.draining = True
        self._back_to_buffer([])
        for executor in self.executors:
            executor.recalled = True
        return [executor for executor in self.executors if executor.outstanding]

    def give_up(self, job_ids: Collection[str]) -> list[tuple[Executor, InFlight]]:
        """Hand back those of these jobs that no executor holds; the others, each with its executor."""
        for entry in self._buffer.remove(job_ids):
            self._outcome(entry, Release(entry.claim.id, entry.claim.token))
        return [
            (executor, entry)
            for executor in self.executors
            for entry in executor.outstanding.values()
            if entry.claim.id in job_ids
        ]

    def hand_back(self, task_names: Collection[str]) -> None:
        """Give these tasks' claims that have not begun back to the store; executors are asked for theirs."""
        waiting = {entry.claim.id for entry in self._buffer.entries if entry.claim.task_name in task_names}
        for entry in self._buffer.remove(waiting):
            self._outcome(entry, Release(entry.claim.id, entry.claim.token))
        for executor in self.executors:
            for entry in executor.outstanding.values():
                if entry.claim.task_name in task_names:
                    entry.unwanted = executor.recall_now = True

    def revoke(self, job_ids: Iterable[str]) -> list[int]:
        """The store gave these jobs to another worker; the executors that still run one of them."""
        gone = set(job_ids)
        for entry in self._buffer.remove(gone):
            self._in_flight.pop(entry.seq, None)
        executors = []
        for executor in self.executors:
            held = [entry for entry in executor.outstanding.values() if entry.claim.id in gone]
            for entry in held:
                entry.revoked = True
            if held:
                executors.append(executor.id)
        return executors

    def release_orphan(self, job_id: str, token: int) -> None:
        """Hand back a claim that the store has under our name and that never reached us."""
        claim = Claim(job_id, token, "", "", b"", 0, 0, 0, None, None, None, 0, 0)
        entry = InFlight(self._next_seq, claim, _STRANGER, 0.0, 0.0)
        self._next_seq += 1
        self._in_flight[entry.seq] = entry
        self._outcome(entry, Release(job_id, token))

    # ---- inside ----

    def _expect_more(self, executor: Executor) -> None:
        """Two reports in a row ended with a late job: others were given out, or wait, by the same guess."""
        for entry in executor.outstanding.values():
            entry.work = self.pace.expected(entry.claim.task_name)
        executor.work = sum(entry.work for entry in executor.outstanding.values())
        if not executor.shares:
            executor.recall_now |= len(executor.outstanding) > 1 and executor.work > PATIENCE
        self._buffer.reckon()

    def _accepts(self, executor: Executor) -> bool:
        if executor.room() <= 0:
            return False
        if not executor.outstanding:
            return True
        # One that would be recalled is given nothing to put behind the job that holds it up.
        return executor.work <= BUDGET / 2 and self._now - executor.progress < RECALL_AFTER

    def _fill(self, executor: Executor, most: int, now: float) -> list[InFlight]:
        frame: list[InFlight] = []
        waiting, outstanding = self._buffer.entries, executor.outstanding
        size, taken = 0, 0.0
        while waiting and len(frame) < most:
            entry = waiting[0]
            size += len(entry.claim.payload) + len(entry.claim.metadata or "")
            if frame and size > MAX_FRAME_SIZE:
                break
            if outstanding and executor.work + entry.work > BUDGET:
                break
            waiting.popleft()
            taken += entry.work
            if entry.fresh_until < now:
                self._outcome(entry, Release(entry.claim.id, entry.claim.token))
                continue
            executor.give(entry, now)
            frame.append(entry)
        self._buffer.took(taken)
        return frame

    def _back_to_buffer(self, entries: list[InFlight]) -> None:
        """To the front, in their old order; while draining the whole buffer goes back to the store.

        What was revoked meanwhile is forgotten: another worker runs it. What is unwanted goes back.
        """
        for entry in reversed(entries):
            if entry.revoked:
                self._in_flight.pop(entry.seq, None)
            elif entry.unwanted:
                self._outcome(entry, Release(entry.claim.id, entry.claim.token))
            else:
                self._buffer.to_front([entry])
        if self.draining:
            for entry in self._buffer.empty():
                self._outcome(entry, Release(entry.claim.id, entry.claim.token))

    def _decide(self, entry: InFlight, result: Result, started_at: int | None) -> None:
        if self.draining and result == HandedBack():
            self.interrupted += 1
        self._outcome(entry, decide(entry.claim, result, entry.policy.retry, self._rng(), started_at))

    def _outcome(self, entry: InFlight, outcome: Outcome) -> None:
        entry.outcome = outcome
        self._outbox.append(entry)


#: Stands in for the policy of a task this app does not have; such a claim is never run.
_STRANGER = TaskPolicy("", "", RetryPolicy(), 0.0)
