"""What is built can be installed and used, and every distribution is one of its own."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.packaging.conftest import PROJECTS, Environment, pip

pytestmark = pytest.mark.timeout(400)  # pip fetches the dependencies when its cache is cold

APP = """
from taskito import Queue

queue = Queue("jobs.db")

@queue.task
def add(a: int, b: int) -> int:
    return a + b
"""

QUICKSTART = """
import threading
from app import add, queue

handle = add.delay(2, 3)
worker = threading.Thread(target=queue.run_worker)
worker.start()
try:
    print(handle.result(timeout=60))
finally:
    queue.request_shutdown()
    worker.join()
    queue.close()
"""

BESIDE_POSTGRES = """
import sys
from taskito import Queue
from taskito_core import RateLimit

queue = Queue(backend="postgres", db_url=sys.argv[1], limiter="local://")

@queue.task
def add(a: int, b: int) -> int:
    return a + b

add.delay(2, 3)
print(queue.stats()["pending"])
limiter = queue.plugins.open_limiter(queue.settings.limiter, queue.settings.storage)
wants = {"key": (7, RateLimit(rate=0.001, burst=10))}
print(*[limiter.acquire(wants)["key"].granted for _ in range(3)])
queue.close()
"""


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("plugin", ["taskito_sqlite", "taskito_postgres"])
def test_a_plugins_wheel_brings_code_types_and_migrations(plugin: str, wheels: dict[str, Path]) -> None:
    source = PROJECTS[plugin.replace("_", "-")]

    built = names(wheels[plugin.replace("_", "-")])

    expected = {f"{plugin}/{file.name}" for file in source.glob("*.py")}
    expected |= {f"{plugin}/migrations/{file.name}" for file in (source / "migrations").glob("*.sql")}
    assert built == expected | {f"{plugin}/py.typed"} | {name for name in built if ".dist-info/" in name}
    assert any(name.endswith(".sql") for name in built)


def test_the_cores_wheel_brings_two_typed_packages_and_no_tests(wheels: dict[str, Path]) -> None:
    built = names(wheels["taskito-core"])

    assert {"taskito/py.typed", "taskito_core/py.typed", "taskito/cli/main.py"} <= built
    tops = {name.partition("/")[0] for name in built}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"taskito", "taskito_core"}
    assert any(name.endswith("/licenses/LICENSE") for name in built)


def test_the_core_alone_says_what_to_install(core_alone: Environment, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)

    used = core_alone.run("python", "-c", "from app import add; add.delay(1, 2)", cwd=tmp_path)
    listed = core_alone.run("taskito", "plugin", "list", cwd=tmp_path)

    assert used.returncode == 1
    assert "ConfigError" in used.stderr
    assert "pip install taskito-sqlite" in used.stderr
    assert listed.returncode == 0
    assert listed.stdout == ""
    assert "pip install taskito-sqlite" in listed.stderr
    assert not (tmp_path / "jobs.db").exists()


def test_the_core_alone_says_what_to_install_for_postgres(core_alone: Environment, tmp_path: Path) -> None:
    done = core_alone.run("taskito", "migrate", cwd=tmp_path, TASKITO_DB_URL="postgresql://u:hunter2@h/d")

    assert done.returncode == 2
    assert "pip install taskito-postgres" in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


def test_installed_wheels_know_their_version_and_list_their_plugins(
    everything: Environment, tmp_path: Path
) -> None:
    version = everything.run("taskito", "--version", cwd=tmp_path)
    listed = everything.run("taskito", "plugin", "list", "--json", cwd=tmp_path)

    assert version.stdout == "taskito 0.1.0\n"
    found = {one["name"]: one for one in json.loads(listed.stdout)}
    assert list(found) == ["only_limiter", "postgres", "sqlite"]
    assert found["only_limiter"]["distribution"] == "taskito-only-limiter"
    assert found["only_limiter"]["version"] == "0.3.0"
    assert found["postgres"]["offers"][0]["aliases"] == ["postgresql"]
    assert all(one["problem"] is None for one in found.values())


def test_the_quickstart_works_in_a_fresh_environment(everything: Environment, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)

    done = everything.run("python", "-W", "error", "-c", QUICKSTART, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr
    assert (tmp_path / "jobs.db").exists()


def test_a_plugin_with_only_a_limiter_works_beside_postgres_storage(
    everything: Environment, tmp_path: Path, postgres_url: str
) -> None:
    done = everything.run("python", "-c", BESIDE_POSTGRES, postgres_url, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (0, "1\n7 3 0\n"), done.stderr


def test_a_misspelt_hook_is_refused_by_the_name_of_its_distribution(
    everything: Environment, wheels: dict[str, Path], tmp_path: Path
) -> None:
    beside = tmp_path / "beside"
    pip("install", "--no-deps", "--target", beside, wheels["taskito-misspelt-limiter"])

    used = everything.run("taskito", "migrate", cwd=tmp_path, PYTHONPATH=str(beside))
    listed = everything.run("taskito", "plugin", "list", cwd=tmp_path, PYTHONPATH=str(beside))
    left_out = everything.run(
        "taskito", "migrate", cwd=tmp_path, PYTHONPATH=str(beside), TASKITO_LOAD_PLUGINS="sqlite"
    )

    assert used.returncode == 2
    assert "taskito-misspelt-limiter" in used.stderr
    assert "did you mean 'taskito_open_limiter'" in used.stderr
    assert listed.returncode == 0
    assert "(cannot be loaded)" in listed.stdout
    assert left_out.returncode == 0, left_out.stderr


def test_editable_installs_work(new_environment: Callable[..., Environment], tmp_path: Path) -> None:
    projects = [PROJECTS[name] for name in ("taskito-core", "taskito-sqlite", "taskito-postgres")]
    editable = new_environment(*(argument for project in projects for argument in ("--editable", project)))
    (tmp_path / "app.py").write_text(APP)

    where = editable.run("python", "-c", "import taskito_sqlite as s; print(s.__file__)", cwd=tmp_path)
    done = editable.run("python", "-c", QUICKSTART, cwd=tmp_path)

    assert Path(where.stdout.strip()).parent == PROJECTS["taskito-sqlite"]
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr
