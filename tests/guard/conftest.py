# SPDX-License-Identifier: Apache-2.0
"""A stage: a real permit page with its writer, a limits file, a clock that stands still, and a guard of an artifact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from firecurtain.guard.curtain import Guard
from firecurtain.permit import (
    ActionLimits,
    Grant,
    PageHeader,
    PageWriter,
    compute_slots_directory,
    encode_limits,
    read_boot_id,
    read_slots,
    read_time_namespace,
    write_limits,
)
from firecurtain.terms import Digest, FlagToken

MAX_AGE_NS = 1_500_000_000
NOW_NS = 7_000_000_000_000_000
OWN = Digest("a1" * 32)
TOKEN = FlagToken("fc1-00000000000Z")
LIMITS = {"send-order": ActionLimits(effects_per_cause=3, gross_usd=1000)}


class Stage:
    """What a test arranges and looks at. `now_ns` moves only when the test moves it."""

    def __init__(self, directory: Path) -> None:
        self.directory = f"{directory}/permit"
        self.path = f"{self.directory}/permit.page"
        self.now_ns = NOW_NS
        header = PageHeader("theatre", "payouts", "host-8", MAX_AGE_NS, read_boot_id(), read_time_namespace())
        self.writer = PageWriter(self.path, header)
        self.grant = Grant(7, 4711, OWN, Digest("b2" * 32), self.write_limits(LIMITS), frozenset([TOKEN]))

    def write_limits(self, limits: dict[str, ActionLimits]) -> Digest:
        return write_limits(self.directory, encode_limits(limits))

    def clock(self) -> int:
        return self.now_ns

    def permit(self, **changes: object) -> None:
        """Grant until max_age from now, with the given changes of content."""
        self.grant = replace(self.grant, **changes)
        self.writer.grant(self.grant, self.now_ns + MAX_AGE_NS)

    def attach(self, artifact: Digest | None = OWN) -> Guard:
        return Guard("payouts", self.path, artifact, "/srv/router.py", self.clock)

    def read_totals(self) -> dict[str, int]:
        """The counters of all processes, summed, without those that stand at zero."""
        totals: dict[str, int] = {}
        for counters in read_slots(compute_slots_directory(self.path)).totals.values():
            for name, value in counters.items():
                totals[name] = totals.get(name, 0) + value
        return {name: value for name, value in totals.items() if value}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    tmp_path.chmod(0o700)
    made = Stage(tmp_path)
    try:
        yield made
    finally:
        made.writer.release()
