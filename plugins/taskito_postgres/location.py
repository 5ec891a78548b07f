"""Where a storage is: checking, masking and quoting what a config says. No I/O, no driver."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from taskito_core import ConfigError, StorageConfig, mask_url

SCHEMES = ("postgresql", "postgres")
#: PostgreSQL cuts longer identifiers off silently: two long names could then be one schema.
MAX_NAME_BYTES = 63
_NAME = re.compile(r"[A-Za-z0-9_]+")
_SECRETS = frozenset({"password", "sslpassword", "passfile"})


def check(config: StorageConfig) -> None:
    """Raise ConfigError for a config that can never work."""
    _check_schema(config.schema)
    if not config.db_url:
        raise ConfigError(
            "backend 'postgres' needs a db_url such as 'postgresql://user@localhost:5432/myapp', "
            "as an argument or as TASKITO_DB_URL; got none"
        )
    _check_url(config.db_url)
    if config.pool_size is not None and config.pool_size < 1:
        raise ConfigError(f"pool_size must be 1 or more, got {config.pool_size}")
    if config.durability not in {"power", "process"}:
        raise ConfigError(f"durability must be 'power' or 'process', got {config.durability!r}")


def _check_schema(schema: str) -> None:
    if not _NAME.fullmatch(schema):
        raise ConfigError(
            f"schema must be ASCII letters, digits and underscores, at least one, got {schema!r}"
        )
    if len(schema) > MAX_NAME_BYTES:
        raise ConfigError(f"schema must be at most {MAX_NAME_BYTES} bytes, got {len(schema)}: {schema!r}")
    if schema.startswith("pg_") or schema == "information_schema":
        raise ConfigError(f"schema {schema!r} belongs to PostgreSQL itself; choose a name of your own")


def _check_url(url: str) -> None:
    shown = mask_url(url)
    try:
        parts = urlsplit(url)
        # A URL may name several hosts, which urlsplit cannot take apart: look at each port by itself.
        ports = [_port(host) for host in parts.netloc.rpartition("@")[2].split(",")]
    except ValueError:
        # `from None`: the original message may quote the URL, and with it the password.
        raise ConfigError(
            f"db_url {shown!r} is not a URL of the form postgresql://user:password@host:port/name"
        ) from None
    if parts.scheme not in SCHEMES:
        raise ConfigError(f"db_url must start with postgresql:// or postgres://, got {shown!r}")
    if any(not 0 < port < 65536 for port in ports):
        raise ConfigError(f"the port in db_url {shown!r} must be between 1 and 65535")


def _port(host: str) -> int:
    tail = host.rpartition("]")[2] if host.startswith("[") else host
    port = tail.partition(":")[2]
    return int(port) if port else 5432


def describe(config: StorageConfig) -> str:
    """The URL with its password masked, and the schema if it is not the usual one."""
    shown = mask_url(config.db_url or "postgresql://")
    return shown if config.schema == "taskito" else f"{shown} (schema {config.schema})"


def without_secrets(text: str, url: str) -> str:
    """``text``, say a driver's message, with whatever ``url`` keeps secret replaced by ``***``."""
    for secret in _secrets(url):
        for form in {secret, quote(secret, safe=""), quote(secret)}:
            text = text.replace(form, "***")
    return text


def _secrets(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return [url]
    user = parts.netloc.rpartition("@")[0]
    found = [user.partition(":")[2], unquote(user.partition(":")[2])]
    found += [value for name, value in parse_qsl(parts.query) if name.lower() in _SECRETS]
    return [secret for secret in found if secret]


def quoted(schema: str) -> str:
    """The schema as an SQL identifier. Always quoted, so that ``Mine``, ``1abc`` and ``select`` work too."""
    return '"' + schema.replace('"', '""') + '"'


def channel(schema: str, topic: str) -> str:
    """The notification channel of one schema for one topic: a short plain identifier."""
    digest = hashlib.sha256(schema.encode()).hexdigest()[:20]
    return f"taskito_{topic}_{digest}"
