"""What is built can be installed and used, and every distribution is one of its own."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from tests.packaging.conftest import PROJECTS, ROOT, Environment, pip

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


def sources(package: Path) -> set[str]:
    """What a wheel with this package must hold of it."""
    files = (file for suffix in ("py", "sql", "typed") for file in package.rglob(f"*.{suffix}"))
    return {str(file.relative_to(package.parent)) for file in files}


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


@pytest.mark.parametrize("plugin", ["taskito_sqlite", "taskito_postgres", "taskito_kv", "taskito_testing"])
def test_a_plugins_wheel_brings_its_package_and_nothing_else(plugin: str, wheels: dict[str, Path]) -> None:
    project = plugin.replace("_", "-")

    built = names(wheels[project])

    assert {name for name in built if ".dist-info/" not in name} == sources(PROJECTS[project])
    assert f"{plugin}/py.typed" in built


@pytest.mark.parametrize("plugin", ["taskito_sqlite", "taskito_postgres"])
def test_a_storages_wheel_brings_its_migrations(plugin: str, wheels: dict[str, Path]) -> None:
    assert any(name.endswith(".sql") for name in names(wheels[plugin.replace("_", "-")]))


def test_the_cores_wheel_brings_two_typed_packages_and_no_tests(wheels: dict[str, Path]) -> None:
    built = names(wheels["taskito-core"])

    packages = {name for name in built if ".dist-info/" not in name}
    assert packages == sources(ROOT / "taskito_core") | sources(ROOT / "taskito")
    assert {"taskito/py.typed", "taskito_core/py.typed", "taskito/cli/main.py"} <= packages
    assert not [name for name in packages if "test" in name.replace("test_mode", "")]
    assert any(name.endswith("/licenses/LICENSE") for name in built)


def test_the_extra_for_tests_brings_the_kit_which_brings_the_store_in_memory(
    wheels: dict[str, Path], with_kit: Environment, tmp_path: Path
) -> None:
    core, kit = metadata(wheels["taskito-core"]), metadata(wheels["taskito-testing"])

    installed = with_kit.run("python", "-c", "import taskito_testing, taskito_kv", cwd=tmp_path)

    assert "testing" in core.get_all("Provides-Extra", [])
    assert "taskito-testing; extra == 'testing'" in core.get_all("Requires-Dist", [])
    assert not [line for line in core.get_all("Requires-Dist", []) if "pytest" in line]
    assert any(line.startswith("taskito-kv") for line in kit.get_all("Requires-Dist", []))
    assert installed.returncode == 0, installed.stderr


THIRD_PARTY = """
import pytest
from taskito_testing import StorageConformance


class TestMine(StorageConformance):
    @pytest.fixture
    def storage_url(self, tmp_path):
        return f"sqlite:///{tmp_path}/jobs.db"
"""


def test_the_suite_runs_in_somebodys_repository_from_wheels_alone(
    with_kit: Environment, tmp_path: Path
) -> None:
    (tmp_path / "test_conformance.py").write_text(THIRD_PARTY)
    some = "fork or crash or moves or surface or settle"

    done = with_kit.run("python", "-m", "pytest", "-q", "-W", "error", "-k", some, cwd=tmp_path)

    last = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(last.split(" passed")[0].split()[-1]) > 20


def test_the_kit_adds_its_command_and_is_not_imported_by_programs_that_load_plugins(
    with_kit: Environment, tmp_path: Path
) -> None:
    program = (
        "import sys; from taskito import Queue; Queue(); "
        "print(sorted({'pytest', 'hypothesis', 'taskito_kv', 'click'} & set(sys.modules)))"
    )

    listed = with_kit.run("taskito", "plugin", "list", "--json", cwd=tmp_path)
    checked = with_kit.run("taskito", "plugin", "check", "memory://mine", "-k", "moves", cwd=tmp_path)
    used = with_kit.run("python", "-c", program, cwd=tmp_path)

    assert [one["name"] for one in json.loads(listed.stdout)] == ["sqlite", "testing"]
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert used.stdout == "[]\n", used.stderr


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
