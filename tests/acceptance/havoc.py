"""Three workers, producers in processes of their own, and somebody who kills what he finds. Seeded."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.acceptance.inside import Inside
from tests.acceptance.ledger import Ledger
from tests.faults.harness import Worker, children_of, in_session, title, wait_until

HERE = Path(__file__).parent
WORKERS, PROCS, PRODUCERS = 3, 2, 2
#: Seconds between two kills.
PACE = (0.2, 0.8)
#: How often each kind of process is chosen.
WEIGHTS = {"child": 60, "worker": 30, "zygote": 10}

#: What must never be seen, at any moment, by anyone who looks into the store: name -> query for bad rows.
NEVER = {
    "two live jobs of one unique key": """
        SELECT unique_key, count(*) FROM {jobs}
         WHERE unique_key IS NOT NULL AND status IN ('pending', 'running')
         GROUP BY unique_key HAVING count(*) > 1""",
    "more jobs running than their key has places": """
        SELECT concurrency_key, count(*) FROM {jobs} WHERE concurrency_key IS NOT NULL AND status = 'running'
         GROUP BY concurrency_key
        HAVING count(*) > CASE WHEN concurrency_key LIKE 'keyed:%' THEN 1 ELSE 2 END""",
    "a job running before its parents are complete": """
        SELECT child.id, parent.id, parent.status FROM {jobs} child
          JOIN {job_dependencies} d ON d.job_id = child.id JOIN {jobs} parent ON parent.id = d.parent_id
         WHERE child.status = 'running' AND parent.status <> 'complete'
           AND child.task_name NOT LIKE '%gather'""",
}


class Sampler(threading.Thread):
    """Looks for what must never be seen, twenty times a second."""

    def __init__(self, url: str) -> None:
        super().__init__(name="sampler")
        self._url = url
        self._over = threading.Event()
        self.looks = 0
        self.seen: list[str] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with contextlib.closing(Inside(self._url)) as inside:
                while not self._over.wait(0.05):
                    for name, query in NEVER.items():
                        self.seen += [f"{name}: {row}" for row in inside.rows(query)]
                    self.looks += 1
        except BaseException as exc:
            self.error = exc

    def stop(self) -> None:
        self._over.set()
        self.join()
        if self.error is not None:
            raise self.error


class Havoc:
    """The workers, and what is done to them."""

    def __init__(self, start: Callable[[], Worker], ledger: Ledger, seed: int) -> None:
        self._start = start
        self._ledger = ledger
        self._dice = random.Random(seed)
        self.workers: list[Worker] = []
        self.gone: list[Worker] = []
        self.kills: Counter[str] = Counter()

    def begin(self) -> None:
        self.workers = [self._start() for _ in range(WORKERS)]
        for worker in self.workers:
            worker.ready(PROCS)

    def wreak(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (next_at := time.monotonic() + self._dice.uniform(*PACE)) < end:
            self._replace_what_ended()
            self._kill_one(self._dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0])
            wait_until(lambda at=next_at: time.monotonic() >= at)  # type: ignore[misc]
        wait_until(lambda: time.monotonic() >= end)
        self._replace_what_ended()

    def _kill_one(self, kind: str) -> None:
        worker = self._dice.choice(self.workers)
        if kind == "worker":
            # Somebody is always there to fire the schedules.
            if not any(other.job_children() for other in self.workers if other is not worker):
                return
            self._kill(kind, worker.pid, worker)
            worker.wait(10)
            self._replace_what_ended()
            return
        victims = sorted(pid for pid in children_of(worker.pid) if f"taskito: {kind}" in title(pid))
        if victims and len(worker.job_children()) == PROCS:
            self._kill(kind, self._dice.choice(victims), worker)

    def _kill(self, kind: str, pid: int, worker: Worker) -> None:
        at = self._ledger.now()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self._ledger.kill(at, kind, pid, worker.pid)
            self.kills[kind] += 1

    def _replace_what_ended(self) -> None:
        """As a service manager does: what was killed, and what gave up because its first zygote was."""
        for place, worker in enumerate(self.workers):
            if worker.exited():
                assert worker.wait() in (-signal.SIGKILL, 3), worker.output()
                self.gone.append(worker)
                self.workers[place] = self._start()

    def stop(self) -> list[int]:
        """Their exit codes, after SIGINT to each."""
        for worker in self.workers:
            worker.signal(signal.SIGINT)
        return [worker.wait() for worker in self.workers]

    def left(self) -> list[int]:
        """Processes of workers that are gone."""
        return [pid for worker in (*self.gone, *self.workers) for pid in in_session(worker.pid)]

    def outputs(self) -> str:
        return "\n".join(f"--- {worker.pid}\n{worker.output()[-3000:]}" for worker in self.workers)


@contextlib.contextmanager
def producers(seed: int, seconds: float, directory: Path, env: dict[str, str]) -> Iterator[Path]:
    """Producers at work, which must all end without an error; gives the file of their answers."""
    answers = directory / "answers"
    command = [sys.executable, str(HERE / "chaosproducer.py")]
    processes: Sequence[subprocess.Popen[bytes]] = [
        subprocess.Popen([*command, f"{seed}-{number}", str(seconds), str(answers)], env=env)
        for number in range(PRODUCERS)
    ]
    try:
        yield answers
        assert [process.wait(60) for process in processes] == [0] * PRODUCERS
    finally:
        for process in processes:
            process.kill()
            process.wait()
