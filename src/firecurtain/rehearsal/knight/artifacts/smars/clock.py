# SPDX-License-Identifier: Apache-2.0
"""The one clock of the rehearsal: CLOCK_BOOTTIME, which all processes of a host share and which counts suspend."""

from __future__ import annotations

import time


def now_ns() -> int:
    """Nanoseconds since boot."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def sleep(duration_s: float) -> None:
    """Let others run for a while."""
    time.sleep(duration_s)  # the rehearsal runs in real time: the one place that waits for it
