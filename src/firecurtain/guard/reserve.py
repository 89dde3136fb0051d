# SPDX-License-Identifier: Apache-2.0
"""How much of its limits one action has used: effects for each cause, and micro-dollars in all.

Everything is reserved BEFORE the effect is sent and never given back here, so what was sent is at most what was
reserved. Integers only: a sum of floats could end one order beyond the limit. Takes the time as an argument and holds
no lock; the action does. Causes are remembered up to a bound, and at the bound a new one is denied: forgetting a cause
that still lives would let it act again from zero.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal

from firecurtain.guard.cause import parse_cause
from firecurtain.permit import ActionLimits
from firecurtain.terms import NS_PER_S, LimitError, Reason

CAUSES_MAX = 65_536
"""Chosen: a day of parents for one router. At half, a busy day ends in denials; at double, some 40 MB."""
IDLE_NS = 24 * 3600 * NS_PER_S
"""A cause unused for a day of CLOCK_BOOTTIME may be forgotten when the room is needed."""
MICRO_PER_USD = 1_000_000
_USD_MAX = 10**12 + 1
"""One more than any limit can be: a larger amount is denied just so, without computing with its digits."""
# Looking a member up in an enumeration costs 40 ns in 3.11: the hot path compares with this.
OK = Reason.OK
_EXACT = Context(prec=60, rounding=ROUND_CEILING)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of one action as the reserve counts them."""

    effects_per_cause: int
    usd_micro: int


def compute_bounds(limits: ActionLimits) -> Bounds:
    """The same limits, dollars as micro-dollars."""
    return Bounds(limits.effects_per_cause, limits.gross_usd * MICRO_PER_USD)


class Reserve:
    """The running totals of one action in one process. They only grow."""

    __slots__ = ("_causes", "usd_micro")

    def __init__(self) -> None:
        self.usd_micro = 0
        # Ordered by last use; each value is [effects, last use in ns].
        self._causes: OrderedDict[str, list[int]] = OrderedDict()

    def take(self, bounds: Bounds, cause: str | None, usd_micro: int, now_ns: int) -> Reason:
        """Reserve one effect and its amount, or nothing at all. Raises: LimitError: the cause is no cause."""
        if cause is None:
            return Reason.UNKNOWN_CAUSE
        use = self._causes.get(cause)
        spent_usd_micro = self.usd_micro + usd_micro
        # The usual case without a call; `judge` says the same of it and alone knows the reasons.
        if use is None or use[0] >= bounds.effects_per_cause or spent_usd_micro > bounds.usd_micro:
            reason = self.judge(bounds, cause, usd_micro, now_ns)
            if reason is not OK:
                return reason
            use = use or self._remember(cause)
        use[0] += 1
        use[1] = now_ns
        self._causes.move_to_end(cause)
        self.usd_micro = spent_usd_micro
        return OK

    def judge(self, bounds: Bounds, cause: str | None, usd_micro: int, now_ns: int) -> Reason:
        """What `take` would answer; without a cause, what it would answer for one it has not met."""
        use = None if cause is None else self._causes.get(cause)
        if use is None:
            if cause is not None:
                parse_cause(cause)
            if bounds.effects_per_cause < 1 or (len(self._causes) >= CAUSES_MAX and not self._is_oldest_idle(now_ns)):
                return Reason.EFFECTS_PER_CAUSE
        elif use[0] >= bounds.effects_per_cause:
            return Reason.EFFECTS_PER_CAUSE
        if self.usd_micro + usd_micro > bounds.usd_micro:
            return Reason.GROSS_USD
        return OK

    def count_effects(self, cause: str | None) -> int:
        """Effects reserved for a cause so far; 0 for one never met."""
        use = None if cause is None else self._causes.get(cause)
        return use[0] if use else 0

    def _is_oldest_idle(self, now_ns: int) -> bool:
        return now_ns - next(iter(self._causes.values()))[1] >= IDLE_NS

    def _remember(self, cause: str) -> list[int]:
        if len(self._causes) >= CAUSES_MAX:
            self._causes.popitem(last=False)  # idle for a day: judged before
        use = self._causes[cause] = [0, 0]
        return use


def compute_usd_micro(usd: int | Decimal | float) -> int:
    """Dollars as whole micro-dollars, rounded up: a reserve is never smaller than what is sent.

    A float counts as the decimal number that it prints as, so 0.1 is a tenth and not a hair more.

    Raises: LimitError: negative, not finite, or no number.

    >>> compute_usd_micro(1675), compute_usd_micro(0.1), compute_usd_micro(Decimal("0.0000001"))
    (1675000000, 100000, 1)
    """
    if type(usd) is int and usd >= 0:
        return min(usd, _USD_MAX) * MICRO_PER_USD
    if isinstance(usd, float | Decimal):
        amount = usd if isinstance(usd, Decimal) else Decimal(repr(float(usd)))
        if amount.is_finite() and amount >= 0:
            scaled = min(amount, Decimal(_USD_MAX)).scaleb(6, _EXACT)
            return int(scaled.to_integral_value(ROUND_CEILING))
    raise LimitError(f"usd must be a number of dollars, 0 or more, got {usd!r}. Do: give the magnitude of the order.")
