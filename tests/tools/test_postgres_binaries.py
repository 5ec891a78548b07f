"""Which PostgreSQL the tests take."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import postgres_binaries
from tools.postgres_binaries import NoPostgres, find
from tools.postgres_engines import ExternalEngine
from tools.private_postgres import Server


def programs(directory: Path, version: str) -> Path:
    """Programs of that version, as far as anybody asks them."""
    directory.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        program = directory / name
        program.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    return directory


@pytest.fixture
def two_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """One on the PATH, another that was unpacked beside the environment."""
    unpacked = tmp_path / "share" / "taskito-tools" / "postgres-99" / "postgresql-99.1.0" / "bin"
    found = {"97": programs(tmp_path / "97", "97.3"), "99": programs(unpacked, "99.1 (Debian 99.1-1)")}
    monkeypatch.setenv("PATH", str(found["97"]), prepend=":")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return found


@pytest.mark.parametrize("asked", ["97", "99"])
def test_the_version_that_is_asked_for_is_taken_and_no_other(
    two_versions: dict[str, Path], monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv(postgres_binaries.VARIABLE, asked)

    assert find() == two_versions[asked]
    assert postgres_binaries.version_of(find()).startswith(f"{asked}.")


def test_without_a_wish_the_first_on_the_path_is_taken(
    two_versions: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(postgres_binaries.VARIABLE, raising=False)

    assert find() == two_versions["97"]


def test_a_server_of_another_version_than_asked_for_is_refused(
    postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(postgres_binaries.VARIABLE, "9")

    with pytest.raises(NoPostgres, match=r"leads to PostgreSQL \d+, and 9 is asked for"):
        ExternalEngine(postgres_server.url())
