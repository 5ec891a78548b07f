"""How long a worker waits by default, wherever it is started from; in seconds."""

from __future__ import annotations

#: Running jobs may go on so long after the worker was told to stop.
GRACEFUL_TIMEOUT = 25.0
#: The store may take so long to answer a worker that starts, and a child to become ready.
BOOT_TIMEOUT = 60.0
