"""Without a check this plugin would be installed, loaded, and do nothing."""

from __future__ import annotations

from taskito_core import RateLimiter, StorageConfig, hookimpl


@hookimpl
def taskito_open_limitter(url: str, config: StorageConfig) -> RateLimiter | None:
    return None
