# SPDX-License-Identifier: Apache-2.0
"""One stream socket that carries records of a fixed size and never blocks its owner.

Both ends read while they have something to write, so two busy ends cannot wait for each other. What a slow reader has
not taken stays in a bounded buffer: `is_congested` tells a producer to pause. A lost peer is a value, not an exception,
because each owner has to say what follows: `is_closed` turns true when its last byte has been read, never before.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECEIVE_BYTES = 1 << 16
CONGESTED_BYTES = 1 << 18  # chosen: 6,500 child orders, four seconds of the whole fire


class Link:
    """Records of one size each way over a connected stream socket."""

    def __init__(self, stream: socket.socket) -> None:
        stream.setblocking(False)
        self.stream = stream
        self.is_closed = False
        self._incoming = b""
        self._outgoing = bytearray()
        self._has_reader = True

    def fileno(self) -> int:
        return self.stream.fileno()

    @property
    def has_outgoing(self) -> bool:
        return bool(self._outgoing)

    @property
    def is_congested(self) -> bool:
        return len(self._outgoing) >= CONGESTED_BYTES

    def send(self, record: bytes) -> None:
        """Queue a record; `flush` moves what the peer's buffer takes. A peer that is gone is sent nothing."""
        if self._has_reader:
            self._outgoing += record

    def flush(self) -> None:
        """Hand queued bytes to the kernel until it takes no more."""
        try:
            while self._outgoing:
                del self._outgoing[: self.stream.send(self._outgoing)]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._has_reader = False  # what it wrote before it went is still to be read
            self._outgoing.clear()

    def receive(self) -> None:
        """Take what has arrived. At the end of the stream `is_closed` becomes true; records already here stay."""
        try:
            while not self.is_closed:
                data = self.stream.recv(RECEIVE_BYTES)
                if not data:
                    self.is_closed = True
                self._incoming += data
                if len(data) < RECEIVE_BYTES:
                    return
        except BlockingIOError:
            return
        except ConnectionResetError:
            self.is_closed = True

    def take_one(self, layout: struct.Struct) -> tuple[Any, ...] | None:
        """The next whole record of this layout, or None. A hello is read with this before the records that follow."""
        if len(self._incoming) < layout.size:
            return None
        record = layout.unpack_from(self._incoming)
        self._incoming = self._incoming[layout.size :]
        return record

    def take_all(self, layout: struct.Struct) -> Iterator[tuple[Any, ...]]:
        """All whole records that have arrived."""
        whole = len(self._incoming) // layout.size * layout.size
        records, self._incoming = self._incoming[:whole], self._incoming[whole:]
        return layout.iter_unpack(records)

    def close(self) -> None:
        self.is_closed = True
        self.stream.close()


def connect(path: Path, hello: bytes) -> Link:
    """Open a connection and say who we are."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(str(path))
    link = Link(stream)
    link.send(hello)
    link.flush()
    return link
