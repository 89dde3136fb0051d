# SPDX-License-Identifier: Apache-2.0
"""The venue: the witness. It stamps every action with CLOCK_BOOTTIME right after its bytes arrived, and appends it to a
ledger of its own. It knows nothing of stops and permits. Run: `python -m bench.venue LISTENER_FD LEDGER`.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import sys
from pathlib import Path
from typing import NamedTuple

from bench.clock import now_ns
from bench.service import RECORD

RECEIVE_BYTES = 1 << 16
_LINE = struct.Struct("<QQII")


class Execution(NamedTuple):
    """One action as the venue saw it; both times CLOCK_BOOTTIME, the first one the venue's own."""

    receipt_ns: int
    acquired_ns: int
    node: int
    number: int


class LedgerReader:
    """Reads the venue's ledger while it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.executions: list[Execution] = []

    def read_new(self) -> list[Execution]:
        """The executions since the last call; they are kept too."""
        with self._path.open("rb") as ledger:
            ledger.seek(self._offset)
            data = ledger.read()
        whole = len(data) - len(data) % _LINE.size
        self._offset += whole
        new = [Execution._make(fields) for fields in _LINE.iter_unpack(data[:whole])]
        self.executions += new
        return new


def serve(listener: socket.socket, ledger: int) -> None:
    """Receive for ever."""
    pending: dict[socket.socket, bytes] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    stream, _ = listener.accept()
                    pending[stream] = b""
                    selector.register(stream, selectors.EVENT_READ)
                elif isinstance(key.fileobj, socket.socket):
                    stream = key.fileobj
                    data = stream.recv(RECEIVE_BYTES)
                    receipt_ns = now_ns()
                    if not data:
                        selector.unregister(stream)
                        stream.close()
                        continue
                    pending[stream] = _append(ledger, receipt_ns, pending[stream] + data)


def _append(ledger: int, receipt_ns: int, data: bytes) -> bytes:
    """Write the whole records; returns the bytes of the record that is not whole yet."""
    whole = len(data) - len(data) % RECORD.size
    os.write(ledger, b"".join(_LINE.pack(receipt_ns, *fields) for fields in RECORD.iter_unpack(data[:whole])))
    return data[whole:]


def main(argv: list[str]) -> None:
    """Serve the inherited listening socket."""
    serve(socket.socket(fileno=int(argv[1])), os.open(argv[2], os.O_WRONLY | os.O_APPEND))


if __name__ == "__main__":
    main(sys.argv)
