# SPDX-License-Identifier: Apache-2.0
"""A client that speaks NATS by hand, for what a well-behaved library would refuse to send."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from types import TracebackType

ANSWER_S = 10.0


@dataclass
class RawClient:
    """One connection. What the broker refuses is kept in `refused`, what it delivers in `heard`."""

    url: str
    user: str
    password: str
    refused: list[str] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)

    def __enter__(self) -> RawClient:
        host, port = self.url.removeprefix("nats://").split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=ANSWER_S)
        self._file = self._socket.makefile("rb")
        assert self._file.readline().startswith(b"INFO ")
        hello = json.dumps({"user": self.user, "pass": self.password, "verbose": False})
        self._socket.sendall(f"CONNECT {hello}\r\n".encode())
        self.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._socket.close()

    def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        self._socket.sendall(f"PUB {subject} {reply} {len(data)}\r\n".encode() + data + b"\r\n")

    def subscribe(self, subject: str) -> None:
        self._socket.sendall(f"SUB {subject} 1\r\n".encode())
        self.flush()

    def flush(self) -> None:
        """Return once the broker has taken everything so far."""
        self._socket.sendall(b"PING\r\n")
        while self._take() != b"PONG":
            pass

    def listen(self, count: int) -> list[bytes]:
        """The messages heard, at least `count` of them."""
        while len(self.heard) < count:
            self._take()
        return self.heard

    def _take(self) -> bytes:
        line = self._file.readline().rstrip(b"\r\n")
        assert line, "the broker closed the connection"
        if line.startswith(b"MSG "):
            self.heard.append(self._file.read(int(line.split()[-1])))
            self._file.readline()
        elif line.startswith(b"-ERR"):
            self.refused.append(line.decode())
        elif line == b"PING":
            self._socket.sendall(b"PONG\r\n")
        return line
