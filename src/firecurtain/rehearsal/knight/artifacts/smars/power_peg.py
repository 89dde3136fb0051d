# SPDX-License-Identifier: Apache-2.0
"""Power Peg, the routing code last used in 2003: it moves orders for as long as its flag is set.

Its stop condition counts the executed shares of a parent. In 2005 that check was moved to an earlier point in the
code, ahead of the loop, and Power Peg was never tested again (SEC Release 34-70694, paragraph 14). So it is all still
here: the loop, the counter, the check. The check just stands where the loop never comes past it.
"""

from __future__ import annotations

import heapq

from .messages import DENIED, DONE, NOT_ARMED, STOPPED, Answer, Fill, Offer
from .order_exit import OrderExit

ROUTING_FLAG = "routing-flag"  # the word is ours, the order names none; the new code uses the same word again
POWER_PEG = "fc1-202TNG1GS165"

CHILD_SHARES = 100
CHILDREN_PER_S = 6.99  # derived: 4 million executions / 212 parents / 2,700 s (paragraph 1)
PACE_NS = int(1e9 / CHILDREN_PER_S)


class PowerPeg:
    """Parents in a heap by the time of their next child; each keeps its own pace."""

    def __init__(self, order_exit: OrderExit) -> None:
        self._exit = order_exit
        self._loop: list[tuple[int, int]] = []  # (next child at, parent)
        self._orders: dict[int, Offer] = {}
        self._sent: dict[int, int] = {}
        self._executed: dict[int, int] = {}

    def accept(self, order: Offer, now_ns: int) -> list[Answer]:
        """Take a parent into the loop."""
        self._executed[order.parent] = self._sent[order.parent] = 0
        # 2005: the cumulative quantity is compared here, once, before anything has been executed.
        if self._is_filled(order):
            return [Answer(order.parent, DONE, 0)]
        denial = self._exit.find_denial(order)
        if denial:
            return [self._hand_back(order.parent, DENIED, denial)]
        if not self._exit.is_armed(order, POWER_PEG):
            return [self._hand_back(order.parent, NOT_ARMED, ROUTING_FLAG)]
        self._orders[order.parent] = order
        heapq.heappush(self._loop, (now_ns, order.parent))
        return []

    def on_time(self, now_ns: int) -> list[Answer]:
        """While the flag is set: send a child of 100 shares."""
        answers = []
        while self._loop and self._loop[0][0] <= now_ns:
            due_ns, parent = self._loop[0]
            order = self._orders[parent]
            if not self._exit.is_armed(order, POWER_PEG):
                heapq.heappop(self._loop)
                answers.append(self._hand_back(parent, NOT_ARMED, ROUTING_FLAG))
                continue
            denial = self._exit.send(order, CHILD_SHARES)
            if denial:
                heapq.heappop(self._loop)
                answers.append(self._hand_back(parent, DENIED, denial))
                continue
            self._sent[parent] += CHILD_SHARES
            heapq.heapreplace(self._loop, (due_ns + PACE_NS, parent))
        return answers

    def on_fill(self, fill: Fill) -> list[Answer]:
        """Another part of the system sees that a parent is filled and says so (paragraph 16); the loop asks nobody."""
        before = self._executed.get(fill.parent, 0)
        self._executed[fill.parent] = before + fill.shares
        order = self._orders.get(fill.parent)
        if order is None or before >= order.shares or not self._is_filled(order):
            return []
        return [Answer(order.parent, DONE, order.shares)]

    def next_due_ns(self) -> int | None:
        """When the loop sends again."""
        return self._loop[0][0] if self._loop else None

    def stop(self) -> list[Answer]:
        """End the loop; parents that nobody has reported as filled go back."""
        unfilled = [order for order in self._orders.values() if not self._is_filled(order)]
        self._loop.clear()
        return [self._hand_back(order.parent, STOPPED, "router stops") for order in unfilled]

    def is_idle(self) -> bool:
        """Nothing is waited for: what was sent is executed, whoever hears of it."""
        return not self._loop

    def _is_filled(self, order: Offer) -> bool:
        return self._executed[order.parent] >= order.shares

    def _hand_back(self, parent: int, outcome: int, reason: str) -> Answer:
        self._orders.pop(parent, None)
        return Answer(parent, outcome, self._sent[parent], reason.encode())
