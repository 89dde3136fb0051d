# SPDX-License-Identifier: Apache-2.0
"""Fill the disk under a broker and a ledger, in a mount namespace of our own. Prints one JSON line of what happened."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from firecurtain.bus import journal
from firecurtain.bus.disk import DiskReserve
from firecurtain.bus.port import StoreFailed
from firecurtain.ledger.ledger import Ledger, open_ledger
from support.nats import connect_with_ledger, running_server

RESERVE_BYTES = 4 * 1024 * 1024
EVENT = bytes(50_000)


async def fill(disk: Path) -> dict[str, object]:
    """Reach the reserve, then the end of the disk, then give the space back."""
    found: dict[str, object] = {}
    async with running_server(disk, report=lambda _: None) as server:
        bus = await connect_with_ledger(server, report=lambda _: None)
        # The copy lives elsewhere, so that only the broker's disk is full.
        ledger = await open_ledger(
            bus,
            Path(sys.argv[2]) / "ledger.db",
            fleet="knight",
            epoch=1,
            disks=(server.store,),
            reserve_bytes=RESERVE_BYTES,
        )
        await _reach_reserve(ledger, found)
        ballast = _fill_with_ballast(disk / "ballast")
        found["broken"] = await _try_append(ledger)
        found["after_broken"] = await _try_append(ledger)
        try:
            await server.revive(RESERVE_BYTES)
        except DiskReserve:
            found["revive_without_space"] = "disk-reserve"
        ballast.unlink()
        found["space_returned"] = await _try_append(ledger)
        await server.revive(RESERVE_BYTES // 2)
        await _wait_caught_up(ledger)
        found["revived"] = await _try_append(ledger)
        found["acknowledged"] = ledger.head.seq
        found["stored"] = await bus.last()
        await ledger.close()
        await bus.close()
    return found


async def _reach_reserve(ledger: Ledger, found: dict[str, object]) -> None:
    try:
        while True:
            await ledger.append(EVENT, ledger.head.seq)
    except DiskReserve as refused:
        found["refused"] = [refused.code, str(refused.directory), refused.free_bytes, refused.reserve_bytes]
    entry = await ledger.append(b"stop", ledger.head.seq, uses_reserve=True)
    found["stop_recorded"] = entry.seq


async def _try_append(ledger: Ledger) -> str:
    try:
        await ledger.append(EVENT, ledger.head.seq, uses_reserve=True)
    except StoreFailed as failed:
        return failed.code
    return "stored"


async def _wait_caught_up(ledger: Ledger) -> None:
    while True:
        try:
            await ledger.catch_up()
        except Exception as error:  # noqa: BLE001 - the connection is being made again; the test bounds the whole run
            sys.stderr.write(f"{error}\n")
            await asyncio.sleep(0.01)
        else:
            return


def _fill_with_ballast(path: Path) -> Path:
    try:
        with path.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError as full:
        sys.stderr.write(f"{full}\n")
    return path


if __name__ == "__main__":
    journal.ATTEMPT_S = 0.2  # three unanswered attempts are enough to see
    print(json.dumps(asyncio.run(fill(Path(sys.argv[1])))))  # noqa: T201 - the parent reads it
