"""What a worker has in flight: claims, the executors that hold them, and how those ended. No I/O."""

from __future__ import annotations

from typing import NamedTuple

from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito.worker.ipc.wire import JobMessage
from taskito_core.job import Claim, ErrorInfo, Outcome

NEVER = float("inf")
#: Jobs a child may hold at once, however short they are.
MAX_OUTSTANDING = 128


class InFlight:
    """One claim, from the answer that brought it until its outcome is recorded."""

    __slots__ = (
        "apart",
        "claim",
        "claimed",
        "fresh_until",
        "outcome",
        "policy",
        "revoked",
        "seq",
        "timeout",
        "unwanted",
        "work",
    )

    def __init__(self, seq: int, claim: Claim, policy: TaskPolicy, claimed: float, work: float) -> None:
        self.seq = seq  #: the worker's own number for this claim, never reused
        self.claim = claim
        self.policy = policy
        self.claimed = claimed  #: monotonic time at which the claim was known here
        self.work = work  #: seconds it was expected to run when it was last bound
        #: hard limit in seconds, 0: none
        self.timeout: float = policy.timeout if claim.timeout is None else claim.timeout
        self.outcome: Outcome | None = None  #: decided, and waiting to be recorded
        self.apart = False  #: its outcome travels to the store alone: see ``ResultKind.RECORDED``
        self.fresh_until = NEVER  #: to be begun by then, or handed back: its token of a rate limit is old
        self.revoked = False  #: the store gave it to another worker: not to be begun here any more
        self.unwanted = False  #: it goes back unless it has begun: the breaker of its task has opened

    def store_time(self, moment: float) -> int:
        """A monotonic time after the claim, in milliseconds on the store's clock."""
        return self.claim.claimed_at + max(0, int((moment - self.claimed) * 1000))

    def message(self) -> JobMessage:
        """The job as a child receives it."""
        claim = self.claim
        return JobMessage(
            self.seq,
            claim.token,
            claim.retry_count,
            claim.crashes,
            claim.interruptions,
            claim.id,
            claim.task_name,
            claim.queue,
            claim.metadata,
            claim.payload,
        )


class Exit(NamedTuple):
    """What is known of a child that is gone."""

    error: ErrorInfo  #: signal or exit code, with the last stack if there was one
    running: int  #: seq of the job it was inside of; 0: none
    done: int  #: how many jobs it had ended in all, their results written or not
    timed_out: int = 0  #: seq of the job whose hard limit it was killed for; 0: none
    ours: bool = False  #: it was killed by us at shutdown: its jobs are handed back uncharged
    started: float = 0.0  #: monotonic time at which ``running`` began
    cancelled: int = 0  #: seq of the job it was killed for because it was cancelled by force; 0: none


class Executor:
    """One child (or thread) and what it holds, in the order it will run it."""

    __slots__ = (
        "check_at",
        "closing",
        "id",
        "late",
        "outstanding",
        "progress",
        "quiet",
        "recall_now",
        "recalled",
        "received",
        "work",
    )

    def __init__(self, executor_id: int, now: float) -> None:
        self.id = executor_id
        self.outstanding: dict[int, InFlight] = {}
        self.work = 0.0
        self.received = 0  #: results that arrived; ended jobs beyond it were lost with the child
        self.progress = now  #: when it was last given work while empty, or ended a job
        self.quiet = 0.0  #: since when it holds jobs and is inside of none, if after ``progress``
        self.check_at = NEVER  #: no hard limit of what it holds can have passed before
        self.recalled = False  #: was asked for what it has not begun, and has ended no job since
        self.recall_now = False  #: is to be asked for it at once
        self.late = False  #: its last report ended with a job that took longer than expected
        self.closing = False

    def room(self) -> int:
        """How many more jobs it may hold now."""
        if self.closing or self.recalled:
            return 0
        return MAX_OUTSTANDING - len(self.outstanding)

    def left(self, now: float) -> float:
        """Seconds until it is expected to have ended what it holds."""
        if not self.outstanding:
            return 0.0
        over = now - self.progress - self.work
        # Once a guess has proved wrong, it is not trusted to be nearly right.
        return 2 * over if over > 0 else -over

    def take_back(self, seq: int) -> InFlight | None:
        entry = self.outstanding.pop(seq, None)
        if entry is not None:
            self.work = self.work - entry.work if self.outstanding else 0.0
        return entry
