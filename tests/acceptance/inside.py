"""The product's own tables, looked at without the product; and triggers in them that write down more."""

from __future__ import annotations

import sqlite3
from typing import Any

import psycopg

_POSTGRES = """
CREATE TABLE public.claims (job TEXT, token BIGINT, at DOUBLE PRECISION);
CREATE FUNCTION public.claimed() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  INSERT INTO public.claims VALUES (NEW.id, NEW.token, extract(epoch FROM clock_timestamp()));
  RETURN NULL; END$$;
CREATE TRIGGER claimed AFTER UPDATE ON taskito.jobs_live FOR EACH ROW
  WHEN (NEW.status = 'running' AND OLD.status = 'pending') EXECUTE FUNCTION public.claimed();
CREATE TABLE public.turns (at DOUBLE PRECISION, state TEXT, probe_at BIGINT);
CREATE FUNCTION public.turned() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  INSERT INTO public.turns VALUES (extract(epoch FROM clock_timestamp()), NEW.state, NEW.probe_at);
  RETURN NULL; END$$;
CREATE TRIGGER turned AFTER INSERT OR UPDATE ON taskito.circuit_breakers
  FOR EACH ROW EXECUTE FUNCTION public.turned();
"""
_SQLITE = """
CREATE TABLE claims (job TEXT, token INTEGER, at REAL);
CREATE TRIGGER claimed AFTER UPDATE ON jobs WHEN NEW.status = 'running' AND OLD.status = 'pending'
BEGIN INSERT INTO claims VALUES (NEW.id, NEW.token, {now}); END;
CREATE TABLE turns (at REAL, state TEXT, probe_at INTEGER);
CREATE TRIGGER opened AFTER INSERT ON circuit_breakers
BEGIN INSERT INTO turns VALUES ({now}, NEW.state, NEW.probe_at); END;
CREATE TRIGGER turned AFTER UPDATE ON circuit_breakers
BEGIN INSERT INTO turns VALUES ({now}, NEW.state, NEW.probe_at); END;
""".format(now="(julianday('now') - 2440587.5) * 86400.0")
_POSTGRES_ENDS = """
CREATE TABLE public.ends (job TEXT);
CREATE FUNCTION public.ended() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN INSERT INTO public.ends VALUES (NEW.id); RETURN NULL; END$$;
CREATE TRIGGER ended AFTER INSERT ON taskito.jobs_done FOR EACH ROW EXECUTE FUNCTION public.ended();
"""
_SQLITE_ENDS = """
CREATE TABLE ends (job TEXT);
CREATE TRIGGER ended AFTER UPDATE ON jobs
WHEN NEW.status NOT IN ('pending', 'running') AND OLD.status IN ('pending', 'running')
BEGIN INSERT INTO ends VALUES (NEW.id); END;
"""


class Inside:
    """One connection to the store. Its schema must be there."""

    def __init__(self, url: str) -> None:
        self._sqlite = url.startswith("sqlite")
        if self._sqlite:
            path = url.removeprefix("sqlite://")
            self._connection: Any = sqlite3.connect(path, timeout=60, isolation_level=None)
        else:
            self._connection = psycopg.connect(url, autocommit=True)
        own = ("jobs", "job_errors", "job_dependencies")
        schema, public = ("", "") if self._sqlite else ("taskito.", "public.")
        self._names = {name: schema + name for name in own} | {
            name: public + name for name in ("claims", "turns", "ends")
        }

    def watch(self) -> None:
        """From now on every claim is in ``claims``, and every change of a circuit breaker in ``turns``."""
        if self._sqlite:
            self._connection.executescript(_SQLITE)
        else:
            self._connection.execute(_POSTGRES)

    def watch_ends(self) -> None:
        """From now on every end of a job is in ``ends``."""
        if self._sqlite:
            self._connection.executescript(_SQLITE_ENDS)
        else:
            self._connection.execute(_POSTGRES_ENDS)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query that names tables as ``{jobs}``."""
        return list(self._connection.execute(query.format_map(self._names)).fetchall())

    def close(self) -> None:
        self._connection.close()
