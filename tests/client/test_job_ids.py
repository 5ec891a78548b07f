"""Ids for the jobs of one batch."""

from __future__ import annotations

import time
import uuid
from itertools import islice

from taskito.client.job_ids import new_ids


def test_ids_of_a_batch_ascend_and_are_uuids_of_version_7_that_say_when_they_were_made() -> None:
    batch = list(islice(new_ids(), 1000))

    assert batch == sorted(set(batch))
    for one in (batch[0], batch[-1]):
        parsed = uuid.UUID(one)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert abs(int(one[:12], 16) - time.time() * 1000) < 60_000
