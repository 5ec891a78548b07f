"""Lifelines: how workers of one host learn at once that another is gone, and what must not go wrong there."""

from __future__ import annotations

import os
import selectors
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskito.worker.store.liveness import Lifeline, PeerLifelines
from taskito_core import runtime_directory


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as selector:
        yield selector


@pytest.fixture
def peers_here(selector: selectors.BaseSelector) -> Iterator[PeerLifelines]:
    peers_here = PeerLifelines(selector, lambda: None)
    yield peers_here
    peers_here.close()


def turn(selector: selectors.BaseSelector) -> None:
    for key, mask in selector.select(0):
        key.data(mask)


def test_a_worker_whose_processes_are_gone_is_known_at_once(selector, peers_here):
    line = Lifeline("peer")
    assert peers_here.watch({"peer"}) == frozenset()

    line.close()
    turn(selector)

    assert peers_here.watch({"peer"}) == {"peer"}


def test_an_end_that_is_reported_after_the_peer_was_dropped_is_nothing(selector, peers_here):
    line = Lifeline("peer")
    peers_here.watch({"peer"})
    line.close()
    [(key, mask)] = selector.select(0)

    peers_here.watch(set())  # The store's answer came in the same step, and was taken in first.
    key.data(mask)

    assert peers_here.watch(set()) == frozenset()


def test_a_worker_goes_on_when_its_lifeline_was_removed(peers_here):
    line = Lifeline("slow")
    for left in _lifelines().iterdir():
        left.unlink()

    line.rename("anew")

    line.close()


def test_forgetting_a_worker_that_still_lives_leaves_its_lifeline_alone(selector, peers_here):
    line = Lifeline("stopped")
    peers_here.watch({"stopped"})

    peers_here.forget("stopped")
    line.rename("anew")
    assert peers_here.watch({"anew"}) == frozenset()
    line.close()
    turn(selector)

    assert peers_here.watch({"anew"}) == {"anew"}


def test_forgetting_a_worker_that_is_gone_removes_what_it_left(selector, peers_here):
    line = Lifeline("killed")
    peers_here.watch({"killed"})
    path = next(_lifelines().iterdir())
    os.close(line.fd)  # As the kernel does for a killed process: the name stays.
    turn(selector)
    assert path.exists()

    peers_here.forget("killed")

    assert not path.exists()


def test_what_dead_workers_left_long_ago_is_swept_and_what_is_held_stays():
    dead, living, recent = Lifeline("dead"), Lifeline("living"), Lifeline("recent")
    dead.close(held_for_alive=True)
    recent.close(held_for_alive=True)
    for name in ("dead", "living"):
        os.utime(_lifelines() / f"{name}.alive", (0, 0))

    newcomer = Lifeline("newcomer")

    left = {path.stem for path in _lifelines().iterdir()}
    assert left == {"living", "recent", "newcomer"}
    living.close()
    newcomer.close()


def _lifelines() -> Path:
    directory = runtime_directory("lifelines")
    assert directory is not None
    return directory
