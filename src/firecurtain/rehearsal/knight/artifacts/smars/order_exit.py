# SPDX-License-Identifier: Apache-2.0
"""Where orders leave, as it was before Firecurtain: nothing is asked, and the flag is the bare bit in the order.

Both routing codes leave through here. `order_exit_guarded` has the same face; adopting Firecurtain replaces this file.
"""

from __future__ import annotations

from .link import Link
from .messages import CHILD, Child, Offer


class OrderExit:
    """Sends child orders to the venue."""

    def __init__(self, venue: Link) -> None:
        self._venue = venue
        self._children = 0

    def find_denial(self, order: Offer) -> str:
        """Why no child of this order may leave now; nobody asks, so there is never a reason."""
        del order
        return ""

    def is_armed(self, order: Offer, token: str) -> bool:
        """Whether the branch behind this flag may run. The bare bit cannot tell whose flag it is: `token` is unread."""
        del token
        return order.flag != 0

    def send(self, order: Offer, shares: int) -> str:
        """Send one child order. Returns the reason why it was not sent; empty when it was."""
        self._children += 1
        child = Child(self._children, order.parent, order.symbol, order.side, shares, order.price_cents)
        self._venue.send(CHILD.pack(*child))
        return ""
