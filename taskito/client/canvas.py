"""Jobs that follow from each other: chains, groups, chords. Compiled into one batch and stored at once.

A canvas is a plain value. ``apply()`` turns it into jobs with parents, in one transaction. The process that
applied it may end then, and no crash loses a step: every step is in the store. A job reads the results
of its parents from the store, when it runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar, Unpack, cast

from taskito.client import aio
from taskito.client.job_ids import new_ids
from taskito.client.options.job_options import JobOptions, one_of, refuse_unknown
from taskito.client.producer import Producer
from taskito.client.results.group_result import GROUP_TAG, GroupResult
from taskito.client.results.job_result import JobResult
from taskito.running_job.group_shape import Shape, leaves
from taskito.serialization.serializers import Inputs
from taskito_core.errors import ConfigError
from taskito_core.job import NewJob

OnError = Literal["cancel", "collect"]
Handle_co = TypeVar("Handle_co", covariant=True)
#: Options that would make a step something else than one new job after its parents.
_REFUSED = ("id", "unique_key", "debounce", "throttle", "connection")


class StepTask(Protocol):
    """A task, as far as a step needs it."""

    @property
    def name(self) -> str: ...
    @property
    def producer(self) -> Producer: ...


class Ends(NamedTuple):
    """Where a part of the canvas ends: what it gives to the next part, and which jobs that waits for."""

    shape: Shape
    waits: list[str]  #: ids; empty: the part has no jobs
    collect: bool = False  #: the next part runs also if they fail


class Plan:
    """The jobs of one ``apply()``, parents before children."""

    def __init__(self, defaults: JobOptions) -> None:
        self.jobs: list[NewJob] = []
        self._ids = new_ids()
        self._defaults = defaults
        # The first steps wait for what the whole waits for, and all others wait for the first.
        self._later_defaults = cast(
            JobOptions, {name: value for name, value in defaults.items() if name != "depends_on"}
        )

    def add(self, step: Signature, after: Ends | None) -> Ends:
        """One more job, after those that ``after`` names."""
        waits = after.waits if after is not None else []
        collect = after is not None and after.collect
        defaults = self._later_defaults if waits else self._defaults
        said = cast(JobOptions, {**defaults, **step.options})
        job = self._job_of(step, said, None if after is None or step.immutable else after.shape, collect)
        if waits:
            if collect and job.parents:
                raise ConfigError(
                    "the callback of a chord with on_error='collect' cannot have depends_on: "
                    "it runs whatever becomes of the jobs before it"
                )
            job = replace(job, parents=tuple(dict.fromkeys((*job.parents, *waits))), tolerant=collect)
        self.jobs.append(job)
        return Ends(job.id, [job.id])

    def tag_group(self, shape: Shape) -> str:
        """Give the members of this group a tag, by which they are found; the id that is in it."""
        members, group_id = set(leaves(shape)), next(self._ids)
        tag = GROUP_TAG.format(id=group_id)
        self.jobs = [replace(job, tags=(*job.tags, tag)) if job.id in members else job for job in self.jobs]
        return group_id

    def _job_of(self, step: Signature, said: JobOptions, results_of: Shape | None, collect: bool) -> NewJob:
        _refuse(name for name in _REFUSED if said.get(name) is not None)
        inputs = Inputs(results_of, step.each, collect) if results_of is not None or step.each else None
        task = step.task
        job = task.producer.job_of(task.name, step.args, step.kwargs, said, "apply()", self._ids, inputs)
        # A hook may have given it one: the steps after it would wait for a job that is not theirs.
        _refuse(["unique_key"] if job.unique_key is not None else [])
        _refuse([] if job.call_key is None else [job.call_key.partition(":")[0]])
        return job


class Canvas(ABC, Generic[Handle_co]):
    """Anything that can be applied, or be part of something that is. Immutable."""

    @abstractmethod
    def compile(self, plan: Plan, after: Ends | None) -> Ends:
        """Add the jobs of this part to the plan, the first of them after ``after``."""

    @abstractmethod
    def producers(self) -> Iterator[Producer]:
        """What stores the jobs of its tasks, for each step."""

    def apply(self, **options: Unpack[JobOptions]) -> Handle_co:
        """Store all of it, in one transaction, and return at once.

        ``options`` hold for every job that does not say otherwise, but ``depends_on``, which holds for the
        first ones. The handle is that of the last job, or a GroupResult if it ends in a group. Raises as
        ``enqueue``, and nothing is stored then.
        """
        said = dict(options)
        connection = said.pop("connection", None)
        refuse_unknown("apply()", said, JobOptions.__annotations__)
        producer = self._producer()
        plan = Plan(cast(JobOptions, said))
        ends = self.compile(plan, None)
        if producer is None:  # Groups without members: there is nothing to store, or to read.
            return cast(Handle_co, GroupResult(None, cast(list[Any], ends.shape)))
        group_id = None if isinstance(ends.shape, str) else plan.tag_group(ends.shape)
        producer.submit(plan.jobs, connection)
        if isinstance(ends.shape, str):
            return cast(Handle_co, JobResult(producer.reader, ends.shape))
        return cast(Handle_co, GroupResult(producer.reader, ends.shape, group_id))

    def _producer(self) -> Producer | None:
        """What stores its jobs; None: it has no tasks, as an empty group."""
        producers = {id(producer): producer for producer in self.producers()}
        if len(producers) > 1:
            raise ConfigError(f"the tasks of one {type(self).__name__} must belong to one Queue")
        return next(iter(producers.values()), None)

    aapply = aio.twin(apply)

    def __or__(self, other: Canvas[Any]) -> chain:
        """``a | b`` is ``chain(a, b)``."""
        return chain(self, other)


class Signature(Canvas[JobResult[Any]]):
    """One call of a task, to be made as a step: what ``task.s(...)`` gives."""

    def __init__(
        self,
        task: StepTask,
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

    def compile(self, plan: Plan, after: Ends | None) -> Ends:
        return plan.add(self, after)

    def producers(self) -> Iterator[Producer]:
        yield self.task.producer

    def __repr__(self) -> str:
        words = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"{self.task.name}.{'si' if self.immutable else 's'}({', '.join(words)})"


class _Parts(Canvas[Handle_co]):
    """Something made of parts."""

    def __init__(self, *parts: Canvas[Any] | Iterable[Canvas[Any]]) -> None:
        self.parts: tuple[Canvas[Any], ...] = tuple(_flattened(type(self).__name__, parts))

    def producers(self) -> Iterator[Producer]:
        for part in self.parts:
            yield from part.producers()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.parts))})"


class chain(_Parts[Any]):  # noqa: N801  # the field's word, and it reads as the function it is used as
    """One after the other; each gets what the one before returned as its first argument."""

    def __init__(self, *parts: Canvas[Any] | Iterable[Canvas[Any]]) -> None:
        super().__init__(*parts)
        if not self.parts:
            raise ConfigError("a chain must have at least one step")
        # One level, however long: ``a | b | c | ...`` nests a chain in a chain for each step.
        self.parts = tuple(
            step for part in self.parts for step in (part.parts if isinstance(part, chain) else (part,))
        )

    def compile(self, plan: Plan, after: Ends | None) -> Ends:
        ends = after
        for part in self.parts:
            ends = _passed_on(part.compile(plan, ends), ends)
        assert ends is not None
        return ends


class group(_Parts["GroupResult"]):  # noqa: N801
    """All at once; what follows gets the list of their results, in this order. An empty one gives []."""

    def compile(self, plan: Plan, after: Ends | None) -> Ends:
        members = [part.compile(plan, after) for part in self.parts]
        return Ends([one.shape for one in members], [job_id for one in members for job_id in one.waits])


class chord(Canvas[Any]):  # noqa: N801
    """A group, and a callback that gets the list of its results.

    A member that fails cancels the callback, whose error names it. With ``on_error="collect"`` the callback
    runs all the same, with a FailedMember in place of each result that is missing.
    """

    def __init__(
        self,
        header: Canvas[Any] | Iterable[Canvas[Any]],
        callback: Canvas[Any],
        *,
        on_error: OnError = "cancel",
    ) -> None:
        self.header = header if isinstance(header, group) else group(header)
        [self.callback] = _flattened("chord's callback", [callback])
        self.on_error = one_of("on_error", on_error, ("cancel", "collect"))

    def compile(self, plan: Plan, after: Ends | None) -> Ends:
        header = self.header.compile(plan, after)
        if header.waits:
            header = header._replace(collect=self.on_error == "collect")
        return self.callback.compile(plan, _passed_on(header, after))

    def producers(self) -> Iterator[Producer]:
        yield from self.header.producers()
        yield from self.callback.producers()

    def __repr__(self) -> str:
        said = "" if self.on_error == "cancel" else f", on_error={self.on_error!r}"
        return f"chord({self.header!r}, {self.callback!r}{said})"


def starmap(task: StepTask, items: Iterable[Sequence[Any]]) -> Signature:
    """One job that calls the task once per item, with the item's values as arguments; a list of results.

    In a chain each call gets what the step before returned first, as any step does.
    """
    return Signature(task, ([list(item) for item in items],), each=True)


def chunks(task: StepTask, items: Iterable[Sequence[Any]], size: int) -> group:
    """``starmap`` in several jobs, of ``size`` items each."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ConfigError(f"size must be a whole number of 1 or more, got {size!r}")
    everything = list(items)
    return group(starmap(task, everything[at : at + size]) for at in range(0, len(everything), size))


for _class in (Canvas, Signature, chain, group, chord):
    _class.__module__ = "taskito"


def _passed_on(ends: Ends, before: Ends | None) -> Ends:
    """The part after one without jobs waits for what that one would have waited for."""
    return ends if ends.waits or before is None else Ends(ends.shape, before.waits, before.collect)


def _refuse(names: Iterable[str]) -> None:
    if wrong := ", ".join(sorted(names)):
        raise ConfigError(f"a step of a canvas cannot have {wrong}: leave it out")


def _flattened(what: str, parts: Iterable[object]) -> Iterator[Canvas[Any]]:
    for part in parts:
        if isinstance(part, Canvas):
            yield part
        elif isinstance(part, Iterable) and not isinstance(part, str | bytes):
            yield from _flattened(what, part)
        else:
            raise ConfigError(
                f"a {what} is made of steps such as task.s(...), groups and chains, got {part!r:.100}"
            )
