"""What the supervisor shows of a child's stack."""

from __future__ import annotations

from pathlib import Path

import taskito
import taskito_core
from taskito.worker.children.trace import own_frames_removed


def test_a_stack_shows_the_tasks_frames_and_not_the_workers():
    ours, core = Path(taskito.__file__).parent, Path(taskito_core.__file__).parent
    text = f"""Thread 0x1 (most recent call first):
  File "{ours}/worker/child.py", line 1 in _answer
  File "/usr/lib/python3/threading.py", line 9 in run

Thread 0x2 (most recent call first):
  File "{ours}/worker/child.py", line 1 in _answer

Current thread 0x3 (most recent call first):
  File "/app/tasks.py", line 5 in slow
  File "{core}/hookspecs.py", line 4 in taskito_run_job
  File "{ours}/worker/run.py", line 2 in run
  File "<frozen runpy>", line 88 in _run_code
"""
    assert own_frames_removed(text).split("\n") == [
        "Thread 0x1 (most recent call first):",
        '  File "/usr/lib/python3/threading.py", line 9 in run',
        "",
        "",
        "Current thread 0x3 (most recent call first):",
        '  File "/app/tasks.py", line 5 in slow',
    ]
