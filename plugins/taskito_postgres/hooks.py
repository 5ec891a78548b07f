"""What this plugin offers to the core: storage called ``postgres``.

No driver is imported here: plugins are loaded by every ``import`` of an app that builds a Queue.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskito_core import Offer, OfferKind, Storage, StorageConfig, hookimpl
from taskito_postgres.location import check, describe

NAME = "postgres"


@hookimpl
def taskito_offers() -> Sequence[Offer]:
    return [
        Offer(
            kind=OfferKind.STORAGE,
            name=NAME,
            aliases=("postgresql",),
            schemes=("postgresql", "postgres"),
            check=check,
            describe=describe,
        )
    ]


@hookimpl
def taskito_open_storage(config: StorageConfig) -> Storage | None:
    if config.backend != NAME:
        return None
    # The driver costs 100 ms to import: only those who open a storage pay for it.
    from taskito_postgres.storage import PostgresStorage

    return PostgresStorage(config)
