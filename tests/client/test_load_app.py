"""``module:attribute`` to a Queue, and every way in which that goes wrong."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskito.client.load_app import AppLoadError, load_app
from taskito.client.manifest import manifest_of
from taskito.worker.ipc.app_manifest import AppManifest

APP = """
from taskito import Queue
queue = Queue("jobs.db", workers=3, max_payload=1000)
seven = 7
class holder:
    inner = queue

@queue.task(queue="mail", max_retries=1, timeout=9, soft_timeout=4)
def send(to): ...

@queue.task
def add(a, b): ...

def create(): return queue
def wrong(): return 7
def needy(config): ...
async def later(): return queue
def breaking(): return {}["nothing"]
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with an app in it; what was imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    (tmp_path / "shop_app.py").write_text(APP)
    (tmp_path / "broken_app.py").write_text("import no_such_module_here\n")
    (tmp_path / "raising_app.py").write_text("1 / 0\n")
    (tmp_path / "empty_app.py").write_text("quue = 1\n")
    (tmp_path / "package_app").mkdir()
    (tmp_path / "package_app" / "__init__.py").write_text("")
    (tmp_path / "package_app" / "tasks.py").write_text("from shop_app import queue\n")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


@pytest.mark.parametrize(
    "name", ["shop_app:queue", "shop_app:holder.inner", "package_app.tasks:queue", "shop_app:create()"]
)
def test_an_app_in_the_working_directory_is_found(directory: Path, name: str) -> None:
    assert sorted(load_app(name).tasks) == ["shop_app.add", "shop_app.send"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shop_app", "module:attribute, such as 'shop_app:queue'; got 'shop_app'"),
        ("shop_app.py:queue", "such as 'shop_app:queue'; got 'shop_app.py:queue'"),
        ("./shop_app.py:create()", "such as 'shop_app:create()'"),
        ("package_app/tasks.py:queue", "such as 'package_app.tasks:queue'"),
        ("/srv/shop/app.py:queue", "such as 'app:queue' in the directory '/srv/shop'"),
        ("../app.py:queue", "such as 'app:queue' in the directory '..'"),
        ("shop_app:create", "a function, not a Queue; if it makes the queue, say 'shop_app:create()'"),
        ("shop_app:wrong()", "'shop_app:wrong()' is a int, not a Queue"),
        ("shop_app:needy()", "called without arguments: missing a required argument: 'config'"),
        ("shop_app:later()", "a coroutine, not a Queue: a function that makes a queue cannot be async"),
        ("shop_app:queue()", "calls a Queue; leave the parentheses out"),
        ("shop_app.py", "such as 'shop_app:queue'"),
        ("", "such as 'myapp:queue'"),
        ("shop_app:", "such as 'shop_app:queue'"),
        (":queue", "such as 'myapp:queue'"),
        ("shop_app:quee", "no 'quee'; its queues are shop_app:queue"),
        ("shop_app:holder.x", "its queues are shop_app:queue"),
        ("shop_app:seven", "is a int, not a Queue; its queues are shop_app:queue"),
        ("empty_app:queue", "has no 'queue'; there is quue"),
        ("nowhere_app:queue", "no module 'nowhere_app' in "),
        ("package_app.nothing:queue", "no module 'package_app.nothing'"),
        (".shop_app:queue", "no name of a module"),
    ],
)
def test_a_wrong_name_says_what_would_be_right(directory: Path, name: str, said: str) -> None:
    with pytest.raises(AppLoadError) as caught:
        load_app(name)

    assert said in str(caught.value)


def test_the_errors_of_the_app_itself_pass_untouched(directory: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module_here"):
        load_app("broken_app:queue")
    with pytest.raises(ZeroDivisionError):
        load_app("raising_app:queue")
    with pytest.raises(KeyError, match="nothing"):
        load_app("shop_app:breaking()")


def test_the_report_says_all_that_a_supervisor_needs(directory: Path) -> None:
    queue = load_app("shop_app:queue")
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="left-running")
    thread.start()

    told = manifest_of(queue, "shop_app:queue")

    done.set()
    thread.join()
    assert told.app == "shop_app:queue"
    assert told.storage == queue.storage_config
    assert told.queues == ("default", "mail")
    assert (told.workers, told.max_payload) == (3, 1000)
    assert "shop_app" in told.modules
    assert not {"pytest", "json", "taskito.client.load_app", "click", "taskito_sqlite"} & set(told.modules)
    assert "left-running" in told.threads
    policy = told.tasks["shop_app.send"]
    assert (policy.queue, policy.timeout, policy.soft_timeout, policy.retry.max_retries) == (
        "mail",
        9.0,
        4.0,
        1,
    )
    assert AppManifest.from_json(told.to_json()) == told
