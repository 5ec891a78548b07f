"""A worker's lease in the store: its id and heartbeat, its claims there, and which other workers are dead.

Death is judged by watching, never by comparing clocks: a peer is suspect when its beat stayed the same for a
whole lease of *our own* monotonic time during which we could reach the store. So after an outage no peer is
suspect that still beats, and a moved clock or a suspended machine means nothing.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from taskito.worker.store.requests import Listen, Register
from taskito_core.storage_worker import Peer, WorkerInfo

#: Seconds between two heartbeats.
BEAT_INTERVAL = 5.0
#: Seconds between a heartbeat and the next that a wakeup may cause.
EARLY_BEAT = 0.1
#: Seconds without a new beat after which a worker is dead.
LEASE = 30.0
#: A gap between two answers of the store longer than this was an outage, or we slept: watch anew.
LONGEST_GAP = 2 * BEAT_INTERVAL
#: Seconds after which a claim that the store has under our name, and that never reached us, is handed back:
#: before, it may be on its way. A little less than a beat's interval, so that the second beat finds it.
ORPHAN_AFTER = 0.9 * BEAT_INTERVAL


class Lease:
    """This worker's registration and heartbeat."""

    def __init__(self, worker: WorkerInfo, renamed: Callable[[str], None]) -> None:
        self.worker = worker
        self._renamed = renamed  #: is told the id under which the worker is known from now on
        self.registered = False
        self.booting = True  #: never registered so far
        self._enrolled = False  #: the id is in the store, and wakeups are perhaps not listened for yet
        self.in_doubt = False  #: whether the id is in the store: an answer was lost
        self.beat_at = 0.0  #: when the next heartbeat is due
        self._beaten_at = 0.0  #: when the last one was sent

    def registration(self) -> Register | Listen:
        """The next request on the way to being registered."""
        return Listen(self.worker, self.booting) if self._enrolled else Register(self.worker)

    def enrolled(self) -> None:
        """The store has recorded the id."""
        self._enrolled, self.in_doubt = True, False

    def listening(self) -> None:
        """Wakeups arrive: this completes the registration."""
        self.registered, self.booting = True, False

    def enrolment_failed(self) -> None:
        """It may have been recorded all the same: if the store refuses the id next time, it was.

        Should it have been declared dead since, the first exchange says so.
        """
        self.in_doubt = True

    def lost(self) -> None:
        """The store declared this worker dead: register anew, under a new id."""
        self.registered = False
        self._take_new_id()

    def beaten(self, now: float) -> None:
        """A heartbeat is sent."""
        self.beat_at, self._beaten_at = now + BEAT_INTERVAL, now

    def beat_at_once(self) -> None:
        """The last heartbeat failed, or its answer is needed now."""
        self.beat_at = 0.0

    def beat_early(self) -> None:
        """Beat soon: the store may have word that a job is to be cancelled."""
        self.beat_at = min(self.beat_at, self._beaten_at + EARLY_BEAT)

    def _take_new_id(self) -> None:
        self._enrolled = self.in_doubt = False
        self.worker = replace(self.worker, id=new_worker_id())
        self._renamed(self.worker.id)


class PeerWatch:
    """The beats of the other workers, and since when we see them."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}  #: worker id: its beat, and since when we see that one
        self._last_answer = float("-inf")

    def observe(
        self, peers: Iterable[Peer], now: float, gone: frozenset[str] = frozenset()
    ) -> dict[str, int]:
        """Take in one answer of the store; the suspects, as ``Storage.rescue`` wants them.

        ``gone`` names peers on this host whose processes are known to be gone: those need no lease.
        """
        was_away = now - self._last_answer > LONGEST_GAP
        self._last_answer = now
        before, self._seen = self._seen, {}
        suspects: dict[str, int] = {}
        for peer in peers:
            beat, since = before.get(peer.worker_id, (-1, now))
            if was_away or beat != peer.beat:
                since = now
            self._seen[peer.worker_id] = (peer.beat, since)
            if peer.worker_id in gone or now - since >= LEASE:
                suspects[peer.worker_id] = peer.beat
        return suspects


class OrphanClaims:
    """Claims that the store has under our name and that never reached us.

    The answer of an exchange was lost, and its transaction committed after we had reconnected.
    """

    def __init__(self) -> None:
        self._since: dict[tuple[str, int], float] = {}  #: (job id, token): since when heartbeats name it

    def ripe(
        self, unknown: Sequence[tuple[str, int]], holding: Collection[tuple[str, int]], now: float
    ) -> list[tuple[str, int]]:
        """Take in what a heartbeat named; those of them that were named for ORPHAN_AFTER, each once."""
        seen = {pair: self._since.get(pair, now) for pair in unknown if pair not in holding}
        ripe = [pair for pair, since in seen.items() if now - since >= ORPHAN_AFTER]
        self._since = {pair: since for pair, since in seen.items() if pair not in ripe}
        return ripe

    def clear(self) -> None:
        self._since.clear()


class TokenMint:
    """Claim tokens: 31 random bits for this process's life, then a counter, in a signed 64-bit number.

    Not a sequence of the store and not an attempt number: after a claim is lost in a crash of the
    database, both of those would be issued again.
    """

    def __init__(self) -> None:
        self._next = secrets.randbits(31) << 32

    def draw(self) -> int:
        self._next += 1
        return self._next


def new_worker_id() -> str:
    """Tells a person where the worker runs, and is never used twice."""
    return f"{socket.gethostname()}-{secrets.token_hex(6)}"
