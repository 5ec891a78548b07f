-- Every table of taskito. Names are unqualified: search_path must be the schema.
-- Columns are TEXT, BYTEA, BIGINT, BOOLEAN and DOUBLE PRECISION only. Moments are milliseconds since
-- the epoch, durations are seconds. metadata, tags, queues and the like are JSON as text.

-- One logical table with every job and its status. Finishing a job moves its row from the first
-- partition to the second, so that history never slows down the table that is polled.
CREATE TABLE jobs (
    id              TEXT             NOT NULL,
    priority        BIGINT           NOT NULL DEFAULT 0,
    created_at      BIGINT           NOT NULL,
    scheduled_at    BIGINT           NOT NULL,
    retry_count     BIGINT           NOT NULL DEFAULT 0,
    crashes         BIGINT           NOT NULL DEFAULT 0,
    interruptions   BIGINT           NOT NULL DEFAULT 0,
    finished        BOOLEAN          NOT NULL DEFAULT false,
    awaited         BOOLEAN          NOT NULL DEFAULT false,  -- its end is waited for: notify
    tolerant        BOOLEAN          NOT NULL DEFAULT false,  -- runs also if parents did not complete
    cancel_force    BOOLEAN,                                  -- NULL: no request to cancel it while it runs
    status          TEXT             NOT NULL DEFAULT 'pending',
    queue           TEXT             NOT NULL,
    lane            TEXT             NOT NULL DEFAULT '',     -- '' or the name of a guarded task
    task_name       TEXT             NOT NULL,
    tags            TEXT             NOT NULL DEFAULT '[]',
    payload         BYTEA            NOT NULL,
    gate            TEXT,                                     -- why it is not claimable: 'parents', 'key', 'later'
    token           BIGINT,                                   -- the fence: on a live row exactly while it runs
    claimed_at      BIGINT,
    started_at      BIGINT,
    completed_at    BIGINT,
    prune_at        BIGINT,                                   -- when a finished row may be deleted
    expires_at      BIGINT,                                   -- not started by then: cancelled
    max_retries     BIGINT,
    concurrency     BIGINT,                                   -- how many slots its concurrency key has
    slot            BIGINT,                                   -- which of them it holds
    timeout         DOUBLE PRECISION,
    result_ttl      DOUBLE PRECISION,
    progress        DOUBLE PRECISION,
    worker          TEXT,
    unique_key      TEXT,
    concurrency_key TEXT,
    metadata        TEXT,
    error           TEXT,
    result          BYTEA
) PARTITION BY LIST (finished);

-- Small and hot: room on every page for the next version of a row, vacuumed early and at full speed,
-- never truncated (that needs a lock which stops every claim).
CREATE TABLE jobs_live PARTITION OF jobs (
    CONSTRAINT jobs_live_pkey PRIMARY KEY (id),
    CONSTRAINT jobs_live_token CHECK ((status = 'running') = (token IS NOT NULL)),
    CONSTRAINT jobs_live_status CHECK (status IN ('pending', 'running'))
) FOR VALUES IN (false) WITH (
    fillfactor = 75,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = off
);

CREATE TABLE jobs_done PARTITION OF jobs (
    CONSTRAINT jobs_done_pkey PRIMARY KEY (id),
    CONSTRAINT jobs_done_status CHECK (status IN ('complete', 'dead', 'cancelled'))
) FOR VALUES IN (true);

CREATE INDEX jobs_live_claim ON jobs_live (queue, lane, priority DESC, scheduled_at, id)
    WHERE status = 'pending' AND gate IS NULL;
CREATE INDEX jobs_live_worker ON jobs_live (worker) WHERE status = 'running';
-- For lists. Partial, so that a claim need not write into it: only pending jobs can be very many.
CREATE INDEX jobs_live_newest ON jobs_live (created_at, id) WHERE status = 'pending';
CREATE UNIQUE INDEX jobs_live_unique_key ON jobs_live (unique_key) WHERE unique_key IS NOT NULL;
-- A slot belongs to a job from the moment it can be claimed until it ends or falls due later.
CREATE UNIQUE INDEX jobs_live_slot ON jobs_live (concurrency_key, slot) WHERE slot IS NOT NULL;
CREATE INDEX jobs_live_key ON jobs_live (concurrency_key, priority DESC, scheduled_at, id) WHERE gate = 'key';
CREATE INDEX jobs_live_later ON jobs_live (concurrency_key, scheduled_at) WHERE gate = 'later';
CREATE INDEX jobs_live_later_due ON jobs_live (scheduled_at) WHERE gate = 'later';
CREATE INDEX jobs_live_children ON jobs_live (gate, id) WHERE gate = 'parents';
CREATE INDEX jobs_live_expires ON jobs_live (expires_at) WHERE status = 'pending' AND expires_at IS NOT NULL;

CREATE INDEX jobs_done_newest ON jobs_done (created_at, id);
CREATE INDEX jobs_done_completed ON jobs_done (completed_at);
CREATE INDEX jobs_done_prune ON jobs_done (prune_at) WHERE prune_at IS NOT NULL;
CREATE INDEX jobs_done_unhappy ON jobs_done (status, queue) WHERE status <> 'complete';

-- Self-contained: enough to understand and repeat a dead job without its row in jobs.
CREATE TABLE dead_letter (
    job_id          TEXT   NOT NULL,
    priority        BIGINT NOT NULL,
    retry_count     BIGINT NOT NULL,
    max_retries     BIGINT,
    crashes         BIGINT NOT NULL,
    interruptions   BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    failed_at       BIGINT NOT NULL,
    expires_at      BIGINT,
    concurrency     BIGINT,
    timeout         DOUBLE PRECISION,
    result_ttl      DOUBLE PRECISION,
    task_name       TEXT   NOT NULL,
    queue           TEXT   NOT NULL,
    lane            TEXT   NOT NULL DEFAULT '',
    unique_key      TEXT,
    concurrency_key TEXT,
    payload         BYTEA  NOT NULL,
    reason          TEXT   NOT NULL,
    error           TEXT   NOT NULL,
    traceback       TEXT,
    metadata        TEXT,
    tags            TEXT   NOT NULL DEFAULT '[]',
    CONSTRAINT dead_letter_pkey PRIMARY KEY (job_id)
);
CREATE INDEX dead_letter_newest ON dead_letter (failed_at, job_id);

-- One row per failed attempt. The key makes the same outcome, sent twice, one row.
CREATE TABLE job_errors (
    job_id    TEXT   NOT NULL,
    token     BIGINT NOT NULL,
    attempt   BIGINT NOT NULL,
    failed_at BIGINT NOT NULL,
    kind      TEXT   NOT NULL,
    type      TEXT   NOT NULL,
    message   TEXT   NOT NULL,
    traceback TEXT,
    worker    TEXT,
    CONSTRAINT job_errors_pkey PRIMARY KEY (job_id, token)
);

CREATE TABLE workers (
    worker_id  TEXT    NOT NULL,
    pid        BIGINT  NOT NULL,
    procs      BIGINT  NOT NULL,
    started_at BIGINT  NOT NULL,
    last_seen  BIGINT  NOT NULL,
    beat       BIGINT  NOT NULL DEFAULT 0,  -- counts heartbeats: what peers watch, instead of clocks
    status     TEXT    NOT NULL DEFAULT 'alive',
    host       TEXT    NOT NULL,
    app        TEXT    NOT NULL,
    version    TEXT    NOT NULL,
    queues     TEXT    NOT NULL,
    tasks      TEXT    NOT NULL,
    waiting    TEXT,                        -- the queues it waits for, as JSON; NULL: none
    CONSTRAINT workers_pkey PRIMARY KEY (worker_id),
    CONSTRAINT workers_status CHECK (status IN ('alive', 'stopped', 'dead'))
) WITH (fillfactor = 50);

-- Token buckets. Never more tokens than the burst, refilled by the store's clock.
CREATE TABLE rate_limits (
    key         TEXT             NOT NULL,
    tokens      DOUBLE PRECISION NOT NULL,
    rate        DOUBLE PRECISION NOT NULL,
    burst       BIGINT           NOT NULL,
    refilled_at BIGINT           NOT NULL,
    CONSTRAINT rate_limits_pkey PRIMARY KEY (key)
) WITH (fillfactor = 50);

CREATE TABLE circuit_breakers (
    task_name    TEXT             NOT NULL,
    state        TEXT             NOT NULL DEFAULT 'closed',
    threshold    BIGINT           NOT NULL,
    failures     TEXT             NOT NULL DEFAULT '[]',  -- when each of them was: the window slides
    opened_at    BIGINT,
    probe_at     BIGINT,                    -- when the one probe of the half-open state started
    "window"     DOUBLE PRECISION NOT NULL,
    cooldown     DOUBLE PRECISION NOT NULL,
    CONSTRAINT circuit_breakers_pkey PRIMARY KEY (task_name),
    CONSTRAINT circuit_breakers_state CHECK (state IN ('closed', 'open', 'half_open'))
) WITH (fillfactor = 50);

CREATE TABLE periodic_tasks (
    name            TEXT    NOT NULL,
    app             TEXT    NOT NULL,
    priority        BIGINT  NOT NULL DEFAULT 0,
    next_run        BIGINT  NOT NULL,
    last_run        BIGINT,
    registered_at   BIGINT  NOT NULL,       -- when a live worker last declared this entry
    max_retries     BIGINT,
    timeout         DOUBLE PRECISION,
    result_ttl      DOUBLE PRECISION,
    enabled         BOOLEAN NOT NULL DEFAULT true,
    task_name       TEXT    NOT NULL,
    queue           TEXT    NOT NULL,
    cron            TEXT    NOT NULL,
    timezone        TEXT    NOT NULL DEFAULT 'UTC',
    catch_up        TEXT    NOT NULL DEFAULT 'skip',
    payload         BYTEA   NOT NULL,
    metadata        TEXT,
    tags            TEXT    NOT NULL DEFAULT '[]',
    CONSTRAINT periodic_tasks_pkey PRIMARY KEY (name)
);
CREATE INDEX periodic_tasks_due ON periodic_tasks (next_run) WHERE enabled;

CREATE TABLE job_dependencies (
    job_id    TEXT NOT NULL,
    parent_id TEXT NOT NULL,
    CONSTRAINT job_dependencies_pkey PRIMARY KEY (job_id, parent_id)
);
CREATE INDEX job_dependencies_parent ON job_dependencies (parent_id);

-- Execution time and memory, added up per task, queue, minute and size class: percentiles without a row per job.
CREATE TABLE task_metrics (
    task_name    TEXT             NOT NULL,
    queue        TEXT             NOT NULL DEFAULT '',
    minute       BIGINT           NOT NULL,  -- when it began
    succeeded    BIGINT           NOT NULL DEFAULT 0,
    failed       BIGINT           NOT NULL DEFAULT 0,
    peak_memory  BIGINT           NOT NULL DEFAULT 0,  -- bytes
    total_run    DOUBLE PRECISION NOT NULL DEFAULT 0,  -- seconds
    total_wait   DOUBLE PRECISION NOT NULL DEFAULT 0,
    shortest_run DOUBLE PRECISION,
    longest_run  DOUBLE PRECISION,
    histogram    TEXT             NOT NULL DEFAULT '{}',
    CONSTRAINT task_metrics_pkey PRIMARY KEY (task_name, minute, queue)
);
CREATE INDEX task_metrics_minute ON task_metrics (minute);

CREATE TABLE replay_history (
    new_id        TEXT   NOT NULL,
    job_id        TEXT   NOT NULL,
    replayed_at   BIGINT NOT NULL,
    status_before TEXT   NOT NULL,
    error_before  TEXT,
    CONSTRAINT replay_history_pkey PRIMARY KEY (new_id)
);
CREATE INDEX replay_history_job ON replay_history (job_id, replayed_at);

CREATE TABLE task_logs (
    id        TEXT   NOT NULL,              -- time-ordered
    job_id    TEXT   NOT NULL,
    token     BIGINT NOT NULL DEFAULT 0,
    logged_at BIGINT NOT NULL,
    task_name TEXT   NOT NULL,
    level     TEXT   NOT NULL,
    message   TEXT   NOT NULL,
    extra     TEXT,
    CONSTRAINT task_logs_pkey PRIMARY KEY (id)
);
CREATE INDEX task_logs_job ON task_logs (job_id, id);
CREATE INDEX task_logs_task ON task_logs (task_name, id);
CREATE INDEX task_logs_time ON task_logs (logged_at);

CREATE TABLE paused_queues (
    queue     TEXT   NOT NULL,
    paused_at BIGINT NOT NULL,
    CONSTRAINT paused_queues_pkey PRIMARY KEY (queue)
);
