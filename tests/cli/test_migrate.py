"""``taskito migrate``: explicit, checkable, and printable."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run


def test_check_fails_until_migrate_was_run(backend_url: str, taskito: Run) -> None:
    before = taskito("migrate", "--check", TASKITO_DB_URL=backend_url)
    migrated = taskito("migrate", TASKITO_DB_URL=backend_url)
    after = taskito("migrate", "--check", TASKITO_DB_URL=backend_url)
    again = taskito("migrate", TASKITO_DB_URL=backend_url)

    assert before.returncode == 1, before.stderr
    assert before.stdout.splitlines()
    assert (migrated.returncode, migrated.stdout) == (0, before.stdout), migrated.stderr
    assert (after.returncode, after.stdout) == (0, ""), after.stderr
    assert (again.returncode, again.stdout) == (0, ""), again.stderr


def test_the_store_of_an_app_is_migrated_even_if_its_queue_must_not_do_it(
    taskito: Run, project: Path
) -> None:
    (project / "strict.py").write_text("from taskito import Queue\nqueue = Queue(auto_migrate=False)\n")

    assert taskito("migrate", "--check", "--app", "strict:queue").returncode == 1
    assert taskito("migrate", "--app", "strict:queue").returncode == 0
    assert taskito("migrate", "--check", "--app", "strict:queue").returncode == 0
    assert (project / ".taskito" / "taskito.db").exists()


def test_sql_is_printed_without_touching_any_store(taskito: Run, project: Path) -> None:
    sqlite = taskito("migrate", "--sql")
    postgres = taskito("migrate", "--sql", TASKITO_DB_URL="postgresql://u:p@127.0.0.1:1/d")

    for done in (sqlite, postgres):
        assert done.returncode == 0, done.stderr
        assert "CREATE TABLE" in done.stdout
    assert not (project / ".taskito").exists()


def test_the_settings_alone_name_the_store(taskito: Run, project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool.taskito]\ndb_path = "data/jobs.db"\n')

    assert taskito("migrate").returncode == 0
    assert (project / "data" / "jobs.db").exists()


def test_check_and_sql_exclude_each_other(taskito: Run) -> None:
    assert taskito("migrate", "--check", "--sql").returncode == 2
