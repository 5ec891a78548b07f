"""What a worker has in flight: claims, the executors that hold them, and how those ended. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito.worker.ipc.wire import Company, JobMessage
from taskito_core.job import Claim, ErrorInfo, Outcome

NEVER = float("inf")
#: Jobs a child may hold at once, however short they are.
MAX_OUTSTANDING = 128
#: An executor that holds jobs and is inside of none for so many seconds is ended; the jobs go elsewhere.
SILENT_AFTER = 60.0


#: Seconds for which an executor that is blocked gets nothing to run beside what blocks it: at first, and at
#: most.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0


class InFlight:
    """One claim, from the answer that brought it until its outcome is recorded."""

    __slots__ = (
        "apart",
        "claim",
        "claimed",
        "company",
        "fresh_until",
        "outcome",
        "policy",
        "revoked",
        "seq",
        "timeout",
        "unwanted",
        "work",
    )

    def __init__(
        self,
        seq: int,
        claim: Claim,
        policy: TaskPolicy,
        claimed: float,
        work: float,
        company: Company = Company.ALONE,
    ) -> None:
        self.seq = seq  #: the worker's own number for this claim, never reused
        self.claim = claim
        self.policy = policy
        self.company = company  #: beside what it may run
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
            self.company,
        )


class Exit(NamedTuple):
    """What is known of a child that is gone."""

    error: ErrorInfo  #: signal or exit code, with the last stack if there was one
    running: Mapping[int, float]  #: seqs of the jobs it was inside of: monotonic time at which each began
    done: int  #: how many jobs it had ended in all, their results written or not
    timed_out: int = 0  #: seq of the job whose hard limit it was killed for; 0: none
    ours: bool = False  #: it was killed by us at shutdown: its jobs are handed back uncharged
    cancelled: int = 0  #: seq of the job it was killed for because it was cancelled by force; 0: none


class Executor:
    """One child (or thread) and what it holds, in the order it will run it."""

    __slots__ = (
        "all_begun",
        "check_at",
        "closing",
        "counts",
        "given",
        "id",
        "late",
        "outstanding",
        "pause",
        "progress",
        "quiet",
        "recall_now",
        "recalled",
        "received",
        "reopen_at",
        "work",
    )

    def __init__(self, executor_id: int, now: float) -> None:
        self.id = executor_id
        self.outstanding: dict[int, InFlight] = {}
        self.counts = [0] * len(Company)  #: how many of each ``Company`` those are
        self.work = 0.0
        self.given = now  #: when it was last given something
        self.all_begun = False  #: all it holds has begun, as far as was checked since
        self.received = 0  #: results that arrived; ended jobs beyond it were lost with the child
        self.progress = now  #: when it was last given work while empty, or ended a job
        self.quiet = 0.0  #: since when it holds jobs and is inside of none, if after ``progress``
        self.check_at = NEVER  #: no hard limit of what it holds can have passed before
        self.recalled = False  #: was asked for what it has not begun, and has ended no job since
        self.pause = 0.0  #: seconds for which it was left alone after it handed back jobs beside others
        self.reopen_at = NEVER  #: when it is tried again
        self.recall_now = False  #: is to be asked for it at once
        self.late = False  #: its last report ended with a job that took longer than expected
        self.closing = False

    def room(self) -> int:
        """How many more jobs it may hold now."""
        if self.closing or self.recalled:
            return 0
        return MAX_OUTSTANDING - len(self.outstanding)

    @property
    def shares(self) -> bool:
        """It holds jobs that run beside each other."""
        return bool(self.outstanding) and not self.counts[Company.ALONE]

    def responds(self) -> None:
        """It has ended a job, or begun all that it was given."""
        self.recalled, self.reopen_at, self.pause = False, NEVER, 0.0

    def leave_alone(self, now: float) -> None:
        """Jobs beside others came back because something blocks them: longer each time that this is so.

        Or it was only slow to begin them: what runs in it may last for hours, so its end is not waited for.
        """
        self.pause = min(max(2 * self.pause, FIRST_PAUSE), LONGEST_PAUSE)
        self.recalled, self.reopen_at = True, now + self.pause

    def give(self, entry: InFlight, now: float) -> None:
        """Bind this job to it."""
        if not self.outstanding:
            self.progress, self.work = now, 0.0
        self.given, self.all_begun = now, False
        self.work += entry.work
        self.outstanding[entry.seq] = entry
        self.counts[entry.company] += 1
        limit = min(entry.timeout or SILENT_AFTER, SILENT_AFTER)
        if now + limit < self.check_at:
            self.check_at = now + limit

    def soon(self, window: float, now: float, first: float = 0.0) -> tuple[int, float]:
        """How many more jobs it should begin within ``window`` seconds, and the seconds it has for them.

        ``first``: seconds of work that it is given before those.
        """
        left = self.left(now) + first
        if left >= window:
            return 0, 0.0
        if not self.shares:
            return 1, window - left
        at_once = len(self.outstanding)
        spare = (window - left) * at_once
        return max(1, min(MAX_OUTSTANDING, int(spare * at_once / max(self.work, 1e-6)))), spare

    def left(self, now: float) -> float:
        """Seconds until it is expected to have ended what it holds; of jobs beside each other, the first."""
        if not self.outstanding:
            return 0.0
        work = self.work / len(self.outstanding) ** 2 if self.shares else self.work
        over = now - self.progress - work
        # Once a guess has proved wrong, it is not trusted to be nearly right.
        return 2 * over if over > 0 else -over

    def take_back(self, seq: int) -> InFlight | None:
        entry = self.outstanding.pop(seq, None)
        if entry is not None:
            self.counts[entry.company] -= 1
            self.work = self.work - entry.work if self.outstanding else 0.0
        return entry
