"""Which file a configuration names. No I/O, no heavy import: ``import taskito`` passes through here."""

from __future__ import annotations

import os

from taskito_core import ConfigError, StorageConfig

SCHEME = "sqlite"
DURABILITIES = ("power", "process")


def database_path(config: StorageConfig) -> str:
    """The absolute path of the database; a relative one is taken from the current directory, now.

    ``db_url`` wins over ``db_path`` and is spelled as everywhere: ``sqlite:///relative``,
    ``sqlite:////absolute``. Raises ConfigError for what can never be a shared database file.
    """
    path = config.db_path if config.db_url is None else _path_in(config.db_url)
    if path == ":memory:" or path.startswith("file:"):
        raise ConfigError(f"db_path must be the path of a file that workers can share, got {path!r}")
    if not path or "\0" in path:
        raise ConfigError(f"db_path must be the path of a file, got {path!r}")
    if path.endswith(os.sep):
        raise ConfigError(f"db_path must be the path of a file, got the directory {path!r}")
    return os.path.abspath(os.path.expanduser(path))


def check(config: StorageConfig) -> None:
    """Raise ConfigError for a configuration that can never work."""
    database_path(config)
    if config.durability not in DURABILITIES:
        raise ConfigError(f"durability must be 'power' or 'process', got {config.durability!r}")
    if config.pool_size is not None and config.pool_size < 1:
        raise ConfigError(f"pool_size must be 1 or more, got {config.pool_size}")


def describe(config: StorageConfig) -> str:
    """The location as people may see it: the absolute path. There is no password to hide."""
    return database_path(config)


def _path_in(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() != SCHEME:
        raise ConfigError(
            f"db_url for the sqlite backend must look like 'sqlite:///path', got scheme {scheme!r}"
        )
    if not rest.startswith("/") or rest == "/":
        raise ConfigError(
            f"db_url must be 'sqlite:///relative/path' or 'sqlite:////absolute/path', got {url!r}"
        )
    if "?" in rest or "#" in rest:
        raise ConfigError(
            f"a sqlite db_url takes no options; give a path with '?' or '#' as db_path, got {url!r}"
        )
    return rest[1:]
