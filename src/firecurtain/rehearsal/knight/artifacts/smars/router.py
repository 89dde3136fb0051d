# SPDX-License-Identifier: Apache-2.0
"""The router's shell, the same for old and new code: sockets, the clock and the order of events. It routes nothing.

The routing code is a value machine: it is told offers, fills and the time, sends through its exit and returns answers.
A router that loses its venue has no work left and ends; SIGTERM hands the unfinished parents back and ends.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from . import clock
from .link import Link, connect
from .messages import ANSWER, FILL, HELLO, MAGIC, OFFER, STOPPED, Answer, Fill, Hello, Offer
from .order_exit import OrderExit
from .stopping import stop_signal

TICK_NS = 4_000_000  # chosen: due children are sent together at most this late; shorter ticks cost CPU, not accuracy
DRAIN_NS = 1_000_000_000  # chosen: a fill takes about a millisecond; a venue silent for a second is not waited for


class RoutingCode(Protocol):
    """What the old and the new code have in common."""

    def accept(self, order: Offer, now_ns: int) -> list[Answer]: ...
    def on_fill(self, fill: Fill) -> list[Answer]: ...
    def on_time(self, now_ns: int) -> list[Answer]: ...
    def next_due_ns(self) -> int | None: ...
    def stop(self) -> list[Answer]: ...
    def is_idle(self) -> bool: ...


class Router:
    """One routing code between a gateway that offers parents and a venue that executes children."""

    def __init__(self, venue: Link, gateway: Link, code: RoutingCode) -> None:
        self._venue = venue
        self._gateway = gateway
        self._code = code
        self._stop_ns: int | None = None

    def run(self, stop: socket.socket) -> None:
        """Route until `stop` is readable and the unfinished parents are handed back, or until the venue is gone."""
        with selectors.DefaultSelector() as selector:
            selector.register(stop, selectors.EVENT_READ)
            while not self._is_over(clock.now_ns()):
                self._watch(selector)
                if any(key.fileobj is stop for key, _ in selector.select(self._compute_wait_s(clock.now_ns()))):
                    selector.unregister(stop)
                    self._stop_ns = clock.now_ns()
                    self._answer(self._code.stop())
                self._turn()

    def _turn(self) -> None:
        self._venue.receive()
        self._gateway.receive()
        now_ns = clock.now_ns()
        for record in self._venue.take_all(FILL):
            self._answer(self._code.on_fill(Fill._make(record)))
        for record in self._gateway.take_all(OFFER):
            self._answer(self._accept(Offer._make(record), now_ns))
        if not self._venue.is_congested:
            self._answer(self._code.on_time(now_ns))
        self._venue.flush()
        self._gateway.flush()

    def _accept(self, order: Offer, now_ns: int) -> list[Answer]:
        if self._stop_ns is not None:
            return [Answer(order.parent, STOPPED, 0, b"router stops")]
        return self._code.accept(order, now_ns)

    def _answer(self, answers: list[Answer]) -> None:
        for answer in answers:
            self._gateway.send(ANSWER.pack(*answer))

    def _is_over(self, now_ns: int) -> bool:
        if self._venue.is_closed:
            return True
        if self._stop_ns is None:
            return False
        is_drained = self._code.is_idle() and not self._venue.has_outgoing and not self._gateway.has_outgoing
        return is_drained or now_ns - self._stop_ns > DRAIN_NS

    def _compute_wait_s(self, now_ns: int) -> float:
        due_ns = self._code.next_due_ns()
        if due_ns is None:
            return 0.1
        return min(max(due_ns - now_ns, TICK_NS), 100_000_000) / 1e9

    def _watch(self, selector: selectors.BaseSelector) -> None:
        """Register each open link for what it waits for; a closed one is watched no longer."""
        for link in (self._venue, self._gateway):
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.has_outgoing else 0)
            key = selector.get_map().get(link)
            if link.is_closed:
                if key is not None:
                    selector.unregister(link)
            elif key is None:
                selector.register(link, events)
            elif key.events != events:
                selector.modify(link, events)


def run_router(argv: list[str], make_code: Callable[[OrderExit], RoutingCode]) -> None:
    """Run the router of node argv[1] between the sockets in directory argv[2]."""
    node, sockets = int(argv[1]), Path(argv[2])
    with stop_signal() as stop:
        hello = HELLO.pack(*Hello(MAGIC, node))
        venue, gateway = connect(sockets / "venue.sock", hello), connect(sockets / "feeder.sock", hello)
        Router(venue, gateway, make_code(OrderExit(venue))).run(stop)
