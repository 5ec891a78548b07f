"""Which threads of this process Python knows nothing of."""

from __future__ import annotations

import _thread
import threading
from collections import Counter

from conftest import WaitUntil
from taskito.worker.child.native_threads import NativeThread, described, native_threads


def test_a_thread_of_threading_is_none_and_one_that_was_started_below_it_is(wait_until: WaitUntil) -> None:
    before = native_threads()
    go = threading.Event()

    def libraries() -> list[str]:
        """Of those that are new. A stack can be read while its thread waits."""
        found = Counter(thread.library for thread in native_threads())
        return list((found - Counter(thread.library for thread in before)).elements())

    known = threading.Thread(target=go.wait)
    known.start()
    try:
        assert libraries() == []
        _thread.start_new_thread(go.wait, ())
        wait_until(lambda: [name.startswith(("python", "libpython")) for name in libraries()] == [True])
    finally:
        go.set()
        known.join()


def test_threads_are_described_by_their_libraries() -> None:
    threads = [
        NativeThread("polars-1", "polars.so"),
        NativeThread("python", ""),
        NativeThread("polars-0", "polars.so"),
    ]

    assert described(threads) == ["an unknown library (python)", "polars.so (polars-0, polars-1)"]
