"""Jobs that follow from each other: chains, groups, chords. Compiled into one batch and stored at once.

What a caller builds here are plain values. ``apply()`` turns them into jobs with parents, in one transaction:
whoever applied it may go home, and no crash loses a step, because there is no step that only
lives in a process. Results of parents reach a child through the store, when it runs.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Unpack, cast

from taskito_core import aio
from taskito_core.errors import ConfigError
from taskito_core.job import JobStatus, NewJob, new_ids
from taskito_core.options import JobOptions
from taskito_core.result import JobResult
from taskito_core.serializers import Inputs

if TYPE_CHECKING:
    from taskito_core.producing import Producing
    from taskito_core.reading import Reading
    from taskito_core.task import Task

#: One job's id, or those of several in order, nested as the groups are.
Shape = str | list[Any]
OnError = Literal["cancel", "collect"]
#: Options that would make a step something else than one new job after its parents.
_REFUSED = ("id", "unique_key", "connection")
#: Jobs that one look at the members of a group reads.
_PAGE = 500


class FailedMember(NamedTuple):
    """Stands for the result that a job of a group does not have, in a chord with ``on_error="collect"``."""

    job_id: str
    task_name: str
    status: str
    error: str | None


class Ends(NamedTuple):
    """Where a part of the canvas ends: what it gives to the next, and whom that waits for."""

    shape: Shape
    waits: list[str]


class Plan:
    """The jobs of one ``apply()``, parents before children."""

    def __init__(self, queue: Producing, defaults: JobOptions) -> None:
        self.queue = queue
        self.jobs: list[NewJob] = []
        self.ids = new_ids()
        self._defaults = defaults

    def add(self, step: Signature, after: Ends | None, tolerant: bool) -> Ends:
        """One more job, after those that ``after`` names."""
        said = cast(JobOptions, {**self._defaults, **step.options})
        if wrong := sorted(set(said).intersection(_REFUSED)):
            raise ConfigError(f"a step of a canvas cannot have {', '.join(wrong)}: leave it out")
        takes = after is not None and not step.immutable
        inputs = Inputs(after.shape if takes and after is not None else None, step.each)
        job = self.queue._job_of(
            step.task.name, step.args, step.kwargs, said, "apply()", self.ids, inputs if inputs.say else None
        )
        if after is not None:
            job = replace(job, parents=tuple(dict.fromkeys((*job.parents, *after.waits))), tolerant=tolerant)
        self.jobs.append(job)
        return Ends(job.id, [job.id])


class Canvas(ABC):
    """Anything that can be applied, or be part of something that is."""

    @abstractmethod
    def _compile(self, plan: Plan, after: Ends | None, tolerant: bool) -> Ends:
        """Add the jobs of this part. ``tolerant``: its first jobs run also if what they wait for failed."""

    @abstractmethod
    def _queue(self) -> Producing | None:
        """The queue its tasks belong to; None: it has no tasks. ConfigError if they are of several."""

    def apply(self, **options: Unpack[JobOptions]) -> Any:
        """Store all of it, in one transaction, and return at once.

        ``options`` hold for every job that does not say otherwise. The handle is that of the last job, or a
        GroupResult if it ends in a group.
        """
        queue = self._queue()
        if queue is None:
            raise ConfigError("there is nothing to apply: it has no tasks")
        said = dict(options)
        connection = said.pop("connection", None)
        plan = Plan(queue, cast(JobOptions, said))
        ends = self._compile(plan, None, False)
        queue._submit(plan.jobs, connection)
        if isinstance(ends.shape, str):
            return JobResult(queue, ends.shape)
        return GroupResult(queue, ends.shape)

    async def aapply(self, **options: Unpack[JobOptions]) -> Any:
        return await aio.in_thread(self.apply, **options)

    def __or__(self, other: Canvas) -> chain:
        """``a | b`` is ``chain(a, b)``."""
        return chain(self, other)


class Signature(Canvas):
    """One call of a task, to be made as a step: what ``task.s(...)`` gives. Immutable."""

    def __init__(
        self,
        task: Task[..., Any],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        options: JobOptions | None = None,
        *,
        immutable: bool = False,
        each: bool = False,
    ) -> None:
        self.task = task
        self.args = tuple(args)
        self.kwargs = kwargs or {}
        self.options: JobOptions = options or {}
        self.immutable = immutable  #: what parents returned is not passed to it
        self.each = each  #: its one argument is a list of arguments: one call for each, a list of results

    def set(self, **options: Unpack[JobOptions]) -> Signature:
        """The same call with these options."""
        said = cast(JobOptions, {**self.options, **options})
        return Signature(self.task, self.args, self.kwargs, said, immutable=self.immutable, each=self.each)

    def _compile(self, plan: Plan, after: Ends | None, tolerant: bool) -> Ends:
        return plan.add(self, after, tolerant)

    def _queue(self) -> Producing | None:
        return self.task._queue

    def __repr__(self) -> str:
        return f"{self.task.name}.s{self.args!r}"


class _Parts(Canvas):
    """Something made of parts."""

    def __init__(self, *parts: Canvas | Iterable[Canvas]) -> None:
        self.parts: tuple[Canvas, ...] = tuple(_flattened(type(self).__name__, parts))

    def _queue(self) -> Producing | None:
        queues = {id(queue): queue for part in self.parts if (queue := part._queue()) is not None}
        if len(queues) > 1:
            raise ConfigError(f"the tasks of one {type(self).__name__} must belong to one Queue")
        return next(iter(queues.values()), None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.parts))})"


class chain(_Parts):  # noqa: N801  # the field's word, and it reads as the function it is used as
    """One after the other; each gets what the one before returned as its first argument."""

    def _compile(self, plan: Plan, after: Ends | None, tolerant: bool) -> Ends:
        ends = after
        for part in self.parts:
            ends = part._compile(plan, ends, tolerant)
            tolerant = False
        if ends is None:
            raise ConfigError("a chain must have at least one step")
        return ends


class group(_Parts):  # noqa: N801
    """All at once; what follows gets the list of their results, in this order. An empty one gives []."""

    def _compile(self, plan: Plan, after: Ends | None, tolerant: bool) -> Ends:
        members = [part._compile(plan, after, tolerant) for part in self.parts]
        waits = [job_id for member in members for job_id in member.waits]
        return Ends([member.shape for member in members], waits or (after.waits if after else []))


class chord(Canvas):  # noqa: N801
    """A group, and a callback that gets the list of its results.

    A member that fails cancels the callback, whose error names it. With ``on_error="collect"`` the callback
    runs all the same, with a FailedMember in place of each result that is missing.
    """

    def __init__(
        self, header: Canvas | Iterable[Canvas], callback: Canvas, *, on_error: OnError = "cancel"
    ) -> None:
        if on_error not in ("cancel", "collect"):
            raise ConfigError(f"on_error must be 'cancel' or 'collect', got {on_error!r}")
        self.header = header if isinstance(header, group) else group(header)
        self.callback = callback
        self.on_error = on_error

    def _compile(self, plan: Plan, after: Ends | None, tolerant: bool) -> Ends:
        ends = self.header._compile(plan, after, tolerant)
        return self.callback._compile(plan, ends, self.on_error == "collect")

    def _queue(self) -> Producing | None:
        return chain(self.header, self.callback)._queue()

    def __repr__(self) -> str:
        return f"chord({self.header!r}, {self.callback!r})"


def starmap(task: Task[..., Any], items: Iterable[Sequence[Any]]) -> Signature:
    """One job that calls the task once per item, with the item's values as arguments; a list of results."""
    return Signature(task, ([list(item) for item in items],), each=True)


def chunks(task: Task[..., Any], items: Iterable[Sequence[Any]], size: int) -> group:
    """``starmap`` in several jobs, of ``size`` items each."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ConfigError(f"size must be a whole number of 1 or more, got {size!r}")
    everything = list(items)
    return group(starmap(task, everything[at : at + size]) for at in range(0, len(everything), size))


class GroupResult:
    """The handle of a group: its members' handles in order, nested as the groups are."""

    def __init__(self, reader: Reading, shape: list[Any]) -> None:
        self._reader = reader
        self._shape = shape

    @property
    def ids(self) -> list[str]:
        """The ids of all members, in order."""
        return list(leaves(self._shape))

    @property
    def jobs(self) -> list[JobResult[Any]]:
        """The handles of all members, in order."""
        return [JobResult(self._reader, job_id) for job_id in self.ids]

    def statuses(self) -> dict[JobStatus, int]:
        """How many members are in which state; members that are stored no more are left out."""
        return dict(Counter(job.status for page in self._pages() for job in page.values()))

    def results(self, timeout: float | None = 30.0) -> list[Any]:
        """What the members returned, in order; waits up to ``timeout`` seconds in all (None: for ever).

        Raises what ``result()`` of the first member that did not complete raises, or TimeoutError.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        values: dict[str, Any] = {}
        for page in self._pages():
            for job_id, handle in page.items():
                rest = None if deadline is None else max(0.0, deadline - time.monotonic())
                values[job_id] = handle.result(rest)
        return cast(list[Any], filled(self._shape, values))

    async def aresults(self, timeout: float | None = 30.0) -> list[Any]:
        return await aio.in_own_thread(self.results, timeout)

    def _pages(self) -> Iterator[dict[str, JobResult[Any]]]:
        ids = self.ids
        for at in range(0, len(ids), _PAGE):
            page = ids[at : at + _PAGE]
            known = {job.id: job for job in self._reader.storage.get(page)}
            yield {job_id: JobResult(self._reader, job_id, known.get(job_id)) for job_id in page}

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<GroupResult of {len(self)} jobs>"


for _class in (Canvas, Signature, chain, group, chord, GroupResult, FailedMember):
    _class.__module__ = "taskito"


def _flattened(what: str, parts: Iterable[object]) -> Iterator[Canvas]:
    for part in parts:
        if isinstance(part, Canvas):
            yield part
        elif isinstance(part, Iterable) and not isinstance(part, str | bytes):
            yield from _flattened(what, part)
        else:
            raise ConfigError(
                f"a {what} is made of steps such as task.s(...), groups and chains, got {part!r:.100}"
            )


def leaves(shape: Shape) -> Iterator[str]:
    """The ids in it, in order."""
    if isinstance(shape, str):
        yield shape
    else:
        for part in shape:
            yield from leaves(part)


def filled(shape: Shape, values: dict[str, Any]) -> Any:
    """The same with values in place of their ids."""
    return values[shape] if isinstance(shape, str) else [filled(part, values) for part in shape]
