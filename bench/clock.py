# SPDX-License-Identifier: Apache-2.0
"""The clocks of a measurement. The venue stamps on CLOCK_BOOTTIME, the issuer on CLOCK_MONOTONIC_RAW: both are read in
one process here, bracketed, so that a reading of one becomes a reading of the other with a known error.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from firecurtain.agent.clock import read_pair

READINGS = 20


@dataclass(frozen=True, slots=True)
class Bridge:
    """What to add to the issuer's clock to get CLOCK_BOOTTIME, and by how much that may be wrong."""

    offset_ns: int
    error_ns: int


def read_bridge() -> Bridge:
    """The tightest of a few bracketed readings. It holds for now: the two clocks drift apart by some ppm."""
    pairs = [read_pair(time.CLOCK_MONOTONIC_RAW) for _ in range(READINGS)]
    width_ns, pair = min(((pair.after_ns - pair.before_ns, pair) for pair in pairs), key=lambda known: known[0])
    return Bridge(pair.boot_ns - pair.other_ns, (width_ns + 1) // 2)


def now_ns() -> int:
    """CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def read_date() -> str:
    """When this was measured, for people."""
    return datetime.now(UTC).isoformat(timespec="seconds")
