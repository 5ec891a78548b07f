-- Calls that belong together (debounce, throttle): which job stands for those of a key, and until when.
CREATE TABLE last_calls (
  key       TEXT    PRIMARY KEY,
  job_id    TEXT    NOT NULL,
  call_id   TEXT    NOT NULL,                     -- the id that the last call brought: sent again it changes nothing
  called_at INTEGER NOT NULL,
  until     INTEGER NOT NULL
);
CREATE INDEX last_calls_until ON last_calls (until);
