-- What holds for all jobs of a queue; NULL: no limit. The rate's bucket is beside it, so that a claim reads one row.
CREATE TABLE queue_limits (
  queue       TEXT    PRIMARY KEY,
  concurrency INTEGER,                            -- how many of its jobs run at once
  rate        REAL,                               -- how often they are claimed: tokens a second
  burst       INTEGER,
  max_pending INTEGER,                            -- how many may be pending when one is enqueued
  tokens      REAL,
  refilled_at INTEGER
) WITHOUT ROWID;
