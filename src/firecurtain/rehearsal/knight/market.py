# SPDX-License-Identifier: Apache-2.0
"""The morning's orders as values: 1,696 retail parents over 154 symbols, 80 of them bought and 74 sold. Pure.

1,696 is 8 x 212: the 212 parents of the SEC's order are those that met the old code, so an even spread over eight
servers brings 212 to whichever misses the update. That, the price and the size are assumptions; `ASSUMPTIONS` says so.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from firecurtain.rehearsal.knight.artifacts.smars.messages import BUY, SELL

NODES = 8
SERVERS = tuple(range(1, NODES + 1))
PARENTS_PER_NODE = 212
PARENTS = NODES * PARENTS_PER_NODE
SYMBOLS = 154
SYMBOLS_BOUGHT = 80
SHARES_PER_PARENT = 300
PRICE_CENTS = 1675
MORNING_S = 2700

ASSUMPTIONS = (
    "1,696 parents spread evenly, so 212 meet each server",
    "300 shares a parent, sent as 3 children of 100",
    "16.75 USD a share (6.65 bn USD / 397 M shares)",
    "each parent that meets Power Peg sends 6.99 children a second (4 M / 212 / 2,700 s)",
)


@dataclass(frozen=True, slots=True)
class Parent:
    """A customer's order."""

    parent: int
    symbol: int
    side: int
    shares: int
    price_cents: int


def make_parents(seed: int) -> tuple[Parent, ...]:
    """The parents in the order of their first offers; the n-th comes to server n mod 8 when all eight take part.

    Each server meets every symbol, as the 212 of the SEC's order did. The seed moves the order, never the totals.

    >>> len(make_parents(1)), len({parent.symbol for parent in make_parents(1)[7::8]})
    (1696, 154)
    """
    lanes = [_shuffle_lane(lane, random.Random(seed * NODES + lane)) for lane in range(NODES)]  # noqa: S311 - a replay
    symbols = [symbol for turn in zip(*lanes, strict=True) for symbol in turn]
    return tuple(
        Parent(number, symbol, BUY if symbol < SYMBOLS_BOUGHT else SELL, SHARES_PER_PARENT, PRICE_CENTS)
        for number, symbol in enumerate(symbols, start=1)
    )


def _shuffle_lane(lane: int, draw: random.Random) -> list[int]:
    """One server's symbols: each of the 154 once, and 58 a second time, another 58 for each server."""
    extra = PARENTS_PER_NODE - SYMBOLS
    symbols = list(range(SYMBOLS)) + [(lane * extra + index) % SYMBOLS for index in range(extra)]
    draw.shuffle(symbols)
    return symbols
