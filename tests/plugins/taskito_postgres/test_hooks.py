"""What the plugin offers, and what it imports for that."""

from __future__ import annotations

import os
import subprocess
import sys

from taskito_core import OfferKind, StorageConfig
from taskito_postgres import hooks, location

URL = "postgresql://app:hunter2@db.example/myapp"


def test_the_offer_names_both_spellings_and_checks() -> None:
    offer, *others = hooks.taskito_offers()

    assert (offer.name, *offer.aliases) == ("postgres", "postgresql")
    assert [(one.kind, one.name) for one in others] == [
        (OfferKind.LIMITER, "postgres"),
        (OfferKind.BREAKER, "postgres"),
        (OfferKind.METRICS, "postgres"),
    ]
    assert offer.check is location.check
    assert offer.describe is not None
    assert (
        offer.describe(StorageConfig(backend="postgres", db_url=URL))
        == "postgresql://app:***@db.example/myapp"
    )


def test_the_driver_is_not_imported_before_a_storage_is_opened() -> None:
    program = (
        "import sys, taskito_postgres.hooks as h; h.taskito_offers(); assert 'psycopg' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env={**os.environ})
