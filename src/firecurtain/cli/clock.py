# SPDX-License-Identifier: Apache-2.0
"""The command line's clocks: how long a person has waited since the enter key. Decides nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path


def read_age_ms() -> float:
    """Milliseconds since this process was started, to the kernel's tick (10 ms, so at most that much too high)."""
    # The name in brackets may hold spaces: fields count from the last bracket, and starttime is the 22nd of them all.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return (time.clock_gettime(time.CLOCK_BOOTTIME) - started_s) * 1000


def read_utc_ms() -> int:
    """Milliseconds since 1970, for records and people."""
    return time.time_ns() // 1_000_000


def read_monotonic_s() -> float:
    """For deadlines of waiting."""
    return time.monotonic()
