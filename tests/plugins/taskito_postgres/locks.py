"""Waits for locks in the database of a test."""

from __future__ import annotations

from typing import Any

import psycopg


def blocked(database: psycopg.Connection[Any]) -> int:
    """How many sessions wait for a row that another transaction has changed or locked."""
    waits = "NOT granted AND locktype IN ('transactionid', 'tuple')"
    [(count,)] = database.execute(f"SELECT count(*) FROM pg_locks WHERE {waits}".encode()).fetchall()
    return int(count)


def someone_is_blocked(database: psycopg.Connection[Any]) -> bool:
    """Does one session wait so?"""
    return blocked(database) == 1
