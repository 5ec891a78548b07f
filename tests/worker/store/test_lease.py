"""Which peers are dead, which claims are orphans, and how a registration goes on: with made-up times."""

from __future__ import annotations

from taskito.worker.store.lease import BEAT_INTERVAL, LEASE, ORPHAN_AFTER, Lease, OrphanClaims, PeerWatch
from taskito.worker.store.requests import Listen, Register
from taskito_core.storage_worker import Peer
from taskito_testing.factories import make_worker


def beats(watch: PeerWatch, start: float, seconds: float, beat: int | None) -> dict[str, int]:
    """Observe every few seconds; ``beat`` None: the peer goes on beating."""
    suspects: dict[str, int] = {}
    for number in range(int(seconds / BEAT_INTERVAL) + 1):
        peer = Peer("other", number if beat is None else beat, "host")
        suspects = watch.observe([peer], start + number * BEAT_INTERVAL)
    return suspects


def test_a_peer_that_stands_still_for_a_whole_lease_is_suspect():
    watch = PeerWatch()
    assert beats(watch, 0.0, LEASE - BEAT_INTERVAL, beat=4) == {}
    assert watch.observe([Peer("other", 4, "host")], LEASE) == {"other": 4}


def test_a_peer_that_beats_is_never_suspect():
    assert beats(PeerWatch(), 0.0, 10 * LEASE, beat=None) == {}


def test_after_an_outage_every_peer_is_watched_anew():
    watch = PeerWatch()
    beats(watch, 0.0, 20.0, beat=4)

    assert watch.observe([Peer("other", 4, "host")], 90.0) == {}
    assert watch.observe([Peer("other", 4, "host")], 95.0) == {}


def test_a_peer_whose_processes_are_gone_needs_no_lease():
    assert PeerWatch().observe([Peer("other", 4, "host")], 0.0, frozenset({"other"})) == {"other": 4}


def test_a_claim_that_never_reached_us_is_an_orphan_when_two_heartbeats_name_it():
    orphans = OrphanClaims()
    lost, running = ("job1", 7), ("job2", 8)

    assert orphans.ripe([lost, running], {running}, 100.0) == []
    assert orphans.ripe([lost, running], {running}, 100.0 + ORPHAN_AFTER) == [lost]
    assert orphans.ripe([], set(), 200.0) == []


def test_a_claim_that_a_heartbeat_names_no_more_was_on_its_way():
    orphans = OrphanClaims()

    orphans.ripe([("job1", 7)], set(), 100.0)
    orphans.ripe([], set(), 105.0)

    assert orphans.ripe([("job1", 7)], set(), 110.0) == []


def test_an_id_is_registered_once_and_listened_for_until_that_succeeds():
    names: list[str] = []
    lease = Lease(make_worker(id="first"), names.append)
    assert lease.registration() == Register(lease.worker)
    lease.enrolment_failed()
    assert lease.registration() == Register(lease.worker)
    assert (lease.worker.id, lease.in_doubt, names) == ("first", True, [])

    lease.enrolled()
    assert not lease.in_doubt
    assert lease.registration() == Listen(lease.worker, first=True)
    lease.listening()
    lease.lost()

    assert lease.registration() == Register(lease.worker)
    lease.enrolled()
    assert lease.registration() == Listen(lease.worker, first=False)
    assert names[-1] == lease.worker.id
