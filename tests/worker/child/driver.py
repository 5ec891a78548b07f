"""Plays the supervisor for real zygotes and children."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from taskito.serialization.serializers import DEFAULT, dump_call
from taskito.worker.children.launch import PROGRAM
from taskito.worker.ipc.app_manifest import AppManifest
from taskito.worker.ipc.child_options import ChildOptions
from taskito.worker.ipc.slots import SlotTable, anonymous_file
from taskito.worker.ipc.wire import (
    Company,
    JobMessage,
    MessageParser,
    MessageType,
    ResultKind,
    ResultMessage,
    pack,
    pack_jobs,
    pack_slot_pid,
    unpack_error,
    unpack_results,
    unpack_seqs,
    unpack_slot_pid,
)

APP = "tests.worker.child.jobs:queue"
ROOT = Path(__file__).parents[3]
#: Seconds until a test gives up on an answer; generous, because the machine may be busy.
PATIENCE = 30.0

SUPERVISOR_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD)


class Wire:
    """One socket of the supervisor's side."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.parser = MessageParser()
        self.messages: list[tuple[MessageType, bytes]] = []
        sock.settimeout(PATIENCE)

    def read(self) -> tuple[MessageType, bytes] | None:
        """The next message; None at the end. Fails with TimeoutError."""
        while not self.messages:
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self.messages += self.parser.feed(data)
        return self.messages.pop(0)

    def expect(self, kind: MessageType) -> bytes:
        message = self.read()
        assert message is not None, f"the other side ended before {kind.name}"
        assert message[0] is kind, f"expected {kind.name}, got {message}"
        return message[1]

    def quiet(self) -> bool:
        """True if nothing has arrived."""
        return not self.messages and not select.select([self.sock], [], [], 0)[0]


class Program:
    """Starts one of our modules with inherited descriptors, as the supervisor does."""

    def __init__(
        self,
        role: str,
        app: str,
        descriptors: dict[str, int],
        numbers: dict[str, int],
        env: dict[str, str] | None,
    ) -> None:
        options = {**descriptors, **numbers}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", PROGRAM, role, app, *words]
        command += ["--options", ChildOptions(log_level="warning").to_argument()]
        signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISOR_SIGNALS)
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(descriptors.values()),
                cwd=ROOT,
                env={**os.environ, **(env or {})},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SUPERVISOR_SIGNALS)

    def end(self) -> str:
        """Kill it if it still runs, and reap it; everything it and its children printed."""
        self.process.kill()
        printed, _ = self.process.communicate(timeout=PATIENCE)
        return printed.decode(errors="replace")


class Zygote:
    """A zygote and the slot table its children share."""

    def __init__(self, app: str = APP, slots: int = 8, env: dict[str, str] | None = None) -> None:
        self.table = SlotTable.create(slots)
        self.lifeline = os.pipe()
        ours, theirs = socket.socketpair()
        self.channel = Wire(ours)
        self.trace = anonymous_file("test-trace")
        descriptors = {
            "channel": theirs.fileno(),
            "trace": self.trace,
            "slots": self.table.fd,
            "lifeline": self.lifeline[1],
        }
        self.program = Program("zygote", app, descriptors, {"slot-count": slots}, env)
        theirs.close()
        self.pid = self.program.process.pid

    def boot(self) -> AppManifest:
        return AppManifest.from_json(self.channel.expect(MessageType.READY))

    def fork(self, slot: int = 0) -> Child:
        child = Child(self.table, slot)
        ends = [child.child_data.fileno(), child.child_control.fileno(), child.trace]
        socket.send_fds(self.channel.sock, [pack_slot_pid(MessageType.FORK, slot, os.getpid())], ends)
        child.close_childs_ends()
        answered, child.pid = unpack_slot_pid(self.channel.expect(MessageType.FORKED))
        assert answered == slot
        return child

    def close(self) -> str:
        self.channel.sock.close()
        printed = self.program.end()
        self.table.close()
        for fd in (*self.lifeline, self.trace):
            os.close(fd)
        return printed


class Output:
    """What a zygote and its children print."""

    def __init__(self, zygote: Zygote) -> None:
        self._pipe: Any = zygote.program.process.stdout
        self.text = ""

    def read(self) -> str:
        while select.select([self._pipe], [], [], 0)[0] and (data := self._pipe.read1(65536)):
            self.text += data.decode()
        return self.text


class Child:
    """One child as its supervisor sees it."""

    def __init__(self, table: SlotTable, slot: int) -> None:
        self.table, self.slot = table, slot
        table.clear(slot)
        data, self.child_data = socket.socketpair()
        control, self.child_control = socket.socketpair()
        self.data, self.control = Wire(data), Wire(control)
        self.trace = anonymous_file("test-trace")
        self.pid = 0
        self.status: int | None = None
        self.last_seq = 0
        self.results: dict[int, ResultMessage] = {}
        self.returned: list[int] = []

    def close_childs_ends(self) -> None:
        self.child_data.close()
        self.child_control.close()

    def boot(self) -> bytes:
        """HELLO and READY; the body of READY."""
        self.control.expect(MessageType.HELLO)
        return self.control.expect(MessageType.READY)

    # ---- jobs ----

    def job(self, task: str, *args: object, **fields: Any) -> JobMessage:
        """A job with the next seq. ``payload`` and ``metadata`` may be given."""
        self.last_seq += 1
        payload = fields.get("payload", dump_call(DEFAULT, args, {}))
        id_ = f"job-{self.last_seq}"
        return JobMessage(
            self.last_seq,
            7,
            fields.get("retry_count", 0),
            0,
            0,
            id_,
            task,
            "default",
            fields.get("metadata"),
            payload,
            fields.get("company", Company.ALONE),
        )

    def send(self, *jobs: JobMessage) -> list[int]:
        """One frame; the seqs in it."""
        self.data.sock.sendall(pack_jobs(jobs))
        return [job.seq for job in jobs]

    def run(self, task: str, *args: object, **fields: Any) -> ResultMessage:
        """One job in a frame of its own, and its result."""
        [seq] = self.send(self.job(task, *args, **fields))
        return self.result(seq)

    def value(self, task: str, *args: object, **fields: Any) -> Any:
        """What the task returned."""
        result = self.run(task, *args, **fields)
        assert result.kind is ResultKind.RETURNED, (result.kind, result.body)
        return DEFAULT.loads(result.body)

    def error(self, task: str, *args: object, **fields: Any) -> Any:
        """(ErrorInfo, retryable) of a task that fails."""
        result = self.run(task, *args, **fields)
        assert result.kind is ResultKind.RAISED, (result.kind, result.body)
        return unpack_error(result.body)

    def result(self, seq: int) -> ResultMessage:
        while seq not in self.results:
            assert self.take_in(), f"the child ended before the result of {seq}"
        return self.results[seq]

    def take_in(self) -> bool:
        """Read one message from the data socket; False at its end."""
        message = self.data.read()
        if message is None:
            return False
        kind, body = message
        if kind is MessageType.RESULTS:
            for result in unpack_results(body):
                assert result.seq not in self.results, "a result came twice"
                self.results[result.seq] = result
        else:
            assert kind is MessageType.RETURNED
            self.returned += unpack_seqs(body)
        return True

    def tell(self, kind: MessageType) -> None:
        self.control.sock.sendall(pack(kind))

    # ---- process ----

    def signal(self, signum: signal.Signals) -> None:
        os.kill(self.pid, signum)

    def wait_for_death(self) -> int:
        """Its exit code, negative for a signal; reaps it."""
        if self.status is None:
            deadline = time.monotonic() + PATIENCE
            while self.status is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.status = os.waitstatus_to_exitcode(status)
                elif time.monotonic() > deadline:
                    raise TimeoutError(f"child {self.pid} lives on")
                else:
                    time.sleep(0.005)
        return self.status

    def read_rest(self) -> None:
        """After its death: what it wrote until then."""
        self.data.sock.settimeout(0.0)
        with contextlib.suppress(BlockingIOError):
            while self.take_in():
                pass

    def trace_text(self) -> str:
        return os.pread(self.trace, 1 << 20, 0).decode(errors="replace")

    def close(self) -> None:
        """Kill the whole group, reap, close."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        if self.pid and self.status is None:
            with contextlib.suppress(ChildProcessError):
                self.wait_for_death()
        for wire in (self.data, self.control):
            wire.sock.close()
        self.close_childs_ends()
        os.close(self.trace)


class Spawned(Child):
    """A child that imports the app itself."""

    def __init__(self, app: str = APP, env: dict[str, str] | None = None) -> None:
        super().__init__(SlotTable.create(1), 0)
        self.lifeline = os.pipe()
        descriptors = {
            "data": self.child_data.fileno(),
            "control": self.child_control.fileno(),
            "trace": self.trace,
            "slots": self.table.fd,
            "lifeline": self.lifeline[1],
        }
        numbers = {"slot": 0, "slot-count": 1, "supervisor": os.getpid()}
        self.program = Program("child", app, descriptors, numbers, env)
        self.close_childs_ends()
        self.pid = self.program.process.pid
        self.printed = ""

    def wait_for_death(self) -> int:
        self.status = self.program.process.wait(timeout=PATIENCE)
        return self.status

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.printed = self.program.end()
        self.status = self.program.process.returncode
        super().close()
        self.table.close()
        for fd in self.lifeline:
            os.close(fd)
