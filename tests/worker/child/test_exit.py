"""Children end as processes end: what the app and its tasks registered for the end of the process is run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskito.worker.ipc.wire import MessageType
from tests.worker.child.driver import Child, Spawned, Zygote

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and a subreaper")

APP = """
import atexit, logging, logging.handlers, multiprocessing, os, shutil, tempfile, time
from taskito import Queue

queue = Queue(db_path='/nonexistent/never-opened.db')
HERE = os.path.dirname(__file__)
shared = tempfile.TemporaryDirectory(dir=HERE)
removed = tempfile.mkdtemp(dir=HERE)
atexit.register(shutil.rmtree, removed)
kept = []

def note(*words):
    with open(os.path.join(HERE, "journal"), "a") as journal:
        journal.write(" ".join(map(str, words)) + "\\n")

atexit.register(lambda: note("exit", os.getpid()))

log = logging.getLogger("app")
log.addHandler(logging.handlers.MemoryHandler(1000, target=logging.FileHandler(os.path.join(HERE, "log"))))
log.warning("imported")

@queue.task(name="where")
def where():
    return [shared.name, removed, os.path.isdir(shared.name), os.path.isdir(removed)]

@queue.task(name="own")
def own():
    kept.append(tempfile.TemporaryDirectory(dir=HERE))
    atexit.register(note, "registered by a task")
    log.warning("from a job")
    return kept[-1].name

@queue.task(name="hang")
def hang():
    atexit.register(time.sleep, 60)

@queue.task(name="fail")
def fail():
    atexit.register(lambda: 1 / 0)
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "exit_app.py").write_text(APP)
    return {"PYTHONPATH": str(tmp_path)}


@contextmanager
def booted(child: Child) -> Iterator[Child]:
    try:
        child.boot()
        yield child
    finally:
        child.close()


@pytest.fixture
def own_zygote(zygote_process: Zygote, env: dict[str, str]) -> Iterator[Zygote]:
    """A zygote of this app; the first one is asked for lest the leak check take it for a leak."""
    zygote = Zygote("exit_app:queue", env=env)
    zygote.boot()
    yield zygote
    zygote.close()


def end(child: Child) -> None:
    child.tell(MessageType.DRAIN)
    assert child.wait_for_death() == 0


def journal(directory: Path) -> list[str]:
    return (directory / "journal").read_text().splitlines()


def test_a_forked_child_runs_what_the_app_and_its_tasks_registered(
    own_zygote: Zygote, tmp_path: Path
) -> None:
    with booted(own_zygote.fork(0)) as first, booted(own_zygote.fork(1)) as second:
        directory = Path(first.value("own"))
        assert directory.is_dir()

        end(first)

        assert journal(tmp_path) == ["registered by a task", f"exit {first.pid}"]
        assert not directory.exists()
        log = (tmp_path / "log").read_text().splitlines()
        assert log.count("from a job") == 1
        assert log.count("imported") == 1, "what waited before the fork is written once"
        assert second.value("where")[2:] == [True, True], "files made at import are its siblings' too"


def test_files_made_at_import_go_with_the_zygote(own_zygote: Zygote, tmp_path: Path) -> None:
    with booted(own_zygote.fork()) as child:
        shared, removed, *_ = child.value("where")
        end(child)

    own_zygote.channel.sock.close()

    assert own_zygote.program.process.wait(30) == 0
    assert not Path(shared).exists()
    assert not Path(removed).exists()
    assert f"exit {own_zygote.pid}" in journal(tmp_path)


def test_a_spawned_child_ends_like_a_forked_one(
    zygote_process: Zygote, env: dict[str, str], tmp_path: Path
) -> None:
    with booted(Spawned("exit_app:queue", env=env)) as child:
        shared, removed, *_ = child.value("where")
        directory = child.value("own")

        end(child)

        assert journal(tmp_path) == ["registered by a task", f"exit {child.pid}"]
        assert not any(Path(path).exists() for path in (shared, removed, directory))


@pytest.mark.parametrize("task", ["hang", "fail"])
def test_an_exit_function_that_hangs_or_fails_keeps_no_child(own_zygote: Zygote, task: str) -> None:
    with booted(own_zygote.fork()) as child:
        child.value(task)

        end(child)
