"""What runs a private PostgreSQL server: nobody (somebody else's), a process of our own, or a container."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import psycopg

from tools.postgres_binaries import NoPostgres, asked_version

START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

#: Process ids that belong to servers of this process: a leak check must not take them for leaks.
own_processes: set[int] = set()


class CannotRestart(RuntimeError):
    """This server is not ours to stop."""


class Engine(Protocol):
    """Whatever runs the server process."""

    restartable: bool

    @property
    def base_url(self) -> str:
        """Of the maintenance database, as a superuser."""
        ...

    def start(self) -> None: ...
    def stop(self, mode: str) -> None: ...
    def close(self) -> None: ...


class ExternalEngine:
    """A server somebody else runs."""

    restartable = False

    def __init__(self, url: str) -> None:
        self.base_url = url
        if version := asked_version():
            with psycopg.connect(url, connect_timeout=5) as connection:
                found = connection.info.server_version // 10_000
            if str(found) != version:
                raise NoPostgres(
                    f"TASKITO_TEST_POSTGRES_URL leads to PostgreSQL {found}, and {version} is asked for"
                )

    def start(self) -> None:
        wait_until_ready(self.base_url)

    def stop(self, mode: str) -> None:
        raise CannotRestart(f"not ours to stop ({mode})")

    def close(self) -> None: ...


class LocalEngine:
    """A server of our own in a temporary directory, on 127.0.0.1 and a free port."""

    restartable = True

    def __init__(self, binaries: Path, settings: Sequence[str] = ()) -> None:
        self._user = _unprivileged_user()
        # Directly below /tmp: a Unix socket's path may have 107 bytes at most.
        self._home = Path(
            tempfile.mkdtemp(prefix="taskito-pg-", dir="/tmp" if os.path.isdir("/tmp") else None)
        )
        self._log = self._home / "log"
        self._settings = ("max_connections=200", f"unix_socket_directories={self._home}", *settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        try:
            self._watcher = _Watcher(self._home)
        except BaseException:
            self._home.rmdir()
            raise
        try:
            self._binaries = self._reachable(binaries)
            self._initialise()
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def base_url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        for attempt in (1, 2, 3):
            try:
                self._start_once()
                return
            except ServerDied:
                # Somebody took the port between the look and the start.
                if attempt == 3 or "ddress already in use" not in self._log.read_text(errors="replace"):
                    raise
                self._port = free_port()

    def stop(self, mode: str) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(_STOP_SIGNALS[mode])
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(STOP_TIMEOUT)
        own_processes.discard(process.pid)

    def close(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self._home, ignore_errors=True)
        self._watcher.close()

    def _start_once(self) -> None:
        options = [part for setting in self._settings for part in ("-c", setting)]
        options += ["-D", str(self._home / "data"), "-p", str(self._port), "-h", "127.0.0.1"]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [str(self._binaries / "postgres"), *options],
                **self._as_user(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Its own session: a Ctrl-C or a signal to our group is not meant for it.
                start_new_session=True,
            )
        own_processes.add(process.pid)
        self._process = process
        try:
            wait_until_ready(self.base_url, process)
        except ServerDied as exc:
            self.stop("immediate")
            raise ServerDied(
                f"{exc}; its log ends:\n{self._log.read_text(errors='replace')[-2000:]}"
            ) from None

    def copy(self, primary_url: str) -> None:
        """Hold what that server holds, not what it did, and be its standby from the next start on."""
        shutil.rmtree(self._home / "data", ignore_errors=True)
        command = ["pg_basebackup", "-D", str(self._home / "data"), "-d", primary_url]
        self._make_data([*command, "--write-recovery-conf", "--checkpoint=fast", "--no-sync"])

    def follow(self, primary_url: str) -> None:
        """Be a standby of that server from the next start on. It must be stopped, and behind that server."""
        data = self._home / "data"
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = '{primary_url}'\n")
        (data / "standby.signal").touch()

    def _initialise(self) -> None:
        command = ["initdb", "-D", str(self._home / "data"), "-U", "postgres"]
        self._make_data([*command, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])

    def _make_data(self, command: list[str]) -> None:
        if self._user is not None:
            os.chown(self._home, self._user.pw_uid, self._user.pw_gid)
        program, *arguments = command
        outcome = subprocess.run(
            [str(self._binaries / program), *arguments],
            **self._as_user(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if outcome.returncode:
            raise ServerDied(
                f"{program} failed with exit code {outcome.returncode}: {outcome.stderr.strip()[-2000:]}"
            )

    def _as_user(self) -> dict[str, Any]:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._home), "LC_ALL": "C"}
        options: dict[str, Any] = {"cwd": self._home, "env": environment}
        if self._user is not None:
            options |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        return options

    def _reachable(self, binaries: Path) -> Path:
        """The programs where the server's user may run them: not below /root, say."""
        home = self._user
        if home is None:
            return binaries
        os.chmod(self._home, 0o755)
        readable = [str(binaries / "initdb"), "--version"]
        try:
            subprocess.run(
                readable,
                check=True,
                capture_output=True,
                user=home.pw_uid,
                group=home.pw_gid,
                extra_groups=[],
                cwd="/",
            )
        except (OSError, subprocess.CalledProcessError):
            copy = self._home / "install"
            shutil.copytree(binaries.parent, copy, symlinks=True)
            return copy / "bin"
        return binaries


class StandbyEngine(LocalEngine):
    """A copy of another server, that repeats what it does until it is promoted."""

    def __init__(self, binaries: Path, primary_url: str, settings: Sequence[str] = ()) -> None:
        self._primary_url = primary_url
        super().__init__(binaries, settings)

    def _initialise(self) -> None:
        self.copy(self._primary_url)


class ServerDied(RuntimeError):
    """The server ended, or did not answer in time."""


class _Watcher:
    """A process that ends the server and removes its directory when this one is gone.

    It learns so from the end of its standard input, whose other end only we hold.
    """

    def __init__(self, home: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _WATCH, str(home)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
        )
        own_processes.add(self._process.pid)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(STOP_TIMEOUT)
        own_processes.discard(self._process.pid)


_WATCH = """
import os, shutil, signal, sys, time
home = sys.argv[1]
sys.stdin.buffer.read()
try:
    with open(os.path.join(home, "data", "postmaster.pid")) as file:
        pid = int(file.readline())
    os.kill(pid, signal.SIGQUIT)
    for _ in range(100):
        os.kill(pid, 0)
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
except (OSError, ValueError):
    pass
shutil.rmtree(home, ignore_errors=True)
"""


class ContainerEngine:
    """A server in a container; its reaper ends it when this process is gone."""

    restartable = True

    def __init__(self, settings: Sequence[str] = ()) -> None:
        from testcontainers.core.container import DockerContainer

        # A fixed port of ours: Docker would choose another one at every start.
        port = free_port()
        options = ["max_connections=200", *settings]
        command = " ".join(["postgres", *(f"-c {option}" for option in options)])
        self._container = (
            DockerContainer(
                os.environ.get("TASKITO_TEST_POSTGRES_IMAGE", f"postgres:{asked_version() or 16}")
            )
            .with_env("POSTGRES_HOST_AUTH_METHOD", "trust")
            .with_bind_ports(5432, port)
            .with_command(command)
        )
        self._container.start()
        self.base_url = f"postgresql://postgres@{self._container.get_container_host_ip()}:{port}/postgres"
        wait_until_ready(self.base_url)

    def start(self) -> None:
        self._container.get_wrapped_container().start()
        wait_until_ready(self.base_url)

    def stop(self, mode: str) -> None:
        container = self._container.get_wrapped_container()
        container.kill(_STOP_SIGNALS[mode].name)
        container.wait()

    def close(self) -> None:
        self._container.stop()


def docker_answers() -> bool:
    """True if a Docker engine can be talked to and the libraries for it are installed."""
    if not (os.environ.get("DOCKER_HOST") or os.path.exists("/var/run/docker.sock")):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import docker  # type: ignore[import-untyped, unused-ignore]
            import testcontainers.core.container  # noqa: F401

            client = docker.from_env(timeout=5)
            try:
                return bool(client.ping())
            finally:
                client.close()
    except Exception:
        return False


def wait_until_ready(url: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """Return when the server answers; ServerDied if it ends or takes more than a minute."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
            return
        except psycopg.OperationalError as exc:
            if process is not None and process.poll() is not None:
                raise ServerDied(f"the server ended with exit code {process.returncode}") from None
            if time.monotonic() > deadline:
                raise ServerDied(f"the server did not answer within {START_TIMEOUT:g} s: {exc}") from None
            time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Whom the server shall run as: PostgreSQL refuses to run as root. None: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoPostgres("root cannot run PostgreSQL, and there is no user postgres or nobody")
