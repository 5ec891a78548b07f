"""Faults that were found by reading: each once ended a worker, lost a child or ran more than it should."""

from __future__ import annotations

import os
import signal
import textwrap
import time
from collections.abc import Iterator

import pytest

from taskito import JobStatus
from tests.faults.harness import Worker, children_of, title, wait_until

#: Has a job that says when it runs. ``{}``: what else happens when it is imported.
APP = """
import os, sys, time
from taskito import Queue, current_job
queue = Queue()
{}

@queue.task(name="bootapp.nap")
def nap(seconds):
    with open("naps", "a") as file:
        file.write(f"start {{current_job.id}}\\n")
    time.sleep(seconds)
    with open("naps", "a") as file:
        file.write(f"end {{current_job.id}}\\n")
    return os.getpid()
"""


@pytest.fixture
def backend_url(sqlite_url: str) -> str:
    """What is tested here has nothing to do with the store."""
    return sqlite_url


@pytest.fixture
def start_app(start_worker, tmp_path):
    """Start a worker on APP with more text in it."""

    def start(text: str, *arguments: str, procs: int = 1) -> Worker:
        (tmp_path / "bootapp.py").write_text(APP.format(textwrap.dedent(text)))
        return start_worker("--app", "bootapp:queue", *arguments, procs=procs)

    return start


def naps(directory) -> list[list[str]]:
    path = directory / "naps"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def zygote_of(worker: Worker) -> int:
    return next((pid for pid in children_of(worker.pid) if "taskito: zygote" in title(pid)), 0)


def test_a_new_zygote_that_cannot_load_the_app_leaves_the_children_alone(start_app, app, tmp_path):
    worker = start_app("assert not os.path.exists('broken'), 'half deployed'")
    [child] = worker.job_children()
    job = app.queue.enqueue("bootapp.nap", [2.0])
    wait_until(lambda: naps(tmp_path))
    (tmp_path / "broken").touch()
    os.kill(worker.zygote(), signal.SIGKILL)

    os.kill(child, signal.SIGTERM)  # It ends after its job, and a new one is needed.
    assert job.result(20) == child
    wait_until(lambda: "half deployed" in worker.output(), 30)
    assert not worker.exited(), worker.output()
    (tmp_path / "broken").unlink()

    assert app.queue.enqueue("bootapp.nap", [0.0]).result(40) != child
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


#: The zygote stands still after its second fork, when the child has long been there.
FORK_SLOWLY = """
forked = []
def linger(zygote=os.getpid()):
    if os.getpid() == zygote:
        forked.append(1)
        if len(forked) == 2:
            time.sleep(600)
os.register_at_fork(after_in_parent=linger)
"""


def test_a_child_that_is_ready_before_the_zygote_says_so_outlives_its_death(start_app, app, tmp_path):
    worker = start_app(FORK_SLOWLY, procs=2)
    jobs = [app.queue.enqueue("bootapp.nap", [1.0]) for _ in range(2)]
    wait_until(lambda: len(naps(tmp_path)) == 2)

    os.kill(worker.zygote(), signal.SIGKILL)

    assert len({job.result(30) for job in jobs}) == 2
    assert not worker.exited(), worker.output()
    assert [row.interruptions for row in app.queue.storage.get([job.id for job in jobs])] == [0, 0]
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_child_forked_into_a_drain_does_not_outlive_it(start_app, app):
    worker = start_app(FORK_SLOWLY, procs=2)

    worker.signal(signal.SIGTERM)

    assert worker.wait(20) == 0
    worker.nothing_left()


def most_at_once(lines: list[list[str]]) -> int:
    running, most = 0, 0
    for word, _ in lines:
        running += 1 if word == "start" else -1
        most = max(most, running)
    return most


def test_one_process_that_is_replaced_after_every_job_runs_one_job_at_a_time(start_app, app, tmp_path):
    start_app("", "--max-jobs-per-child", "1")
    jobs = [app.queue.enqueue("bootapp.nap", [0.3]) for _ in range(5)]

    pids = [job.result(30) for job in jobs]

    assert len(set(pids)) == 5
    assert most_at_once(naps(tmp_path)) == 1


STOP_NEVER = """
from taskito_core import hookimpl
class Hooks:
    @hookimpl
    def taskito_child_stopping(self):
        time.sleep(600)
queue.plugins.register(Hooks(), "hooks")
"""


HEARS_FAILURES = """
@queue.on_failure
def heard(ctx, error):
    pass
"""


def test_a_child_that_ends_its_last_job_in_a_drain_does_not_hold_the_worker_up(start_app, app, tmp_path):
    worker = start_app(HEARS_FAILURES, "--max-jobs-per-child", "1")
    job = app.queue.enqueue("bootapp.nap", [1.0])
    wait_until(lambda: naps(tmp_path))

    worker.signal(signal.SIGTERM)

    assert worker.wait(15) == 0
    assert job.status is JobStatus.COMPLETE


def test_a_recycled_child_that_does_not_end_is_killed_and_jobs_go_on(start_app, app, tmp_path):
    worker = start_app(STOP_NEVER, "--max-jobs-per-child", "1")
    jobs = [app.queue.enqueue("bootapp.nap", [0.0]) for _ in range(3)]

    assert len({job.result(60) for job in jobs}) == 3
    worker.kill_everything()


def test_a_slow_import_leaves_the_store_its_whole_boot_timeout(start_app, tmp_path):
    text = """
        time.sleep(3)
        queue = Queue(db_url="postgresql://127.0.0.1:1/nobody")
        print("imported at", time.monotonic(), flush=True)
    """
    worker = start_app(text, "--boot-timeout", "6", procs=0)

    assert worker.wait() == 4
    ended = time.monotonic()
    [imported] = [line for line in worker.output().splitlines() if line.startswith("imported at")]
    assert ended - float(imported.split()[-1]) >= 6


@pytest.fixture
def heeds_sighup() -> Iterator[None]:
    """Whoever runs the tests may have been told to outlive a terminal, and programs inherit that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heeds_sighup")
def test_a_terminal_that_goes_away_drains(app, backend_url, tmp_path):
    worker = Worker(backend_url, tmp_path, "--procs", "1")
    with worker.in_terminal(shows_output=False) as (process, terminal):
        job = app.nap.delay(1.0)
        worker.started(1)

        terminal.close()

        wait_until(lambda: process.poll() is not None, 20, "the worker ends")
        assert process.returncode == 0
        assert job.result(1) == "rested"


NOISY = """
from taskito_core import hookimpl

@hookimpl
def taskito_worker_started():
    {}
    open("noise", "a").close()
"""


def start_beside_noisy(start_worker, tmp_path, does="", chosen="'sqlite', 'noisy'") -> Worker:
    """A worker where a plugin is installed, which does this on the store's thread, and leaves a file."""
    (tmp_path / "noisy.py").write_text(NOISY.format(does))
    metadata = tmp_path / "noisy-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: noisy\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[taskito]\nnoisy = noisy\n")
    text = APP.format("").replace("Queue()", f"Queue(plugins=[{chosen}])")
    (tmp_path / "bootapp.py").write_text(text)
    return start_worker("--app", "bootapp:queue", procs=1)


@pytest.mark.parametrize(("chosen", "heard"), [("'sqlite'", False), ("'sqlite', 'noisy'", True)])
def test_a_worker_hears_only_the_plugins_that_its_app_chose(start_worker, app, tmp_path, chosen, heard):
    worker = start_beside_noisy(start_worker, tmp_path, chosen=chosen)
    # Its children are up before the store knows it, and plugins hear of it after that.
    assert app.queue.enqueue("bootapp.nap", [0.0]).result(30)

    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0, worker.output()
    assert (tmp_path / "noise").exists() == heard


#: Each program ends a little after somebody has begun to wait for it, in several threads at once.
PROGRAMS = """from concurrent.futures import ThreadPoolExecutor; import subprocess
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(subprocess.check_output, [["true"]] * 1500))"""


def test_programs_that_a_plugin_runs_and_waits_for_do_not_end_the_worker(start_worker, tmp_path):
    worker = start_beside_noisy(start_worker, tmp_path, PROGRAMS)

    wait_until(lambda: worker.exited() or (tmp_path / "noise").exists(), 60, "the plugin is done")
    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0, worker.output()
