"""What only some systems can do, behind functions that return whether it worked.

Linux has prctl: a process can ask to die with its parent, and to inherit its grandchildren. Elsewhere
these functions return False and the caller does without.
"""

from __future__ import annotations

import os
import signal
import sys

import setproctitle

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_KEEP_ENVIRONMENT = "SPT_NOENV"


def die_with_parent(signum: signal.Signals = signal.SIGKILL) -> bool:
    """Have the kernel send ``signum`` to this process when its parent is gone; False if it cannot.

    Does nothing for a parent that is gone already: check ``os.getppid()`` afterwards. Lost by fork.
    The kernel watches the *thread* that made this process, or the main thread of a subreaper.
    """
    return _prctl(_PR_SET_PDEATHSIG, signum)


def become_subreaper() -> bool:
    """Have orphaned descendants re-parented to this process instead of to PID 1; False if not to be had."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def keep_environment_readable() -> None:
    """Let titles of this process, and of those it forks, take the place of its command line alone.

    Else they also take that of its environment, which is then gone for those who read it from outside, as in
    ``/proc/PID/environ``. To be called before anything reads or sets a title.
    """
    before = os.environ.get(_KEEP_ENVIRONMENT)
    os.environ[_KEEP_ENVIRONMENT] = "1"
    setproctitle.getproctitle()  # which reads the variable, once in a process
    if before is None:
        # What tasks start is not to inherit it.
        del os.environ[_KEEP_ENVIRONMENT]
    else:
        os.environ[_KEEP_ENVIRONMENT] = before


def can_use_zygote() -> bool:
    """Whether children forked by a zygote can become ours; asks for subreaping, which is harmless."""
    return sys.platform.startswith("linux") and hasattr(os, "fork") and become_subreaper()


def open_descriptors() -> list[int]:
    """The numbers of this process's open descriptors, ascending; empty if the system does not tell."""
    for directory in ("/proc/self/fd", "/dev/fd"):
        try:
            numbers = sorted(int(name) for name in os.listdir(directory))
        except OSError:
            continue
        # The listing saw the descriptor it was made with.
        return [fd for fd in numbers if _is_open(fd)]
    return []


def reset_peak_memory() -> bool:
    """Begin to measure ``peak_memory`` from now on; False if it cannot be had.

    Linux forgets the old peak when asked to; other systems tell the peak of the process's whole life only.
    """
    # Opened each time: a task may have closed a descriptor of ours, and have a file of its own under
    # that number.
    try:
        fd = os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return False
    try:
        os.write(fd, b"5")
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def peak_memory() -> int:
    """The most bytes of this process that were resident since ``reset_peak_memory``; 0 if unknown."""
    try:
        fd = os.open("/proc/self/status", os.O_RDONLY)
    except OSError:
        return 0
    try:
        status = os.read(fd, 8192)
    except OSError:
        return 0
    finally:
        os.close(fd)
    _, found, rest = status.partition(b"\nVmHWM:")
    return int(rest.split(None, 1)[0]) * 1024 if found else 0


def catches(pid: int, signum: signal.Signals) -> bool:
    """Would this process survive this signal, because it handles it? Also where the system does not tell."""
    try:
        with open(f"/proc/{pid}/status") as file:
            masks = dict(line.split(":", 1) for line in file if line.startswith(("SigBlk", "SigCgt")))
    except OSError:
        return not sys.platform.startswith("linux")
    return any(int(mask, 16) >> (signum - 1) & 1 for mask in masks.values())


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _prctl(option: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        return bool(library.prctl(option, value, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False
