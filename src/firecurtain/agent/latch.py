# SPDX-License-Identifier: Apache-2.0
"""The latches: append-only files in which stops and lifts survive every restart, fsynced before anything is told.

One line each: a checksum and the entry. The last line may be torn, because the agent died while writing it: it was
never acknowledged, so it counts when it is whole and is dropped otherwise; the issuers send it again. Any other damage
is refused: an agent that has forgotten a stop must not start. After a failed write nothing more is written, so that
damage stays at the end. Who may stop or lift is verified before it comes here.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from pathlib import Path
from typing import ClassVar, TypeVar

import msgspec

from firecurtain.agent.core.stops import STOPS_MAX
from firecurtain.terms import FirecurtainError, WireError
from firecurtain.wire.frame import decode_payload
from firecurtain.wire.messages import Id, StopEntry

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()


class LatchError(FirecurtainError):
    """A latch cannot be read or written. The page stays closed."""

    code: ClassVar[str] = "agent-latch"


class Latch:
    """Both grow-only sets on disk. `entries` and `lifted` are what it held when it was opened.

    Raises: LatchError: unreadable, or damaged anywhere but at its end.
    """

    def __init__(self, directory: Path) -> None:
        self._stops = _File(directory / "stops.latch")
        self._lifts = _File(directory / "lifts.latch")
        self.entries = tuple(_decode(StopEntry, line, self._stops.path) for line in self._stops.lines)
        self.lifted = tuple(_decode(bytes, line, self._lifts.path) for line in self._lifts.lines)
        self.torn_bytes = self._stops.torn_bytes + self._lifts.torn_bytes

    def add_stops(self, entries: tuple[StopEntry, ...]) -> None:
        """Durable when this returns. Raises: LatchError."""
        self._stops.append([_encoder.encode(entry) for entry in entries])

    def add_lifts(self, stop_ids: tuple[Id, ...]) -> None:
        """Durable when this returns. Raises: LatchError."""
        self._lifts.append([_encoder.encode(stop_id) for stop_id in stop_ids])

    def close(self) -> None:
        """Let go of the files."""
        self._stops.close()
        self._lifts.close()


class _File:
    """Lines of `crc32 hex`. It knows nothing of what they mean."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            # Two agents on one state directory would cut each other's lines in half.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _sync_directory(path.parent)
            content = path.read_bytes()
            *lines, tail = content.split(b"\n")
            self.lines = [_check(line, path) for line in lines]
            self.torn_bytes = self._settle(tail)
        except OSError as error:
            raise LatchError(f"{path} cannot be opened: {error}. Give the agent its state directory back.") from error
        if len(self.lines) > STOPS_MAX:
            raise LatchError(
                f"{path} holds {len(self.lines)} entries, at most {STOPS_MAX} were ever written. Restore it."
            )
        self._failure = ""

    def append(self, payloads: list[bytes]) -> None:
        """Write and fsync. Raises: LatchError: now, and at every later call."""
        data = b"".join(b"%08x %s\n" % (zlib.crc32(line := payload.hex().encode()), line) for payload in payloads)
        try:
            self._write(data)
        except OSError as error:
            self._failure = self._failure or str(error)
            raise LatchError(f"{self.path}: {error}. Do: make room or mend the disk, then restart.") from error

    def _write(self, data: bytes) -> None:
        if self._failure:
            raise OSError(self._failure)
        written = os.write(self._descriptor, data)
        if written != len(data):
            raise OSError(f"only {written} of {len(data)} bytes were written")
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def _settle(self, tail: bytes) -> int:
        """End a whole last line properly, cut a torn one off."""
        if not tail:
            return 0
        try:
            self.lines.append(_check(tail, self.path))
            data = b"\n"
        except LatchError:
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - len(tail))
            data = b""
        os.write(self._descriptor, data)
        os.fsync(self._descriptor)
        return 0 if data else len(tail)


def _check(line: bytes, path: Path) -> bytes:
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        raise LatchError(
            f"{path} is damaged: checksum {checksum[:8]!r} stands before bytes with checksum {zlib.crc32(body):08x}. "
            "Restore it from a copy, or halt the fleet and enrol this node anew."
        )
    return body


def _decode(kind: type[T], line: bytes, path: Path) -> T:
    try:
        return decode_payload(kind, bytes.fromhex(line.decode()))
    except (WireError, ValueError) as error:
        raise LatchError(f"{path} holds an entry that cannot be read: {error}. Restore it from a copy.") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
