"""One record as lines of text: a job, or a dead letter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from json import dumps
from typing import Any

import click

from taskito.config.text import moment, printable


def print_record(record: Mapping[str, Any], json: bool) -> None:
    """As JSON, or as text."""
    if json:
        click.echo(dumps(record, indent=2))
        return
    for line in _lines_of(record):
        click.echo(line)


def _lines_of(record: Mapping[str, Any]) -> Iterator[str]:
    """What is said of it, a line for each, then the errors of its attempts. What is not said is left out."""
    for name, value in record.items():
        if name == "errors":
            for error in value:
                yield f"attempt {error['attempt']} ({moment(error['failed_at'])}): {error['kind']}"
                yield printable(error["traceback"] or f"{error['type']}: {error['message']}").rstrip()
        elif name == "traceback" and record.get("errors"):
            continue  # It is that of the last attempt.
        elif value not in (None, [], {}) or (name == "result" and record["status"] == "complete"):
            yield f"{name:<16} {printable(_text(name, value))}"


def _text(name: str, value: Any) -> str:
    if name.endswith("_at"):
        return moment(value)
    if isinstance(value, str) and name != "result":
        return value
    return dumps(value, ensure_ascii=False)
