-- Everything taskito keeps. Times: integer milliseconds since the epoch. Durations: seconds.
-- Lists and maps are JSON text. Small columns come first in jobs, so that scans never touch payloads.

CREATE TABLE jobs (
  seq             INTEGER PRIMARY KEY,
  id              TEXT    NOT NULL UNIQUE,
  task_name       TEXT    NOT NULL,
  queue           TEXT    NOT NULL,
  status          TEXT    NOT NULL,
  lane            TEXT    NOT NULL DEFAULT '',    -- '' or a task's name: only workers that know it look there
  gate            TEXT,                           -- why a pending job is not claimable ('parents', 'key', 'later')
  priority        INTEGER NOT NULL,
  scheduled_at    INTEGER NOT NULL,
  token           INTEGER,                        -- the fence: on a live row exactly while it runs
  worker          TEXT,
  created_at      INTEGER NOT NULL,
  claimed_at      INTEGER,
  started_at      INTEGER,
  completed_at    INTEGER,                        -- set exactly when the job has finished
  expires_at      INTEGER,                        -- not started by then: cancelled
  prune_at        INTEGER,                        -- finished and not wanted after this moment
  retry_count     INTEGER NOT NULL DEFAULT 0,
  crashes         INTEGER NOT NULL DEFAULT 0,
  interruptions   INTEGER NOT NULL DEFAULT 0,
  max_retries     INTEGER,
  timeout         REAL,
  result_ttl      REAL,
  unique_key      TEXT,
  concurrency_key TEXT,
  concurrency     INTEGER,                        -- how many jobs of concurrency_key may have a slot
  slot            INTEGER,                        -- of concurrency_key, while it can be claimed or runs
  followed        INTEGER,                        -- 1: a job waits for the end of this one
  tolerant        INTEGER NOT NULL DEFAULT 0,     -- 1: it runs also if its parents did not complete
  cancel_force    INTEGER,                        -- NULL: not asked to cancel; 0, 1: asked, with force
  progress        REAL,
  awaited         TEXT,                           -- addresses to notify of its end, one a line
  error           TEXT,
  tags            TEXT    NOT NULL DEFAULT '[]',
  metadata        TEXT,
  payload         BLOB    NOT NULL,
  result          BLOB,
  CHECK (CASE status WHEN 'running' THEN token IS NOT NULL WHEN 'pending' THEN token IS NULL ELSE 1 END)
);
-- Every claim and every settle asks each partial index whether it is concerned. Their conditions begin with
-- tests for NULL, because a list of states here took half of all the time.
-- What can be claimed, in the order of claiming. Gated jobs are not in it, however many there are.
-- (status, gate and expires_at are in it only because counting, or a claim, would otherwise read every row to
-- test them again.)
CREATE INDEX jobs_claim ON jobs (queue, lane, priority DESC, scheduled_at, id, status, gate, expires_at)
  WHERE status = 'pending' AND gate IS NULL;
CREATE INDEX jobs_gated ON jobs (queue, gate) WHERE gate IS NOT NULL;
-- Pending jobs that have failed before: counting them must not read every pending row.
CREATE INDEX jobs_failed ON jobs (queue, retry_count, status) WHERE retry_count > 0 AND status = 'pending';
CREATE INDEX jobs_running ON jobs (worker, queue, status) WHERE status = 'running';
-- Pages of finished jobs, and their number per queue, without touching a row.
CREATE INDEX jobs_finished ON jobs (status, created_at, id, queue, completed_at)
  WHERE completed_at IS NOT NULL;
CREATE INDEX jobs_created ON jobs (created_at, id);
CREATE INDEX jobs_prune ON jobs (prune_at) WHERE prune_at IS NOT NULL;
CREATE INDEX jobs_expire ON jobs (expires_at) WHERE expires_at IS NOT NULL AND status = 'pending';
-- Three outboxes of finished jobs: those whose waiters are still to be notified, those that other jobs still
-- wait for, and those that still hold a slot. The next writer goes on from there, also for jobs that ended in a
-- transaction of the task's own.
CREATE INDEX jobs_awaited ON jobs (awaited)
  WHERE awaited IS NOT NULL AND completed_at IS NOT NULL;
CREATE INDEX jobs_followed ON jobs (id) WHERE followed IS NOT NULL AND completed_at IS NOT NULL;
CREATE INDEX jobs_vacated ON jobs (concurrency_key) WHERE slot IS NOT NULL AND completed_at IS NOT NULL;
CREATE UNIQUE INDEX jobs_unique ON jobs (unique_key)
  WHERE unique_key IS NOT NULL AND completed_at IS NULL;
CREATE UNIQUE INDEX jobs_slot ON jobs (concurrency_key, slot)
  WHERE slot IS NOT NULL;
-- Due jobs of a key that wait for a slot, best first; and those whose time has not come.
CREATE INDEX jobs_at_key ON jobs (concurrency_key, priority DESC, scheduled_at, id) WHERE gate = 'key';
CREATE INDEX jobs_later ON jobs (scheduled_at, concurrency_key) WHERE gate = 'later';
CREATE INDEX jobs_later_of_key ON jobs (concurrency_key, scheduled_at) WHERE gate = 'later';

CREATE TABLE job_errors (
  seq       INTEGER PRIMARY KEY,
  job_id    TEXT    NOT NULL,
  token     INTEGER NOT NULL,
  attempt   INTEGER NOT NULL,
  kind      TEXT    NOT NULL,
  type      TEXT    NOT NULL,
  message   TEXT    NOT NULL,
  traceback TEXT,
  worker    TEXT,
  failed_at INTEGER NOT NULL,
  UNIQUE (job_id, token)
);

CREATE TABLE dead_letter (
  job_id          TEXT    PRIMARY KEY,
  task_name       TEXT    NOT NULL,
  queue           TEXT    NOT NULL,
  reason          TEXT    NOT NULL,
  error           TEXT    NOT NULL,
  traceback       TEXT,
  priority        INTEGER NOT NULL,
  retry_count     INTEGER NOT NULL,
  max_retries     INTEGER,
  crashes         INTEGER NOT NULL,
  interruptions   INTEGER NOT NULL,
  timeout         REAL,
  result_ttl      REAL,
  metadata        TEXT,
  tags            TEXT    NOT NULL DEFAULT '[]',
  lane            TEXT    NOT NULL DEFAULT '',
  unique_key      TEXT,
  concurrency_key TEXT,
  concurrency     INTEGER,
  expires_at      INTEGER,
  created_at      INTEGER NOT NULL,
  failed_at       INTEGER NOT NULL,
  payload         BLOB    NOT NULL
);
CREATE INDEX dead_letter_page ON dead_letter (failed_at, job_id);

CREATE TABLE job_dependencies (
  job_id    TEXT NOT NULL,
  parent_id TEXT NOT NULL,
  PRIMARY KEY (job_id, parent_id)
) WITHOUT ROWID;
CREATE INDEX job_dependencies_parent ON job_dependencies (parent_id, job_id);

CREATE TABLE replay_history (
  new_id        TEXT    PRIMARY KEY,
  job_id        TEXT    NOT NULL,
  replayed_at   INTEGER NOT NULL,
  status_before TEXT    NOT NULL,
  error_before  TEXT
);
CREATE INDEX replay_history_job ON replay_history (job_id, replayed_at);

CREATE TABLE task_logs (
  id        TEXT    PRIMARY KEY,                  -- time-ordered, made by the process that wrote the line
  job_id    TEXT    NOT NULL,
  token     INTEGER NOT NULL,
  task_name TEXT    NOT NULL,
  level     TEXT    NOT NULL,
  message   TEXT    NOT NULL,
  extra     TEXT,
  logged_at INTEGER NOT NULL
);
CREATE INDEX task_logs_job ON task_logs (job_id, id);
CREATE INDEX task_logs_task ON task_logs (task_name, id);

-- One row per task, queue and minute: sums and a histogram, never a row per job. Durations are seconds.
CREATE TABLE task_metrics (
  task_name    TEXT    NOT NULL,
  queue        TEXT    NOT NULL,
  minute       INTEGER NOT NULL,                  -- its start
  succeeded    INTEGER NOT NULL DEFAULT 0,
  failed       INTEGER NOT NULL DEFAULT 0,
  total_run    REAL    NOT NULL DEFAULT 0,
  shortest_run REAL,
  longest_run  REAL,
  total_wait   REAL    NOT NULL DEFAULT 0,
  peak_memory  INTEGER NOT NULL DEFAULT 0,        -- bytes
  histogram    TEXT    NOT NULL DEFAULT '{}',
  PRIMARY KEY (task_name, minute, queue)
) WITHOUT ROWID;
CREATE INDEX task_metrics_minute ON task_metrics (minute);

CREATE TABLE periodic_tasks (
  name          TEXT    PRIMARY KEY,
  app           TEXT    NOT NULL,
  task_name     TEXT    NOT NULL,
  cron          TEXT    NOT NULL,
  timezone      TEXT    NOT NULL,
  catch_up      TEXT    NOT NULL,
  queue         TEXT    NOT NULL,
  payload       BLOB    NOT NULL,
  priority      INTEGER NOT NULL DEFAULT 0,
  max_retries   INTEGER,
  timeout       REAL,
  result_ttl    REAL,
  metadata      TEXT,
  tags          TEXT    NOT NULL DEFAULT '[]',
  enabled       INTEGER NOT NULL DEFAULT 1,
  last_run      INTEGER,
  next_run      INTEGER NOT NULL,
  registered_at INTEGER NOT NULL                  -- when a live worker last declared it
);
CREATE INDEX periodic_tasks_due ON periodic_tasks (next_run) WHERE enabled;

CREATE TABLE rate_limits (
  key         TEXT    PRIMARY KEY,
  tokens      REAL    NOT NULL,
  rate        REAL    NOT NULL,
  burst       INTEGER NOT NULL,
  refilled_at INTEGER NOT NULL
);

CREATE TABLE circuit_breakers (
  task_name  TEXT    PRIMARY KEY,
  state      TEXT    NOT NULL,
  failures   TEXT    NOT NULL DEFAULT '[]',       -- moments of the failures inside the window
  opened_at  INTEGER,
  probe_at   INTEGER,                             -- when the one probe of the half-open state was let through
  threshold  INTEGER NOT NULL,
  "window"   REAL    NOT NULL,
  cooldown   REAL    NOT NULL
);

CREATE TABLE workers (
  worker_id      TEXT    PRIMARY KEY,
  host           TEXT    NOT NULL,
  pid            INTEGER NOT NULL,
  app            TEXT    NOT NULL,
  queues         TEXT    NOT NULL,
  tasks          TEXT    NOT NULL,
  procs          INTEGER NOT NULL,
  version        TEXT    NOT NULL,
  started_at     INTEGER NOT NULL,
  last_seen      INTEGER NOT NULL,
  beat           INTEGER NOT NULL DEFAULT 0,
  status         TEXT    NOT NULL DEFAULT 'alive' CHECK (status IN ('alive', 'stopped', 'dead')),
  waiting        INTEGER NOT NULL DEFAULT 0,      -- 1: it found too little to do, so notify it of new jobs
  notify_address TEXT,                            -- path of its socket
  notify_queues  TEXT                             -- the queues of whose jobs it is notified
);
CREATE INDEX workers_alive ON workers (worker_id) WHERE status = 'alive';

CREATE TABLE paused_queues (
  queue     TEXT    PRIMARY KEY,
  paused_at INTEGER NOT NULL
);
