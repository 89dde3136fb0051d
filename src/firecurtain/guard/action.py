# SPDX-License-Identifier: Apache-2.0
"""One kind of effect, e.g. `send-order`: the check before it, the reservation, the count.

This is the hot path: an allowed acquire is one read of the page and a few integer operations under one lock. The page
is read inside the lock, so no waiting lies between the read and the answer; the fencing token, the limits and the
permit are all of that one read. It knows nothing of files and texts of the page: its guard does.
"""

from __future__ import annotations

import _thread  # the builtin lock: the threading module would bring threads to an application that has none
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from firecurtain.guard.cause import present_cause
from firecurtain.guard.reserve import CAUSES_MAX, MICRO_PER_USD, OK, Bounds, Reserve, compute_usd_micro
from firecurtain.guard.tally import Tally
from firecurtain.guard.verdict import ALLOWED, Acquired, Denied, Verdict
from firecurtain.permit import Closed, PageReader, SlotWriter, View
from firecurtain.terms import InvariantError, Reason

LOCK_WAIT_S = 10.0
"""Chosen: others hold the lock for microseconds. Whoever waits this long waits for himself, in a signal handler."""

_FORKED = (
    "this is the child of a fork, which has neither counters nor limits of its own. Do: call firecurtain.attach() in "
    "the child."
)


@dataclass(frozen=True, slots=True)
class Standing:
    """What one view of the page means for one action. Replaced as a whole, so its parts always belong together."""

    view: View
    token: Acquired
    bounds: Bounds
    slot: SlotWriter


class Judge(Protocol):
    """What an action asks of its guard, on the slow path only."""

    @property
    def slot(self) -> SlotWriter | None: ...

    def admit(self, action: str, view: View | Closed) -> Standing: ...

    def deny(self, action: str, reason: Reason, text: str) -> Denied: ...


class Action:
    """One kind of effect of one process. Get it with `guard.action(name)` and keep it."""

    __slots__ = ("_canary", "_judge", "_lock", "_reader", "_reserve", "_standing", "_tally", "name")

    def __init__(self, name: str, judge: Judge, reader: PageReader, canary: memoryview) -> None:
        self.name = name
        self._judge = judge
        self._reader = reader
        self._canary = canary
        self._lock = _thread.allocate_lock()
        self._reserve = Reserve()
        self._standing: Standing | None = None
        self._tally: Tally | None = None

    def acquire(self, *, usd: int | Decimal | float, cause: str | None = None) -> Acquired:
        """Reserve one effect BEFORE it is sent, or raise. Send only what was acquired, and send the token with it.

        Args:
            usd: the magnitude of the effect in dollars, >= 0; write 0 for an action that moves no money.
            cause: the parent order or request; without it the one of `with guard.cause(...)`.
        Returns: the fencing token.
        Raises: Denied: do not send. LimitError: usd or cause is not one. InvariantError: acquired inside an acquire.
        """
        usd_micro = usd * MICRO_PER_USD if type(usd) is int and usd >= 0 else compute_usd_micro(usd)
        if cause is None:
            cause = present_cause.get()
        # Before the lock: in a child of fork another thread of the parent may hold it for ever.
        if self._canary[0] != 1:
            raise self._judge.deny(self.name, Reason.FORKED, _FORKED)
        # Asking without waiting first costs half of asking with a time limit.
        if not self._lock.acquire(False) and not self._lock.acquire(True, LOCK_WAIT_S):
            raise InvariantError(f"action {self.name}: acquire() inside acquire(). Do: none in signal handlers.")
        try:
            view = self._reader.read()
            standing = self._standing
            if standing is None or view is not standing.view:
                standing = self._standing = self._judge.admit(self.name, view)
            reason = self._reserve.take(standing.bounds, cause, usd_micro, self._reader.checked_ns)
            if reason is not OK:
                raise self._deny_limit(reason, standing.bounds, cause, usd_micro)
            tally = self._tally
            if tally is None:
                tally = self._tally = Tally(standing.slot, self.name)
            tally.acquired.add(1)
            tally.usd_micro.add(usd_micro)
        except Denied as denied:
            self._count_denied(denied.reason)
            raise
        else:
            return standing.token
        finally:
            self._lock.release()

    def check(self, cause: str | None = None, usd: int | Decimal | float = 0) -> Verdict:
        """What `acquire` would answer now, without reserving or counting anything.

        Without a cause it answers for a cause not met yet. A promise for this moment only: others may acquire between.

        Raises: LimitError: usd is no amount.
        """
        usd_micro = usd * MICRO_PER_USD if type(usd) is int and usd >= 0 else compute_usd_micro(usd)
        if cause is None:
            cause = present_cause.get()
        try:
            if self._canary[0] != 1:
                raise self._judge.deny(self.name, Reason.FORKED, _FORKED)
            view = self._reader.read()
            standing = self._standing
            if standing is None or view is not standing.view:
                standing = self._standing = self._judge.admit(self.name, view)
            bounds = standing.bounds
            reason = self._reserve.judge(bounds, cause, usd_micro, self._reader.checked_ns)
            if reason is not OK:
                raise self._deny_limit(reason, bounds, cause, usd_micro)
        except Denied as denied:
            return denied.verdict
        return ALLOWED

    def _deny_limit(self, reason: Reason, bounds: Bounds, cause: str | None, usd_micro: int) -> Denied:
        effects = self._reserve.count_effects(cause)
        if reason is Reason.UNKNOWN_CAUSE:
            text = (
                f"no cause was named, and the release allows {bounds.effects_per_cause} effects for each cause. Do: "
                f"acquire(cause=...) or `with guard.cause(...)` around it."
            )
        elif reason is Reason.GROSS_USD:
            text = (
                f"{_format_usd(self._reserve.usd_micro)} USD are reserved, this effect asks for "
                f"{_format_usd(usd_micro)}, the release allows {_format_usd(bounds.usd_micro)} a process. Do: stop "
                "sending and look why; a higher limit is a new release."
            )
        elif effects >= bounds.effects_per_cause:
            text = (
                f"cause {cause} has {effects} effects, the release allows {bounds.effects_per_cause} for each cause. "
                "Do: look for a loop that does not end; a higher limit is a new release."
            )
        else:
            text = (
                f"{CAUSES_MAX} causes are remembered and the oldest was used less than 24 hours ago, so {cause} cannot "
                "be counted. Do: restart the service, and look why there are so many."
            )
        return self._judge.deny(self.name, reason, text)

    def _count_denied(self, reason: str) -> None:
        slot = self._judge.slot
        if slot is None:
            return  # Without an agent there is no place to count in, and nobody who could read it.
        if self._tally is None:
            self._tally = Tally(slot, self.name)
        self._tally.count_denied(reason)


def _format_usd(usd_micro: int) -> str:
    whole, micro = divmod(usd_micro, MICRO_PER_USD)
    return f"{whole:,}.{micro:06d}".rstrip("0").rstrip(".")
