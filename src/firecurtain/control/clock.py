# SPDX-License-Identifier: Apache-2.0
"""The control plane's clocks: the issuer clock that permits are counted on, and UTC for people.

The issuer clock is CLOCK_MONOTONIC_RAW: no daemon slews it, and where it differs from real time it is read as slow,
which is safe. It is named after boot, time namespace and key, so that an issuer restarted on the same boot keeps the
calibrations its nodes made. The only module of this room that reads a clock; it decides nothing.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIME_NAMESPACE = Path("/proc/self/ns/time")


class IssuerClock:
    """One issuer's clock. `started_ns` is when this process first read it."""

    def __init__(self, keyid: bytes) -> None:
        self.clock_id = compute_clock_id(_BOOT_ID.read_text().strip(), _TIME_NAMESPACE.stat().st_ino, keyid)
        self.started_ns = self.read_ns()

    def read_ns(self) -> int:
        """Nanoseconds on the issuer clock."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)

    def read_utc_ms(self) -> int:
        """Milliseconds since 1970 for records and people, never a gate."""
        return time.time_ns() // 1_000_000


def compute_clock_id(boot_id: str, namespace_inode: int, keyid: bytes) -> bytes:
    """Name the clock: another boot, time namespace or key is another clock.

    >>> compute_clock_id("b", 1, b"k") == compute_clock_id("b", 1, b"k"), len(compute_clock_id("b", 1, b"k"))
    (True, 16)
    """
    return hashlib.sha256(f"{boot_id}|{namespace_inode}|".encode() + keyid).digest()[:16]
