"""Which other workers are dead: judged by watching, never by comparing clocks. Pure.

A peer is suspect when its beat stayed the same for a whole lease of *our own* monotonic time during which
we could reach the store. So after an outage nobody is suspect who still beats, and a moved clock or a
suspended machine means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from taskito_core.storage_worker import Peer

#: Seconds between two heartbeats.
BEAT_INTERVAL = 5.0
#: Seconds without a new beat after which a worker is dead.
LEASE = 30.0
#: A gap between two answers of the store longer than this was an outage, or we slept: watch anew.
LONGEST_GAP = 2 * BEAT_INTERVAL


class PeerWatch:
    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}  #: worker id: its beat, and since when we see that one
        self._last_look = float("-inf")

    def look(self, peers: Iterable[Peer], now: float, gone: frozenset[str] = frozenset()) -> dict[str, int]:
        """Take in one answer of the store; the suspects, as ``Storage.rescue`` wants them.

        ``gone`` names peers on this host whose processes are known to be gone: those need no lease.
        """
        was_away = now - self._last_look > LONGEST_GAP
        self._last_look = now
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
