"""What an app makes once per child: there for all its jobs, and given back at its end, in real workers."""

from __future__ import annotations

import signal
import textwrap

import pytest

from taskito import ConfigError, Queue
from tests.faults.harness import wait_until

RESOURCE_APP = """
import asyncio, os
from taskito import Queue
queue = Queue()

def note(*words):
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(" ".join(map(str, words)) + "\\n")

@queue.on_child_start
def model():
    if os.path.exists("broken"):
        raise FileNotFoundError("model.bin")
    note("made", os.getpid())
    return {"pid": os.getpid(), "uses": 0}

@queue.on_child_start
async def pool():
    assert model()["pid"] == os.getpid()
    asked = asyncio.Queue()
    async def serve():
        while True:
            number, answer = await asked.get()
            answer.set_result(2 * number)
    asyncio.create_task(serve())
    return asked

@queue.on_child_stop
def close_model():
    note("closed", model()["pid"])

@queue.on_child_stop
async def close_pool():
    answer = asyncio.get_running_loop().create_future()
    await pool().put((21, answer))
    note("stopping", model()["pid"], await answer)

@queue.task
def use():
    model()["uses"] += 1
    return [os.getpid(), model()["pid"], model()["uses"]]

@queue.task
async def ask(number):
    answer = asyncio.get_running_loop().create_future()
    await pool().put((number, answer))
    return await answer
"""


@pytest.fixture
def start(start_worker, tmp_path):
    (tmp_path / "resourceapp.py").write_text(textwrap.dedent(RESOURCE_APP))
    return lambda *arguments, **given: start_worker(*arguments, app="resourceapp:queue", **given)


@pytest.fixture
def queue(backend_url):
    with Queue(db_url=backend_url) as queue:
        yield queue


@pytest.mark.parametrize("threads", [1, 4])
def test_each_child_makes_it_once_before_its_jobs_and_gives_it_back_after_them(start, queue, threads):
    worker = start("--threads", str(threads), procs=2, PYTHONWARNINGS="ignore")
    children = worker.job_children()

    used = [job.result(30) for job in [queue.enqueue("resourceapp.use") for _ in range(20)]]
    assert [job.result(30) for job in [queue.enqueue("resourceapp.ask", (n,)) for n in range(20)]] == [
        2 * n for n in range(20)
    ]
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0

    assert all(pid == made_in for pid, made_in, _ in used)
    assert len({(pid, uses) for pid, _, uses in used}) == 20, "all jobs of a child share it"
    assert sorted(int(pid) for _, pid in worker.lines("made")) == children
    for child in map(str, children):
        lines = [line for line in worker.lines() if line[1] == child]
        assert lines == [["made", child], ["stopping", child, "42"], ["closed", child]]


def test_a_child_whose_function_raises_is_tried_again_until_it_does_not(start, queue, tmp_path):
    (tmp_path / "broken").touch()
    worker = start(procs=0)
    wait_until(lambda: worker.output().count("FileNotFoundError: model.bin") >= 2)
    job = queue.enqueue("resourceapp.use")

    (tmp_path / "broken").unlink()

    assert job.result(60)[2] == 1


def test_in_a_worker_in_threads_it_is_one_for_the_process(tmp_path):
    queue = Queue(tmp_path / "jobs.db")
    calls = []

    @queue.on_child_start
    def model():
        calls.append("made")
        return object()

    @queue.on_child_stop
    def close():
        calls.append(id(model()))

    @queue.task
    def use():
        return id(model())

    with pytest.raises(RuntimeError, match="called when a worker's child starts"):
        model()
    with queue, queue.embedded_worker(threads=3):
        [seen] = {job.result(30) for job in [use.delay() for _ in range(9)]}

    assert calls == ["made", seen]
    with pytest.raises(RuntimeError):
        model()

    queue.on_child_stop(_leave)
    with queue, pytest.raises(ConfigError, match="_leave must run in the event loop"):
        queue.run_worker(threads=1)


async def _leave() -> None: ...


def test_test_mode_makes_it_for_the_jobs_that_it_runs(tmp_path):
    queue = Queue(tmp_path / "jobs.db")
    calls = []

    @queue.on_child_start
    async def model():
        calls.append("made")
        return "model"

    @queue.on_child_stop
    def close():
        calls.append("closed")

    @queue.task
    def use():
        return model()

    with queue, queue.test_mode():
        assert use.delay().result() == "model"

    assert calls == ["made", "closed"]


@pytest.mark.parametrize("name", ["on_child_start", "on_child_stop"])
def test_what_could_not_be_called_is_refused(tmp_path, name):
    queue = Queue(tmp_path / "jobs.db")

    def generates():
        yield

    with pytest.raises(ConfigError, match="would not run its body"):
        getattr(queue, name)(generates)
    with pytest.raises(ConfigError, match=r"is called with \(\)"):
        getattr(queue, name)(lambda ctx: None)
    with pytest.raises(ConfigError, match="must be a function"):
        getattr(queue, name)(3)
