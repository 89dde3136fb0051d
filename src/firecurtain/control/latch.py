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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from firecurtain.terms import FirecurtainError
from firecurtain.wire.frame import MAGIC, decode_payload
from firecurtain.wire.keys import KEYID_BYTES, SIGNATURE_BYTES
from firecurtain.wire.messages import Stop, StopEntry

_FOUNDED = b"firecurtain stops 1"
"""First line of a file that was made when its fleet was founded and so never lost a stop; a hand-made one lacks it."""


class LatchError(FirecurtainError):
    """The latch file cannot be trusted or written. The issuer signs nothing while this holds."""

    code = "latch"


@dataclass(frozen=True, slots=True)
class LatchedStop:
    """A stop, who signed it, and a moment on the issuer clock at which it was durable: read after the fsync.

    One that was found in the file counts from when it was found. Later than true is safe, because waits count from it.
    """

    frame: bytes
    entry: StopEntry
    author: bytes
    durable_ns: int


class Latch:
    """The set H of one issuer. `stops` is the snapshot to sign from; `error` says why nothing may be signed.

    `is_founded`: the file is the one that the founding of the fleet made, not one that replaced it later.
    """

    def __init__(
        self,
        descriptor: int,
        path: Path,
        read_ns: Callable[[], int],
        stops: dict[bytes, LatchedStop],
        *,
        is_founded: bool,
    ) -> None:
        self._descriptor = descriptor
        self._path = path
        self._read_ns = read_ns
        self._stops = stops
        self.stops: Mapping[bytes, LatchedStop] = MappingProxyType(stops)
        self.is_founded = is_founded
        self.error: LatchError | None = None

    def add(self, frame: bytes) -> LatchedStop:
        """Narrow in memory first, then append and fsync a verified stop; a known id keeps its first durability.

        Raises: LatchError: the stop holds in memory but is not durable, and this issuer must sign nothing more.
            WireError: the frame is no stop.
        """
        stop = _take_apart(frame, self._read_ns())
        known = self._stops.setdefault(stop.entry.id, stop)
        if self.error is not None:
            raise self.error
        if known is not stop:
            return known
        try:
            _write_whole(self._descriptor, _encode_line(frame))
            os.fsync(self._descriptor)
        except OSError as error:
            self.error = LatchError(
                f"stop {stop.entry.id.hex()} ({stop.entry.scope}) could not be made durable in {self._path}: {error}. "
                "This issuer signs nothing more, so its nodes fall silent. Make room or replace the disk, then restart."
            )
            raise self.error from error
        durable = self._stops[stop.entry.id] = replace(stop, durable_ns=self._read_ns())
        return durable

    def close(self) -> None:
        """Close the file; the latch is not used afterwards."""
        os.close(self._descriptor)


def create_latch(path: Path) -> None:
    """Make an empty latch for a fleet that is being founded. Raises: LatchError: there is one already.

    It gets its name once it is whole: a founding that died earlier left nothing that looks made by hand.
    """
    draft = path.with_name(f"{path.name}.new")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            _write_whole(descriptor, _FOUNDED + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(draft, path)  # unlike a rename it never replaces a file
        draft.unlink()
        _sync_directory(path.parent)
    except OSError as error:
        raise LatchError(
            f"cannot create the stop file {path}: {error}. A new fleet needs an empty state_dir."
        ) from error


def open_latch(path: Path, read_ns: Callable[[], int]) -> tuple[Latch, int]:
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
    is_founded = lines[:1] == [_FOUNDED]
    frames = [_decode_line(line, path) for line in lines[is_founded:]]
    dropped_bytes = _settle_tail(descriptor, tail, frames, path)
    # What an earlier process wrote without living to see its fsync is made durable before it counts as that.
    os.fsync(descriptor)
    stops = [_take_apart(frame, read_ns()) for frame in frames]
    known = {stop.entry.id: stop for stop in stops}
    return Latch(descriptor, path, read_ns, known, is_founded=is_founded), dropped_bytes


def _settle_tail(descriptor: int, tail: bytes, frames: list[bytes], path: Path) -> int:
    """Take over a whole last line that lacks its newline, cut off a torn one; returns the bytes that were cut."""
    if not tail:
        return 0
    try:
        frames.append(_decode_line(tail, path))
    except LatchError:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - len(tail))
        return len(tail)
    _write_whole(descriptor, b"\n")
    return 0


def _take_apart(frame: bytes, durable_ns: int) -> LatchedStop:
    payload = frame[len(MAGIC) + KEYID_BYTES + SIGNATURE_BYTES :]
    author = frame[len(MAGIC) : len(MAGIC) + KEYID_BYTES]
    return LatchedStop(frame, decode_payload(Stop, payload).entry, author, durable_ns)


def _encode_line(frame: bytes) -> bytes:
    body = frame.hex().encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _decode_line(line: bytes, path: Path) -> bytes:
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        raise LatchError(
            f"{path} holds a damaged line: checksum {checksum[:8]!r} stands before bytes whose checksum is "
            f"{zlib.crc32(body):08x}. Restore the file from a copy; this issuer signs nothing without it."
        )
    return bytes.fromhex(body.decode())


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
