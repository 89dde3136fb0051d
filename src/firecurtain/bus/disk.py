# SPDX-License-Identifier: Apache-2.0
"""The disk reserve: refuse a grant while there is still room, because JetStream breaks when there is none.

Once a write of its own has failed for want of space JetStream goes on failing after space returns, until its server is
restarted. So we look first, and keep a reserve that only stops may use. Freeing space is a person's work, not ours.
"""

from __future__ import annotations

import os
from pathlib import Path

from firecurtain.terms import BusError

RESERVE_BYTES = 64 * 1024 * 1024
"""Chosen: some 100,000 stops of 600 bytes fit, which is as many as may ever be in force."""


class DiskReserve(BusError):  # noqa: N818 - names what was reached
    """Less than the reserve is free where the ledger lives: grants are refused, stops go on."""

    code = "disk-reserve"

    def __init__(self, directory: Path, free_bytes: int, reserve_bytes: int) -> None:
        super().__init__(
            f"{directory} has {free_bytes} bytes free, the reserve is {reserve_bytes}. "
            "Grants are refused, stops still work. Free space there, or lower disk_reserve_bytes."
        )
        self.directory = directory
        self.free_bytes = free_bytes
        self.reserve_bytes = reserve_bytes


def check_reserve(directory: Path, reserve_bytes: int = RESERVE_BYTES) -> None:
    """Raises: DiskReserve when fewer than `reserve_bytes` are free to us in the file system of `directory`."""
    state = os.statvfs(directory)
    free_bytes = state.f_bavail * state.f_frsize
    if free_bytes < reserve_bytes:
        raise DiskReserve(directory, free_bytes, reserve_bytes)
