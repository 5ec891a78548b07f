"""Logging: two formats, the job a record was made in, and no password in either."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest

from taskito.config.logging import configure
from taskito.running_job.job_context import JobContext, entered
from taskito_core.errors import ConfigError

Bare = Callable[[], None]
CONTEXT = JobContext(id="j1", task_name="mail", queue_name="default", retry_count=2, token=1)


@pytest.fixture
def bare_logging() -> Iterator[Callable[[], None]]:
    """``bare_logging()``: as in a process in which nobody configured anything; undone after the test.

    A function, because pytest puts its own handlers on the root logger between a fixture and its test.
    """
    root, ours = logging.getLogger(), logging.getLogger("taskito")
    kept = (root.level, ours.level, ours.propagate)
    removed: list[logging.Handler] = []

    def strip() -> None:
        removed.extend(root.handlers)
        root.handlers[:] = []

    yield strip
    for logger in (root, ours):
        logger.handlers[:] = [one for one in logger.handlers if type(one).__module__ != logging.__name__]
    root.handlers += [one for one in removed if one not in root.handlers]
    root.setLevel(kept[0])
    ours.setLevel(kept[1])
    ours.propagate = kept[2]


@pytest.mark.parametrize("logger", ["taskito.worker", "users.own.module"])
def test_a_record_made_inside_a_task_carries_job_task_and_attempt(logger: str, bare_logging: Bare) -> None:
    bare_logging()
    stream = io.StringIO()
    configure("info", "json", stream)

    with entered(CONTEXT):
        logging.getLogger(logger).info("half way: %d", 50, extra={"page": 7})
    logging.getLogger(logger).info("outside")

    inside, outside = map(json.loads, stream.getvalue().splitlines())
    assert (inside["job_id"], inside["task"], inside["attempt"]) == ("j1", "mail", 3)
    assert (inside["message"], inside["level"], inside["logger"]) == ("half way: 50", "info", logger)
    assert inside["page"] == 7
    assert "job_id" not in outside


def test_the_text_format_names_the_job_behind_the_message(bare_logging: Bare) -> None:
    bare_logging()
    stream = io.StringIO()
    configure("info", "text", stream)

    with entered(CONTEXT):
        logging.getLogger("taskito").info("hello")

    assert stream.getvalue().endswith("taskito: hello (job j1, task mail, attempt 3)\n")


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_password_leaves_through_a_log_line(style: str, bare_logging: Bare) -> None:
    bare_logging()
    stream = io.StringIO()
    configure("info", style, stream)
    url = "postgresql://u:hunter2@h/d"

    try:
        raise RuntimeError(f"cannot reach {url}")
    except RuntimeError:
        logging.getLogger("taskito").exception("lost %s", url, extra={"url": url, "parts": [url]})

    assert "hunter2" not in stream.getvalue()
    assert "RuntimeError" in stream.getvalue()


def test_records_below_the_level_are_not_shown(bare_logging: Bare) -> None:
    bare_logging()
    stream = io.StringIO()
    configure("warning", "text", stream)

    logging.getLogger("taskito").info("quiet")
    logging.getLogger("users").info("quiet too")

    assert stream.getvalue() == ""


def test_configuring_twice_shows_a_record_once(bare_logging: Bare) -> None:
    bare_logging()
    first, second = io.StringIO(), io.StringIO()
    configure("info", "text", first)
    configure("info", "text", second)

    logging.getLogger("taskito").info("once")

    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_an_app_that_configured_logging_keeps_its_handlers_and_its_records(bare_logging: Bare) -> None:
    bare_logging()
    theirs, ours = io.StringIO(), io.StringIO()
    logging.getLogger().addHandler(logging.StreamHandler(theirs))

    configure("info", "text", ours)
    logging.getLogger("taskito").warning("from taskito")
    logging.getLogger("users").warning("from the app")

    assert theirs.getvalue() == "from the app\n"
    assert "from taskito" in ours.getvalue()
    assert "from the app" not in ours.getvalue()


@pytest.mark.parametrize(("level", "style"), [("loud", "text"), ("info", "xml")])
def test_an_unknown_level_or_format_is_refused_with_the_known_ones(level: str, style: str) -> None:
    with pytest.raises(ConfigError, match="must be one of"):
        configure(level, style)
