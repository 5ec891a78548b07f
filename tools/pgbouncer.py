"""PgBouncer for the tests: where its program is, how to get it, and how to run one.

It is unpacked beside the environment rather than installed: Debian's package would also start a service.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tools.postgres_engines import free_port, own_processes

PACKAGE = "pgbouncer"
START_TIMEOUT = 20.0


class NoPgBouncer(RuntimeError):
    """There is no PgBouncer on this machine, and none could be brought."""


def installed() -> Path | None:
    """The program, if it is here."""
    for place in (shutil.which(PACKAGE), f"/usr/sbin/{PACKAGE}", _home() / "usr" / "sbin" / PACKAGE):
        if place is not None and os.access(place, os.X_OK):
            return Path(place)
    return None


def bring() -> Path:
    """The program; Debian's package of it is unpacked if there is no other. Raises NoPgBouncer."""
    complaints = []
    if (found := installed()) is not None:
        return found
    # Without root the lists of packages can be fetched, too, but into a place of our own.
    for options in ([], _own_lists()):
        try:
            return _unpack(options)
        except (OSError, subprocess.SubprocessError, NoPgBouncer) as exc:
            complaints.append(str(getattr(exc, "stderr", None) or exc).strip())
    raise NoPgBouncer(f"Debian's package {PACKAGE} could not be had ({'; '.join(complaints)})")


@contextmanager
def pooler(url: str, size: int = 2) -> Iterator[str]:
    """A PgBouncer in transaction mode with so many connections to the server of ``url``; the URL of it."""
    program = installed()
    if program is None:
        raise NoPgBouncer(f"{PACKAGE} is not here; `python -m tools.pgbouncer` brings it")
    info = psycopg.conninfo.conninfo_to_dict(url)
    port, user = free_port(), info.get("user", "postgres")
    with tempfile.TemporaryDirectory(prefix="taskito-pooler-") as name:
        home = Path(name)
        (home / "users").write_text(f'"{user}" "{info.get("password", "")}"\n')
        (home / "ini").write_text(
            f"[databases]\n* = host={info['host']} port={info.get('port', 5432)} user={user}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {home}/users\npool_mode = transaction\n"
            f"default_pool_size = {size}\nmax_client_conn = 100\n"
        )
        command = [str(program), str(home / "ini")]
        if os.geteuid() == 0:  # it refuses to run as root
            for path in (home, *home.iterdir()):
                path.chmod(0o755)
            command[1:1] = ["-u", "nobody"]
        with subprocess.Popen(
            command, env=_environment(program), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            own_processes.add(process.pid)
            try:
                _wait_until_ready(port, process)
                yield f"postgresql://{user}@127.0.0.1:{port}/{info['dbname']}"
            finally:
                process.terminate()
                process.wait(START_TIMEOUT)
                own_processes.discard(process.pid)


def _wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise NoPgBouncer(f"{PACKAGE} does not answer (exit code {process.poll()})")
        time.sleep(0.02)


def _environment(program: Path) -> dict[str, str]:
    """With the libraries that were unpacked beside the program."""
    libraries = [str(path) for path in program.parents[2].glob("usr/lib/*-linux-gnu")]
    if not program.is_relative_to(_home()):
        return dict(os.environ)
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}


# ---- bringing it ----


def _home() -> Path:
    return Path(sys.prefix) / "share" / "taskito-tools" / PACKAGE


def _own_lists() -> list[str]:
    lists = _home().with_name("apt")
    for part in ("lists/partial", "archives/partial"):
        (lists / part).mkdir(parents=True, exist_ok=True)
    return ["-o", f"Dir::State::Lists={lists}/lists", "-o", f"Dir::Cache={lists}"]


def _unpack(options: list[str]) -> Path:
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise NoPgBouncer("needs apt-get and dpkg")
    if options:
        _run("apt-get", *options, "update")
    with tempfile.TemporaryDirectory(prefix="taskito-pooler-") as downloads:
        answer = _run("apt-cache", *options, "depends", PACKAGE)
        needed = [
            line.rpartition(" ")[2] for line in answer.splitlines() if line.startswith("  Depends: lib")
        ]
        missing = [name for name in needed if not _is_installed(name)]
        _run("apt-get", *options, "download", PACKAGE, *missing, cwd=downloads)
        # Not where ``installed`` looks before it is whole.
        whole = Path(downloads) / "whole"
        for package in Path(downloads).glob("*.deb"):
            _run("dpkg", "-x", str(package), str(whole))
        shutil.rmtree(_home(), ignore_errors=True)
        _home().parent.mkdir(parents=True, exist_ok=True)
        shutil.move(whole, _home())
    program = _home() / "usr" / "sbin" / PACKAGE
    subprocess.run(
        [program, "--version"], env=_environment(program), check=True, capture_output=True, text=True
    )
    return program


def _is_installed(package: str) -> bool:
    command = ["dpkg-query", "-W", "-f=${Status}", package]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return answer.stdout == "install ok installed"


def _run(*command: str, cwd: str | None = None) -> str:
    return subprocess.run(
        command, cwd=cwd, check=True, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    ).stdout


def main() -> int:
    """Bring PgBouncer if it is not here, and say where it is or why it is not. Its tests are skipped then."""
    try:
        print(f"PgBouncer: {bring()}")
    except NoPgBouncer as exc:
        print(f"PgBouncer: none, so the tests behind a pooler are skipped: {exc}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
