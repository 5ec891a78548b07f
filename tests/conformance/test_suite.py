"""The suite itself: its rules, and that it notices storages that break the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taskito_core.errors import ConfigError
from taskito_core.job import Job, JobStatus, NewJob, Outcome, Receipt, Release, new_id
from taskito_core.storage import Storage, StorageConfig
from taskito_core.storage_worker import Beat, Exchange, PeriodicState, Want
from taskito_kv.store import forget
from taskito_testing import (
    MemoryStorage,
    StorageConformance,
    complete,
    make_worker,
    missing_methods,
    open_storage,
    retry,
)
from taskito_testing import check as checking
from taskito_testing.opening import contract_methods, unreachable_variant

pytest_plugins = ["pytester"]


class _WithoutFence(MemoryStorage):
    """Settles whatever runs, whoever sends it."""

    def exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        current = {job.id: job.token for job in self.get([outcome.job_id for outcome in outcomes])}
        forged = [outcome._replace(token=current.get(outcome.job_id) or 0) for outcome in outcomes]
        return super().exchange(worker_id, forged, want)


class _WithoutPriorities(MemoryStorage):
    def enqueue(self, jobs: Sequence[NewJob], connection: object | None = None) -> list[Receipt]:
        return super().enqueue([replace(job, priority=0) for job in jobs], connection)


class _ServesTheDead(MemoryStorage):
    """Claims for workers it does not know."""

    def exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        if worker_id not in [info.id for info in self.workers()]:
            self.register(make_worker(id=worker_id))
        return super().exchange(worker_id, outcomes, want)


class _RescuesTheLiving(MemoryStorage):
    """Declares workers dead without comparing their beat."""

    def rescue(self, suspects: Any) -> list[str]:
        beats = {info.id: info.beat for info in self.workers()}
        return super().rescue({worker: beats.get(worker, 0) for worker in suspects})


class _StoresHalf(MemoryStorage):
    """Stores a batch job by job."""

    def enqueue(self, jobs: Sequence[NewJob], connection: object | None = None) -> list[Receipt]:
        return [receipt for job in jobs for receipt in super(_StoresHalf, self).enqueue([job], connection)]


class _IgnoresLanes(MemoryStorage):
    def exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        plain = [
            outcome._replace(lane=None) if isinstance(outcome, Release) else outcome for outcome in outcomes
        ]
        return super().exchange(worker_id, plain, want)


class _ForgetsResent(MemoryStorage):
    """Names only what this very call recorded."""

    def exchange(self, worker_id: str, outcomes: Sequence[Outcome], want: Want | None) -> Exchange:
        live = {job.id for job in self.get([o.job_id for o in outcomes]) if job.status is JobStatus.RUNNING}
        answer = super().exchange(worker_id, outcomes, want)
        return answer._replace(recorded=answer.recorded & live)


class _RoundsToSeconds(MemoryStorage):
    def get(self, ids: Sequence[str]) -> list[Job]:
        return [replace(job, scheduled_at=job.scheduled_at // 1000 * 1000) for job in super().get(ids)]


class _ChargesLeaving(MemoryStorage):
    """Takes a worker's leave for its death."""

    def unregister(self, worker_id: str) -> None:
        self.rescue({info.id: info.beat for info in self.workers() if info.id == worker_id})
        super().unregister(worker_id)


class _AgreesWithEverything(MemoryStorage):
    def heartbeat(self, worker_id: str, running: Sequence[tuple[str, int]]) -> Beat:
        return super().heartbeat(worker_id, running)._replace(unknown_to_me=[], unknown_to_store=frozenset())


class _LetsEverybodyIn(MemoryStorage):
    """Has no places."""

    def enqueue(self, jobs: Sequence[NewJob], connection: object | None = None) -> list[Receipt]:
        plain = [replace(job, concurrency_key=None, concurrency=None) for job in jobs]
        return super().enqueue(plain, connection)


class _ForgetsParents(MemoryStorage):
    def enqueue(self, jobs: Sequence[NewJob], connection: object | None = None) -> list[Receipt]:
        return super().enqueue([replace(job, parents=()) for job in jobs], connection)


class _ForgetsUniqueKeys(MemoryStorage):
    def enqueue(self, jobs: Sequence[NewJob], connection: object | None = None) -> list[Receipt]:
        return super().enqueue([replace(job, unique_key=None) for job in jobs], connection)


class _FiresAgain(MemoryStorage):
    """Moves a schedule on without comparing where it stood."""

    def fire_periodic(self, state: PeriodicState, jobs: Sequence[NewJob], next_run: int) -> bool:
        [current] = [row for row in self.periodic() if row.entry.name == state.entry.name]
        return super().fire_periodic(current, jobs, next_run)


class _AsksNobody(MemoryStorage):
    """Tells who runs, and marks nothing."""

    def ask_to_cancel(self, ids: Sequence[str], force: bool) -> list[str]:
        return [job.id for job in self.get(ids) if job.status is JobStatus.RUNNING]


@pytest.fixture
def opened() -> Iterator[Callable[[type[MemoryStorage]], MemoryStorage]]:
    name = new_id()
    yield lambda kind: kind(StorageConfig(backend="memory", db_url=f"memory://{name}"))
    forget(name)


_BROKEN: list[tuple[type[MemoryStorage], str, dict[str, Any]]] = [
    (_WithoutFence, "test_late_outcome_of_a_rescued_job_changes_nothing", {"outcome": complete}),
    (_WithoutFence, "test_an_outcome_with_a_wrong_token_changes_nothing", {"outcome": retry}),
    (_WithoutPriorities, "test_higher_priority_comes_first", {}),
    (_WithoutPriorities, "test_random_calls_have_the_answers_of_the_memory_storage", {}),
    (_ServesTheDead, "test_a_worker_that_never_registered_gets_nothing", {}),
    (_RescuesTheLiving, "test_a_worker_whose_beat_moved_is_left_alone", {}),
    (_RescuesTheLiving, "test_random_calls_have_the_answers_of_the_memory_storage", {}),
    (
        _StoresHalf,
        "test_if_one_job_cannot_be_stored_none_is",
        {"unstorable": {"priority": 2**70}, "position": 2},
    ),
    (_IgnoresLanes, "test_a_job_released_to_a_lane_is_seen_only_by_workers_that_know_the_task", {}),
    (_IgnoresLanes, "test_random_calls_have_the_answers_of_the_memory_storage", {}),
    (_ForgetsResent, "test_an_outcome_sent_twice_is_named_twice_and_recorded_once", {"outcome": complete}),
    (_RoundsToSeconds, "test_a_moment_is_kept_to_the_millisecond", {"moment": 1_700_000_000_001}),
    (_ChargesLeaving, "test_a_worker_that_takes_its_leave_hands_back_its_jobs_uncharged", {}),
    (_AgreesWithEverything, "test_a_claim_whose_answer_was_lost_shows_up_as_unknown_to_me", {}),
    (_AgreesWithEverything, "test_random_calls_have_the_answers_of_the_memory_storage", {}),
    (_LetsEverybodyIn, "test_no_more_jobs_of_a_key_are_claimed_than_it_has_slots", {}),
    (_LetsEverybodyIn, "test_random_calls_have_the_answers_of_the_memory_storage", {}),
    (_ForgetsParents, "test_a_child_waits_until_its_parent_is_complete", {}),
    (_ForgetsParents, "test_random_calls_have_the_answers_of_the_memory_storage", {}),
    (_ForgetsUniqueKeys, "test_a_key_that_is_held_gives_its_holder", {}),
    (_ForgetsUniqueKeys, "test_random_calls_have_the_answers_of_the_memory_storage", {}),
    (_FiresAgain, "test_a_slot_fires_once", {}),
    (_AsksNobody, "test_a_job_that_was_asked_does_not_come_back", {"outcome": retry}),
    (_AsksNobody, "test_random_calls_have_the_answers_of_the_memory_storage", {}),
]


@pytest.mark.parametrize(("kind", "test", "arguments"), _BROKEN)
def test_a_storage_that_breaks_the_contract_is_noticed(
    opened: Callable[[type[MemoryStorage]], MemoryStorage],
    kind: type[MemoryStorage],
    test: str,
    arguments: dict[str, Any],
) -> None:
    storage = opened(kind)
    workers = {}
    wanted = getattr(StorageConformance, test).__code__.co_varnames
    for name in ("worker", "other"):
        info = make_worker()
        storage.register(info)
        if name in wanted:
            workers[name] = info.id

    with pytest.raises((AssertionError, pytest.fail.Exception, ValueError)):
        getattr(StorageConformance(), test)(storage=storage, **workers, **arguments)


def test_the_memory_storage_has_every_method_of_the_contract() -> None:
    assert len(contract_methods()) >= 20
    assert missing_methods(MemoryStorage(StorageConfig(db_url="memory://x"))) == []
    assert missing_methods(object()) == contract_methods()


def test_redefining_a_test_of_the_suite_is_refused() -> None:
    with pytest.raises(TypeError, match="test_higher_priority_comes_first"):

        class Override(StorageConformance):
            def test_higher_priority_comes_first(self, storage: Storage, worker: str) -> None:
                pass


def test_a_known_failure_that_names_no_test_is_refused() -> None:
    with pytest.raises(TypeError, match="test_nonsense"):

        class Misspelt(StorageConformance):
            known_failures = {"test_nonsense": "there is no such test"}


def test_a_subclass_may_add_tests_of_its_own() -> None:
    class More(StorageConformance):
        def test_something_of_its_own(self) -> None:
            pass

    assert not StorageConformance.__name__.startswith("Test")
    assert hasattr(More, "test_something_of_its_own")


_THIRD_PARTY = """
    import pytest
    from taskito_testing import MemoryStorage, StorageConformance
    from taskito_testing import conformance

    class TestMine(StorageConformance):
        single_process = True
        known_failures = {
            "test_higher_priority_comes_first": "we thought it fails",
            "test_an_end_in_another_process_ends_the_wait": "skipped all the same",
        }

        @pytest.fixture
        def storage_url(self):
            return "memory://third-party"
"""


def test_a_known_failure_that_passes_turns_red(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_mine=_THIRD_PARTY)

    result = pytester.runpytest_subprocess(
        "-p",
        "no:cacheprovider",
        "-k",
        "higher_priority or in_another_process or earlier_comes_first",
    )

    result.assert_outcomes(passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*XPASS(strict)*we thought it fails*"])


def test_a_failure_explains_itself_because_assertions_are_rewritten(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_mine="""
        import pytest
        from taskito_testing import MemoryStorage, StorageConformance

        class TestMine(StorageConformance):
            @pytest.fixture
            def storage_url(self):
                return "memory://third-party"

            @pytest.fixture
            def storage(self, connect):
                storage = connect()
                storage.enqueue = lambda jobs: MemoryStorage.enqueue(storage, jobs[::-1])
                return storage
    """
    )

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-k", "receipts_come_in_the_order")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*At index 0 diff*"])


def test_the_check_runs_the_suite_from_a_url_alone(capfd: pytest.CaptureFixture[str]) -> None:
    assert checking.check("memory://scratch", "-k", "Order or receipts or fork") == 0

    out = capfd.readouterr().out
    assert "0 failed" in out
    assert "not run: 2 (this store lives inside one process" in out


def test_the_check_refuses_a_store_in_use(opened: Callable[..., MemoryStorage]) -> None:
    name = new_id()
    MemoryStorage(StorageConfig(backend="memory", db_url=f"memory://{name}")).migrate()

    with pytest.raises(ConfigError, match="holds taskito tables"):
        checking.check(f"memory://{name}")
    forget(name)


def test_the_check_refuses_a_url_that_no_plugin_opens() -> None:
    with pytest.raises(ConfigError):
        checking.check("gopher://somewhere/jobs")


def test_an_unreachable_url_keeps_everything_but_the_place() -> None:
    url = unreachable_variant("postgresql://me:secret@db:5432/app?x=1")

    assert url is not None
    assert url.startswith("postgresql://me:secret@127.0.0.1:")
    assert url.endswith("/app?x=1")
    assert unreachable_variant("sqlite:////tmp/x.db") is None


def test_storage_is_opened_by_the_scheme_of_a_url(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/jobs.db")

    assert type(storage).__module__.startswith("taskito_sqlite")
    storage.close()
    with pytest.raises(ConfigError, match=r"no installed plugin offers the storage backend 'jobs\.db'"):
        open_storage("jobs.db")
