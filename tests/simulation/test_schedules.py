# SPDX-License-Identifier: Apache-2.0
"""Goal: no action in a stop's scope later than kappa + d, whatever the network, the clocks and the crashes do.

Method: one integer draws a schedule of faults, the pure core of the agent lives through it, and every instant at which
a guard would act is watched. A failing seed is printed; `pytest --seed N --schedules 1` replays it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.drawn import MAX_AGE_NS, MS, PERIOD_NS, Network, S, Schedule, draw_healthy, draw_schedule
from support.simulator import Outcome, compute_hidden_pause_bound_ns, play


@pytest.mark.timeout(900)
def test_no_action_later_than_kappa_and_d(schedules: int, first_seed: int, show: Callable[[str], None]) -> None:
    worst: Outcome | None = None
    for seed in range(first_seed, first_seed + schedules):
        outcome = play(draw_schedule(seed))
        assert not outcome.broken, f"seed {seed}: {outcome.broken[0]}"
        if worst is None or outcome.ratio > worst.ratio:
            worst = outcome
    assert worst is not None
    show(f"{schedules} schedules: max (last action - kappa)/d = {worst.ratio:.9f} at seed {worst.schedule.seed}")
    assert worst.ratio < 1
    if schedules >= 100:
        assert worst.ratio > 0.95, "the adversary has become too kind to show anything"


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(st.randoms(use_true_random=False, note_method_calls=False))
def test_no_action_later_than_kappa_and_d_when_a_searcher_draws(random: Random) -> None:
    outcome = play(draw_schedule(0, random))
    assert not outcome.broken, outcome.broken[0]


def test_a_day_without_faults_never_closes_the_permit() -> None:
    for seed in range(50):
        outcome = play(draw_healthy(seed))
        assert outcome.closed_ns == 0, f"seed {seed}: closed for {outcome.closed_ns / MS} ms after the first 3 s"
        assert not outcome.broken


def test_a_lift_gives_back_with_the_next_beacon() -> None:
    for seed in range(50):
        stopped_ns, lifted_ns = 5 * S, 6 * S
        outcome = play(replace(draw_healthy(seed), lifted_stop_ns=(lifted_ns, stopped_ns)))
        waited_ns = outcome.closed_ns - (lifted_ns - stopped_ns)
        assert 0 <= waited_ns <= PERIOD_NS + Network().delay_ns_max, f"seed {seed}: {waited_ns / MS} ms after the lift"


def test_the_residue_of_a_pause_hidden_by_the_network(show: Callable[[str], None]) -> None:
    """Outside the theorem: a network that shows the resumed host nothing but one beacon, exactly a pause too late.

    No clock of the host and no other message can tell it that it slept. What then remains is bounded all the same: an
    answer lives 3 s of local time, and what it anchors at most d more.
    """
    worst_ns = 0
    for seed in range(200):
        schedule = replace(draw_schedule(seed, Random(seed)), crashes=(), lifted_stop_ns=(), forged=False)
        schedule = _hide_the_pause(schedule)
        outcome = play(schedule)
        assert outcome.last_action_ns < max(
            (schedule.kappa_ns or 0) + MAX_AGE_NS, compute_hidden_pause_bound_ns(schedule)
        )
        worst_ns = max(worst_ns, outcome.last_action_ns - outcome.origin_ns)
    show(f"a pause hidden by the network: last action {worst_ns / MAX_AGE_NS:.3f} d after max(kappa, resume)")


def _hide_the_pause(schedule: Schedule) -> Schedule:
    start_ns = 2 * S
    return replace(
        schedule,
        pauses=((start_ns, start_ns + schedule.random.choice((300 * MS, S, 2 * S))),),
        beacons=Network(lost=0.5, held=1.0, held_ns_max=3 * S),
        answers=Network(lost=0.7, held=0.5, held_ns_max=3 * S),
        stop_delivered=False,
        hides_stop=1.0,
    )
