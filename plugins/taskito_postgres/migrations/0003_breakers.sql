-- A breaker remembers when each of its failures was, as a JSON list: a window that slides needs them.
ALTER TABLE circuit_breakers ADD COLUMN failed_at TEXT NOT NULL DEFAULT '[]';
