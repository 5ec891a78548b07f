"""The store's clock: milliseconds since the epoch, as the server sees them."""

from __future__ import annotations

#: clock_timestamp(), because the transaction of a caller may be hours old.
NOW = "(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + %(shift)b)"

CLOCK = f"""
-- The store's clock.
SELECT {NOW}
"""
