"""Makes an interpreter on Linux look like one elsewhere: names that only Linux has are gone."""

from __future__ import annotations

import ctypes.util  # noqa: F401  # while it chooses what this system has
import os
import select
import selectors
import signal
import socket
import sys
import sysconfig

ONLY_LINUX = {
    os: (
        *("eventfd", "memfd_create", "pidfd_open", "sched_getaffinity", "sched_setaffinity", "setns"),
        *("splice", "getrandom", "copy_file_range", "posix_fadvise", "posix_fallocate", "fdatasync"),
        *("setresuid", "setresgid", "waitid", "pipe2", "O_TMPFILE", "O_PATH", "O_DIRECT", "O_NOATIME"),
    ),
    select: ("epoll",),
    signal: ("pidfd_send_signal", "sigtimedwait", "sigwaitinfo", "SIGRTMIN", "SIGRTMAX", "SIGPWR"),
    socket: ("SOCK_CLOEXEC", "SOCK_NONBLOCK", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "SO_PEERCRED"),
}

sysconfig.get_config_vars()  # reads a file named after the platform that this really is
selectors.DefaultSelector = selectors.PollSelector  # type: ignore[misc]  # it was chosen before we came
sys.platform = "darwin"
for module, names in ONLY_LINUX.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
