"""Wheels built once, and environments that hold nothing but what a test says."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = {
    "taskito-core": ROOT,
    "taskito-sqlite": ROOT / "plugins/taskito_sqlite",
    "taskito-postgres": ROOT / "plugins/taskito_postgres",
    "taskito-kv": ROOT / "plugins/taskito_kv",
    "taskito-testing": ROOT / "plugins/taskito_testing",
    "taskito-only-limiter": ROOT / "tests/packaging/only_limiter",
    "taskito-misspelt-limiter": ROOT / "tests/packaging/misspelt_limiter",
}
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


class Environment(NamedTuple):
    """A virtual environment and how to run things in it."""

    path: Path

    @property
    def python(self) -> str:
        return str(self.path / "bin" / "python")

    def run(self, *command: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script of this environment (``python``, ``taskito``) with no settings but ``variables``."""
        clean = {
            k: v for k, v in os.environ.items() if not k.startswith(("TASKITO_", "PYTHON", "VIRTUAL_ENV"))
        }
        program = str(self.path / "bin" / command[0])
        return subprocess.run(
            [program, *command[1:]],
            cwd=cwd,
            env=clean | variables,
            capture_output=True,
            text=True,
            timeout=100,
            stdin=subprocess.DEVNULL,
            check=False,
        )


def pip(*arguments: str | Path) -> None:
    done = subprocess.run(
        [*PIP, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every distribution's wheel, by the name of the distribution."""
    directory = tmp_path_factory.mktemp("wheels")
    # The build tools are those of the environment that runs the tests: isolation would fetch them each time.
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", directory, *PROJECTS.values())
    return {name: next(directory.glob(f"{name.replace('-', '_')}-*.whl")) for name in PROJECTS}


@pytest.fixture(scope="session")
def new_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Environment]:
    """``new_environment(*what)``: a fresh environment into which pip installed these."""

    def make(*what: str | Path) -> Environment:
        path = tmp_path_factory.mktemp("environment")
        venv.create(path, with_pip=False, symlinks=True)
        environment = Environment(path)
        pip("--python", environment.python, "install", *what)
        return environment

    return make


@pytest.fixture(scope="session")
def core_alone(wheels: dict[str, Path], new_environment: Callable[..., Environment]) -> Environment:
    """taskito-core without any plugin."""
    return new_environment(wheels["taskito-core"])


@pytest.fixture(scope="session")
def everything(wheels: dict[str, Path], new_environment: Callable[..., Environment]) -> Environment:
    """Core, both storages and the plugin that brings only a limiter."""
    names = ("taskito-core", "taskito-sqlite", "taskito-postgres", "taskito-only-limiter")
    return new_environment(*(wheels[name] for name in names))


@pytest.fixture(scope="session")
def with_kit(wheels: dict[str, Path], new_environment: Callable[..., Environment]) -> Environment:
    """What ``pip install taskito-core[testing] taskito-sqlite`` makes, with ours taken from their wheels."""
    directory = wheels["taskito-core"].parent
    pins = directory / "pins.txt"
    pins.write_text("".join(f"{name} @ {wheel.as_uri()}\n" for name, wheel in wheels.items()))
    return new_environment("--constraint", pins, "taskito-core[testing]", "taskito-sqlite")
