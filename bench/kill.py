# SPDX-License-Identifier: Apache-2.0
"""How long actions still arrive after a stop: 50 pulls each way, at 2,000 actions a second.

From the issuer's fsync of the stop to the venue's receipt of the last execution in scope, both on CLOCK_BOOTTIME. Every
pull is lifted again by two of three approvers and the next one waits until all eight nodes act.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.fleet import ACTIONS_PER_S, LOOK_S, NODES, PATIENCE_S, Fleet, running_fleet
from bench.people import People, Pull, Way, meet_people
from bench.report import Figure, Found, compute_percentile
from firecurtain.terms import NS_PER_MS, NS_PER_S

PULLS = 50
LAST_MS_P50, LAST_MS_P99 = 10.0, 15.0
RATE_SHARE = 0.95  # a pull at fewer actions than claimed would flatter the figures
SETTLE_S = 0.25  # an action later than this would be 16 times beyond the target; the next pull's count shows it
PACE_S = (0.1, 0.4)  # any phase between two beacons, ticks and attests
RATE_NS = NS_PER_S // 10


@dataclass(frozen=True, slots=True)
class Stopped:
    """One pull and what the venue saw of it. Negative when the last execution came before the moment counted from."""

    pull: Pull
    last_ns: int
    last_by_node_ns: dict[int, int]
    actions_per_s: float
    idle_share: float

    @property
    def from_durable_ms(self) -> float:
        return (self.last_ns - self.pull.durable_ns) / NS_PER_MS

    @property
    def from_cast_ms(self) -> float:
        return (self.last_ns - self.pull.cast_ns) / NS_PER_MS


def measure() -> Found:
    """Pull 50 times each way."""
    with running_fleet() as fleet:
        stopped = asyncio.run(pull_and_lift(fleet, PULLS, tuple(Way)))
    through = [one for one in stopped if one.pull.way is Way.ISSUER]
    both = [one for one in stopped if one.pull.way is Way.BOTH]
    lasts = [one.from_durable_ms for one in through]
    rate = sum(one.actions_per_s for one in stopped) / len(stopped)
    idle = [100 * one.idle_share for one in stopped]
    error_ns = max(one.pull.bridge_error_ns for one in stopped)
    return Found(
        "kill",
        (
            Figure("actions at the pull", rate, "per s", at_least=ACTIONS_PER_S * RATE_SHARE),
            Figure("processors idle before a pull, p50", compute_percentile(idle, 50), "%"),
            Figure("processors idle before a pull, p5", compute_percentile(idle, 5), "%"),
            Figure("through the issuer, durable to last, p50", compute_percentile(lasts, 50), "ms", LAST_MS_P50),
            Figure("through the issuer, durable to last, p99", compute_percentile(lasts, 99), "ms", LAST_MS_P99),
            *_describe(through, "through the issuer, sent to last", lambda one: one.from_cast_ms),
            *_describe(both, "as halt sends it, durable to last", lambda one: one.from_durable_ms),
            *_describe(both, "as halt sends it, sent to last", lambda one: one.from_cast_ms),
        ),
        (
            "A machine that was not idle before the pulls measures its other programs: then run again.",
            f"{len(through)} pulls each way, {NODES} nodes; 'last' is the venue's receipt of the last execution.",
            "durable: the issuer's clock right after its fsync, from its signed reply.",
            f"Its CLOCK_MONOTONIC_RAW is joined to CLOCK_BOOTTIME by bracketed readings, off by {error_ns} ns at most.",
            "As halt sends it: the cast reaches agents and issuer at once; negative means stopped before durable.",
        ),
        {"pulls": [_render(one) for one in stopped]},
    )


async def pull_and_lift(fleet: Fleet, count: int, ways: tuple[Way, ...]) -> list[Stopped]:
    """Pull `count` times each of these ways; each pull is lifted again."""
    async with meet_people(fleet) as people:
        found = []
        for way in ways * count:
            await wait_until(fleet.make_acting())
            idle_before = _read_idle()
            await asyncio.sleep(random.uniform(*PACE_S))  # noqa: S311 - a phase, not a secret
            idle_share = _compute_idle_share(idle_before, _read_idle())
            found.append(await _pull_once(fleet, people, way, idle_share))
        return found


async def wait_until(is_there: Callable[[], bool]) -> None:
    """Look until it is there. Raises: TimeoutError."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_there():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(LOOK_S)


async def _pull_once(fleet: Fleet, people: People, way: Way, idle_share: float) -> Stopped:
    fleet.ledger.read_new()
    pull = await people.pull(way)
    await asyncio.sleep(SETTLE_S)
    fleet.ledger.read_new()
    seen = fleet.ledger.executions
    last_by_node_ns = {found.node: found.receipt_ns for found in seen}
    rate = sum(-RATE_NS <= found.receipt_ns - pull.cast_ns < 0 for found in seen) * NS_PER_S / RATE_NS
    last_ns = max(last_by_node_ns.values())
    seen.clear()
    await people.lift(pull.stop_id)
    return Stopped(pull, last_ns, last_by_node_ns, rate, idle_share)


def _read_idle() -> tuple[int, int]:
    """Kernel ticks that all processors spent idle, and all ticks. Source: proc(5), first line of /proc/stat."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def _compute_idle_share(before: tuple[int, int], after: tuple[int, int]) -> float:
    """0 when every processor was busy. The fleet itself takes some 12 % of two cores."""
    return (after[0] - before[0]) / max(1, after[1] - before[1])


def _describe(stopped: list[Stopped], name: str, measure_ms: Callable[[Stopped], float]) -> list[Figure]:
    samples = [measure_ms(one) for one in stopped]
    return [Figure(f"{name}, p{percent}", compute_percentile(samples, percent), "ms") for percent in (50, 99)]


def _render(one: Stopped) -> dict[str, object]:
    return {
        "way": one.pull.way.value,
        "durable_to_last_ms": round(one.from_durable_ms, 3),
        "sent_to_last_ms": round(one.from_cast_ms, 3),
        "sent_to_durable_ms": round((one.pull.durable_ns - one.pull.cast_ns) / NS_PER_MS, 3),
        "last_by_node_ms": {
            node: round((last_ns - one.pull.durable_ns) / NS_PER_MS, 3)
            for node, last_ns in sorted(one.last_by_node_ns.items())
        },
        "actions_per_s": one.actions_per_s,
        "idle_share": round(one.idle_share, 2),
        "bridge_error_ns": one.pull.bridge_error_ns,
    }
