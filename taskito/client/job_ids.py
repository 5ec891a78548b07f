"""Ids for the jobs of one batch."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator

from taskito_core.job import id_of

_LOW_BITS = struct.Struct("I")
_IDS_AT_ONCE = 64


def new_ids() -> Iterator[str]:
    """Ids for one batch, without end, each greater than the one before. Not to be shared by threads.

    Equal jobs are claimed in the order of their ids, so a batch runs as it was enqueued.
    """
    head = f"{time.time_ns() // 1_000_000 & 0xFFFF_FFFF_FFFF:012x}"
    # The upper 42 of the bits below count from a random start, the lower 32 are random each time.
    count = int.from_bytes(os.urandom(5), "big")
    while True:
        for (low,) in _LOW_BITS.iter_unpack(os.urandom(_IDS_AT_ONCE * _LOW_BITS.size)):
            yield id_of(head, count << 32 | low)
            count += 1
