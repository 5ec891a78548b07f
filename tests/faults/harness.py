"""Real workers in processes of their own, what they leave in the journal, and what of them is still there."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from pathlib import Path

HERE = Path(__file__).parent
TASKITO = Path(sys.executable).parent / "taskito"


def wait_until(predicate: Callable[[], object], timeout: float = 30.0, message: str = "") -> None:
    """Return once ``predicate()`` is true; fail after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {timeout:g} s: {message or predicate}")
        time.sleep(0.01)


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name: state, parent, group, session and so on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def processes() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(entry.name), stat_fields(int(entry.name))


def in_session(session: int) -> list[int]:
    """Living processes of a session, zombies left out."""
    return [pid for pid, fields in processes() if int(fields[3]) == session and fields[0] != "Z"]


def children_of(pid: int) -> list[int]:
    return [child for child, fields in processes() if int(fields[1]) == pid and fields[0] != "Z"]


def title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def reap_orphans(session: int) -> None:
    """Reap what was left to this process: it is a subreaper once some other test made it one."""
    for pid, fields in list(processes()):
        if int(fields[3]) == session and int(fields[1]) == os.getpid():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


#: The words of CPython 3.12 and newer.
THREADS_AT_A_FORK = "is multi-threaded, use of"
#: A warning that a fork raises is lost where warnings are errors: that one is to be written, and then found.
#: But in a process whose name has a space Python takes the nice value for the number of threads.
SHOW_FORKS = ",always:This process:DeprecationWarning" if os.getpriority(os.PRIO_PROCESS, 0) == 0 else ""
WARNINGS = f"error::DeprecationWarning{SHOW_FORKS}"


class Worker:
    """One ``taskito worker`` in its own session."""

    def __init__(
        self, url: str, directory: Path, *arguments: str, app: str = "faultapp:queue", **env: str
    ) -> None:
        self.directory = directory
        self.journal = directory / "journal"
        self.journal.touch()
        self.log = directory / f"worker-{time.monotonic_ns()}.log"
        self._arguments = [str(TASKITO), "worker", "--app", app, *arguments]
        self._env = {
            **os.environ,
            "TASKITO_DB_URL": url,
            "JOURNAL": str(self.journal),
            "PYTHONPATH": os.pathsep.join(map(str, (directory, HERE, HERE.parent / "jobs"))),
            "PYTHONWARNINGS": WARNINGS,
            **env,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, output: int | None = None) -> Worker:
        """``output``: where it writes instead of its log."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self._arguments,
                cwd=self.directory,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log if output is None else output,
                stderr=log if output is None else output,
                start_new_session=True,
            )
        return self

    @contextlib.contextmanager
    def in_terminal(self, shows_output: bool) -> Iterator[tuple[subprocess.Popen[bytes], FileIO]]:
        """The worker with a terminal of its own, which may be closed early; what is not shown is logged."""
        terminal, inside = pty.openpty()
        with FileIO(terminal, "r+") as ours, open(self.log, "ab") as log:
            process = subprocess.Popen(
                # The terminal must be the controlling one for Ctrl-C to become a signal of its group.
                ["setsid", "--ctty", "--wait", *self._arguments],
                cwd=self.directory,
                env=self._env,
                stdin=inside,
                stdout=inside if shows_output else log,
                stderr=inside if shows_output else log,
                start_new_session=True,
            )
            os.close(inside)
            try:
                yield process, ours
            finally:
                process.kill()
                process.wait()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def signal(self, signum: signal.Signals) -> None:
        os.kill(self.pid, signum)

    def signal_group(self, signum: signal.Signals) -> None:
        """To every process of the session, as a service manager does."""
        for pid in in_session(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)

    def wait(self, timeout: float = 40.0) -> int:
        assert self.process is not None
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s\n{self.output()}") from None

    def job_children(self) -> list[int]:
        """The children that run jobs, by their titles."""
        return sorted(pid for pid in children_of(self.pid) if "taskito: child" in title(pid))

    def zygote(self) -> int:
        [pid] = [pid for pid in children_of(self.pid) if "taskito: zygote" in title(pid)]
        return pid

    def ready(self, procs: int) -> Worker:
        """Wait until so many children are up."""
        wait_until(lambda: self.exited() or len(self.job_children()) >= procs, 60, f"{procs} children are up")
        assert not self.exited(), self.output()
        return self

    def exited(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def nothing_left(self) -> None:
        """No process of this worker is alive."""
        wait_until(lambda: not in_session(self.pid), 10, "the session is empty")

    def kill_everything(self) -> None:
        """SIGKILL to all of it, and reap it. The worker must not have forked beside threads."""
        if self.process is None:
            return
        self._kill()
        # Of the worker's own: beside a task that forks there are threads of the child's.
        lines = [line for line in self.output().splitlines() if THREADS_AT_A_FORK in line]
        forks = [line for line in lines if "/taskito/worker/" in line]
        assert forks == [], "\n".join(forks)

    def _kill(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + 20
        while (left := in_session(self.pid)) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        self.process.wait(10)
        reap_orphans(self.pid)

    # ---- the journal ----

    def lines(self, word: str = "") -> list[list[str]]:
        found = [line.split() for line in self.journal.read_text().splitlines()]
        return [line for line in found if not word or line[0] == word]

    def starts(self) -> Counter[str]:
        """How often each job has begun."""
        return Counter(line[1] for line in self.lines("start"))

    def started(self, count: int, timeout: float = 30.0) -> None:
        """Wait until so many starts are in the journal."""
        wait_until(
            lambda: len(self.lines("start")) >= count,
            timeout,
            f"{count} starts; log:\n{self.output()[-3000:]}",
        )


def finished(storage: object, ids: Sequence[str], timeout: float = 60.0) -> None:
    """Wait until all of these jobs have ended."""
    get = storage.get  # type: ignore[attr-defined]
    wait_until(lambda: all(job.status.finished for job in get(ids)), timeout, "every job has ended")
