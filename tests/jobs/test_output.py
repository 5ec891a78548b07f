"""What jobs print: kept with the job if its task asked for it, and nowhere else then."""

from __future__ import annotations

import sys

import pytest

from taskito import ConfigError, Queue, TaskTimeoutError

from .conftest import LONG


def said(queue: Queue, job_id: str) -> list[tuple[str, str]]:
    return [(entry.level, entry.message) for entry in queue.task_logs(job_id)]


def test_what_a_job_prints_is_in_its_log_and_not_in_that_of_the_worker(app, start):
    worker = start(procs=1)

    job = app.chatter.delay(2)
    job.result(LONG)

    lines = [("stdout", "line 0"), ("stdout", "line 1"), ("stderr", "over 2 lines"), ("stdout", "no end")]
    assert said(app.queue, job.id) == lines
    assert [entry.message for entry in app.queue.query_logs(level="stderr")] == ["over 2 lines"]
    assert "line 0" not in worker.output()


def test_a_task_that_did_not_ask_for_it_prints_into_the_log_of_the_worker(app, start, wait_until):
    worker = start(procs=1)

    job = app.mutter.delay()
    job.result(LONG)
    app.chatter.delay(1).result(LONG)

    assert said(app.queue, job.id) == []
    wait_until(lambda: "not kept: nobody asked for it" in worker.output(), 30)


def test_what_a_job_printed_before_it_was_killed_is_kept(app, start):
    start(procs=1)

    job = app.chatter_and_hang.delay()
    with pytest.raises(TaskTimeoutError):
        job.result(LONG)

    assert said(app.queue, job.id) == [("stdout", "before it hung")]


def test_a_job_that_prints_without_end_fills_nothing(app, start):
    start(procs=1)

    job = app.chatter.delay(50_000)
    job.result(LONG)

    entries = said(app.queue, job.id)
    assert entries[-1] == ("stdout", "(what it printed beyond 65536 characters was not kept)")
    assert sum(len(message) + 1 for _, message in entries[:-1]) <= 65536
    assert entries[:2] == [("stdout", "line 0"), ("stdout", "line 1")]


def test_a_process_that_the_job_forks_prints_for_itself_and_speaks_for_nobody(app, start, wait_until):
    worker = start(procs=1)

    job = app.chatter_forked.delay()

    assert job.result(LONG) == 7
    assert said(app.queue, job.id) == [("stdout", "of the job")]
    wait_until(lambda: "of the copy" in worker.output(), 30)


def test_coroutines_are_captured_too(app, start):
    start(procs=1)
    jobs = {word: app.chatter_later.delay(word) for word in ("one", "two")}

    for word, job in jobs.items():
        job.result(LONG)
        assert said(app.queue, job.id) == [("stdout", word)]


def test_threads_do_not_hear_each_other_and_the_process_prints_as_before(backend_url, capsys):
    streams = sys.stdout, sys.stderr
    with Queue(db_url=backend_url, workers=4) as queue:

        @queue.task(name="echo", capture_output=True)
        def echo(word: str) -> None:
            for _ in range(50):
                print(word)

        with queue.embedded_worker():
            jobs = {word: echo.delay(word) for word in "abcdefgh"}
            print("of the process")
            for word, job in jobs.items():
                job.result(LONG)
                assert said(queue, job.id) == [("stdout", word)] * 50

    assert capsys.readouterr().out == "of the process\n"
    assert (sys.stdout, sys.stderr) == streams


def test_in_test_mode_it_is_printed(backend_url, capsys):
    queue = Queue(db_url=backend_url)

    @queue.task(name="hello", capture_output=True)
    def hello() -> None:
        print("hello")

    with queue.test_mode():
        job = hello.delay()
        assert said(queue, job.id) == []

    assert capsys.readouterr().out == "hello\n"


def test_anything_but_yes_or_no_is_refused(backend_url):
    with pytest.raises(ConfigError, match="capture_output must be True or False, got 'stdout'"):
        Queue(db_url=backend_url).task(capture_output="stdout")(print)  # type: ignore[call-overload]
