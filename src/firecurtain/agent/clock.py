# SPDX-License-Identifier: Apache-2.0
"""The agent's clocks: bracketed pairs for the core to judge, CLOCK_BOOTTIME for ages, UTC only to compare file stamps.

The only module of the agent that reads a clock. It judges nothing.
"""

from __future__ import annotations

import time

from firecurtain.agent.core.clocks import ClockSample, Pair
from firecurtain.permit import boottime_ns, read_boot_id

TRIES = 5


def read_sample() -> ClockSample:
    """Read what one tick needs."""
    return ClockSample(
        now_ns=boottime_ns(),
        boot_id=read_boot_id(),
        raw=read_pair(time.CLOCK_MONOTONIC_RAW),
        monotonic=read_pair(time.CLOCK_MONOTONIC),
        wall=read_pair(time.CLOCK_REALTIME),
    )


def read_pair(clock: int) -> Pair:
    """Read `clock` between two readings of CLOCK_BOOTTIME, again while we were interrupted in between, five times."""
    for _ in range(TRIES):
        pair = Pair(boottime_ns(), time.clock_gettime_ns(clock), boottime_ns())
        if pair.is_tight:
            break
    return pair


def read_utc_ns() -> int:
    """The wall clock, which stamps this host's files. Never compared with anything else."""
    return time.time_ns()
