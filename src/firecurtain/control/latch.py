# SPDX-License-Identifier: Apache-2.0
"""The issuer's own memory of every stop: one append-only file, fsynced before anybody is told.

It stands apart from the ledger so that stopping needs no ledger: narrow, fsync, cast, then record. It grows only; what
k of n people lift is lifted by the ledger's set L, never by removing a line here. Each line carries the signed stop as
it came, so that the file can be checked years later without trusting this process. It does not verify signatures: who
adds has verified.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from firecurtain.terms import FirecurtainError
from firecurtain.wire.frame import MAGIC, decode_payload
from firecurtain.wire.keys import KEYID_BYTES, SIGNATURE_BYTES
from firecurtain.wire.messages import Stop, StopEntry


class LatchError(FirecurtainError):
    """The latch file cannot be trusted or written. The issuer signs nothing while this holds."""

    code = "latch"


@dataclass(frozen=True, slots=True)
class LatchedStop:
    """A stop, who signed it, and when it became durable on the issuer clock `clock_id`."""

    frame: bytes
    durable_ns: int
    clock_id: bytes
    entry: StopEntry
    author: bytes


class Latch:
    """The set H of one issuer. `stops` is the snapshot to sign from; `error` says why nothing may be signed."""

    def __init__(self, descriptor: int, path: Path, stops: dict[bytes, LatchedStop]) -> None:
        self._descriptor = descriptor
        self._path = path
        self._stops = stops
        self.stops: Mapping[bytes, LatchedStop] = MappingProxyType(stops)
        self.error: LatchError | None = None

    def add(self, stop: LatchedStop) -> None:
        """Narrow in memory first, then append and fsync. Adding a known id again does nothing.

        Raises: LatchError: the stop holds in memory but is not durable, and this issuer must sign nothing more.
        """
        if self.error is not None:
            self._stops.setdefault(stop.entry.id, stop)
            raise self.error
        if stop.entry.id in self._stops:
            return
        self._stops[stop.entry.id] = stop
        try:
            _write_whole(self._descriptor, _encode_line(stop))
            os.fsync(self._descriptor)
        except OSError as error:
            self.error = LatchError(
                f"stop {stop.entry.id.hex()} ({stop.entry.scope}) could not be made durable in {self._path}: {error}. "
                "This issuer signs nothing more, so its nodes fall silent. Make room or replace the disk, then restart."
            )
            raise self.error from error

    def close(self) -> None:
        """Close the file; the latch is not used afterwards."""
        os.close(self._descriptor)


def latch_stop(frame: bytes, durable_ns: int, clock_id: bytes) -> LatchedStop:
    """Take apart a stop frame whose signature was verified when it came. Raises: WireError: it is no stop."""
    payload = frame[len(MAGIC) + KEYID_BYTES + SIGNATURE_BYTES :]
    author = frame[len(MAGIC) : len(MAGIC) + KEYID_BYTES]
    return LatchedStop(frame, durable_ns, clock_id, decode_payload(Stop, payload).entry, author)


def create_latch(path: Path) -> None:
    """Make an empty latch for a fleet that is being founded. Raises: LatchError: there is one already."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        _sync_directory(path.parent)
    except OSError as error:
        raise LatchError(
            f"cannot create the stop file {path}: {error}. A new fleet needs an empty state_dir."
        ) from error


def open_latch(path: Path) -> tuple[Latch, int]:
    """Read every stop of an existing latch; returns it and the number of torn bytes dropped at its end.

    A last line without its newline was never acknowledged: the process died while writing it. It counts when it is
    whole otherwise, else only it is dropped. Any other damage is refused.
    Raises: LatchError: the file is missing, damaged or unreadable.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        content = path.read_bytes()
    except OSError as error:
        raise LatchError(
            f"the stop file {path} cannot be read: {error}. The ledger knows this fleet, so the file must be there: "
            "restore it. If it is lost for good, create it empty: nodes that remember more keep this issuer silent."
        ) from error
    *lines, tail = content.split(b"\n")
    stops = {stop.entry.id: stop for stop in (_decode_line(line, path) for line in lines)}
    dropped_bytes = _settle_tail(descriptor, tail, stops, path)
    return Latch(descriptor, path, stops), dropped_bytes


def _settle_tail(descriptor: int, tail: bytes, stops: dict[bytes, LatchedStop], path: Path) -> int:
    if not tail:
        return 0
    try:
        stop = _decode_line(tail, path)
    except LatchError:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - len(tail))
        os.fsync(descriptor)
        return len(tail)
    stops[stop.entry.id] = stop
    _write_whole(descriptor, b"\n")
    os.fsync(descriptor)
    return 0


def _encode_line(stop: LatchedStop) -> bytes:
    body = f"{stop.durable_ns} {stop.clock_id.hex()} {stop.frame.hex()}".encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _decode_line(line: bytes, path: Path) -> LatchedStop:
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        raise LatchError(
            f"{path} holds a damaged line: checksum {checksum[:8]!r} stands before bytes whose checksum is "
            f"{zlib.crc32(body):08x}. Restore the file from a copy; this issuer signs nothing without it."
        )
    durable_ns, clock_id, frame_hex = body.decode().split(" ")
    frame = bytes.fromhex(frame_hex)
    return latch_stop(frame, int(durable_ns), bytes.fromhex(clock_id))


def _write_whole(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    if written != len(data):
        raise OSError(f"only {written} of {len(data)} bytes were written")


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
