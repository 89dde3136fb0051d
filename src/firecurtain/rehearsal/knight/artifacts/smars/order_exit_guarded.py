# SPDX-License-Identifier: Apache-2.0
"""Where orders leave once Firecurtain is adopted: each child is acquired before it is sent, flags are asked by token.

This file replaces `order_exit` in an artifact; both routing codes stay as they were. It remembers no permission: every
child order asks anew, so a stop holds from the next child on.
"""

from __future__ import annotations

from decimal import Decimal

import firecurtain

from .link import Link
from .messages import CHILD, Child, Offer


class OrderExit:
    """Sends child orders to the venue, with the fencing token of the permit that each was acquired under."""

    def __init__(self, venue: Link) -> None:
        self._venue = venue
        self._children = 0
        self._curtain = firecurtain.attach("smars")
        self._send_order = self._curtain.action("send-order")

    def find_denial(self, order: Offer) -> str:
        """Why no child of this order may leave now; empty when one may."""
        verdict = self._send_order.check(f"parent-{order.parent}")
        return "" if verdict else verdict.reason

    def is_armed(self, order: Offer, token: str) -> bool:
        """Whether the order asks for the flag, and the flag with this identity is armed for the running artifact."""
        return order.flag != 0 and self._curtain.on(token)

    def send(self, order: Offer, shares: int) -> str:
        """Send one child order. Returns the reason why it was not sent; empty when it was."""
        try:
            usd = Decimal(shares * order.price_cents) / 100
            token = self._send_order.acquire(cause=f"parent-{order.parent}", usd=usd)
        except firecurtain.Denied as denied:
            return denied.reason
        self._children += 1
        child = Child(self._children, order.parent, order.symbol, order.side, shares, order.price_cents, *token)
        self._venue.send(CHILD.pack(*child))
        return ""
