"""Which lanes a worker serves after it could not read the arguments of a job."""

from __future__ import annotations

from taskito.worker.dispatch.lanes import Lanes, is_unread, unread_lane
from taskito.worker.ipc.app_manifest import TaskPolicy
from taskito_core.limits import RateLimit
from taskito_core.retry import RetryPolicy

PLAIN = TaskPolicy("mail", "default", RetryPolicy(), 5.0)
LIMITED = TaskPolicy("scan", "default", RetryPolicy(), 5.0, rate_limit=RateLimit(5.0, 5))


def lanes() -> Lanes:
    return Lanes({"mail": PLAIN, "scan": LIMITED})


def test_every_task_has_two_lanes() -> None:
    assert lanes().wanted(0.0) == ("mail", "scan", unread_lane("mail"), unread_lane("scan"))
    assert is_unread(unread_lane("mail"))
    assert not is_unread("mail")


def test_a_pause_doubles_each_time_that_it_was_in_vain_and_ends() -> None:
    served = lanes()
    now, lengths = 100.0, []
    for _ in range(6):
        served.unreadable("mail", now)
        served.unreadable("mail", now + 0.1)  # the next job of the same frame
        assert served.wanted(now) == ("mail", "scan", unread_lane("scan"))
        again = served.again_at(unread_lane("mail"), now)
        assert unread_lane("mail") not in served.wanted(again - 0.01)
        assert unread_lane("mail") in served.wanted(again)
        lengths.append(again - now)
        now = again

    assert lengths == [5, 10, 20, 40, 60, 60]


def test_the_own_lane_of_a_guarded_task_pauses_for_a_moment() -> None:
    served = lanes()
    served.unreadable("scan", 100.0)

    assert served.wanted(100.4) == ("mail", unread_lane("mail"))
    assert served.wanted(100.5) == ("mail", "scan", unread_lane("mail"))


def test_a_job_that_was_left_to_others_is_nothing_to_wait_for() -> None:
    assert lanes().again_at("somebody else's", 1.0) == float("inf")
