# SPDX-License-Identifier: Apache-2.0
"""The lines of the two append-only ledgers, the venue's and the feeder's, and their reading back. Pure.

Tab-separated text, one event a line, kind and CLOCK_BOOTTIME nanoseconds first, so that a person can read a ledger
without us. The judge joins the two after the run; nobody else's word counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from firecurtain.terms import FirecurtainError


class RehearsalError(FirecurtainError):
    """A rehearsal could not be carried out; this says nothing about its arms."""

    code = "rehearsal"


class Execution(NamedTuple):
    """Venue: a child order was executed in full. The node is the session's, as it introduced itself."""

    receipt_ns: int
    node: int
    session: int
    child: int
    parent: int
    symbol: int
    side: int
    shares: int
    price_cents: int
    token_epoch: int
    token_seq: int


class Session(NamedTuple):
    """Venue and feeder: a connection of this node began or ended."""

    at_ns: int
    node: int
    session: int
    is_open: bool


class Order(NamedTuple):
    """Feeder: what a customer ordered."""

    at_ns: int
    parent: int
    symbol: int
    side: int
    shares: int
    price_cents: int


class Offered(NamedTuple):
    """Feeder: this many shares of a parent were offered to a node."""

    at_ns: int
    parent: int
    node: int
    shares: int


class Answered(NamedTuple):
    """Feeder: a router's answer; without `done`, what was not sent is offered to another router."""

    at_ns: int
    parent: int
    node: int
    outcome: str
    shares_sent: int
    reason: str


class Reconciled(NamedTuple):
    """Feeder: a router was lost without an answer; the venue's drop copy tells what it had executed of a parent."""

    at_ns: int
    parent: int
    node: int
    shares_executed: int


Event = Execution | Session | Order | Offered | Answered | Reconciled

_KINDS: dict[str, type[Event]] = {
    "execution": Execution,
    "session": Session,
    "order": Order,
    "offer": Offered,
    "answer": Answered,
    "reconciled": Reconciled,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def format_line(event: Event) -> str:
    r"""One event as its line.

    >>> format_line(Offered(17, 4, 8, 300))
    'offer\t17\t4\t8\t300\n'
    """
    fields = (str(int(field)) if isinstance(field, bool) else str(field) for field in event)
    return "\t".join((_NAMES[type(event)], *fields)) + "\n"


def read_lines(lines: Iterable[str]) -> Iterator[Event]:
    r"""The events of a ledger, in its order.

    Raises: RehearsalError: a line that this version does not write; a ledger is never repaired.

    >>> list(read_lines(["offer\t17\t4\t8\t300\n"]))
    [Offered(at_ns=17, parent=4, node=8, shares=300)]
    """
    for number, line in enumerate(lines, start=1):
        name, *fields = line.rstrip("\n").split("\t")
        try:
            yield _read_fields(name, fields)
        except (KeyError, TypeError, ValueError) as error:
            raise RehearsalError(
                f"ledger line {number} {line!r} cannot be read: {error!r}. The ledger was cut or changed: run again."
            ) from error


def _read_fields(name: str, fields: list[str]) -> Event:
    if name == "execution":  # nearly all lines are executions
        return Execution._make(map(int, fields))
    if name == "answer":
        at_ns, parent, node, outcome, shares_sent, reason = fields
        return Answered(int(at_ns), int(parent), int(node), outcome, int(shares_sent), reason)
    if name == "session":
        at_ns, node, session, is_open = fields
        return Session(int(at_ns), int(node), int(session), is_open == "1")
    return _KINDS[name](*map(int, fields))  # type: ignore[arg-type]  # the kinds left have integer fields only
