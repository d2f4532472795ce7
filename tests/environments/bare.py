"""A pytest plugin that removes what only POSIX has, before askonce is imported: ``-p tests.environments.bare``.

It does not change `sys.platform`, by which Python's own library chooses its imports; it removes everything that askonce
could call by mistake.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys

# Except what Python's own library needs at run time here: AF_UNIX to wake an event loop, uname for platform.
OF_OS = (
    *("fork", "forkpty", "register_at_fork", "geteuid", "getegid", "getgid", "setuid", "setgid", "setsid"),
    *("chown", "lchown", "chroot", "nice", "wait", "wait3", "wait4", "waitid", "WNOHANG", "killpg", "mkfifo"),
    *("sched_yield", "sched_getaffinity", "sysconf", "statvfs", "O_CLOEXEC", "O_DIRECTORY", "O_NONBLOCK", "pread"),
    *("pwrite", "sendfile", "getloadavg", "eventfd", "posix_spawn", "pidfd_open"),
)
OF_SIGNAL = ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGALRM", "SIGCONT", "setitimer", "alarm", "pthread_kill", "pause")
OF_SOCKET = ("SO_REUSEPORT", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT", "MSG_DONTWAIT")
MODULES = ("fcntl", "resource", "grp", "termios", "tty", "pty", "syslog")


def _take_away() -> None:
    import asyncio  # noqa: F401  # these have what they need of it by now
    import concurrent.futures  # noqa: F401
    import multiprocessing  # noqa: F401
    import subprocess  # noqa: F401
    import tempfile  # noqa: F401

    for owner, names in ((os, OF_OS), (signal, OF_SIGNAL), (socket, OF_SOCKET), (select, ("poll",))):
        for name in names:
            if hasattr(owner, name):
                delattr(owner, name)
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it raises ImportError


_take_away()
