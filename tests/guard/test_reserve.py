# SPDX-License-Identifier: Apache-2.0
"""Limits as laws: no sequence passes them, check and acquire agree, money is counted in whole micro-dollars."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firecurtain.guard import reserve as real
from firecurtain.guard.reserve import CAUSES_MAX, IDLE_NS, Bounds, Reserve, compute_usd_micro
from firecurtain.terms import LimitError, Reason
from support.mutants import load_mutant

BOUNDS = st.builds(Bounds, st.integers(0, 4), st.integers(0, 40))
REQUESTS = st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.integers(0, 12)), max_size=40)


class Model:
    """The limits in the plainest words: two sums, nothing remembered that need not be."""

    def __init__(self, bounds):
        self.bounds, self.effects, self.usd_micro = bounds, Counter(), 0

    def take(self, cause, usd_micro):
        if cause is None:
            return Reason.UNKNOWN_CAUSE
        if self.effects[cause] + 1 > self.bounds.effects_per_cause:
            return Reason.EFFECTS_PER_CAUSE
        if self.usd_micro + usd_micro > self.bounds.usd_micro:
            return Reason.GROSS_USD
        self.effects[cause] += 1
        self.usd_micro += usd_micro
        return Reason.OK


def follow(module, bounds, requests):
    """Whether the module's reserve answers as the model does and never passes a limit, with check before each take."""
    reserve, model = module.Reserve(), Model(bounds)
    for now_ns, (cause, usd_micro) in enumerate(requests):
        foreseen = reserve.judge(bounds, cause, usd_micro, now_ns)
        answer = reserve.take(bounds, cause, usd_micro, now_ns)
        if answer is not model.take(cause, usd_micro) or (cause is not None and foreseen is not answer):
            return False
        if reserve.usd_micro != model.usd_micro or reserve.usd_micro > bounds.usd_micro:
            return False
        if any(reserve.count_effects(name) > bounds.effects_per_cause for name in "abc"):
            return False
    return True


@given(BOUNDS, REQUESTS)
def test_no_sequence_of_acquires_passes_the_limits(bounds, requests):
    assert follow(real, bounds, requests)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("if use is None or use[0] >= bounds", "if use is None or use[0] > bounds"),
        ("spent_usd_micro > bounds.usd_micro:", "spent_usd_micro > bounds.usd_micro + 1:"),
        ("elif use[0] >= bounds", "elif use[0] > bounds"),
        ("if self.usd_micro + usd_micro > bounds", "if self.usd_micro + usd_micro >= bounds"),
        ("if bounds.effects_per_cause < 1", "if bounds.effects_per_cause < 0"),
        ("        self.usd_micro = spent_usd_micro\n", ""),
        ("        use[0] += 1\n", ""),
    ],
)
def test_a_mutant_that_is_one_off_is_caught_by_the_model(old, new):
    mutant = load_mutant("firecurtain.guard.reserve", old, new)
    many = [(cause, usd) for usd in (0, 1, 3, 12) for cause in ("a", "a", "b", "a", "c", None)] * 2
    limits = [Bounds(effects, usd) for effects in (0, 1, 2, 30) for usd in (0, 1, 3, 16, 40, 200)]
    assert all(follow(real, bounds, many) for bounds in limits)
    assert not all(follow(mutant, bounds, many) for bounds in limits)


def fill(reserve, bounds):
    for index in range(CAUSES_MAX):
        assert reserve.take(bounds, f"p-{index}", 0, index) is Reason.OK


def test_causes_are_bounded_and_only_a_day_old_one_is_forgotten():
    reserve, bounds = Reserve(), Bounds(2, 10)
    fill(reserve, bounds)
    assert reserve.take(bounds, "p-0", 0, CAUSES_MAX) is Reason.OK  # now p-1 is the oldest, used at 1
    assert reserve.take(bounds, "new", 0, IDLE_NS) is Reason.EFFECTS_PER_CAUSE
    assert reserve.judge(bounds, "new", 0, IDLE_NS) is Reason.EFFECTS_PER_CAUSE
    assert reserve.judge(bounds, None, 0, IDLE_NS) is Reason.EFFECTS_PER_CAUSE
    assert reserve.take(bounds, "p-5", 0, IDLE_NS) is Reason.OK, "known causes go on"
    assert reserve.judge(bounds, "new", 0, IDLE_NS + 1) is Reason.OK
    assert reserve.take(bounds, "new", 0, IDLE_NS + 1) is Reason.OK
    assert reserve.take(bounds, "p-0", 0, IDLE_NS + 1) is Reason.EFFECTS_PER_CAUSE
    assert reserve.count_effects("p-1") == 0
    assert reserve.take(bounds, "newer", 0, IDLE_NS + 1) is Reason.EFFECTS_PER_CAUSE, "p-2 is a nanosecond too young"


@pytest.mark.parametrize(
    ("usd", "usd_micro"),
    [
        (0, 0),
        (1675, 1_675_000_000),
        (16.75, 16_750_000),
        (0.1 + 0.2, 300_001),
        (0.0000001, 1),
        (Decimal("1675.1"), 1_675_100_000),
        (Decimal("1E-900"), 1),
        (Decimal("1E+900"), (10**12 + 1) * 10**6),
        (1e300, (10**12 + 1) * 10**6),
        (10**40, (10**12 + 1) * 10**6),
        (Decimal("0.1234560000000000000000000000000000000000000000000000000000000000000001"), 123_457),
    ],
)
def test_dollars_become_micro_dollars_rounded_up(usd, usd_micro):
    assert compute_usd_micro(usd) == usd_micro


@given(st.decimals(0, 10**12, allow_nan=False) | st.floats(0, 10**12) | st.integers(0, 10**12))
@settings(max_examples=200)
def test_a_reserve_is_never_smaller_than_what_is_sent(usd):
    exact = Decimal(repr(usd)) if isinstance(usd, float) else Decimal(usd)
    micro = compute_usd_micro(usd)
    assert 0 <= Decimal(micro) / 10**6 - exact <= Decimal("0.000001")


@pytest.mark.parametrize("usd", [-1, Decimal("-0.1"), Decimal("nan"), float("-inf"), "1", None, True, 1j])
def test_what_is_no_amount_is_refused(usd):
    with pytest.raises(LimitError):
        compute_usd_micro(usd)
