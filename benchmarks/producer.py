"""One producer process: says that it is ready, waits for the end of its input, enqueues."""

from __future__ import annotations

import os
import sys

from benchmarks.app import queue, tasks


def main() -> None:
    tasks.noop.delay()
    print("ready", flush=True)
    sys.stdin.read()
    for _ in range(int(sys.argv[1])):
        tasks.noop.delay()
    sys.stdout.flush()
    queue.close()
    # Interpreter shutdown is not enqueueing.
    os._exit(0)


if __name__ == "__main__":
    main()
