"""Children of both kinds to test, with everything they leave reaped and closed."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from taskito.worker.ipc import platform
from tests.worker.child.driver import Child, Output, Spawned, Zygote

pytestmark = pytest.mark.skipif(not platform.can_use_zygote(), reason="needs Linux: subreaper and /proc")

_PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(scope="session")
def zygote_process() -> Iterator[Zygote]:
    """One zygote for all tests: every test forks its own child."""
    assert platform.become_subreaper()
    zygote = Zygote()
    try:
        zygote.boot()
        yield zygote
    finally:
        print(zygote.close())
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def noisy_zygote(zygote_process: Zygote) -> Iterator[Zygote]:
    """One whose output is read, and that children of other tests do not share."""
    zygote = Zygote()
    try:
        zygote.boot()
        yield zygote
    finally:
        zygote.close()


@pytest.fixture
def output(noisy_zygote: Zygote) -> Output:
    return Output(noisy_zygote)


@pytest.fixture
def zygote(zygote_process: Zygote) -> Iterator[Zygote]:
    """The zygote; afterwards grandchildren that came to us are reaped."""
    yield zygote_process
    _reap_strangers({zygote_process.pid})


@pytest.fixture
def fork(zygote: Zygote) -> Iterator[Callable[[], Child]]:
    """Makes booted children, up to eight at once."""
    children: list[Child] = []

    def make() -> Child:
        child = zygote.fork(len(children))
        children.append(child)
        child.boot()
        return child

    yield make
    for child in children:
        child.close()


@pytest.fixture
def child(fork: Callable[[], Child]) -> Child:
    """A booted child, forked by the zygote."""
    return fork()


@pytest.fixture
def spawned() -> Iterator[Spawned]:
    """A booted child that imported the app itself."""
    child = Spawned()
    try:
        child.boot()
        yield child
    finally:
        child.close()
        _reap_strangers(set())


@pytest.fixture(params=["forked", "spawned"])
def any_child(request: pytest.FixtureRequest, zygote_process: Zygote) -> Child:
    """A booted child of either kind. Asks for the zygote first, lest the leak check take it for a leak."""
    child: Child = request.getfixturevalue("child" if request.param == "forked" else "spawned")
    return child


def _reap_strangers(known: set[int]) -> None:
    with suppress(ChildProcessError):
        while True:
            waited = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if waited is None or waited.si_pid in known:
                break
            os.waitpid(waited.si_pid, 0)
