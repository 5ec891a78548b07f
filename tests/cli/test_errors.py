"""What goes wrong ends in a sentence that says what would be right, and never in a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import WaitUntil
from taskito import Queue
from tests.cli.conftest import Run


@pytest.fixture
def scheduled(backend_url: str, wait_until: WaitUntil) -> Iterator[Queue]:
    """A queue whose worker has registered the periodic tasks shop.nightly, a.yearly and b.yearly."""
    with Queue(db_url=backend_url) as queue:
        for name in ("shop.nightly", "a.yearly", "b.yearly"):
            queue.periodic("0 7 1 1 *", name=name)(lambda: None)
        with queue.embedded_worker(threads=1):
            wait_until(lambda: len(queue.periodic_tasks()) == 3)
            yield queue


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("add", "1"), 2, "task 'myapp.add' takes (a, b): missing a required argument: 'b'"),
        (("add", "1", "--kwargs", '{"c": 2}'), 2, "task 'myapp.add' takes (a, b): missing a required"),
        (("add", "-1", "2"), 2, "there is no option '-1'; an argument that begins with '-' comes after '--'"),
        (("add", "1", "2", "--prioritee", "2"), 2, "No such option '--prioritee'. Did you mean"),
        (("add", "1", "2", "--wait", "--timeout", "0.1"), 1, "is still pending after 0.1 seconds"),
        (("add", "1", "2", "--queue", ""), 2, "queue must be text that can be printed"),
    ],
)
def test_a_job_that_cannot_be_enqueued_or_awaited(
    ask: Run, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = ask("enqueue", "--app", "myapp:queue", *arguments)

    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_argument_that_begins_with_a_minus_comes_after_two(ask: Run, backend_url: str) -> None:
    done = ask("enqueue", "--app", "myapp:queue", "add", "--", "-1", "2")

    assert done.returncode == 0, done.stderr
    with Queue(db_url=backend_url) as queue:
        assert queue.get_job(done.stdout.strip()) is not None


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("jbos", "there is no command 'jbos'; did you mean 'jobs'?"),
        ("dashboard", "there is no command 'dashboard'; a plugin brings it: pip install taskito-dashboard"),
    ],
)
def test_a_command_that_is_not_there(taskito: Run, command: str, said: str) -> None:
    done = taskito(command)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_queue_that_nobody_uses_is_paused_and_named(ask: Run, backend_url: str, project: Path) -> None:
    with Queue(db_url=backend_url) as queue:
        queue.enqueue("t", queue="orders")

    misspelt = ask("queues", "pause", "ordres")
    used = ask("queues", "pause", "orders")
    of_the_app = ask("queues", "pause", "--app", "myapp:queue", "mail")

    assert (misspelt.returncode, misspelt.stdout) == (0, "ordres: paused\n")
    assert "uses a queue 'ordres'; did you mean 'orders'?" in misspelt.stderr
    assert (used.stderr, of_the_app.stderr) == ("", "")


def test_the_log_of_a_job_that_is_not_there(ask: Run, backend_url: str) -> None:
    with Queue(db_url=backend_url) as queue:
        silent = queue.enqueue("t").id

    unknown, nothing_said = ask("logs", "nosuch"), ask("logs", silent)

    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "there is no job 'nosuch'" in unknown.stderr
    assert (nothing_said.returncode, nothing_said.stdout, nothing_said.stderr) == (0, "", "")


def test_a_periodic_task_is_known_by_the_last_part_of_its_name(scheduled: Queue, ask: Run) -> None:
    ran = ask("cron", "run", "nightly")
    ambiguous, misspelt = ask("cron", "pause", "yearly"), ask("cron", "next", "nigthly")

    assert ran.returncode == 0, ran.stderr
    assert scheduled.list_jobs(task_name="shop.nightly")[0].id == ran.stdout.strip()
    assert ask("cron", "pause", "nightly").stdout == "shop.nightly: paused\n"
    assert ask("cron", "resume", "nightly").stdout == "shop.nightly: resumed\n"
    assert (ambiguous.returncode, misspelt.returncode) == (2, 2)
    assert "'yearly' may be a.yearly or b.yearly: say which" in ambiguous.stderr
    assert "nobody knows a periodic task 'nigthly'; did you mean 'shop.nightly'?" in misspelt.stderr
