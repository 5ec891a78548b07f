"""Values of registered types go to a worker and come back, on every store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest

from tests.faults.conftest import load

from .conftest import LONG


@pytest.fixture
def app(backend_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("TASKITO_DB_URL", backend_url)
    with load(Path(__file__).with_name("typesapp.py")) as module:
        yield module


def test_arguments_results_and_published_values_may_be_of_registered_types(app, start_worker):
    start_worker(app="typesapp:queue", procs=1)

    job = app.publish.delay(Path("a"))

    assert job.result(LONG) == Path("a/whole")
    assert list(job.stream(LONG)) == [Path("a/half")]
    assert app.quarter(Fraction(1, 3)).apply().result(LONG) == Fraction(1, 12)


def test_an_offset_keeps_its_name_on_its_way_to_a_worker_and_back(app, start_worker):
    start_worker(app="typesapp:queue", procs=1)
    moment = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2), "CEST"))

    name, read = app.zone_of.delay(moment).result(LONG)

    assert (name, read, read.tzname()) == ("CEST", moment, "CEST")


def test_test_mode_takes_registered_types_where_a_worker_does(app):
    with app.queue.test_mode():
        assert app.publish.delay(Path("a")).result() == Path("a/whole")
