"""An app that registers types: its tasks take them, publish them and return them."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from pathlib import Path, PosixPath

from taskito import JsonSerializer, Queue, chain, current_job

serializer = JsonSerializer()
serializer.register(PosixPath, str, PosixPath, name="Path")
serializer.register(Fraction, str, Fraction)
queue = Queue(serializer=serializer)


@queue.task(max_retries=0)
def publish(path: Path) -> Path:
    current_job.publish(path / "half")
    return path / "whole"


@queue.task(max_retries=0)
def zone_of(moment: datetime) -> tuple[str | None, datetime]:
    return moment.tzname(), moment


@queue.task(max_retries=0)
def halve(number: Fraction) -> Fraction:
    return number / 2


def quarter(number: Fraction) -> chain:
    return chain(halve.s(number), halve.s())
