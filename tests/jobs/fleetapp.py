"""Two versions of one app, as VERSION says: each has a periodic task that the other does not know."""

from __future__ import annotations

import os

from jobsapp import note

from taskito import Queue, current_job

VERSION = os.environ["VERSION"]

queue = Queue()


@queue.periodic("* * * * * *", catch_up="all")
def staying() -> None:
    note("staying", VERSION, current_job.id)


if VERSION == "old":

    @queue.periodic("* * * * * *")
    def leaving() -> None:
        note("leaving", VERSION, current_job.id)

else:

    @queue.periodic("* * * * * *")
    def coming() -> None:
        note("coming", VERSION, current_job.id)
