# SPDX-License-Identifier: Apache-2.0
"""Do this host's clocks still tell the truth? One judgement per tick over bracketed readings of four clocks.

Each pair is read BOOT, other, BOOT, so the bracket says how far the two readings may lie apart. A pair that stayed wide
after the reader's five tries is skipped, and the next tight one is compared with the last tight one. Absolute wall time
is never a gate: only its steps against CLOCK_BOOTTIME count. This module is pure; `agent.clock` reads.
"""

from __future__ import annotations

import msgspec

from firecurtain.agent.core.freshness import MILLION, RHO_PPM, RHO_PPM_MAX
from firecurtain.terms import NS_PER_MS, NS_PER_S

BRACKET_NS_MAX = 100_000
SUSPEND_STEP_NS_MAX = NS_PER_MS
WALL_STEP_NS_MAX = 50 * NS_PER_MS
RATE_SPAN_NS = 5 * NS_PER_S  # two brackets of 100 us over 5 s are 40 ppm, far below rho


class Pair(msgspec.Struct, frozen=True):
    """One clock read between two readings of CLOCK_BOOTTIME."""

    before_ns: int
    other_ns: int
    after_ns: int

    @property
    def is_tight(self) -> bool:
        return 0 <= self.after_ns - self.before_ns <= BRACKET_NS_MAX

    @property
    def boot_ns(self) -> int:
        return (self.before_ns + self.after_ns) // 2

    @property
    def offset_ns(self) -> int:
        return self.boot_ns - self.other_ns


class ClockSample(msgspec.Struct, frozen=True):
    """What one tick reads. `now_ns` is CLOCK_BOOTTIME; the boot id says which boot that counts from."""

    now_ns: int
    boot_id: bytes
    raw: Pair
    monotonic: Pair
    wall: Pair


class ClockMemory(msgspec.Struct, frozen=True):
    """The last tight readings, two anchors for the rate, and the rho that the measured rate asks for."""

    boot_id: bytes = b""
    monotonic: Pair | None = None
    wall: Pair | None = None
    anchor: Pair | None = None
    next_anchor: Pair | None = None
    deviation_ppm: int = 0
    rho_ppm: int = RHO_PPM


def judge_clocks(memory: ClockMemory, sample: ClockSample) -> tuple[ClockMemory, str]:
    """Compare a sample with what is remembered.

    Returns: the new memory, and why the clocks are in doubt; an empty text when they are not.
    """
    doubt = (
        _judge_boot(memory.boot_id, sample.boot_id)
        or _judge_step(memory.monotonic, sample.monotonic, SUSPEND_STEP_NS_MAX, "CLOCK_MONOTONIC", "was suspended")
        or _judge_step(memory.wall, sample.wall, WALL_STEP_NS_MAX, "CLOCK_REALTIME", "had its wall clock stepped")
    )
    memory = msgspec.structs.replace(
        memory,
        boot_id=sample.boot_id,
        monotonic=sample.monotonic if sample.monotonic.is_tight else memory.monotonic,
        wall=sample.wall if sample.wall.is_tight else memory.wall,
    )
    if sample.raw.is_tight:
        memory = _measure_rate(memory, sample.raw)
    return memory, doubt or find_rate_doubt(memory)


def _judge_boot(known: bytes, boot_id: bytes) -> str:
    if not known or known == boot_id:
        return ""
    return f"boot id changed from {known.hex()} to {boot_id.hex()}: this process was restored elsewhere. Asking again."


def _judge_step(known: Pair | None, pair: Pair, step_ns_max: int, clock: str, what: str) -> str:
    if known is None or not pair.is_tight:
        return ""
    moved_ns = abs(pair.offset_ns - known.offset_ns)
    if moved_ns <= step_ns_max:
        return ""
    return (
        f"CLOCK_BOOTTIME moved {moved_ns} ns against {clock}, at most {step_ns_max} may: this host {what}. "
        "Asking again."
    )


def _measure_rate(memory: ClockMemory, raw: Pair) -> ClockMemory:
    """Take the rate over at least 5 and at most 10 s, so a slew shows soon and a bracket's width does not."""
    anchor, next_anchor = memory.anchor or raw, memory.next_anchor or raw
    if raw.boot_ns - anchor.boot_ns < RATE_SPAN_NS:
        return msgspec.structs.replace(memory, anchor=anchor, next_anchor=next_anchor)
    boot_ns, raw_ns = raw.boot_ns - anchor.boot_ns, raw.other_ns - anchor.other_ns
    deviation_ppm = abs(boot_ns - raw_ns) * MILLION // max(raw_ns, 1)
    if raw.boot_ns - next_anchor.boot_ns >= RATE_SPAN_NS:
        anchor, next_anchor = next_anchor, raw
    rho_ppm = min(max(RHO_PPM, 2 * deviation_ppm), RHO_PPM_MAX)
    return msgspec.structs.replace(
        memory, anchor=anchor, next_anchor=next_anchor, deviation_ppm=deviation_ppm, rho_ppm=rho_ppm
    )


def find_rate_doubt(memory: ClockMemory) -> str:
    """Say why the rate last measured allows no permit; empty when it does."""
    deviation_ppm = memory.deviation_ppm
    if 2 * deviation_ppm <= RHO_PPM_MAX:
        return ""
    return (
        f"CLOCK_BOOTTIME runs {deviation_ppm} ppm off CLOCK_MONOTONIC_RAW, at most {RHO_PPM_MAX // 2} can be allowed "
        "for: this host is slewed too fast. Let its time service finish."
    )
