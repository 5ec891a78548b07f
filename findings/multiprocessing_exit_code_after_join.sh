#!/bin/sh
# Thing:    multiprocessing.Process of CPython (seen with 3.11.7), started by several threads.
# Expected: after join() without a timeout, exitcode is the exit code.
# Seen:     now and then it is None, and a moment later it is the exit code. start() in any thread polls all
#           other children of the process; the one that it reaps so is unknown to the thread that joined it
#           until start() has stored what it found. About one of 300 joins by 8 threads.
# Fails if: no such join is seen among 40,000.
set -eu
exec "${PYTHON:-python3}" -W ignore - <<'PROGRAM'
import multiprocessing
import sys
import threading
import time

THREADS, ROUNDS, MOST = 8, 50, 40_000
context = multiprocessing.get_context("fork")
early, late = [], []


def run() -> None:
    for _ in range(ROUNDS):
        process = context.Process(target=int)
        process.start()
        process.join()
        if process.exitcode is None:
            early.append(process.is_alive())
            deadline = time.monotonic() + 10
            while process.exitcode is None and time.monotonic() < deadline:
                time.sleep(0.001)
            late.append(process.exitcode)


joins = 0
while not early and joins < MOST:
    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    joins += THREADS * ROUNDS

print(f"CPython {sys.version.split()[0]}: {len(early)} of {joins} processes had no exit code after join(),")
print(f"and had one soon after: {late}")
sys.exit(not (early and set(late) == {0}))
PROGRAM
