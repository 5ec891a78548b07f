"""Two functions never share one task: a name belongs to one of them, until it is really defined again."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from taskito import ConfigError, Queue, Task

HEAD = """
import functools
from taskito import Queue
queue = Queue("jobs.db")
ran = []

def careless(function):
    def wrapper(*args):
        return function(*args)
    return wrapper

def careful(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper

def make(n):
    def times(x):
        return n * x
    return times

class Shop:
    def __init__(self, name):
        self.name = name
    def sell(self):
        return self.name
    @classmethod
    def open(cls):
        return cls.__name__

class Kiosk(Shop):
    pass
"""
CARELESS = """
@queue.task
@careless
def charge():
    return "charge"

@queue.task
@careless
def refund():
    return "refund"
"""
CLASHES = {
    "a decorator without wraps": (CARELESS, ["function=charge ", "function=refund ", "functools.wraps"]),
    "a factory": ("queue.task(make(2))\nqueue.task(make(3))", ["n=2", "n=3"]),
    "a loop of lambdas": ("for i in range(2):\n    queue.task(lambda: i)", ["<lambda>", "app.py:"]),
    "a loop with defaults": ("for i in range(2):\n    queue.task(lambda i=i: i)", ["i=0", "i=1"]),
    "a comprehension": ("[queue.task(lambda: i) for i in range(2)]", ["<lambda>"]),
    "a loop in a function": (
        "def define():\n    for i in range(2):\n        queue.task(lambda: i)\ndefine()",
        ["define.<locals>.<lambda>"],
    ),
    "a loop around a decorator": (
        "for i in range(2):\n    queue.task(careless(lambda: i))",
        ["careless.<locals>.wrapper", "app.py:"],
    ),
    "lambdas on one line": ("queue.task(lambda: 1), queue.task(lambda: 2)", ["<lambda>"]),
    "methods of two objects": (
        "queue.task(Shop('a').sell)\nqueue.task(Shop('b').sell)",
        ["Shop.sell", "self=<Shop>"],
    ),
    "a method of two classes": ("queue.task(Shop.open)\nqueue.task(Kiosk.open)", ["Shop.open"]),
    "one name twice in a module": (
        "@queue.task\n@careful\ndef pay():\n    return 1\n\n@queue.task\n@careful\ndef pay():\n    return 2",
        ["app.pay", "function=pay "],
    ),
    "partials under one name": (
        "for i in range(2):\n    queue.task(name='app.p')(functools.partial(print, i))",
        [
            "functools.partial(<built-in function print>, 0)",
            "functools.partial(<built-in function print>, 1)",
        ],
    ),
    "a name given twice": (
        "for i in range(2):\n    queue.task(name='app.x')(make(i))",
        ["make.<locals>.times", "n=0", "n=1"],
    ),
    "a periodic task": (
        "queue.periodic('0 0 * * *', args=(1,))(make(2))\nqueue.task(make(3))",
        ["n=2", "n=3"],
    ),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for the modules ``app`` and ``base``, which are forgotten at the end."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # or an edit within a second is not seen
    yield tmp_path
    for name in ("app", "base"):
        sys.modules.pop(name, None)


def imported(home: Path, source: str, name: str = "app") -> ModuleType:
    (home / f"{name}.py").write_text(source)
    return importlib.import_module(name)


@pytest.mark.parametrize(("source", "named"), CLASHES.values(), ids=CLASHES)
def test_a_second_function_of_the_same_name_is_refused_and_both_are_named(
    home: Path, source: str, named: list[str]
) -> None:
    with pytest.raises(ConfigError, match="two functions want to be task") as refused:
        imported(home, HEAD + source)

    for words in named:
        assert words in str(refused.value)


@pytest.mark.parametrize("how", ["reload", "import anew", "edited"])
@pytest.mark.parametrize(
    "source",
    [
        "@queue.task\ndef pay(x=[]):\n    return 1\n",
        "@queue.task\n@careless\ndef pay():\n    return 1\n",
        "@queue.task\n@careful\ndef pay():\n    return 1\n",
        "pay = queue.task(lambda: 1)\n",
        "pay = queue.task(name='sold')(Shop('x').sell)\n",
        "def define():\n    @queue.task\n    def pay():\n        pay\n    return pay\npay = define()\n",
    ],
)
def test_a_module_that_is_executed_anew_defines_its_tasks_anew(home: Path, source: str, how: str) -> None:
    # The queue outlives the module, as one in a module of its own does.
    queue = imported(home, HEAD, "base").queue
    source = "from base import *\n" + source
    module = imported(home, source)
    first = module.pay

    if how == "edited":
        (home / "app.py").write_text("# moved\n\n" + source.replace("return 1", "return 2"))
        importlib.invalidate_caches()
    if how == "import anew":
        del sys.modules["app"]
    again = importlib.import_module("app") if how == "import anew" else importlib.reload(module)

    assert again.pay is not first
    assert list(queue.tasks.values()) == [again.pay]


def test_after_a_reload_two_functions_still_cannot_share_a_name(home: Path) -> None:
    queue = imported(home, HEAD, "base").queue
    module = imported(home, "from base import *\nqueue.task(make(2))\n")

    (home / "app.py").write_text("from base import *\nqueue.task(make(2))\nqueue.task(make(3))\n")
    importlib.invalidate_caches()
    with pytest.raises(ConfigError, match=r"n=2.*n=3"):
        importlib.reload(module)

    [task] = queue.tasks.values()
    assert task(10) == 20


def test_a_function_whose_definer_is_in_a_reloaded_module_is_the_same_again(home: Path) -> None:
    source = "def set_up(queue):\n    @queue.task\n    def pay():\n        return queue, 1\n    return pay\n"
    queue = Queue(home / "never.db")
    module = imported(home, source)
    module.set_up(queue)

    (home / "app.py").write_text("# moved\n\n" + source.replace("1", "2"))
    importlib.invalidate_caches()
    pay = importlib.reload(module).set_up(queue)

    assert list(queue.tasks.values()) == [pay]
    assert pay() == (queue, 2)


def test_a_definer_that_is_called_again_must_give_the_function_the_same_to_work_with(home: Path) -> None:
    queue = Queue(home / "never.db")

    def set_up(prices: object, factor: int = 2) -> Task[..., Any]:
        def price(name: str) -> object:
            return prices, factor, buy

        @queue.task
        def buy(name: str, *, times: int = factor) -> object:
            return buy, sell, price(name)

        @queue.task
        def sell() -> object:
            return buy

        return buy

    prices = {"tea": 3}
    first = set_up(prices)

    assert set_up(prices) is not first
    with pytest.raises(ConfigError, match="two functions want to be task"):
        set_up({"tea": 4})
    with pytest.raises(ConfigError, match="two functions want to be task"):
        set_up(prices, 3)


def test_a_function_that_is_made_a_task_in_a_thread_is_compared_too(home: Path) -> None:
    queue = Queue(home / "never.db")
    refused: list[str] = []

    def make(n: int) -> None:
        try:
            queue.task(lambda: n)
        except ConfigError as exc:
            refused.append(str(exc))

    for n in (1, 1, 2):
        thread = threading.Thread(target=make, args=(n,))
        thread.start()
        thread.join()

    [said] = refused
    assert "n=1" in said
    assert "n=2" in said


#: Lines as they are typed into a session: some of them refused, each said which.
SESSION = """
from taskito import ConfigError, Queue
queue = Queue("never.db")
def careless(f):
    def wrapper(): return f()
    return wrapper

def attempt(function, **options):
    try:
        print("as", queue.task(**options)(function)())
    except ConfigError as exc:
        print("no")

def pay(): return 1

attempt(pay)
def pay(): return 2

attempt(pay)
attempt(careless(pay))
def pay(): return 3

attempt(careless(pay))
def careless(f):
    def wrapper(): return f(), "edited"
    return wrapper

attempt(careless(pay))
def other(): return 4

attempt(careless(other))
attempt(lambda: 5)
attempt(lambda: 6)
for i in range(2):
    def loop(i=i): return i
    attempt(loop)

"""


def test_in_a_session_a_name_that_is_defined_again_is_the_same_task(tmp_path: Path) -> None:
    out = subprocess.check_output(
        [sys.executable, "-iq"],
        input=SESSION,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        text=True,
        timeout=60,
    )

    said = [line for line in out.splitlines() if line.startswith(("as", "no"))]
    assert said == ["as 1", "as 2", "as 2", "as 3", "as (3, 'edited')", "no", "as 5", "no", "as 0", "no"]


def test_a_worker_does_not_start_with_an_app_whose_tasks_share_a_name(home: Path) -> None:
    (home / "app.py").write_text(HEAD + CARELESS)

    ended = subprocess.run(
        [sys.executable, "-m", "taskito.cli.main", "worker", "--app", "app:queue"],
        check=False,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 3
    assert "two functions want to be task 'app.careless.<locals>.wrapper'" in ended.stderr
    assert "charge" in ended.stderr
    assert "refund" in ended.stderr


def test_tasks_of_one_factory_with_names_of_their_own_run_their_own_function(home: Path) -> None:
    source = "double, triple = (queue.task(name=f'times{n}')(make(n)) for n in (2, 3))\n"
    source += "sell, buy = (queue.task(name=n)(Shop(n).sell) for n in ('sell', 'buy'))\n"
    source += "pay = queue.task(careful(lambda: 'paid'))\n"
    source = HEAD.replace('"jobs.db"', repr(str(home / "jobs.db"))) + source
    module = imported(home, source)

    with module.queue as queue, queue.embedded_worker(threads=1):
        jobs = [module.double.delay(5), module.triple.delay(5), module.sell.delay(), module.buy.delay()]
        assert [job.result(60) for job in jobs] == [10, 15, "sell", "buy"]
        assert module.pay.delay().result(60) == "paid"
