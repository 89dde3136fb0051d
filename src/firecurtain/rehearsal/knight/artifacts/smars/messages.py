# SPDX-License-Identifier: Apache-2.0
"""What feeder, routers and venue say to each other: records of one fixed size per direction of a connection.

No record says which code its sender runs: a hello names the node, and old and new code write the same bytes after it.
Prices are whole cents. Shared by all parties, so this module imports the standard library only.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

GATEWAY_NODE = 0
"""The feeder's own node number on the venue's socket, where it reads its drop copy; routers are 1 to 8."""

HELLO = struct.Struct("<4sI")
OFFER = struct.Struct("<IHBBII")
ANSWER = struct.Struct("<IBI23s")
CHILD = struct.Struct("<QIHBxIIQQ")
FILL = struct.Struct("<QII")

MAGIC = b"SMR1"

BUY = 0
SELL = 1

DONE = 1
NOT_ARMED = 2
DENIED = 3
STOPPED = 4
OUTCOMES = {DONE: "done", NOT_ARMED: "not-armed", DENIED: "denied", STOPPED: "stopped"}


class Hello(NamedTuple):
    """The first record on every connection, from whoever opened it."""

    magic: bytes
    node: int


class Offer(NamedTuple):
    """Feeder to router: take this parent order. `flag` is the bare bit that each order carries, as in 2012."""

    parent: int
    symbol: int
    side: int
    flag: int
    shares: int
    price_cents: int


class Answer(NamedTuple):
    """Router to feeder: what became of a parent. Without `DONE`, shares not sent are the feeder's to offer again."""

    parent: int
    outcome: int
    shares_sent: int
    reason: bytes = b""


class Child(NamedTuple):
    """Router to venue: one child order. The token pair is (ledger_epoch, ledger_seq), zeros where no guard runs.

    On the drop copy connection of GATEWAY_NODE the same record is a question: how much of `parent` has been executed?
    """

    child: int
    parent: int
    symbol: int
    side: int
    shares: int
    price_cents: int
    token_epoch: int = 0
    token_seq: int = 0


class Fill(NamedTuple):
    """Venue to router: this child is executed in full. On the drop copy: `shares` of the parent are executed by now."""

    child: int
    parent: int
    shares: int
