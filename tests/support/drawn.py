# SPDX-License-Identifier: Apache-2.0
"""Draws one schedule of faults from one source of randomness: what the network, the clocks and the crashes will do.

The adversary is biased towards what hurts: a beacon signed just before the stop is durable and delivered, every later
one hidden; answers without delay; clocks at the ends of their tolerance. A schedule is a plain value; it plays nothing.
Times are nanoseconds of real time, which no party of the protocol can read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

MS = 1_000_000
S = 1_000_000_000
RHO_PPB = 1_000_000
MAX_AGE_NS = 1_500 * MS
PERIOD_NS = 200 * MS

SCOPES = ("service", "node", "fleet", "release", "token")


@dataclass(frozen=True)
class Network:
    """What one direction does to messages: probabilities of each fate and the longest time they may be held."""

    lost: float = 0.0
    held: float = 0.0
    repeated: float = 0.0
    held_ns_max: int = 0
    delay_ns_max: int = 5 * MS


@dataclass(frozen=True)
class IssuerPlan:
    """One issuer: its clock, when it latches the stop, when it restarts and whether its host is booted anew."""

    rate_ppb: int
    offset_ns: int
    phase_ns: int
    latched_ns: int | None
    lag_ns: int = 0
    restart_ns: int | None = None
    down_ns: int = 300 * MS
    reboot_offset_ns: int | None = None


@dataclass(frozen=True)
class Schedule:
    """A day of faults in a few seconds. `kappa_ns` is when the stop became durable, None on a day without one.

    With `cover_lifted_ns` the stop fits no beacon: each issuer lists a broader one in its place, and at that moment k
    of n lift the broader ones, whereupon each issuer makes another as soon as its ledger tells it so.
    """

    seed: int
    kappa_ns: int | None
    end_ns: int
    scope: str
    issuers: tuple[IssuerPlan, ...]
    local_rate_ppb: int = 0
    local_offset_ns: int = 0
    wall_offset_ns: int = 0
    beacons: Network = Network()
    hides_stop: float = 0.0
    answers: Network = Network()
    stop_delivered: bool = False
    forged: bool = False
    pauses: tuple[tuple[int, int], ...] = ()
    crashes: tuple[tuple[int, int], ...] = ()
    tears_latch: bool = False
    other_stop_ns: int | None = None
    lifted_stop_ns: tuple[int, ...] = ()
    cover_lifted_ns: int | None = None
    random: Random = field(default_factory=Random, compare=False)

    @property
    def majority(self) -> int:
        return len(self.issuers) // 2 + 1


def draw_schedule(seed: int, random: Random | None = None) -> Schedule:
    """The schedule of this seed. Another source of randomness may be given, so that a searcher can shrink it."""
    draw = random or Random(seed)
    count = 3 if draw.random() < 0.4 else 1
    phases = [draw.randrange(PERIOD_NS) for _ in range(count)]
    majority = count // 2 + 1
    kappa_ns = _draw_kappa(draw, phases[majority - 1])
    is_paused, is_crashed = draw.random() < 0.25, draw.random() < 0.25
    return Schedule(
        seed=seed,
        kappa_ns=kappa_ns,
        end_ns=kappa_ns + MAX_AGE_NS + 3 * S,
        scope=draw.choice(SCOPES),
        issuers=_draw_issuers(draw, kappa_ns, phases),
        local_rate_ppb=_draw_rate(draw),
        local_offset_ns=draw.randrange(10**15),
        wall_offset_ns=draw.choice((0, 3600 * S, -3600 * S)),
        beacons=_draw_fair_network() if is_paused else _draw_beacon_network(draw),
        hides_stop=draw.choice((0.0, 0.9, 1.0, 1.0)),
        answers=_draw_answer_network(draw),
        stop_delivered=draw.random() < 0.3,
        forged=draw.random() < 0.3,
        pauses=_draw_pauses(draw, kappa_ns) if is_paused else (),
        crashes=_draw_crashes(draw, kappa_ns) if is_crashed else (),
        tears_latch=draw.random() < 0.5,
        other_stop_ns=kappa_ns + draw.randrange(1, S) if draw.random() < 0.3 else None,
        lifted_stop_ns=_draw_lifted(draw, kappa_ns) if draw.random() < 0.2 else (),
        cover_lifted_ns=kappa_ns + draw.randrange(S, 3 * S) if draw.random() < 0.2 else None,
        random=draw,
    )


def draw_healthy(seed: int) -> Schedule:
    """A day on which nothing is wrong, except that of three issuers one lags behind and another dies."""
    draw = Random(seed)
    count = draw.choice((1, 3))
    issuers = [
        IssuerPlan(_draw_rate(draw), draw.randrange(10**15), draw.randrange(PERIOD_NS), None) for _ in range(count)
    ]
    if count == 3:
        issuers[1] = replace(issuers[1], lag_ns=3600 * S)
        issuers[2] = replace(issuers[2], restart_ns=2 * S, down_ns=3600 * S)
    return Schedule(
        seed=seed,
        kappa_ns=None,
        end_ns=10 * S,
        scope="service",
        issuers=tuple(issuers),
        local_rate_ppb=_draw_rate(draw),
        local_offset_ns=draw.randrange(10**15),
        wall_offset_ns=draw.choice((0, 3600 * S, -3600 * S)),
        random=draw,
    )


def _draw_kappa(draw: Random, phase_ns: int) -> int:
    """Half of the time a moment after a signing, as close as a nanosecond: the beacon that hurts most."""
    kappa_ns = draw.randrange(2 * S, 5 * S)
    if draw.random() < 0.5:
        signed_ns = (kappa_ns - phase_ns) // PERIOD_NS * PERIOD_NS + phase_ns
        return signed_ns + draw.choice((1, 1, MS, 20 * MS))
    return kappa_ns


def _draw_issuers(draw: Random, kappa_ns: int, phases: list[int]) -> tuple[IssuerPlan, ...]:
    """m issuers latch the stop, the m-th at kappa; the others latch it later or never."""
    plans = []
    majority = len(phases) // 2 + 1
    near_ns = draw.randrange(10**15)
    for index, phase_ns in enumerate(phases):
        latched_ns: int | None = kappa_ns
        if index < majority - 1:
            latched_ns = kappa_ns - draw.choice((0, MS, 300 * MS))
        elif index >= majority:
            latched_ns = draw.choice((None, kappa_ns + draw.randrange(2 * S)))
        restart_ns = draw.randrange(S, kappa_ns + S) if draw.random() < 0.2 else None
        is_rebooted = restart_ns is not None and draw.random() < 0.5
        plans.append(
            IssuerPlan(
                rate_ppb=_draw_rate(draw),
                offset_ns=near_ns + draw.choice((0, 300 * MS, S, draw.randrange(10**15))),
                phase_ns=phase_ns,
                latched_ns=latched_ns,
                lag_ns=draw.choice((0, 0, S)),
                restart_ns=restart_ns,
                reboot_offset_ns=draw.choice((-S, 300 * MS, S)) if is_rebooted else None,
            )
        )
    return tuple(plans)


def _draw_rate(draw: Random) -> int:
    return draw.choice((-RHO_PPB, RHO_PPB, 0, draw.randrange(-RHO_PPB, RHO_PPB + 1)))


def _draw_fair_network() -> Network:
    """Beside a pause the network is honest: see `test_the_residue_of_a_pause_hidden_by_the_network`."""
    return Network(delay_ns_max=2 * MS)


def _draw_beacon_network(draw: Random) -> Network:
    return Network(
        lost=draw.choice((0.0, 0.1, 0.6)),
        held=draw.choice((0.0, 0.3, 0.8)),
        repeated=draw.choice((0.0, 0.3)),
        held_ns_max=draw.choice((500 * MS, 1400 * MS, 4 * S)),
        delay_ns_max=draw.choice((1, 5 * MS)),
    )


def _draw_answer_network(draw: Random) -> Network:
    return Network(
        lost=draw.choice((0.0, 0.1, 0.4)),
        held=draw.choice((0.0, 0.2)),
        repeated=draw.choice((0.0, 0.3)),
        held_ns_max=4 * S,
        delay_ns_max=draw.choice((1, 1, 5 * MS)),
    )


def _draw_pauses(draw: Random, kappa_ns: int) -> tuple[tuple[int, int], ...]:
    """One pause: half of the time it is over shortly before kappa, when a wrong calibration hurts most."""
    length_ns = draw.choice((100 * MS, 500 * MS, 900 * MS, 2 * S, 5 * S))
    start_ns = draw.randrange(1200 * MS, kappa_ns + S)
    if draw.random() < 0.5:
        start_ns = max(1200 * MS, kappa_ns - length_ns - draw.randrange(S))
    return ((start_ns, start_ns + length_ns),)


def _draw_crashes(draw: Random, kappa_ns: int) -> tuple[tuple[int, int], ...]:
    start_ns = draw.choice((draw.randrange(S, kappa_ns + S), kappa_ns + draw.randrange(1, 50 * MS)))
    return ((start_ns, start_ns + draw.choice((20 * MS, 500 * MS, 2 * S))),)


def _draw_lifted(draw: Random, kappa_ns: int) -> tuple[int, ...]:
    """When an earlier stop, its lift and replays of both arrive, in any order."""
    return tuple(draw.randrange(500 * MS, kappa_ns) for _ in range(4))
