# SPDX-License-Identifier: Apache-2.0
"""What one action has done, as counters in the slot of this process: acquired, denied (also by reason), micro-dollars.

The agent sums them and the control plane compares them with what arrived elsewhere. They limit nothing: the reserve
does. Its owner holds the action's lock.
"""

from __future__ import annotations

from firecurtain.permit import Counter, SlotWriter

ACTIONS_MAX = 16
"""Derived: three counters are kept free for each action; the other 79 of a slot's 127 go to denials by reason."""
_COUNTERS_PER_ACTION = 3


class Tally:
    """The counters of one action: `<action>:acquired`, `:denied`, `:usd_micro`, `:denied:<reason>`."""

    __slots__ = ("_by_reason", "_denied", "_name", "_slot", "acquired", "usd_micro")

    def __init__(self, slot: SlotWriter, action: str) -> None:
        self._slot = slot
        self._name = action
        self.acquired = slot.add_counter(f"{action}:acquired")
        self.usd_micro = slot.add_counter(f"{action}:usd_micro")
        self._denied = slot.add_counter(f"{action}:denied")
        self._by_reason: dict[str, Counter] = {}

    def count_denied(self, reason: str) -> None:
        """Count a denial in all, and under its reason while there is room for the reason."""
        self._denied.add(1)
        counter = self._by_reason.get(reason)
        if counter is None:
            if self._slot.free_count <= ACTIONS_MAX * _COUNTERS_PER_ACTION:
                return
            counter = self._by_reason[reason] = self._slot.add_counter(f"{self._name}:denied:{reason}")
        counter.add(1)
