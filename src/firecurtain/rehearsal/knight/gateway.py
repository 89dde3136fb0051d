# SPDX-License-Identifier: Apache-2.0
"""The order gateway's rules, pure: which parent is offered to which router when, and what follows from each answer.

First offers go round the connected routers one by one; what comes back goes round them by a second pointer, never
straight to the router that gave it back, after a pause that doubles up to half a second. No parent is ever given up.
The gateway knows nodes and answers and nothing of the code that a router runs.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from firecurtain.rehearsal.knight.artifacts.smars.messages import DONE
from firecurtain.rehearsal.knight.market import NODES, Parent

PAUSE_NS = 20_000_000  # chosen: two orders of magnitude above an answer's way
PAUSE_DOUBLINGS = 5  # up to 640 ms: a thousand waiting parents cost 1,600 offers a second


class Gateway:
    """Parents due, parents in flight, and the routers that are there."""

    def __init__(self) -> None:
        self._remaining: dict[int, int] = {}
        self._due: list[tuple[int, int]] = []  # (offer at, parent), a heap
        self._in_flight: dict[int, int] = {}
        self._returned_by: dict[int, int] = {}
        self._returns: dict[int, int] = {}
        self._routers: set[int] = set()
        self._first_turn = 0
        self._return_turn = 0

    def open_market(self, parents: Sequence[Parent], open_ns: int, offers_ns: int) -> None:
        """Spread the first offers evenly over `offers_ns` from `open_ns` on, in the order of `parents`."""
        self._remaining = {parent.parent: parent.shares for parent in parents}
        self._due = [
            (open_ns + index * offers_ns // len(parents), parent.parent) for index, parent in enumerate(parents)
        ]

    def next_due_ns(self) -> int | None:
        """When the next parent is due; None while there is none or no router to offer it to."""
        return self._due[0][0] if self._due and self._routers else None

    def on_open(self, node: int) -> None:
        """A router is there."""
        self._routers.add(node)

    def on_close(self, node: int) -> list[int]:
        """A router is gone. Returns its parents in flight: they stay in doubt until `on_reconciled`."""
        self._routers.discard(node)
        return [parent for parent, holder in self._in_flight.items() if holder == node]

    def take_due(self, now_ns: int) -> list[tuple[int, int, int]]:
        """The (parent, node, shares) to offer now."""
        offers = []
        while self._routers and self._due and self._due[0][0] <= now_ns:
            _, parent = heapq.heappop(self._due)
            node = self._choose_router(parent)
            self._in_flight[parent] = node
            offers.append((parent, node, self._remaining[parent]))
        return offers

    def on_answer(self, parent: int, node: int, outcome: int, shares_sent: int, now_ns: int) -> None:
        """A router answered. An answer on a parent that it no longer holds is for the ledger only."""
        if self._in_flight.get(parent) != node:
            return
        if outcome == DONE:
            shares_sent = self._remaining[parent]
        self.on_reconciled(parent, self._remaining[parent] - shares_sent, now_ns)

    def on_reconciled(self, parent: int, shares_remaining: int, now_ns: int) -> None:
        """What is left of a parent is known: offer it again, or it is complete."""
        node = self._in_flight.pop(parent)
        self._remaining[parent] = max(shares_remaining, 0)
        if shares_remaining <= 0:
            return
        returns = self._returns[parent] = self._returns.get(parent, 0) + 1
        self._returned_by[parent] = node
        heapq.heappush(self._due, (now_ns + (PAUSE_NS << min(returns - 1, PAUSE_DOUBLINGS)), parent))

    def _choose_router(self, parent: int) -> int:
        giver = self._returned_by.get(parent)
        if giver is None:
            self._first_turn = self._find_router(self._first_turn, None)
            return self._first_turn
        self._return_turn = self._find_router(self._return_turn, giver)
        return self._return_turn

    def _find_router(self, last: int, giver: int | None) -> int:
        """The next connected router after `last`; the giver only when it is the only one."""
        ring = [(last + step) % NODES + 1 for step in range(NODES)]
        others = [node for node in ring if node in self._routers and node != giver]
        return others[0] if others else ring[[node in self._routers for node in ring].index(True)]
