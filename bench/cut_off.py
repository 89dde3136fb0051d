# SPDX-License-Identifier: Apache-2.0
"""How long actions still arrive when nobody can affirm any more: control plane and broker killed at once, ten times.

From the last signing to the venue's receipt of the last execution. The last signing is `signed_ns` of the last beacon
that reached a listener on the bus before it fell silent; had the agents heard a later one, the figure would come out
too long, never too short. The deadline formula makes the end earlier than max_age, never later; what is allowed beyond
it is the way of the last action to the venue.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from bench.clock import Bridge, read_bridge
from bench.fleet import Fleet, running_fleet
from bench.kill import wait_until
from bench.people import meet_people
from bench.report import Figure, Found, compute_percentile
from bench.service import SERVICE
from firecurtain.bus.listening import Listening
from firecurtain.bus.port import Message
from firecurtain.cli.operator import read_root
from firecurtain.terms import NS_PER_MS
from firecurtain.wire import subjects
from firecurtain.wire.frame import decode_frame
from firecurtain.wire.messages import Beacon

CUTS = 10
WAY_MS = 20.0
SILENCE_S = 0.5  # how long after max_age the venue is still watched
CALM_S = 1.5  # all nodes have attested and three answers are kept, as on any day
PHASE_S = 0.2


@dataclass(frozen=True, slots=True)
class Cut:
    """One cut. All times CLOCK_BOOTTIME."""

    signed_ns: int
    last_ns: int
    max_age_ms: int
    beacons: int
    bridge: Bridge

    @property
    def last_ms(self) -> float:
        """From the last signing to the last execution."""
        return (self.last_ns - self.signed_ns) / NS_PER_MS


def measure() -> Found:
    """Cut ten times."""
    with running_fleet() as fleet:
        cuts = []
        for number in range(CUTS):
            if number:
                fleet.start_control()
            cuts.append(asyncio.run(cut_once(fleet)))
    error_ns = max(cut.bridge.error_ns for cut in cuts)
    lasts, max_age_ms = [cut.last_ms for cut in cuts], cuts[0].max_age_ms
    return Found(
        "cut-off",
        (
            Figure("last signing to last execution, longest", max(lasts), "ms", at_most=max_age_ms + WAY_MS),
            Figure("last signing to last execution, p50", compute_percentile(lasts, 50), "ms"),
            Figure("last signing to last execution, shortest", min(lasts), "ms"),
            Figure("max_age", max_age_ms, "ms"),
        ),
        (
            f"{CUTS} runs, control plane and broker killed with SIGKILL at once, eight nodes acting.",
            "last signing: signed_ns of the last beacon that a listener on the bus received.",
            f"Its CLOCK_MONOTONIC_RAW is joined to CLOCK_BOOTTIME by bracketed readings, off {error_ns} ns at most.",
        ),
        {"last_ms": [round(last, 3) for last in lasts], "beacons_heard": [cut.beacons for cut in cuts]},
    )


async def cut_once(fleet: Fleet) -> Cut:
    """Let the fleet act, kill control plane and broker, and wait until nothing more can arrive."""
    await wait_until(fleet.make_acting())
    heard: list[Beacon] = []
    async with meet_people(fleet, lambda _: None) as people:  # the connection is lost with the broker, as it should be
        max_age_ms = read_root(people.config).max_age_ms
        beacons = await people.operator.listen(subjects.beacon(people.config.fleet, SERVICE))
        hearing = asyncio.create_task(_hear(beacons, people.issuers, heard))
        await asyncio.sleep(CALM_S + random.uniform(0, PHASE_S))  # noqa: S311 - a phase, not a secret
        bridge = read_bridge()
        fleet.kill_control()
        await asyncio.sleep(max_age_ms / 1000 + SILENCE_S)
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
    fleet.ledger.read_new()
    last_ns = max(found.receipt_ns for found in fleet.ledger.executions)
    fleet.ledger.executions.clear()
    signed_ns = max(beacon.signed_ns for beacon in heard) + bridge.offset_ns
    return Cut(signed_ns, last_ns, max_age_ms, len(heard), bridge)


async def _hear(beacons: Listening[Message], issuers: dict[bytes, bytes], heard: list[Beacon]) -> None:
    async for message in beacons:
        heard.append(decode_frame(Beacon, message.data, issuers).message)  # noqa: PERF401 - kept when we are cancelled
