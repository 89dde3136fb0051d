# SPDX-License-Identifier: Apache-2.0
"""Our own copy of the ledger: the entries this replica has checked, chained, in one SQLite file.

It is what a running issuer stands on when the stream is damaged, and what shows that a stream has become shorter. Every
write is on disk before it returns (WAL, synchronous FULL). SQLite runs in one thread of its own, so that no fsync ever
holds up the event loop in which beacons are signed. It is not a backup and is never written back to the stream.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from firecurtain.ledger.chain import Entry, Head, compute_genesis, compute_hash, frame, verify_same
from firecurtain.terms import Digest, LedgerDamaged, LedgerError

ROWS_PER_READ = 256
BUSY_S = 5.0  # `ledger verify` reads beside us; WAL readers never wait this long

_DO = "Stop this control plane, move the file away and start again: it is copied anew from a stream that is intact."

Result = TypeVar("Result")


class ReplicaFailed(LedgerError):  # noqa: N818 - says what failed
    """Our own copy could not be written or opened: a full or failing disk."""

    code = "ledger-replica-failed"


class Replica:
    """The chained copy in `path`. Opened by `open_replica`; close it at the end."""

    def __init__(self, path: Path, genesis: Head, *, read_only: bool) -> None:
        self._path = path
        self._genesis = genesis
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-replica")
        self._read_only = read_only
        self._database: sqlite3.Connection | None = None
        self._is_closed = False

    async def open(self) -> Head:
        """Open the file, check every entry of its chain and return the newest. Raises: LedgerDamaged, ReplicaFailed."""
        return await self._run(self._open)

    async def put(self, entry: Entry) -> None:
        """Store the next entry, durable when this returns; the same entry again is no change."""
        await self._run(partial(self._put, entry))

    async def read_hash(self, seq: int) -> Digest:
        """The hash we hold at `seq`."""
        return await self._run(partial(self._read_hash, seq))

    async def read(self, after: int, last: int) -> AsyncGenerator[Entry, None]:
        """Yield the entries from `after + 1` to `last`."""
        while after < last:
            entries = await self._run(partial(self._read, after, min(last, after + ROWS_PER_READ)))
            for entry in entries:
                if entry.seq != after + 1:
                    break
                after = entry.seq
                yield entry
            if not entries or entries[-1].seq != after:
                raise LedgerDamaged(f"our own copy {self._path} has no entry {after + 1} of {last}. {_DO}")

    async def close(self) -> None:
        """Close the file. Safe to call twice."""
        if not self._is_closed:
            self._is_closed = True
            await self._run(self._close)
            self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], Result]) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.OperationalError as error:  # no space, no permission, a failing disk
            raise ReplicaFailed(
                f"our own copy of the ledger {self._path} cannot be used: {error}. Free space there; nothing is lost."
            ) from error
        except sqlite3.DatabaseError as error:
            raise LedgerDamaged(f"our own copy {self._path} is damaged: {error}. {_DO}") from error

    def _open(self) -> Head:
        mode = "ro" if self._read_only else "rwc"
        database = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        self._database = database
        if not self._read_only:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS entry (seq INTEGER PRIMARY KEY, hash BLOB NOT NULL, event BLOB NOT NULL)"
            )
        head = self._genesis
        for seq, stored, event in database.execute("SELECT seq, hash, event FROM entry ORDER BY seq"):
            computed = compute_hash(frame(head, event))
            if seq != head.seq + 1 or computed != stored.hex():
                raise LedgerDamaged(
                    f"our own copy {self._path} breaks at entry {head.seq + 1}: found entry {seq} with hash "
                    f"{stored.hex()}, computed {computed}. It is of another fleet or epoch, or its disk failed. {_DO}"
                )
            head = Head(seq, computed)
        return head

    def _put(self, entry: Entry) -> None:
        changed = self._get().execute(
            "INSERT INTO entry VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (entry.seq, bytes.fromhex(entry.hash), entry.event),
        )
        if changed.rowcount == 0:
            verify_same(entry, self._read_hash(entry.seq))

    def _read_hash(self, seq: int) -> Digest:
        if seq == 0:
            return self._genesis.hash
        row = self._get().execute("SELECT hash FROM entry WHERE seq = ?", (seq,)).fetchone()
        if row is None:
            raise LedgerDamaged(f"our own copy {self._path} has no entry {seq}. {_DO}")
        return Digest(row[0].hex())

    def _read(self, after: int, last: int) -> list[Entry]:
        rows = self._get().execute(
            "SELECT seq, hash, event FROM entry WHERE seq > ? AND seq <= ? ORDER BY seq", (after, last)
        )
        return [Entry(seq, Digest(stored.hex()), event) for seq, stored, event in rows]

    def _get(self) -> sqlite3.Connection:
        if self._database is None:
            raise ReplicaFailed(f"our own copy {self._path} is not open. Open it first.")
        return self._database

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def make_replica(path: Path, fleet: str, epoch: int, *, read_only: bool = False) -> Replica:
    """The copy of this fleet's ledger in `path`, not yet opened."""
    return Replica(path, compute_genesis(fleet, epoch), read_only=read_only)
