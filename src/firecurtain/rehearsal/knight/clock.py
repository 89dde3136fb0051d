# SPDX-License-Identifier: Apache-2.0
"""Joins the two clocks of this machine that records are kept on: UTC in the ledger, CLOCK_BOOTTIME at the venue."""

from __future__ import annotations

import time


def read_utc_offset_ns() -> int:
    """What to add to a UTC time of this run to get CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.time_ns()
