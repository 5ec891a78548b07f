"""Every job that a child is given leaves it exactly once: as a result, or handed back."""

from __future__ import annotations

import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskito.worker.child.inbox import Inbox, SupervisorGone
from taskito.worker.ipc.wire import (
    JobMessage,
    MessageParser,
    MessageType,
    ResultKind,
    ResultMessage,
    WireError,
    pack,
    pack_jobs,
    pack_result,
    unpack_results,
    unpack_seqs,
)
from tests.worker.child.driver import Child

WaitUntil = Callable[..., None]


def job(seq: int, payload: bytes = b"") -> JobMessage:
    return JobMessage(seq, 1, 0, 0, 0, "id", "task", "default", None, payload)


@pytest.fixture
def ends() -> Iterator[tuple[Inbox, socket.socket]]:
    """An inbox and the supervisor's end of its socket."""
    ours, theirs = socket.socketpair()
    inbox = Inbox(theirs)
    ours.settimeout(30)
    yield inbox, ours
    ours.close()
    inbox.close()


def test_a_job_is_taken_once(ends: tuple[Inbox, socket.socket]) -> None:
    inbox, supervisor = ends
    supervisor.sendall(pack_jobs([job(1), job(2)]))

    inbox.wait()

    assert [taken.seq for taken in (inbox.take(), inbox.take()) if taken] == [1, 2]
    assert inbox.take() is None


def test_handing_back_includes_frames_that_were_not_read(ends: tuple[Inbox, socket.socket]) -> None:
    inbox, supervisor = ends
    supervisor.sendall(pack_jobs([job(1), job(2)]))
    inbox.wait()
    taken = inbox.take()
    supervisor.sendall(pack_jobs([job(3)]) + pack_jobs([job(4)]))

    inbox.hand_back()

    assert taken is not None
    assert taken.seq == 1
    assert read(supervisor) == [(MessageType.RETURNED, [2, 3, 4])]
    assert inbox.take() is None


def test_finished_results_go_before_what_is_handed_back(ends: tuple[Inbox, socket.socket]) -> None:
    inbox, supervisor = ends
    inbox.finish(pack_result(ResultMessage(1, ResultKind.RETURNED, 0.0, 0.0, b"value")))

    inbox.hand_back()

    assert [kind for kind, _ in read(supervisor)] == [MessageType.RESULTS, MessageType.RETURNED]


def test_results_of_any_total_size_are_sent_in_messages_of_bounded_size(
    ends: tuple[Inbox, socket.socket],
) -> None:
    inbox, supervisor = ends
    for seq in range(12):
        inbox.finish(pack_result(ResultMessage(seq, ResultKind.RETURNED, 0.0, 0.0, bytes(8 * 1024 * 1024))))
    sender = threading.Thread(target=inbox.flush)
    sender.start()

    seqs: list[int] = []
    parser = MessageParser()
    while len(seqs) < 12:
        for _, body in parser.feed(supervisor.recv(1 << 20)):
            seqs += [result.seq for result in unpack_results(body)]
    sender.join()

    assert seqs == list(range(12))
    assert not inbox.unsent


def test_the_end_of_the_socket_is_noticed(ends: tuple[Inbox, socket.socket]) -> None:
    inbox, supervisor = ends
    supervisor.close()

    with pytest.raises(SupervisorGone):
        inbox.wait()


@pytest.mark.parametrize("garbage", [b"\xff" * 64, pack(MessageType.FORK), pack(MessageType.JOBS, b"short")])
def test_garbage_is_refused(ends: tuple[Inbox, socket.socket], garbage: bytes) -> None:
    inbox, supervisor = ends
    supervisor.sendall(garbage)

    with pytest.raises(WireError):
        inbox.wait()


def test_draining_wakes_who_waits(ends: tuple[Inbox, socket.socket]) -> None:
    inbox, _ = ends
    waiting = threading.Thread(target=inbox.wait)
    waiting.start()

    inbox.drain()
    waiting.join(timeout=30)

    assert not waiting.is_alive()


@pytest.mark.parametrize("seed", range(5))
def test_a_job_is_begun_or_returned_but_never_both(ends: tuple[Inbox, socket.socket], seed: int) -> None:
    # given: one thread that begins jobs, one that recalls at random moments, and a supervisor that sends
    inbox, supervisor = ends
    rng, begun, total = random.Random(seed), [], 4000
    stop = threading.Event()

    def run_jobs() -> None:
        while not inbox.draining:
            taken = inbox.take()
            if taken is None:
                inbox.flush()
                inbox.wait()
                continue
            begun.append(taken.seq)
            inbox.finish(pack_result(ResultMessage(taken.seq, ResultKind.RETURNED, 0.0, 0.0, b"")))

    def recall() -> None:
        while not stop.wait(rng.random() * 0.002):
            inbox.hand_back()

    received: list[tuple[MessageType, list[int]]] = []
    reader = threading.Thread(target=lambda: received.extend(read(supervisor, until=total)))
    threads = [threading.Thread(target=run_jobs), threading.Thread(target=recall), reader]
    for thread in threads:
        thread.start()

    # when
    seq = 0
    while seq < total:
        count = min(rng.randrange(1, 64), total - seq)
        supervisor.sendall(pack_jobs([job(seq + n, bytes(rng.randrange(200))) for n in range(count)]))
        seq += count
    reader.join(timeout=60)
    stop.set()
    inbox.drain()
    for thread in threads:
        thread.join(timeout=30)

    # then
    results = [s for kind, seqs in received if kind is MessageType.RESULTS for s in seqs]
    returned = [s for kind, seqs in received if kind is MessageType.RETURNED for s in seqs]
    assert sorted(results + returned) == list(range(total))
    assert results == begun
    assert results, "the run has to have seen both"
    assert returned, "the run has to have seen both"


def read(supervisor: socket.socket, until: int = 0) -> list[tuple[MessageType, list[int]]]:
    """What has arrived (or arrives until so many seqs came), in order, as seqs."""
    messages: list[tuple[MessageType, list[int]]] = []
    parser = MessageParser()
    while not messages or sum(len(seqs) for _, seqs in messages) < until:
        for kind, body in parser.feed(supervisor.recv(1 << 16)):
            if kind is MessageType.RESULTS:
                messages.append((kind, [result.seq for result in unpack_results(body)]))
            else:
                messages.append((kind, unpack_seqs(body)))
    return messages


# ---- the same in a real child ----


def test_recall_inside_a_job_returns_the_rest_and_sends_what_is_finished(
    any_child: Child, tmp_path: Path, wait_until: WaitUntil
) -> None:
    child, opened, entered = any_child, tmp_path / "opened", tmp_path / "entered"
    jobs = [
        child.job("nothing"),
        child.job("gate", str(opened), str(entered)),
        child.job("nothing"),
        child.job("nothing"),
    ]
    child.send(*jobs)
    wait_until(entered.exists)
    child.send(child.job("nothing"))  # a frame the child has not read yet

    child.tell(MessageType.RECALL)
    while not child.returned:
        assert child.take_in()

    assert child.returned == [3, 4, 5]
    assert set(child.results) == {1}
    opened.touch()
    assert child.result(2).kind is ResultKind.RETURNED
    assert child.value("add", 1, 1) == 2, "it takes jobs again"


def test_recall_of_an_idle_child_returns_nothing(child: Child) -> None:
    child.tell(MessageType.RECALL)

    assert child.data.read() == (MessageType.RETURNED, b"")


@pytest.mark.parametrize("by", ["message", "signal"])
def test_drain_finishes_the_job_returns_the_rest_and_exits_0(
    any_child: Child, by: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    child, opened, entered = any_child, tmp_path / "opened", tmp_path / "entered"
    child.send(child.job("gate", str(opened), str(entered)), child.job("nothing"))
    wait_until(entered.exists)

    if by == "message":
        child.tell(MessageType.DRAIN)
    else:
        child.signal(signal.SIGTERM)
    while not child.returned:
        assert child.take_in()
    opened.touch()

    assert child.result(1).kind is ResultKind.RETURNED
    assert child.returned == [2]
    assert child.wait_for_death() == 0


@pytest.mark.parametrize("by", ["message", "signal"])
def test_drain_ends_an_idle_child(any_child: Child, by: str) -> None:
    if by == "message":
        any_child.tell(MessageType.DRAIN)
    else:
        any_child.signal(signal.SIGTERM)

    assert any_child.wait_for_death() == 0


def test_a_drained_child_lets_threads_of_its_tasks_end(child: Child, tmp_path: Path) -> None:
    late = tmp_path / "late"
    child.value("start_thread", str(late))

    child.tell(MessageType.DRAIN)

    assert child.wait_for_death() == 0
    assert late.exists()


def test_results_of_quick_jobs_do_not_wait_for_a_slow_one(
    child: Child, tmp_path: Path, wait_until: WaitUntil
) -> None:
    opened, entered = tmp_path / "opened", tmp_path / "entered"
    [first] = child.send(child.job("gate", str(opened), str(entered)))
    wait_until(entered.exists)
    opened.touch()
    child.result(first)
    child.value("nap", 0.01)
    entered.unlink()
    opened.unlink()
    # Both tasks are known to be slow now: the nap's result is sent before the gate begins.
    nap, gate = child.send(child.job("nap", 0.01), child.job("gate", str(opened), str(entered)))

    assert child.result(nap).kind is ResultKind.RETURNED

    assert gate not in child.results
    opened.touch()
    child.result(gate)
