"""``taskito worker``: becomes the supervisor of an app's worker."""

from __future__ import annotations

import functools
import logging
import os

import click

from taskito.cli.options import completion
from taskito.cli.options.target import app_option
from taskito.config.logging import FORMATS, LEVELS
from taskito.config.timeouts import BOOT_TIMEOUT, GRACEFUL_TIMEOUT
from taskito.worker.ipc.child_options import ASYNC_CONCURRENCY


def _unread() -> list[str]:
    """What nothing reads of what is said in variables and pyproject.toml, a sentence each."""
    from taskito.cli.options import settings
    from taskito.config.settings import project_table

    root = click.get_current_context().find_root()
    commands = root.command
    if not isinstance(commands, click.Group):  # run on its own, as in a test
        return []
    names = commands.list_commands(root)
    table, file = project_table(os.getcwd())
    return settings.unread(table, file, os.environ, names, functools.partial(commands.get_command, root))


def _queue_names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
    if not names:
        raise click.BadParameter(f"names of queues separated by commas, got {value!r}")
    return names


@click.command()
@app_option
@click.option(
    "--procs",
    type=click.IntRange(0, 1000),
    metavar="N",
    help="Child processes. Default: the app's 'workers' setting, "
    "and if that is 0, as many as this process may use CPUs.",
)
@click.option(
    "--queues",
    callback=_queue_names,
    shell_complete=completion.queues,
    metavar="A,B",
    help="Serve only these queues. Default: every queue the app's tasks name.",
)
@click.option(
    "--graceful-timeout",
    type=click.FloatRange(min=0),
    default=GRACEFUL_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="How long running jobs may go on after the first SIGINT or SIGTERM before they are interrupted.",
)
@click.option(
    "--boot-timeout",
    type=click.FloatRange(min=0),
    default=BOOT_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="How long importing the app may take, to wait for a database that is still starting, and for a "
    "child to be ready.",
)
@click.option(
    "--max-jobs-per-child",
    type=click.IntRange(min=1),
    metavar="N",
    help="Replace a child after this many jobs, give or take a tenth.",
)
@click.option(
    "--async-concurrency",
    type=click.IntRange(1, 1000),
    default=ASYNC_CONCURRENCY,
    show_default=True,
    metavar="N",
    help="Jobs of 'async def' tasks that one child runs beside each other.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="Jobs of other tasks that one child runs beside each other, each in a thread of its own. More than "
    "one is for tasks that wait for others, and gives up some isolation.",
)
@click.option(
    "--start-method",
    type=click.Choice(["auto", "zygote", "spawn"]),
    default="auto",
    show_default=True,
    help="'zygote' imports the app once and forks children from it (Linux); 'spawn' starts a fresh "
    "interpreter for each child; 'auto' forks where that is safe.",
)
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
@click.option("--log-format", type=click.Choice(FORMATS), default="text", show_default=True)
def worker(
    app: str | None,
    procs: int | None,
    queues: tuple[str, ...] | None,
    graceful_timeout: float,
    boot_timeout: float,
    max_jobs_per_child: int | None,
    async_concurrency: int,
    threads: int,
    start_method: str,
    log_level: str,
    log_format: str,
) -> None:
    """Run the jobs of an app until told to stop.

    The first SIGINT (Ctrl-C) or SIGTERM stops claiming, hands back what has not begun and lets running
    jobs finish; the second interrupts them, the third kills them. Jobs taken away lose no attempt.
    Without a second signal the worker is out within 30 seconds by itself.

    \b
    Exit codes: 0 drained, 1 internal error, 2 wrong usage, 3 the app could not
    be loaded, 4 the store did not answer in time, 75 drained but some jobs had
    to be interrupted, 130 or 143 forced by a third signal.
    """
    if app is None:
        raise click.UsageError(
            "no app: say --app module:queue, such as --app myapp:queue, or set TASKITO_APP"
        )
    from taskito.config.import_guard import warnings_of
    from taskito.config.logging import configure
    from taskito.config.output import LOOP_PATIENCE, protect
    from taskito.worker.ipc.child_options import ChildOptions
    from taskito.worker.supervisor.main import WorkerOptions, run_worker

    protect(LOOP_PATIENCE)
    configure(log_level, log_format)
    for sentence in (*warnings_of(os.getcwd()), *_unread()):
        logging.getLogger("taskito.worker").warning("%s", sentence)
    code = run_worker(
        WorkerOptions(
            app=app,
            procs=procs,
            queues=queues,
            graceful_timeout=graceful_timeout,
            boot_timeout=boot_timeout,
            start_method=start_method,
            child=ChildOptions(
                log_level=log_level,
                log_format=log_format,
                max_jobs=max_jobs_per_child,
                async_concurrency=async_concurrency,
                threads=threads,
            ),
        )
    )
    raise click.exceptions.Exit(code)
