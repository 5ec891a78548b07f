"""PyPI has another product called taskito, with the same import name and command: a stand-in for it here."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.packaging.conftest import Environment, pip

pytestmark = pytest.mark.timeout(400)  # pip fetches the dependencies when its cache is cold

FILES = {
    "taskito/__init__.py": "from taskito.app import Queue\n",
    "taskito/app.py": "class Queue: ...\n",
    "taskito/cli.py": "def main():\n    print('the other one')\n",
    "taskito-0.22.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: taskito\nVersion: 0.22.0\n",
    "taskito-0.22.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "taskito-0.22.0.dist-info/entry_points.txt": "[console_scripts]\ntaskito = taskito.cli:main\n",
}
APP = "from taskito import Queue\nqueue = Queue()\n"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The other product's wheel."""
    path = tmp_path_factory.mktemp("other") / "taskito-0.22.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(name, text)
        wheel.writestr("taskito-0.22.0.dist-info/RECORD", "".join(f"{name},,\n" for name in FILES))
    return path


def test_the_other_taskito_is_named_whichever_was_installed_last(
    wheels: dict[str, Path], other: Path, new_environment: Callable[..., Environment], tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP)
    ours = [wheels["taskito-core"], wheels["taskito-sqlite"]]
    environment = new_environment(*ours)
    clean = environment.run("taskito", "enqueue", "--app", "app:queue", "t", cwd=tmp_path)
    assert "another product" not in clean.stderr

    pip("--python", environment.python, "install", "--no-deps", other)
    for overwritten in (("taskito", "info"), ("python", "-m", "taskito", "info")):
        done = environment.run(*overwritten, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(
            "Error: the package 'taskito' that Python imports here is not that of taskito-core"
        )
        assert "pip install --force-reinstall --no-deps taskito-core" in done.stderr
        assert len(done.stderr.splitlines()) == 1

    pip("--python", environment.python, "install", "--no-deps", "--force-reinstall", *ours)
    both = environment.run("taskito", "enqueue", "--app", "app:queue", "t", cwd=tmp_path)
    assert both.returncode == 0
    assert both.stderr.count("the distribution 'taskito' 0.22.0 is installed beside taskito-core") == 1
    queue = environment.run("python", "-c", "import app", cwd=tmp_path)
    assert queue.stderr.count("the distribution 'taskito' 0.22.0 is installed beside taskito-core") == 1

    pip("--python", environment.python, "uninstall", "--yes", "taskito")
    pip("--python", environment.python, "install", "--no-deps", "--force-reinstall", wheels["taskito-core"])
    mended = environment.run("taskito", "enqueue", "--app", "app:queue", "t", cwd=tmp_path)
    assert (mended.returncode, mended.stderr) == (0, "")
