"""The private directory that a user's processes share."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from taskito_core import runtime_directory


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "session"
    directory.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return directory


def test_it_is_in_the_sessions_directory_private_and_the_same_each_time(session: Path) -> None:
    found = runtime_directory("sockets")

    assert found == session / "taskito" / "sockets" == runtime_directory("sockets")
    assert stat.S_IMODE(found.stat().st_mode) == 0o700
    assert runtime_directory("fifos") == session / "taskito" / "fifos"


def test_without_a_session_it_is_in_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")

    assert runtime_directory("sockets") == tmp_path / f"taskito-{os.getuid()}" / "sockets"


@pytest.mark.parametrize("of", ["taskito", "taskito/sockets"])
def test_one_that_others_may_write_to_is_passed_over(session: Path, tmp_path: Path, of: str) -> None:
    (session / "taskito").mkdir(mode=0o700)
    shared = session / of
    shared.mkdir(exist_ok=True)
    shared.chmod(0o777)

    assert runtime_directory("sockets") == tmp_path / f"taskito-{os.getuid()}" / "sockets"


def test_a_link_to_somewhere_else_is_passed_over(session: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (session / "taskito").symlink_to(tmp_path / "elsewhere")

    assert runtime_directory("sockets") == tmp_path / f"taskito-{os.getuid()}" / "sockets"


def test_one_whose_path_is_too_long_is_passed_over(session: Path) -> None:
    longest = len(os.fsencode(session / "taskito" / "sockets"))

    assert runtime_directory("sockets", longest) is not None
    found = runtime_directory("sockets", longest - 1)
    assert found is None or not found.is_relative_to(session)


def test_there_may_be_none() -> None:
    assert runtime_directory("sockets", longest=5) is None
