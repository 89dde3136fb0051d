# SPDX-License-Identifier: Apache-2.0
"""The feeder: a process that offers the morning's parents to the routers and keeps its own append-only ledger.

It is the shell around `gateway`: sockets, clock, ledger. It opens the market when told the moment on its standard
input, and sets the same flag bit in every order. A router that is lost without an answer leaves parents in doubt; the
venue's drop copy settles them, so nothing is offered twice that was executed already.
Run: `python -m firecurtain.rehearsal.knight.feeder LISTENER_FD SOCKETS LEDGER SEED`, then `OPEN_NS WINDOW_NS` as input.
"""

from __future__ import annotations

import selectors
import socket
import sys
from pathlib import Path
from typing import TextIO

from firecurtain.rehearsal.knight.artifacts.smars import clock
from firecurtain.rehearsal.knight.artifacts.smars.link import Link, connect
from firecurtain.rehearsal.knight.artifacts.smars.messages import (
    ANSWER,
    CHILD,
    FILL,
    GATEWAY_NODE,
    HELLO,
    MAGIC,
    OFFER,
    OUTCOMES,
    Answer,
    Child,
    Fill,
    Hello,
    Offer,
)
from firecurtain.rehearsal.knight.artifacts.smars.stopping import stop_signal
from firecurtain.rehearsal.knight.gateway import Gateway
from firecurtain.rehearsal.knight.ledgers import Answered, Event, Offered, Order, Reconciled, Session, format_line
from firecurtain.rehearsal.knight.market import Parent, make_parents

FLAG_SET = 1


class Feeder:
    """Routers, parents and the venue's drop copy."""

    def __init__(self, listener: socket.socket, drop_copy: Link, ledger: TextIO, parents: tuple[Parent, ...]) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._drop_copy = drop_copy
        self._ledger = ledger
        self._parents = {parent.parent: parent for parent in parents}
        self._gateway = Gateway()
        self._unnamed: set[Link] = set()
        self._routers: dict[int, Link] = {}
        self._in_doubt: dict[int, int] = {}
        self._sessions = 0

    def run(self, orders: TextIO, stop: socket.socket) -> None:
        """Feed until `stop` is readable. `orders` brings the one line that opens the market."""
        with selectors.DefaultSelector() as selector:
            for source in (self._listener, self._drop_copy, orders, stop):
                selector.register(source, selectors.EVENT_READ)
            ready: list[object] = []
            while stop not in ready and not self._drop_copy.is_closed:
                ready = [key.fileobj for key, _ in selector.select(self._compute_wait_s(clock.now_ns()))]
                if orders in ready:
                    selector.unregister(orders)
                    self._open_market(orders.readline())
                self._listen_to_routers(selector)
                if self._listener in ready:
                    self._accept(selector)
                self._greet(selector)
                self._settle_doubts()
                self._offer_due()
                self._flush(selector)

    def _listen_to_routers(self, selector: selectors.BaseSelector) -> None:
        for node, link in list(self._routers.items()):
            link.receive()
            for record in link.take_all(ANSWER):
                self._take_answer(node, Answer._make(record))
            if link.is_closed:
                self._lose_router(selector, node)

    def _flush(self, selector: selectors.BaseSelector) -> None:
        for link in (*self._routers.values(), self._drop_copy):
            link.flush()
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.has_outgoing else 0)
            if selector.get_map()[link].events != events:
                selector.modify(link, events)
        self._ledger.flush()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        stream, _ = self._listener.accept()
        link = Link(stream)
        self._unnamed.add(link)
        selector.register(link, selectors.EVENT_READ)

    def _greet(self, selector: selectors.BaseSelector) -> None:
        """Learn the node of each new connection. Lost routers were heard before, so a node is never here twice."""
        for link in list(self._unnamed):
            link.receive()
            hello = link.take_one(HELLO)
            if hello is not None and hello[1] not in self._routers:
                self._unnamed.discard(link)
                self._add_router(hello[1], link)
            elif hello is not None or link.is_closed:
                self._unnamed.discard(link)
                selector.unregister(link)
                link.close()

    def _add_router(self, node: int, link: Link) -> None:
        self._sessions += 1
        self._routers[node] = link
        self._write(Session(clock.now_ns(), node, self._sessions, True))
        self._gateway.on_open(node)

    def _open_market(self, line: str) -> None:
        """Every order is in the ledger before the first is offered."""
        open_ns, window_ns = map(int, line.split())
        for parent in self._parents.values():
            fields = (parent.parent, parent.symbol, parent.side, parent.shares, parent.price_cents)
            self._write(Order(open_ns, *fields))
        self._gateway.open_market(tuple(self._parents.values()), open_ns, window_ns // 2)

    def _take_answer(self, node: int, answer: Answer) -> None:
        now_ns = clock.now_ns()
        reason = answer.reason.rstrip(b"\0").decode()
        self._write(Answered(now_ns, answer.parent, node, OUTCOMES[answer.outcome], answer.shares_sent, reason))
        self._gateway.on_answer(answer.parent, node, answer.outcome, answer.shares_sent, now_ns)

    def _lose_router(self, selector: selectors.BaseSelector, node: int) -> None:
        """A router is gone: ask the venue what it had executed of each parent that it still held."""
        link = self._routers.pop(node)
        selector.unregister(link)
        link.close()
        self._write(Session(clock.now_ns(), node, 0, False))
        for parent in self._gateway.on_close(node):
            self._in_doubt[parent] = node
            order = self._parents[parent]
            self._drop_copy.send(CHILD.pack(*Child(0, parent, order.symbol, order.side, 0, order.price_cents)))

    def _settle_doubts(self) -> None:
        self._drop_copy.receive()
        for record in self._drop_copy.take_all(FILL):
            now_ns, fill = clock.now_ns(), Fill._make(record)
            self._write(Reconciled(now_ns, fill.parent, self._in_doubt.pop(fill.parent), fill.shares))
            self._gateway.on_reconciled(fill.parent, self._parents[fill.parent].shares - fill.shares, now_ns)

    def _offer_due(self) -> None:
        now_ns = clock.now_ns()
        for parent, node, shares in self._gateway.take_due(now_ns):
            order = self._parents[parent]
            self._write(Offered(now_ns, parent, node, shares))
            offer = Offer(parent, order.symbol, order.side, FLAG_SET, shares, order.price_cents)
            self._routers[node].send(OFFER.pack(*offer))

    def _compute_wait_s(self, now_ns: int) -> float:
        due_ns = self._gateway.next_due_ns()
        return 0.1 if due_ns is None else min(max(due_ns - now_ns, 0), 100_000_000) / 1e9

    def _write(self, event: Event) -> None:
        self._ledger.write(format_line(event))


def main(argv: list[str]) -> None:
    """Feed over the inherited listening socket until SIGTERM."""
    listener, sockets = socket.socket(fileno=int(argv[1])), Path(argv[2])
    drop_copy = connect(sockets / "venue.sock", HELLO.pack(*Hello(MAGIC, GATEWAY_NODE)))
    with stop_signal() as stop, Path(argv[3]).open("a", encoding="ascii") as ledger:
        Feeder(listener, drop_copy, ledger, make_parents(int(argv[4]))).run(sys.stdin, stop)


if __name__ == "__main__":
    main(sys.argv)
