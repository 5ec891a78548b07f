"""The rate limiter in the database, shared by every worker that uses the schema.

One round trip per call, in which the server does the arithmetic: no lock is ever held while messages
travel, so a worker that is stopped in the middle of a call holds up nobody.
"""

from __future__ import annotations

from taskito_core import CLOCK_PATIENCE, Bucket, Grant, Wants
from taskito_postgres.arrays import Bigints, Doubles, Texts
from taskito_postgres.door import Door
from taskito_postgres.session import Session
from taskito_postgres.sql import NOW

OPEN_BUCKETS = f"""
-- A key that was never asked for has a full bucket. Sorted by key, as all that touch several of them.
INSERT INTO taskito.rate_limits (key, tokens, rate, burst, refilled_at)
SELECT n.key, n.burst, n.rate, n.burst, {NOW}
  FROM unnest(%(keys)b, %(rates)b, %(bursts)b) AS n(key, rate, burst)
    ON CONFLICT (key) DO NOTHING
"""

TURN_BUCKETS = f"""
-- Take tokens, or give them back: that is taking less than none. First the locks, in the order of the keys.
-- Then the clock, which counting the locked rows makes wait for them: from one who changes a bucket to the
-- next it never goes back, unless somebody set it. The arithmetic is that of ``Bucket`` in the core.
WITH locked AS MATERIALIZED (
    SELECT r.key, r.tokens, r.refilled_at FROM taskito.rate_limits r
     WHERE r.key = ANY (%(keys)b) ORDER BY r.key FOR UPDATE
), clock AS MATERIALIZED (
    SELECT {NOW} AS now, count(*) FROM locked
), filled AS MATERIALIZED (
    SELECT n.key, n.wanted, n.rate, n.burst,
           CASE WHEN l.refilled_at - c.now BETWEEN 0 AND {CLOCK_PATIENCE}
                THEN l.refilled_at ELSE c.now END AS moment,
           least(n.burst, l.tokens + greatest(0, c.now - l.refilled_at)::float8 / 1000 * n.rate) AS tokens
      FROM unnest(%(keys)b, %(wanted)b, %(rates)b, %(bursts)b) AS n(key, wanted, rate, burst)
      JOIN locked l ON l.key = n.key CROSS JOIN clock c
), taken AS MATERIALIZED (
    SELECT *, least(wanted, floor(tokens)::bigint) AS granted FROM filled
)
UPDATE taskito.rate_limits r
   SET tokens = least(t.burst, t.tokens - t.granted), rate = t.rate, burst = t.burst, refilled_at = t.moment
  FROM taken t WHERE r.key = t.key
RETURNING r.key, t.granted, r.tokens, r.refilled_at
"""

#: What runs for every claim of a limited task: a test looks at how each is planned.
HOT = (OPEN_BUCKETS, TURN_BUCKETS)


class PostgresRateLimiter(Door):
    """``RateLimiter`` of the core."""

    def acquire(self, wants: Wants) -> dict[str, Grant]:
        # Sent again after an answer was lost it takes tokens that nobody has: too few starts, never too many.
        left = self._turn("take tokens", {key: max(0, n) for key, (n, _) in wants.items()}, wants, True)
        return {
            key: bucket.grant(wants[key][0], granted, wants[key][1])
            for key, (granted, bucket) in left.items()
        }

    def give_back(self, unused: Wants) -> None:
        self._turn("give tokens back", {key: -max(0, n) for key, (n, _) in unused.items()}, unused, False)

    def _turn(
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
            with session.turn() as turn:
                # It need not survive a power cut: nothing of what it allowed does either.
                turn.commit_lazily()
                turn.run(self._statements[OPEN_BUCKETS], named)
                answer = turn.run(self._statements[TURN_BUCKETS], named)
            return {key: (granted, Bucket(tokens, at)) for key, granted, tokens, at in answer.fetchall()}

        return self._connections.on_pool(doing, work, repeatable=repeatable)
