"""Apps whose import starts threads of native libraries: their jobs end, and nobody is warned for nothing."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from taskito import Queue, TaskTimeoutError

PUMP = """
#include <pthread.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int asked, answered;
static void *run(void *nothing) {
    pthread_mutex_lock(&lock);
    for (;;) {
        while (answered == asked) pthread_cond_wait(&changed, &lock);
        answered = asked;
        pthread_cond_broadcast(&changed);
    }
}
void start(void) { pthread_t thread; pthread_create(&thread, 0, run, 0); }
int work(void) {
    pthread_mutex_lock(&lock);
    int mine = ++asked;
    pthread_cond_broadcast(&changed);
    while (answered < mine) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    return 42;
}
"""
OPENMP = """
int work(void) {
    int sum = 0;
    #pragma omp parallel for num_threads(2) reduction(+:sum)
    for (int i = 0; i < 42; i++) sum += 1;
    return sum;
}
void start(void) { work(); }
"""
C_APP = """
import ctypes, os
from taskito import Queue
queue = Queue()
library = ctypes.CDLL(os.path.abspath("libpump.so"))
library.start()

@queue.task(timeout=8, max_retries=0)
def work():
    return library.work()
"""
POLARS_APP = """
import polars
from taskito import Queue
queue = Queue()
polars.DataFrame({"x": [1, 2]}).lazy().group_by("x").agg(polars.len()).collect()

@queue.task(timeout=20, max_retries=0)
def work():
    numbers = polars.DataFrame({"x": list(range(1000))})
    grouped = numbers.lazy().group_by((polars.col("x") % 7).alias("by")).agg(polars.col("x").sum())
    return 42 if grouped.select(polars.col("x").sum()).collect()["x"][0] == 499_500 else 0
"""
NUMPY_APP = """
import numpy
from taskito import Queue
queue = Queue()
numpy.ones((300, 300)) @ numpy.ones((300, 300))

@queue.task(timeout=20, max_retries=0)
def work():
    return int((numpy.ones((300, 300)) @ numpy.ones((300, 300)))[0, 0]) - 258
"""
#: Name to: source in C or None, the app, what the log calls the library.
APPS = {
    "a library with a thread": (PUMP, C_APP, "libpump.so"),
    "OpenMP": (OPENMP, C_APP, "libgomp"),
    "polars": (None, POLARS_APP, "polars"),
}


@pytest.fixture
def start_app(start_worker, tmp_path):
    def start(source, app, *arguments):
        if source is not None:
            if (compiler := shutil.which("gcc")) is None:
                pytest.skip("needs gcc")
            (tmp_path / "pump.c").write_text(source)
            command = [compiler, "-shared", "-fPIC", "-pthread"]
            command += ["-fopenmp"] if "omp" in source else []
            subprocess.run([*command, "-o", "libpump.so", "pump.c"], cwd=tmp_path, check=True)
        (tmp_path / "nativeapp.py").write_text(app)
        return start_worker(*arguments, app="nativeapp:queue", procs=2)

    return start


@pytest.fixture
def queue(backend_url):
    with Queue(db_url=backend_url) as queue:
        yield queue


def work(queue) -> list[object]:
    jobs = [queue.enqueue("nativeapp.work") for _ in range(4)]
    return [job.result(60) for job in jobs]


@pytest.mark.parametrize("name", APPS)
def test_an_app_that_starts_threads_of_a_library_at_import_has_spawned_children(start_app, queue, name):
    source, app, library = APPS[name]
    worker = start_app(source, app)

    assert work(queue) == [42] * 4
    output = worker.output()
    assert library in output, output
    assert "must not fork" in output
    assert "--start-method spawn" in output


def test_numpy_has_a_thread_of_its_own_and_no_warning(start_app, queue):
    """OpenBLAS ends its threads before a fork and starts them anew after it."""
    worker = start_app(None, NUMPY_APP)

    assert worker.zygote(), "its children are forked"
    assert work(queue) == [42] * 4
    assert "WARNING" not in worker.output()


def test_who_says_zygote_is_warned_and_told_what_to_say(start_app, queue):
    worker = start_app(PUMP, C_APP, "--start-method", "zygote")

    assert worker.zygote()
    assert "libpump.so" in worker.output()
    assert "a job that waits for them hangs; use --start-method auto or spawn" in worker.output()
    with pytest.raises(TaskTimeoutError):
        queue.enqueue("nativeapp.work").result(60)


def test_spawned_children_are_no_news_to_who_asked_for_them(start_app, queue):
    worker = start_app(PUMP, C_APP, "--start-method", "spawn")

    assert work(queue) == [42] * 4
    assert "WARNING" not in worker.output()
