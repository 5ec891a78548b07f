"""Opening, migrating, closing, and what the store says about itself."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from taskito_core.errors import ConfigError
from taskito_core.storage import Storage
from taskito_testing.conformance.base import ConformanceBase, Connect
from taskito_testing.conformance.processes import Actors
from taskito_testing.factories import make_job
from taskito_testing.opening import open_storage


class Schema(ConformanceBase):
    def test_an_empty_store_names_what_it_would_apply_and_changes_nothing(self, storage: Storage) -> None:
        names = storage.pending_migrations()

        assert names
        assert names == sorted(set(names))
        assert storage.pending_migrations() == names

    def test_migrating_applies_what_was_pending_and_then_nothing(self, storage: Storage) -> None:
        pending = storage.pending_migrations()

        assert storage.migrate() == pending
        assert storage.migrate() == []
        assert storage.pending_migrations() == []

    def test_a_second_connection_has_nothing_to_migrate(self, storage: Storage, connect: Connect) -> None:
        storage.migrate()

        assert connect().pending_migrations() == []
        assert connect().migrate() == []

    def test_migrating_keeps_what_is_stored(self, storage: Storage, connect: Connect) -> None:
        job = make_job()
        storage.enqueue([job])

        connect().migrate()

        assert [found.id for found in storage.get([job.id])] == [job.id]

    def test_the_first_use_migrates(self, connect: Connect) -> None:
        connect().enqueue([make_job()])

        assert connect(auto_migrate=False).pending_migrations() == []

    def test_without_auto_migrate_an_old_schema_is_refused_and_untouched(self, connect: Connect) -> None:
        careful = connect(auto_migrate=False)

        with pytest.raises(ConfigError):
            careful.enqueue([make_job()])
        with pytest.raises(ConfigError):
            careful.counts()

        assert careful.info().schema_version == 0
        assert careful.pending_migrations() == connect().pending_migrations() != []

    def test_without_auto_migrate_an_explicit_migration_makes_it_usable(self, connect: Connect) -> None:
        careful = connect(auto_migrate=False)

        assert careful.migrate()

        assert careful.enqueue([make_job()])[0].inserted

    def test_without_auto_migrate_a_current_schema_is_used(self, storage: Storage, connect: Connect) -> None:
        storage.migrate()

        assert connect(auto_migrate=False).enqueue([make_job()])[0].inserted

    def test_info_opens_but_never_migrates(self, storage: Storage) -> None:
        before = storage.info()
        assert storage.info() == before
        assert storage.pending_migrations()

        storage.migrate()

        after = storage.info()
        assert (before.schema_version, after.schema_version) == (0, after.newest_version)
        assert after.newest_version >= 1
        assert before.backend == after.backend != ""
        assert after.server
        assert after.location

    def test_info_shows_no_password(self, storage: Storage, storage_url: str) -> None:
        password = urlsplit(storage_url).password

        assert not password or password not in storage.info().location

    def test_the_sql_of_the_migrations_needs_no_store(self, unreachable_url: str) -> None:
        assert isinstance(open_storage(unreachable_url).migration_sql(), str)

    def test_threads_that_migrate_at_once_apply_it_once(self, connect: Connect) -> None:
        storages = [connect() for _ in range(4)]
        pending = storages[0].pending_migrations()
        start = threading.Barrier(4)

        def migrate(storage: Storage) -> list[str]:
            start.wait()
            return storage.migrate()

        with ThreadPoolExecutor(4) as pool:
            applied = list(pool.map(migrate, storages))

        assert sorted(applied) == [[], [], [], pending]
        assert connect().pending_migrations() == []

    def test_threads_that_use_a_new_store_at_once_all_succeed(self, connect: Connect) -> None:
        storages = [connect() for _ in range(4)]
        start = threading.Barrier(4)

        def use(storage: Storage) -> bool:
            start.wait()
            return storage.enqueue([make_job()])[0].inserted

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(use, storages))

        assert storages[0].counts().by_queue["default"].pending == 4

    def test_processes_that_migrate_at_once_apply_it_once(self, connect: Connect, processes: Actors) -> None:
        pending = connect().pending_migrations()
        actors = [processes.start("migrate") for _ in range(4)]
        for actor in actors:
            actor.go()

        applied = [actor.hear() for actor in actors]

        assert sorted(applied) == [[], [], [], pending]
        assert connect().pending_migrations() == []

    def test_closing_twice_is_no_error_and_the_next_call_reopens(self, storage: Storage) -> None:
        job = make_job()
        storage.enqueue([job])

        storage.close()
        storage.close()

        assert [found.id for found in storage.get([job.id])] == [job.id]

    def test_closing_what_was_never_opened_is_no_error(self, connect: Connect) -> None:
        connect().close()

    def test_what_was_stored_is_there_after_everybody_closed(self, connect: Connect) -> None:
        first, job = connect(), make_job()
        first.enqueue([job])
        first.close()

        assert [found.id for found in connect().get([job.id])] == [job.id]

    def test_the_clock_counts_milliseconds_since_the_epoch(self, storage: Storage) -> None:
        a_day = 24 * 60 * 60 * 1000

        assert abs(storage.now() - time.time() * 1000) < a_day

    def test_a_shifted_clock_is_shifted_for_this_object_alone(
        self, storage: Storage, connect: Connect
    ) -> None:
        another = connect()
        plain = storage.now()

        storage.clock_shift = 3_600_000

        assert storage.now() >= plain + 3_600_000
        assert another.now() < plain + 3_600_000
        storage.clock_shift = -3_600_000
        assert storage.now() < plain
