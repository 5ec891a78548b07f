"""Triggers in the database itself: they note every time a job reaches a final state, or is changed in one."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from typing import Any

import psycopg

_SQLITE = """
CREATE TABLE audit (id TEXT);
CREATE TRIGGER audit AFTER UPDATE ON jobs WHEN NEW.status IN ('complete', 'dead', 'cancelled')
BEGIN INSERT INTO audit VALUES (NEW.id); END;
"""

_POSTGRES = """
CREATE TABLE public.audit (id text);
CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO public.audit VALUES (NEW.id); RETURN NULL; END$$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON taskito.jobs_done
    FOR EACH ROW EXECUTE FUNCTION public.audit();
"""


def begin(url: str) -> None:
    """Write endings down from now on. The schema must be there."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite://"), timeout=30)) as connection:
            connection.executescript(_SQLITE)
    else:
        with psycopg.connect(url, autocommit=True) as connection_to_server:
            connection_to_server.execute(_POSTGRES)


def endings(url: str) -> Counter[str]:
    """How often each job came to an end, or was changed after it."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite://"), timeout=30)) as connection:
            return _count(connection.execute("SELECT id FROM audit").fetchall())
    with psycopg.connect(url, autocommit=True) as connection_to_server:
        return _count(connection_to_server.execute("SELECT id FROM public.audit").fetchall())


def _count(rows: list[tuple[Any, ...]]) -> Counter[str]:
    return Counter(row[0] for row in rows)
