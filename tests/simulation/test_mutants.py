# SPDX-License-Identifier: Apache-2.0
"""Goal: each fault that the protocol names would be caught. Method: plant it in the real source text, then drive the
same schedules until one of them breaks; a fault that costs availability must close the permit on a day without faults.

Faults that live at the issuer are planted in its model; those that no schedule can see have a test of their own by name
in tests/agent/test_machine.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import pytest

from firecurtain.agent.core import machine, verdict
from support.drawn import draw_healthy, draw_schedule
from support.mutants import load_mutant
from support.simulator import play
from support.world import Flaws

CORE = "firecurtain.agent.core"
SEEDS = range(1, 1500)


@dataclass(frozen=True)
class Mutant:
    """A fault: in which module of the core, what its text was, what it becomes."""

    name: str
    module: str
    old: str
    new: str


UNSAFE = (
    Mutant(
        "receive-time TTL",
        "freshness",
        "compute_deadline(known, signed_ns, max_age_ns, rho_ppm) for known",
        "now_ns + max_age_ns for known",
    ),
    Mutant("no window check", "freshness", "if track.deadline_ns <= now_ns + track.deadline_age_ns:", "if True:"),
    Mutant("newest halt instead of the union", "stops", "in_force = dict(sets.in_force)", "in_force = {}"),
    Mutant(
        "stop acknowledged before fsync",
        "machine",
        "(*settled, LatchStops(new), Acknowledge(tuple(entry.id for entry in new)))",
        "(*settled, Acknowledge(tuple(entry.id for entry in new)), LatchStops(new))",
    ),
    Mutant(
        "lift removes ids instead of adding to L",
        "stops",
        "    lifted = sets.lifted.union(stop_ids)\n    in_force: dict[str, StopEntry] = {}",
        "    sets = StopSets({k: v for k, v in sets.stops.items() if v.id not in stop_ids})\n"
        "    lifted = frozenset()\n    in_force: dict[str, StopEntry] = {}",
    ),
    Mutant(
        "calibration shared across clock ids",
        "freshness",
        "track.keyid == keyid and track.clock_id == clock_id:",
        "track.keyid == keyid:",
    ),
    Mutant(
        "calibration shared across issuers",
        "freshness",
        "track.keyid == keyid and track.clock_id == clock_id:",
        "track:",
    ),
    Mutant(
        "nonce not checked",
        "machine",
        "next((known for known in state.questions if known.nonce == answer.nonce), None)",
        "next(iter(state.questions[::-1]), None)",
    ),
    Mutant(
        "t0 read at the answer instead of before the attest",
        "machine",
        "Calibration(question.asked_ns, now_ns,",
        "Calibration(now_ns, now_ns,",
    ),
    Mutant("latest issuer instead of the m-th latest", "freshness", "latest[majority - 1]", "latest[0]"),
    Mutant(
        "stops of a beacon ignored",
        "machine",
        "_take_stops(state, beacon.stops, now_ns)",
        "_take_stops(state, (), now_ns)",
    ),
    Mutant(
        "a lift gives back what was affirmed before it",
        "machine",
        "tuple(freshness.forget_beacons(track) for track in state.tracks)",
        "state.tracks",
    ),
    Mutant(
        "a beacon from before the lift renews",
        "machine",
        "if stops.find_lifted_scopes(state.sets, beacon.stops) & verdict.find_scopes(state):",
        "if False:",
    ),
    Mutant("stops forgotten at a restart", "machine", "stops.add_stops(StopSets(), entries)", "StopSets()"),
)

COSTLY = (
    Mutant(
        "absolute wall-clock gate",
        "machine",
        'if keyid not in state.identity.issuers:\n        return _drop(state, "beacon-unknown-issuer"), ()',
        "if state.clock.wall and abs(beacon.issued_utc_ms * 10**6 - state.clock.wall.other_ns) > 10**9:\n"
        '        return _drop(state, "beacon-unknown-issuer"), ()',
    ),
    Mutant(
        "highest seq wins for freshness",
        "machine",
        "if track is None:",
        "if track is None or beacon.ledger_seq < state.content.ledger_seq:",
    ),
)

FLAWED = {
    "issuer restarted without its latch": Flaws(forgets_latch=True),
    "k_n read after the snapshot": Flaws(reads_clock_after_snapshot=True),
}


def plant(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The core with the fault in it."""
    faulty = load_mutant(f"{CORE}.{mutant.module}", mutant.old, mutant.new)
    if mutant.module == "machine":
        return faulty
    monkeypatch.setattr(machine, mutant.module, faulty)
    if hasattr(verdict, mutant.module):
        monkeypatch.setattr(verdict, mutant.module, faulty)
    return machine


@pytest.mark.parametrize("mutant", UNSAFE, ids=lambda mutant: mutant.name)
def test_a_schedule_catches(mutant: Mutant, monkeypatch: pytest.MonkeyPatch, show: Callable[[str], None]) -> None:
    core = plant(mutant, monkeypatch)
    for seed in SEEDS:
        broken = play(draw_schedule(seed), core).broken
        if broken:
            show(f"{mutant.name:50} caught by seed {seed}: {broken[0]}")
            return
    pytest.fail(f"{mutant.name}: survived {len(SEEDS)} schedules")


@pytest.mark.parametrize("name", FLAWED)
def test_a_schedule_catches_the_issuers(name: str, show: Callable[[str], None]) -> None:
    for seed in SEEDS:
        broken = play(draw_schedule(seed), flaws=FLAWED[name]).broken
        if broken:
            show(f"{name:50} caught by seed {seed}: {broken[0]}")
            return
    pytest.fail(f"{name}: survived {len(SEEDS)} schedules")


@pytest.mark.parametrize("mutant", COSTLY, ids=lambda mutant: mutant.name)
def test_a_day_without_faults_catches(
    mutant: Mutant, monkeypatch: pytest.MonkeyPatch, show: Callable[[str], None]
) -> None:
    core = plant(mutant, monkeypatch)
    for seed in range(50):
        outcome = play(draw_healthy(seed), core)
        if outcome.closed_ns:
            show(f"{mutant.name:50} caught by seed {seed}: closed {outcome.closed_ns / 1e6:.0f} ms on a good day")
            return
    pytest.fail(f"{mutant.name}: no good day was harmed")
