"""The messages of supervisor, zygote and children, as bytes.

A message is ``u32 body length | u8 type | body``. Numbers are packed with ``struct``, payloads and
results are copied as they are: nothing here unpickles, unmarshals or evaluates anything, so garbage
can at worst raise WireError. Types that are not known are skipped by their length.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from taskito_core.job import ErrorInfo, ErrorKind

#: Raised by one whenever a message changes its meaning; HELLO carries it.
PROTOCOL_VERSION = 3
#: No message is larger; a length beyond it is garbage.
MAX_MESSAGE = 64 * 1024 * 1024

_HEAD = struct.Struct("!IB")
_JOB = struct.Struct("!QBqIIIHHHII")
_RESULT = struct.Struct("!QBddQI")
_SEQ = struct.Struct("!Q")
_DELAY = struct.Struct("!d")
_HELLO = struct.Struct("!II")
_SLOT_PID = struct.Struct("!II")


class WireError(Exception):
    """The other side sent something that is not this protocol."""


class MessageType(IntEnum):
    # data socket, supervisor to child
    JOBS = 1
    # data socket, child to supervisor
    RESULTS = 2
    RETURNED = 3  #: seqs of jobs the child has not begun and will not begin
    NOTES = 6  #: progress or a log entry of a running job; see pack_note
    # data socket, supervisor to child
    NOTIFY = 4  #: tell the app's callbacks of a failed attempt, between two jobs; see ``failure_events``
    DISMISS = 5  #: to a child that drains: no NOTIFY will come any more
    # control socket, supervisor to child
    RECALL = 10  #: write out finished results now and hand back what has not begun
    DRAIN = 11  #: finish the current job, hand back the rest, exit 0
    # control socket, child to supervisor
    HELLO = 20  #: first message: protocol version and pid
    READY = 21  #: after boot; body: JSON app report when the child imported the app itself, else empty
    FAILED = 22  #: boot failed; body: the traceback as text
    RECYCLE = 23  #: its lifespan is over: it begins nothing more, and asks to be replaced
    # zygote channel
    FORK = 30  #: to the zygote, with the child's descriptors attached; body: slot number, supervisor pid
    FORKED = 31  #: from the zygote: slot number and pid


class ResultKind(IntEnum):
    """How a run ended, as the child saw it. The supervisor makes an Outcome of it."""

    RETURNED = 0  #: body: serialised value
    RAISED = 1  #: body: see pack_error
    TIMED_OUT = 2  #: the soft limit ended it; body: see pack_error
    INTERRUPTED = 3  #: WorkerShutdown ended it; body empty
    UNKNOWN_TASK = 4  #: this app has no such task; body empty
    CANCELLED = 5  #: JobCancelled ended it; body: why, as text
    SNOOZED = 6  #: it wants to run again later; body: see pack_delay
    RECORDED = 7  #: as RETURNED; the task has recorded it too, in a transaction of its own
    UNREADABLE = 8  #: this app cannot read the arguments, and leaves them to others; body empty


class Company(IntEnum):
    """Beside what a job may run in its child."""

    ALONE = 0  #: beside no other; it runs in the main thread
    COROUTINES = 1  #: beside others of this kind and the next, in the child's event loop
    THREADS = 2  #: beside others of this kind and the last, in a thread of its own


class JobMessage(NamedTuple):
    """One job as a child receives it."""

    seq: int  #: the supervisor's number for this claim; never reused by one supervisor
    token: int
    retry_count: int
    crashes: int
    interruptions: int
    id: str
    task_name: str
    queue: str
    metadata: str | None
    payload: bytes
    company: Company = Company.ALONE


class ResultMessage(NamedTuple):
    """One ended run as the supervisor receives it."""

    seq: int
    kind: ResultKind
    started: float  #: time.monotonic() when the run began; the same clock in every process of a host
    ran: float  #: seconds of wall time
    body: bytes
    peak_memory: int = 0  #: bytes resident in its process at the highest point of the run; 0: not measured


def pack(kind: MessageType, body: bytes = b"") -> bytes:
    """One whole message."""
    if len(body) > MAX_MESSAGE:
        raise WireError(f"a message of {len(body)} bytes is over the limit of {MAX_MESSAGE}")
    return _HEAD.pack(len(body), kind) + body


def pack_jobs(jobs: Iterable[JobMessage]) -> bytes:
    """A JOBS message."""
    parts: list[bytes] = []
    for job in jobs:
        seq, token, retries, crashes, interruptions, id_, task_name, queue, metadata, payload, company = job
        id_bytes, task_bytes, queue_bytes = id_.encode(), task_name.encode(), queue.encode()
        # Metadata is a JSON object or absent, so the empty string can stand for None.
        metadata_bytes = metadata.encode() if metadata else b""
        lengths = (len(id_bytes), len(task_bytes), len(queue_bytes), len(metadata_bytes), len(payload))
        parts += (
            _JOB.pack(seq, company, token, retries, crashes, interruptions, *lengths),
            id_bytes,
            task_bytes,
            queue_bytes,
            metadata_bytes,
            payload,
        )
    return pack(MessageType.JOBS, b"".join(parts))


def unpack_jobs(body: bytes) -> Iterator[JobMessage]:
    """The jobs of a JOBS message, in sending order."""
    at, end = 0, len(body)
    while at < end:
        head = _unpack(_JOB, body, at)
        (
            seq,
            company,
            token,
            retries,
            crashes,
            interruptions,
            for_id,
            for_task,
            for_queue,
            for_metadata,
            for_payload,
        ) = head
        # Written out instead of looped over: the child does this for every job.
        task = (start := at + _JOB.size) + for_id
        queue = task + for_task
        metadata = queue + for_queue
        payload = metadata + for_metadata
        at = payload + for_payload
        if at > end:
            raise WireError("a JOBS message ends inside a job")
        yield JobMessage(
            seq,
            token,
            retries,
            crashes,
            interruptions,
            body[start:task].decode(),
            body[task:queue].decode(),
            body[queue:metadata].decode(),
            body[metadata:payload].decode() or None,
            body[payload:at],
            _COMPANIES[company],
        )


def pack_result(result: ResultMessage) -> bytes:
    """One entry of a RESULTS message; join entries and ``pack`` them."""
    seq, kind, started, ran, body, peak_memory = result
    return _RESULT.pack(seq, kind, started, ran, peak_memory, len(body)) + body


def unpack_results(body: bytes) -> list[ResultMessage]:
    """The entries of a RESULTS message. Raises WireError for anything malformed."""
    results: list[ResultMessage] = []
    at, end = 0, len(body)
    while at < end:
        seq, kind, started, ran, peak_memory, length = _unpack(_RESULT, body, at)
        at += _RESULT.size
        if at + length > end:
            raise WireError("a RESULTS message ends inside a result")
        try:
            known = ResultKind(kind)
        except ValueError:
            raise WireError(f"unknown result kind {kind}") from None
        results.append(ResultMessage(seq, known, started, ran, body[at : at + length], peak_memory))
        at += length
    return results


def pack_error(error: ErrorInfo, retryable: bool) -> bytes:
    """The body of a RAISED or TIMED_OUT result. JSON: failures are not the hot path."""
    return json.dumps([error.kind, error.type, error.message, error.traceback, retryable]).encode()


def unpack_error(body: bytes) -> tuple[ErrorInfo, bool]:
    """(error, retryable). Raises WireError for anything malformed."""
    try:
        kind, type_name, message, traceback, retryable = json.loads(body)
        error = ErrorInfo(ErrorKind(kind), str(type_name), str(message), traceback and str(traceback))
    except (ValueError, TypeError) as exc:
        raise WireError(f"a malformed error record: {exc}") from None
    return error, bool(retryable)


def pack_delay(seconds: float) -> bytes:
    """The body of a SNOOZED result."""
    return _DELAY.pack(seconds)


def unpack_delay(body: bytes) -> float:
    delay: float = _unpack(_DELAY, body, 0)[0]
    return delay


def pack_note(seq: int, fields: Sequence[object]) -> bytes:
    """A NOTES message: the job's seq, and the note's fields as a JSON list. See ``running_job.job_log``."""
    return pack(MessageType.NOTES, _SEQ.pack(seq) + json.dumps(fields).encode())


def unpack_note(body: bytes) -> tuple[int, list[Any]]:
    """(seq, fields). Raises WireError for anything malformed."""
    [seq] = _unpack(_SEQ, body, 0)
    try:
        fields = json.loads(body[_SEQ.size :])
    except ValueError as exc:
        raise WireError(f"a malformed note: {exc}") from None
    if not isinstance(fields, list):
        raise WireError(f"a note must be a list, got {fields!r:.100}")
    return seq, fields


def pack_seqs(kind: MessageType, seqs: Iterable[int]) -> bytes:
    """A message whose body is a list of seqs (RETURNED)."""
    return pack(kind, b"".join(map(_SEQ.pack, seqs)))


def unpack_seqs(body: bytes) -> list[int]:
    if len(body) % _SEQ.size:
        raise WireError(f"a list of seqs of {len(body)} bytes")
    return [seq for (seq,) in _SEQ.iter_unpack(body)]


def pack_hello(pid: int) -> bytes:
    return pack(MessageType.HELLO, _HELLO.pack(PROTOCOL_VERSION, pid))


def unpack_hello(body: bytes) -> tuple[int, int]:
    """(protocol version, pid)."""
    version, pid = _unpack(_HELLO, body, 0)
    return version, pid


def pack_slot_pid(kind: MessageType, slot: int, pid: int) -> bytes:
    """FORK (the supervisor's pid) and FORKED (the child's pid)."""
    return pack(kind, _SLOT_PID.pack(slot, pid))


def unpack_slot_pid(body: bytes) -> tuple[int, int]:
    slot, pid = _unpack(_SLOT_PID, body, 0)
    return slot, pid


class MessageParser:
    """Bytes in, whole messages out. Keeps the unfinished rest."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[MessageType, bytes]]:
        """The messages completed by ``data``, in order. Raises WireError for an impossible length."""
        buffer = self._buffer
        buffer += data
        messages: list[tuple[MessageType, bytes]] = []
        at, end = 0, len(buffer)
        while end - at >= _HEAD.size:
            length, kind = _HEAD.unpack_from(buffer, at)
            if length > MAX_MESSAGE:
                raise WireError(f"a message claims {length} bytes, the limit is {MAX_MESSAGE}")
            start = at + _HEAD.size
            if end - start < length:
                break
            at = start + length
            if kind in _KNOWN:
                messages.append((MessageType(kind), bytes(buffer[start:at])))
        del buffer[:at]
        return messages


_KNOWN = frozenset(MessageType)
#: By index, because the child asks for every job; a number beyond them is taken for the safest.
_COMPANIES = (*Company, *([Company.ALONE] * (256 - len(Company))))


def _unpack(form: struct.Struct, body: bytes, at: int) -> tuple[Any, ...]:
    try:
        return form.unpack_from(body, at)
    except struct.error as exc:
        raise WireError(f"{len(body)} bytes end inside a record: {exc}") from None
