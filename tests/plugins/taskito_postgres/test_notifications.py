"""When workers are notified."""

from __future__ import annotations

import pytest

from taskito_postgres.notifications import Notifier


def test_the_last_notification_is_sent_at_close() -> None:
    sent: list[list[str]] = []
    notifier = Notifier(sent.append)

    assert notifier.may_notify() is True
    notifier.notified()
    assert notifier.may_notify() is False
    notifier.notify_soon({"b"})
    notifier.notify_soon({"b", "a"})
    notifier.close()

    assert sorted(queue for queues in sent for queue in queues) == ["a", "b"]


def test_who_has_waited_for_a_job_notifies_at_once() -> None:
    notifier = Notifier(lambda queues: None)
    notifier.notified()

    notifier.waited()

    assert notifier.may_notify() is True


def test_a_notification_that_fails_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[list[str]] = []

    def send(queues: list[str]) -> None:
        sent.append(queues)
        raise OSError("no server")

    notifier = Notifier(send)
    notifier.notify_soon({"a"})
    notifier.close()
    notifier.notify_soon({"b"})
    notifier.close()

    assert sent == [["a"], ["b"]]
