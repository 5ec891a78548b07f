"""The slot table: what each child runs since when, in memory that supervisor and children share.

One record per child, with an entry for each job that it may be inside of at once. The child writes everything
but what the supervisor asks (to interrupt, to cancel); that reads the table when it must know the truth about
a child that is silent, overdue or dead. Writing an entry costs a tenth of a microsecond, so the start of a
job needs no message.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from typing import NamedTuple

#: A record: its head, then its entries.
_HEAD_SIZE = _ENTRY_SIZE = 32
_DONE = 0
_SEQ, _STARTED, _INTERRUPT, _CANCEL = 0, 8, 16, 24
_u64 = struct.Struct("=Q")
_f64 = struct.Struct("=d")
_entry = struct.Struct("=QdQQ")


class SlotRecord(NamedTuple):
    """One reading of a child's record."""

    running: dict[int, float]  #: the jobs it is inside of, by seq: time.monotonic() when each began
    done: int  #: jobs this child has ended since it started, written before an entry is given free


class SlotTable:
    """All records. The supervisor creates it; children open it by the inherited descriptor.

    ``entries``: how many jobs a child may be inside of at once. Entries are numbered from 0.
    """

    def __init__(self, fd: int, slots: int, entries: int = 1) -> None:
        self.fd = fd
        self.slots = slots
        self.entries = entries
        self._size = _HEAD_SIZE + entries * _ENTRY_SIZE
        self._map = mmap.mmap(fd, slots * self._size)

    @classmethod
    def create(cls, slots: int, entries: int = 1) -> SlotTable:
        fd = anonymous_file("taskito-slots")
        os.ftruncate(fd, slots * (_HEAD_SIZE + entries * _ENTRY_SIZE))
        return cls(fd, slots, entries)

    def close(self) -> None:
        self._map.close()
        os.close(self.fd)

    def clear(self, slot: int) -> None:
        """Make the record that of a child that has done nothing yet."""
        at = slot * self._size
        self._map[at : at + self._size] = bytes(self._size)

    # ---- the child's side ----

    def begin(self, slot: int, seq: int, started: float, entry: int = 0) -> None:
        """A job begins. ``started`` first: a reader that sees the seq must see its own start."""
        at = slot * self._size + _HEAD_SIZE + entry * _ENTRY_SIZE
        _f64.pack_into(self._map, at + _STARTED, started)
        _u64.pack_into(self._map, at + _SEQ, seq)

    def end(self, slot: int, done: int, entry: int = 0) -> None:
        """The job has ended; ``done`` counts it."""
        at = slot * self._size
        _u64.pack_into(self._map, at + _DONE, done)
        _u64.pack_into(self._map, at + _HEAD_SIZE + entry * _ENTRY_SIZE + _SEQ, 0)

    def interrupt_seq(self, slot: int, entry: int = 0) -> int:
        """In its signal handler: the run to be broken off; 0: none.

        A late signal must not hit the next job.
        """
        return self._read(slot, entry, _INTERRUPT)

    def interrupt_taken(self, slot: int, entry: int) -> None:
        """It was acted upon: the next signal may be for another job of this child."""
        _u64.pack_into(self._map, slot * self._size + _HEAD_SIZE + entry * _ENTRY_SIZE + _INTERRUPT, 0)

    def cancel_seq(self, slot: int, entry: int = 0) -> int:
        """The run of this entry that was asked to cancel last; 0: none."""
        return self._read(slot, entry, _CANCEL)

    def running_seq(self, slot: int, entry: int = 0) -> int:
        """The seq alone."""
        return self._read(slot, entry, _SEQ)

    # ---- the supervisor's side ----

    def set_interrupt(self, slot: int, seq: int) -> None:
        """Name a run, if the child is inside of it, that the SIGUSR2 about to be sent is meant for."""
        self._ask(slot, seq, _INTERRUPT)

    def set_cancel(self, slot: int, seq: int) -> None:
        """This run was asked to cancel, if the child is inside of it."""
        self._ask(slot, seq, _CANCEL)

    def read(self, slot: int) -> SlotRecord:
        """A consistent reading: retried until no job began or ended in between."""
        at = slot * self._size
        record = self._map[at : at + self._size]
        while (again := self._map[at : at + self._size]) != record:
            record = again
        entries = _entry.iter_unpack(record[_HEAD_SIZE:])
        running = {seq: started for seq, started, _, _ in entries if seq}
        return SlotRecord(running, _u64.unpack_from(record, _DONE)[0])

    def _ask(self, slot: int, seq: int, field: int) -> None:
        # The entry may be given to another job meanwhile: that job has another seq, and so is not meant.
        for entry in range(self.entries):
            if self.running_seq(slot, entry) == seq:
                at = slot * self._size + _HEAD_SIZE + entry * _ENTRY_SIZE
                _u64.pack_into(self._map, at + field, seq)

    def _read(self, slot: int, entry: int, field: int) -> int:
        at = slot * self._size + _HEAD_SIZE + entry * _ENTRY_SIZE
        seq: int = _u64.unpack_from(self._map, at + field)[0]
        return seq


def anonymous_file(name: str) -> int:
    """A descriptor of shared memory that has no name anyone else could open."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    fd, path = tempfile.mkstemp(prefix=name)
    os.unlink(path)
    return fd
