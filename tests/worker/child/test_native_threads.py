"""Which threads of this process Python knows nothing of."""

from __future__ import annotations

import _thread
import threading
from collections import Counter

from taskito.worker.child.native_threads import NativeThread, described, native_threads


def test_a_thread_of_threading_is_none_and_one_that_was_started_below_it_is() -> None:
    before = native_threads()
    begun, go = threading.Event(), threading.Event()

    def below() -> None:
        begun.set()
        go.wait()

    known = threading.Thread(target=go.wait)
    known.start()
    try:
        assert len(native_threads()) == len(before)
        _thread.start_new_thread(below, ())
        begun.wait()
        libraries = Counter(thread.library for thread in native_threads())
        libraries -= Counter(thread.library for thread in before)
        [(library, count)] = libraries.items()
        assert (library.startswith(("python", "libpython")), count) == (True, 1)
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
