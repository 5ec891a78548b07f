-- Calls that belong together (debounce, throttle): which job stands for those of a key, and until when.
CREATE TABLE last_calls (
    key       TEXT   NOT NULL,
    job_id    TEXT   NOT NULL,
    call_id   TEXT   NOT NULL,              -- the id that the last call brought: sent again it changes nothing
    called_at BIGINT NOT NULL,
    until     BIGINT NOT NULL,
    CONSTRAINT last_calls_pkey PRIMARY KEY (key)
) WITH (fillfactor = 50);
CREATE INDEX last_calls_until ON last_calls (until);
