# SPDX-License-Identifier: Apache-2.0
"""SIGTERM as a readable socket, so that a process stops between two turns of its loop and never inside one."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def stop_signal() -> Iterator[socket.socket]:
    """A socket that becomes readable once SIGTERM has arrived. Main thread only, as signals are."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(writer.fileno())
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        reader.close()
        writer.close()
