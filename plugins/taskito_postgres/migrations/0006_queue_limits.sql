-- What holds for all jobs of a queue; NULL: no limit. The rate's bucket is beside it, so that a claim locks one row.
CREATE TABLE queue_limits (
    queue       TEXT   NOT NULL,
    concurrency BIGINT,                     -- how many of its jobs run at once
    rate        DOUBLE PRECISION,           -- how often they are claimed: tokens a second
    burst       BIGINT,
    max_pending BIGINT,                     -- how many may be pending when one is enqueued
    tokens      DOUBLE PRECISION,
    refilled_at BIGINT,
    CONSTRAINT queue_limits_pkey PRIMARY KEY (queue)
) WITH (fillfactor = 50);
-- Counting what is pending on a queue. || '', so that no statement about one kind of gate is planned with it.
CREATE INDEX jobs_live_gated ON jobs_live (queue) WHERE (gate || '') <> '';
