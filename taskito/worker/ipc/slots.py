"""The slot table: what each child runs since when, in memory that supervisor and children share.

One 64-byte record per child. The child writes everything but ``interrupt`` and ``cancel``; the supervisor
reads the table when it must know the truth about a child that is silent, overdue or dead. Writing a record
costs a tenth of a microsecond, so the start of a job needs no message.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from typing import NamedTuple

RECORD_SIZE = 64
_SEQ, _STARTED, _DONE, _INTERRUPT, _CANCEL = 0, 8, 16, 24, 32
_u64 = struct.Struct("=Q")
_f64 = struct.Struct("=d")


class SlotRecord(NamedTuple):
    """One reading of a child's record."""

    seq: int  #: the job it is inside of; 0: none
    started: float  #: time.monotonic() when that job began
    done: int  #: jobs this child has ended since it started, written before ``seq`` goes back to 0
    interrupt: int  #: the seq whose run shall be broken off when SIGUSR2 arrives; 0: none


class SlotTable:
    """All records. The supervisor creates it; children open it by the inherited descriptor."""

    def __init__(self, fd: int, slots: int) -> None:
        self.fd = fd
        self.slots = slots
        self._map = mmap.mmap(fd, slots * RECORD_SIZE)

    @classmethod
    def create(cls, slots: int) -> SlotTable:
        fd = anonymous_file("taskito-slots")
        os.ftruncate(fd, slots * RECORD_SIZE)
        return cls(fd, slots)

    def close(self) -> None:
        self._map.close()
        os.close(self.fd)

    def clear(self, slot: int) -> None:
        """Make the record that of a child that has done nothing yet."""
        at = slot * RECORD_SIZE
        self._map[at : at + RECORD_SIZE] = bytes(RECORD_SIZE)

    def begin(self, slot: int, seq: int, started: float) -> None:
        """Child: a job begins. ``started`` first: a reader that sees the seq must see its own start."""
        at = slot * RECORD_SIZE
        _f64.pack_into(self._map, at + _STARTED, started)
        _u64.pack_into(self._map, at + _SEQ, seq)

    def end(self, slot: int, done: int) -> None:
        """Child: the job has ended; ``done`` counts it."""
        at = slot * RECORD_SIZE
        _u64.pack_into(self._map, at + _DONE, done)
        _u64.pack_into(self._map, at + _SEQ, 0)

    def set_interrupt(self, slot: int, seq: int) -> None:
        """Supervisor: name the run that the SIGUSR2 it is about to send is meant for."""
        _u64.pack_into(self._map, slot * RECORD_SIZE + _INTERRUPT, seq)

    def interrupt_seq(self, slot: int) -> int:
        """Child, in its signal handler: a late signal must not hit the next job."""
        seq: int = _u64.unpack_from(self._map, slot * RECORD_SIZE + _INTERRUPT)[0]
        return seq

    def set_cancel(self, slot: int, seq: int) -> None:
        """Supervisor: this run was asked to cancel."""
        _u64.pack_into(self._map, slot * RECORD_SIZE + _CANCEL, seq)

    def cancel_seq(self, slot: int) -> int:
        """Child: the run that was asked to cancel last; 0: none."""
        seq: int = _u64.unpack_from(self._map, slot * RECORD_SIZE + _CANCEL)[0]
        return seq

    def running_seq(self, slot: int) -> int:
        """The seq alone: all that a signal handler needs."""
        seq: int = _u64.unpack_from(self._map, slot * RECORD_SIZE + _SEQ)[0]
        return seq

    def read(self, slot: int) -> SlotRecord:
        """A consistent reading: retried until no job began or ended in between."""
        at = slot * RECORD_SIZE
        while True:
            seq, started, done, interrupt = struct.unpack_from("=QdQQ", self._map, at)
            if self.running_seq(slot) == seq:
                return SlotRecord(seq, started, done, interrupt)


def anonymous_file(name: str) -> int:
    """A descriptor of shared memory that has no name anyone else could open."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    fd, path = tempfile.mkstemp(prefix=name)
    os.unlink(path)
    return fd
