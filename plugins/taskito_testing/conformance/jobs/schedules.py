"""Periodic tasks: who declares them, which moment is next, and that each slot fires once."""

from __future__ import annotations

from typing import Any

import pytest

from taskito_core.storage import Storage
from taskito_core.storage_client import JobFilter
from taskito_core.storage_worker import PeriodicState
from taskito_testing.conformance.base import PATIENCE, ConformanceBase, Connect
from taskito_testing.conformance.processes import Actors
from taskito_testing.factories import claim, make_entry, make_job, want

_APP = "app:queue"
_TEN_MINUTES = 10 * 60 * 1000


class Schedules(ConformanceBase):
    def test_a_new_entry_is_stored_as_declared_and_enabled(self, storage: Storage) -> None:
        entry = make_entry(
            name="büro",
            payload=bytes(range(256)),
            priority=-3,
            max_retries=0,
            timeout=1.5,
            result_ttl=60.0,
            metadata='{"a": 1}',
            tags=("x", "y"),
        )
        before = storage.now()

        assert storage.register_periodic(_APP, [(entry, 12_345)]) == []

        [state] = storage.periodic()
        assert state == PeriodicState(entry, 12_345, None, True, state.registered_at)
        assert before <= state.registered_at <= storage.now()

    def test_entries_come_by_name(self, storage: Storage) -> None:
        storage.register_periodic(_APP, [(make_entry(name=name), 1) for name in "cab"])

        assert [state.entry.name for state in storage.periodic()] == ["a", "b", "c"]

    def test_declaring_again_keeps_what_happened_and_takes_what_changed(self, storage: Storage) -> None:
        now = storage.now()
        storage.register_periodic(_APP, [(make_entry(), now - 1_000)])
        [state] = storage.due_periodic(_APP)
        storage.fire_periodic(state, [], now + 60_000)
        changed = make_entry(payload=b"changed", priority=5)
        storage.clock_shift = 5_000

        storage.register_periodic(_APP, [(changed, now + 999_999)])

        [after] = storage.periodic()
        assert (after.entry, after.next_run, after.last_run) == (changed, now + 60_000, now - 1_000)
        assert after.registered_at >= now + 5_000

    @pytest.mark.parametrize("change", [{"cron": "5 * * * *"}, {"timezone": "Europe/Zurich"}])
    def test_another_expression_or_zone_moves_the_next_run(
        self, storage: Storage, change: dict[str, Any]
    ) -> None:
        storage.register_periodic(_APP, [(make_entry(), 1_000)])

        storage.register_periodic(_APP, [(make_entry(**change), 2_000)])

        assert [state.next_run for state in storage.periodic()] == [2_000]

    def test_a_pause_survives_a_restart_of_the_app(self, storage: Storage, connect: Connect) -> None:
        storage.register_periodic(_APP, [(make_entry(), 1_000)])
        assert storage.enable_periodic("every minute", False, None) is True

        connect().register_periodic(_APP, [(make_entry(cron="5 * * * *"), 2_000)])

        [state] = storage.periodic()
        assert (state.enabled, state.next_run) == (False, 2_000)
        assert storage.due_periodic(_APP) == []

    def test_pausing_and_resuming_may_set_the_next_run(self, storage: Storage) -> None:
        storage.register_periodic(_APP, [(make_entry(), 1_000)])

        storage.enable_periodic("every minute", False, None)
        assert [(s.enabled, s.next_run) for s in storage.periodic()] == [(False, 1_000)]
        storage.enable_periodic("every minute", True, 5_000)

        assert [(s.enabled, s.next_run) for s in storage.periodic()] == [(True, 5_000)]
        assert storage.enable_periodic("unknown", True, None) is False

    def test_a_name_of_another_app_is_refused_and_stays_as_it_is(self, storage: Storage) -> None:
        storage.register_periodic(_APP, [(make_entry(), 1_000)])
        before = storage.periodic()
        theirs = make_entry(app="theirs:queue", cron="5 * * * *")
        free = make_entry(name="free", app="theirs:queue")

        refused = storage.register_periodic("theirs:queue", [(theirs, 2_000), (free, 3_000)])

        assert refused == ["every minute"]
        assert storage.periodic() == [*before, storage.periodic()[1]]
        assert storage.periodic()[1].entry == free

    def test_a_name_nobody_has_declared_for_ten_minutes_may_be_taken_over(self, storage: Storage) -> None:
        storage.register_periodic(_APP, [(make_entry(), 1_000)])
        storage.enable_periodic("every minute", False, None)
        theirs = make_entry(app="theirs:queue")
        storage.clock_shift = _TEN_MINUTES + 1_000

        assert storage.register_periodic("theirs:queue", [(theirs, 2_000)]) == []

        [state] = storage.periodic()
        assert (state.entry, state.enabled, state.next_run) == (theirs, False, 1_000)

    def test_an_entry_that_is_declared_no_more_goes_after_ten_minutes(self, storage: Storage) -> None:
        old, kept = make_entry(name="old"), make_entry(name="kept")
        theirs = make_entry(name="theirs", app="theirs:queue")
        storage.register_periodic(_APP, [(old, 1), (kept, 1)])
        storage.register_periodic("theirs:queue", [(theirs, 1)])

        storage.clock_shift = _TEN_MINUTES - 30_000
        storage.register_periodic(_APP, [(kept, 1)])
        assert [state.entry.name for state in storage.periodic()] == ["kept", "old", "theirs"]
        storage.clock_shift = _TEN_MINUTES + 30_000
        storage.register_periodic(_APP, [(kept, 1)])

        assert [state.entry.name for state in storage.periodic()] == ["kept", "theirs"]

    def test_two_versions_of_an_app_keep_each_others_entries_while_both_run(self, storage: Storage) -> None:
        old, new = make_entry(name="old"), make_entry(name="new")
        for minute in range(0, 40, 5):
            storage.clock_shift = minute * 60_000
            storage.register_periodic(_APP, [(old, 1)])
            storage.register_periodic(_APP, [(new, 1)])

        assert [state.entry.name for state in storage.periodic()] == ["new", "old"]

    def test_an_app_without_periodic_tasks_clears_what_it_had(self, storage: Storage) -> None:
        storage.register_periodic(_APP, [(make_entry(), 1)])
        storage.clock_shift = _TEN_MINUTES + 1_000

        assert storage.register_periodic(_APP, []) == []

        assert storage.periodic() == []

    def test_due_are_the_apps_enabled_entries_earliest_first(self, storage: Storage) -> None:
        now = storage.now()
        moments = {"late": now - 1_000, "early": now - 9_000, "paused": now - 5_000, "future": now + 60_000}
        storage.register_periodic(_APP, [(make_entry(name=name), at) for name, at in moments.items()])
        storage.enable_periodic("paused", False, None)
        storage.register_periodic("theirs:queue", [(make_entry(name="theirs", app="theirs:queue"), 1)])

        assert [state.entry.name for state in storage.due_periodic(_APP)] == ["early", "late"]
        storage.clock_shift = 61_000
        assert [state.entry.name for state in storage.due_periodic(_APP)] == ["early", "late", "future"]

    def test_firing_stores_the_jobs_and_moves_the_entry_on(self, storage: Storage, worker: str) -> None:
        slot = storage.now() - 1_000
        storage.register_periodic(_APP, [(make_entry(), slot)])
        [due] = storage.due_periodic(_APP)

        assert storage.fire_periodic(due, [make_job(id="slot")], slot + 60_000) is True

        [state] = storage.periodic()
        assert (state.last_run, state.next_run, state.enabled) == (slot, slot + 60_000, True)
        assert [c.id for c in claim(storage, worker, 9)] == ["slot"]

    def test_a_slot_fires_once(self, storage: Storage) -> None:
        slot = storage.now() - 1_000
        storage.register_periodic(_APP, [(make_entry(), slot)])
        [due] = storage.due_periodic(_APP)
        storage.fire_periodic(due, [make_job(id="slot")], slot + 60_000)

        assert storage.fire_periodic(due, [make_job(id="another")], slot + 90_000) is False

        assert [state.next_run for state in storage.periodic()] == [slot + 60_000]
        assert storage.get(["another"]) == []

    def test_an_entry_paused_meanwhile_does_not_fire(self, storage: Storage) -> None:
        slot = storage.now() - 1_000
        storage.register_periodic(_APP, [(make_entry(), slot)])
        [due] = storage.due_periodic(_APP)
        storage.enable_periodic("every minute", False, None)

        assert storage.fire_periodic(due, [make_job(id="slot")], slot + 60_000) is False

        assert storage.get(["slot"]) == []

    def test_a_slot_whose_job_is_stored_already_moves_on_without_it(self, storage: Storage) -> None:
        slot = storage.now() - 1_000
        storage.register_periodic(_APP, [(make_entry(), slot)])
        storage.enqueue([make_job(id="slot", payload=b"first")])
        [due] = storage.due_periodic(_APP)

        assert storage.fire_periodic(due, [make_job(id="slot"), make_job(id="more")], slot + 60_000) is True

        assert storage.get(["slot"])[0].payload == b"first"
        assert len(storage.list_jobs(JobFilter(), 9, None).jobs) == 2

    def test_a_slot_may_fire_without_jobs(self, storage: Storage) -> None:
        slot = storage.now() - 1_000
        storage.register_periodic(_APP, [(make_entry(), slot)])

        assert storage.fire_periodic(storage.due_periodic(_APP)[0], [], slot + 60_000) is True

        assert storage.due_periodic(_APP) == []

    @pytest.mark.usefixtures("needs_wakeups")
    def test_firing_wakes_who_waits_for_the_queue(
        self, storage: Storage, connect: Connect, worker: str
    ) -> None:
        slot = storage.now() - 1_000
        storage.register_periodic(_APP, [(make_entry(), slot)])
        wakeups = storage.listen(worker, ["default"])
        assert storage.exchange(worker, [], want(1)).claims == []

        connect().fire_periodic(storage.due_periodic(_APP)[0], [make_job()], slot + 60_000)

        assert wakeups.wait(PATIENCE / 2)
        wakeups.close()

    def test_five_processes_fire_each_slot_once(self, storage: Storage, processes: Actors) -> None:
        step = 100
        first = storage.now() - 60 * step
        storage.register_periodic(_APP, [(make_entry(name=name), first) for name in ("a", "b")])
        actors = [processes.start("fire_due", app=_APP, step=step) for _ in range(5)]

        for actor in actors:
            actor.go()
        fired = sorted(slot for actor in actors for slot in actor.hear())

        nexts = [state.next_run for state in storage.periodic()]
        slots = sorted(slot for end in nexts for slot in range(first, end, step))
        assert fired == slots
        assert len(storage.list_jobs(JobFilter(), 10_000, None).jobs) == len(slots) >= 120
