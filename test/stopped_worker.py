# SPDX-License-Identifier: Apache-2.0
"""Kills a map worker in the middle of what it was asked."""

import fcntl
import os
import signal
import struct
import termios
import time


def killed_while_asked(worker, ask):
    """Ask a stopped worker, kill it when the question lies in its socket; what ``ask`` returned.

    Killed earlier, it would be found dead and started anew, and the question answered.
    """
    pid = worker.pid
    os.kill(pid, signal.SIGSTOP)
    asked = ask()
    deadline = time.monotonic() + 60
    while not _unread(worker._connection.fileno()):
        assert time.monotonic() < deadline, "nothing was sent to the worker"
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    return asked


def _unread(socket):
    """Bytes that the other side has not read."""
    return struct.unpack("i", fcntl.ioctl(socket, termios.TIOCOUTQ, b"\0" * 4))[0]
