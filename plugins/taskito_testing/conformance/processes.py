"""Other processes that use the store under test, started clean and never left behind."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_ACTOR = Path(__file__).with_name("actor.py")
#: Seconds to wait for a word from an actor: a loaded machine may need some to start Python.
_PATIENCE = 60.0


class Actor:
    """One process running one function of an actor's script; it speaks JSON, one value per line."""

    def __init__(self, script: Path, arguments: list[str]) -> None:
        # -P: the files beside the script must not hide modules of the same name.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        )
        self._heard: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def hear(self) -> Any:
        """The next value the process says; fails if it ends or stays silent."""
        line = self._heard.get(timeout=_PATIENCE)
        assert line, f"the process ended with {self._process.wait()} instead of answering"
        return json.loads(line)

    def hear_rest(self) -> list[Any]:
        """Everything else it said before its end."""
        said = []
        while line := self._heard.get(timeout=_PATIENCE):
            said.append(json.loads(line))
        return said

    def go(self) -> None:
        """Let it begin: an actor says "ready" and waits before it acts."""
        assert self.hear() == "ready"
        self.nudge()

    def nudge(self) -> None:
        """Let an actor that waits for a word go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL, and wait for its end. What it has said stays readable."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(_PATIENCE)
        self._reader.join(_PATIENCE)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(_PATIENCE)
        self._reader.join(_PATIENCE)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard.put(line)
        self._heard.put("")


class Actors:
    """Starts actors for one store and ends them all."""

    def __init__(self, url: str, schema: str, script: Path = _ACTOR) -> None:
        self._script = script
        self._url = url
        self._schema = schema
        self._actors: list[Actor] = []

    def start(self, action: str, **arguments: Any) -> Actor:
        """Start a process that runs ``action`` from the script, once it is told to ``go``."""
        actor = Actor(self._script, [self._url, self._schema, action, json.dumps(arguments)])
        self._actors.append(actor)
        return actor

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in self._actors:
            actor.close()
