"""A copy of the database while others write: one snapshot, checked before it gets its name."""

from __future__ import annotations

import os
import shutil
import sqlite3
import urllib.parse
from contextlib import closing, suppress

from taskito_core import ConfigError, StorageError
from taskito_sqlite.base import Base
from taskito_sqlite.file.errors import translated

#: What the copy is called until it is complete.
UNFINISHED = ".unfinished"


class BackupMixin(Base):
    """``backup``, which a storage may have beside the contract."""

    def backup(self, target: str) -> None:
        """Write a copy of the whole database to the file ``target``, which must not exist.

        One snapshot, however long it takes, and no writer waits for it. The file appears when the copy is
        complete, checked and on the disk. Raises ConfigError for a target that cannot be written to.
        """
        target = os.path.abspath(os.path.expanduser(target))
        if os.path.lexists(target):
            raise ConfigError(f"the target of a backup must be a new file, and {target} exists")
        if not self._database.exists():
            raise ConfigError(f"the database {self.path} does not exist, so there is nothing to back up")
        unfinished = target + UNFINISHED
        try:
            # Nobody else may read it before it has the permissions of what it is a copy of.
            os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            raise ConfigError(f"{unfinished} exists: another backup writes it, or one was killed") from None
        except OSError as exc:
            raise ConfigError(f"cannot write the backup {target}: {exc.strerror}") from exc
        try:
            self._database.beside(lambda connection: connection.execute("VACUUM INTO ?", (unfinished,)))
            _check(unfinished)
            shutil.copymode(self.path, unfinished)
            _sync(unfinished)
            os.rename(unfinished, target)
            _sync(os.path.dirname(target))
        except OSError as exc:
            raise translated(exc, target) from exc
        finally:
            with suppress(FileNotFoundError):
                os.unlink(unfinished)


def _check(copy: str) -> None:
    """Raise StorageError unless it is a whole database of taskito."""
    # Immutable: nothing writes it, and no log or index is to be made beside it.
    url = f"file:{urllib.parse.quote(os.fsencode(copy))}?immutable=1"
    try:
        with closing(sqlite3.connect(url, uri=True)) as connection:
            problems = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
            connection.execute("SELECT 1 FROM jobs LIMIT 1").fetchone()
    except sqlite3.Error as exc:
        raise translated(exc, copy) from exc
    if problems != ["ok"]:
        raise StorageError(f"the copy {copy} is damaged, as the database may be: {problems[0]}")


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
