# SPDX-License-Identifier: Apache-2.0
"""The retail liquidity code of 2012: it fills each parent order with children of 100 shares, one after the other.

It replaced Power Peg and used the same flag word again (SEC Release 34-70694, paragraph 13). A token is minted once,
so here the word stands beside a token that the old code has never heard of.
"""

from __future__ import annotations

from .messages import DENIED, DONE, NOT_ARMED, STOPPED, Answer, Fill, Offer
from .order_exit import OrderExit

ROUTING_FLAG = "routing-flag"
RETAIL_LIQUIDITY = "fc1-58TXHRWVD30B"

CHILD_SHARES = 100


class RetailLiquidity:
    """Parents in work; each has exactly one child at the venue."""

    def __init__(self, order_exit: OrderExit) -> None:
        self._exit = order_exit
        self._orders: dict[int, Offer] = {}
        self._executed: dict[int, int] = {}
        self._is_stopping = False

    def accept(self, order: Offer, now_ns: int) -> list[Answer]:
        """Take a parent and send its first child. It keeps no time: each fill asks for the next child."""
        del now_ns
        denial = self._exit.find_denial(order)
        if denial:
            return [Answer(order.parent, DENIED, 0, denial.encode())]
        if not self._exit.is_armed(order, RETAIL_LIQUIDITY):
            return [Answer(order.parent, NOT_ARMED, 0, ROUTING_FLAG.encode())]
        self._orders[order.parent] = order
        self._executed[order.parent] = 0
        return self._send_next(order)

    def on_fill(self, fill: Fill) -> list[Answer]:
        """Count the execution; send the next child or report the parent."""
        order = self._orders[fill.parent]
        self._executed[fill.parent] += fill.shares
        if self._executed[fill.parent] >= order.shares:
            return [self._forget(order, DONE, "")]
        if self._is_stopping:
            return [self._forget(order, STOPPED, "router stops")]
        return self._send_next(order)

    def on_time(self, now_ns: int) -> list[Answer]:
        """Nothing is due by the clock."""
        del now_ns
        return []

    def next_due_ns(self) -> int | None:
        """Never: fills set the pace."""
        return None

    def stop(self) -> list[Answer]:
        """Send nothing more; each parent is handed back with the fill of its child that is at the venue."""
        self._is_stopping = True
        return []

    def is_idle(self) -> bool:
        """No child is at the venue."""
        return not self._orders

    def _send_next(self, order: Offer) -> list[Answer]:
        shares = min(CHILD_SHARES, order.shares - self._executed[order.parent])
        denial = self._exit.send(order, shares)
        return [self._forget(order, DENIED, denial)] if denial else []

    def _forget(self, order: Offer, outcome: int, reason: str) -> Answer:
        del self._orders[order.parent]
        return Answer(order.parent, outcome, self._executed.pop(order.parent), reason.encode())
