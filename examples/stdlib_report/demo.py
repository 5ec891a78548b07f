"""Measure every module of this interpreter's standard library: one job per file, one worker, one table.

The program is the producer. It starts the worker as anybody would, through the command line, follows
the jobs with one progress bar, stops the worker with Ctrl-C's signal, and then does the same work
once more in one plain process, to say what the worker was good for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from measure import Measurement

if TYPE_CHECKING:
    from taskito import JobResult, Queue

HERE = Path(__file__).resolve().parent
NOT_LIBRARY = {"site-packages", "dist-packages"}


class WorkerEnded(RuntimeError):
    """The worker went away before the work was done."""


def main() -> int:
    options = parse_arguments()
    console = make_console()
    files = source_files(options.root)[: options.limit]
    with tempfile.TemporaryDirectory(prefix="taskito-demo-") as directory:
        choose_store(options.backend, directory)
        # Only now: the app reads its settings when it is imported.
        from app import measure_file, queue

        started = time.perf_counter()
        queue.enqueue_many(measure_file.using(metadata={"path": path}).spec(path) for path in files)
        spent = time.perf_counter() - started
        console.print(f"enqueued {len(files)} files of {options.root} in {spent:.2f} s ({options.backend})")

        with contextlib.closing(queue):
            log = Path(directory, "worker.log")
            started = time.perf_counter()
            try:
                with worker(options.procs, log) as process:
                    follow(queue, len(files), process, console)
                    spent = time.perf_counter() - started
            except WorkerEnded as exc:
                console.print(
                    f"{exc}; its log ends:\n{log.read_text(errors='replace')[-4000:]}", markup=False
                )
                return 1
            console.print(
                f"worker: {options.procs} processes, stopped by SIGINT, exit code {process.returncode}"
            )
            measurements = results(queue)
            show_complex(measurements, options.root, console)
            show_dead(queue, options.root, console)
            same = compare(files, measurements, spent, options.procs, console)
    return 0 if process.returncode == 0 and same else 1


def make_console() -> Console:
    """In a terminal as wide as that; in a file or a pipe wide enough for a line per dead letter."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 120
    return console


def choose_store(backend: str, directory: str) -> None:
    """Point the app's settings at a store of this run's own."""
    os.environ["TASKITO_BACKEND"] = backend
    if backend == "sqlite":
        os.environ["TASKITO_DB_PATH"] = str(Path(directory, "report.db"))
        os.environ.pop("TASKITO_DB_URL", None)
    elif not os.environ.get("TASKITO_DB_URL"):
        sys.exit(
            "--backend postgres wants TASKITO_DB_URL; `make demo BACKEND=postgres` starts a server for it"
        )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument(
        "--procs", type=int, default=available_cpus(), help="worker processes (default: one per CPU)"
    )
    parser.add_argument(
        "--root", type=Path, default=Path(sysconfig.get_path("stdlib")), help="what to measure"
    )
    parser.add_argument("--limit", type=int, default=None, help="only the first LIMIT files")
    return parser.parse_args()


def available_cpus() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def source_files(root: Path) -> list[str]:
    """Every Python file below ``root`` that belongs to the library itself."""
    return [
        str(path)
        for path in sorted(root.rglob("*.py"))
        if not NOT_LIBRARY.intersection(path.relative_to(root).parts) and path.is_file()
    ]


@contextlib.contextmanager
def worker(procs: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``taskito worker`` for the length of the block, then stopped as by Ctrl-C."""
    command = [str(Path(sys.executable).with_name("taskito")), "worker", "--app", "app:queue"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--procs", str(procs)],
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def follow(queue: Queue, total: int, process: subprocess.Popen[bytes], console: Console) -> None:
    """Show how far the worker is until every job has ended; WorkerEnded if it gives up before."""
    columns = (
        TextColumn("measuring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f} jobs/s"),
        TimeElapsedColumn(),
    )
    started = spoken = time.perf_counter()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=total, rate=0.0)
        while True:
            counts = queue.stats()
            done = counts["complete"] + counts["dead"]
            now = time.perf_counter()
            rate = done / max(now - started, 1e-9)
            progress.update(bar, completed=done, rate=rate)
            if not console.is_terminal and now - spoken > 5:
                # Nobody sees a bar in a log file; a line now and then says that it goes on.
                console.print(f"{done} of {total}, {rate:,.0f} jobs/s")
                spoken = now
            if done >= total:
                return
            if process.poll() is not None:
                raise WorkerEnded(
                    f"the worker ended with exit code {process.returncode} at {done} of {total}"
                )
            time.sleep(0.1)


def every_job(queue: Queue, status: str) -> Iterator[JobResult[Any]]:
    """All jobs in one state, page by page."""
    cursor = None
    while True:
        page = queue.list_jobs(status=status, limit=1000, cursor=cursor)
        yield from page
        cursor = page.cursor
        if cursor is None:
            return


def results(queue: Queue) -> dict[str, Measurement]:
    """What the jobs measured, by path."""
    found = (job.result() for job in every_job(queue, "complete"))
    return {measurement["path"]: measurement for measurement in found}


def show_complex(measurements: dict[str, Measurement], root: Path, console: Console) -> None:
    ranked = sorted(measurements.values(), key=lambda found: found["complexity"], reverse=True)
    table = Table(title="The ten most complex modules")
    table.add_column("module", overflow="fold")
    for heading in ("complexity", "lines", "functions", "classes", "nesting"):
        table.add_column(heading, justify="right")
    for found in ranked[:10]:
        numbers = (
            found["complexity"],
            found["lines"],
            found["functions"],
            found["classes"],
            found["nesting"],
        )
        table.add_row(relative(found["path"], root), *(f"{number:,}" for number in numbers))
    console.print(table)


def show_dead(queue: Queue, root: Path, console: Console) -> None:
    """Files that are no Python for this interpreter, a line each: an error, not retried."""
    letters = []
    for job in every_job(queue, "dead"):
        error, _, _ = (job.error or "").partition("\n")
        letters.append((relative(job.metadata["path"], root), len(job.errors), error))
    if not letters:
        console.print("no dead letters: every file parsed")
        return
    console.print(f"{len(letters)} dead letters: module, attempts, error")
    width = max(len(name) for name, _, _ in letters)
    for name, attempts, error in sorted(letters):
        line = f"  {name:{width}}  {attempts}  {error}"
        # What does not fit ends in an ellipsis. Text and not str: brackets in an error are no markup.
        console.print(Text(line), overflow="ellipsis", no_wrap=True)


def relative(path: str, root: Path) -> str:
    return os.path.relpath(path, root)


def compare(
    files: list[str], measurements: dict[str, Measurement], spent: float, procs: int, console: Console
) -> bool:
    """Do the same work in one plain process; True if it came to the same measurements."""
    with console.status("the same in one plain process ..."):
        answer = subprocess.run(
            [sys.executable, str(HERE / "measure.py")],
            input=json.dumps(files),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    plain = json.loads(answer.stdout)
    same = {path: found for path, found in plain["measurements"].items() if found} == measurements
    speedup = plain["seconds"] / spent
    console.print(
        f"one plain process: {plain['seconds']:.1f} s; the worker with {procs} processes: {spent:.1f} s, its "
        f"start included: speed-up {speedup:.2f}"
    )
    console.print("both measured the same" if same else "[red]they did not measure the same[/red]")
    return same


if __name__ == "__main__":
    sys.exit(main())
