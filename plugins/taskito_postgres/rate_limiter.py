"""The rate limiter in the database, shared by every worker that uses the schema.

One round trip per call, in which the server does the arithmetic: no lock is ever held while messages
travel, so a worker that is stopped in the middle of a call holds up no other.
"""

from __future__ import annotations

from taskito_core import Bucket, Grant, Wants
from taskito_postgres.arrays import Bigints, Doubles, Texts
from taskito_postgres.base import Base
from taskito_postgres.session import Session
from taskito_postgres.sql import limits as sql


class PostgresRateLimiter(Base):
    """``RateLimiter`` of the core."""

    def acquire(self, wants: Wants) -> dict[str, Grant]:
        # Sent again after a lost answer it takes tokens that no job uses: too few starts, never too many.
        left = self._take("take tokens", {key: max(0, n) for key, (n, _) in wants.items()}, wants, True)
        return {
            key: bucket.grant(wants[key][0], granted, wants[key][1])
            for key, (granted, bucket) in left.items()
        }

    def give_back(self, unused: Wants) -> None:
        self._take("give tokens back", {key: -max(0, n) for key, (n, _) in unused.items()}, unused, False)

    def _take(
        self, doing: str, wanted: dict[str, int], limits: Wants, repeatable: bool
    ) -> dict[str, tuple[int, Bucket]]:
        """Per key how many tokens were granted, and what is left."""
        if not wanted:
            return {}
        keys = sorted(wanted)
        named = {
            "keys": Texts(keys),
            "wanted": Bigints(wanted[key] for key in keys),
            "rates": Doubles(limits[key][1].rate for key in keys),
            "bursts": Bigints(limits[key][1].burst for key in keys),
            "shift": self.clock_shift,
        }

        def work(session: Session) -> dict[str, tuple[int, Bucket]]:
            with session.round_trip() as trip:
                # It need not survive a power cut: nothing of what it allowed does either.
                trip.commit_lazily()
                trip.run(self._statements[sql.ADD_BUCKETS], named)
                answer = trip.run(self._statements[sql.TAKE_TOKENS], named)
            return {key: (granted, Bucket(tokens, at)) for key, granted, tokens, at in answer.fetchall()}

        return self._connections.on_pool(doing, work, repeatable=repeatable)
