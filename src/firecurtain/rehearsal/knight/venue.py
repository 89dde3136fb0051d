# SPDX-License-Identifier: Apache-2.0
"""The venue: a process that executes every child order it receives and writes its own append-only ledger.

It fills in full, at once, and asks nobody. It knows which session an order came over and nothing of code, flags or
permits. Each order carries the CLOCK_BOOTTIME of its receipt, read right after the bytes arrived.
Run: `python -m firecurtain.rehearsal.knight.venue LISTENER_FD LEDGER`.
"""

from __future__ import annotations

import selectors
import socket
import sys
from collections import defaultdict
from pathlib import Path
from typing import TextIO

from firecurtain.rehearsal.knight.artifacts.smars import clock
from firecurtain.rehearsal.knight.artifacts.smars.link import Link
from firecurtain.rehearsal.knight.artifacts.smars.messages import CHILD, FILL, GATEWAY_NODE, HELLO, MAGIC, Child, Fill
from firecurtain.rehearsal.knight.artifacts.smars.stopping import stop_signal
from firecurtain.rehearsal.knight.ledgers import Execution, Session, format_line

DRAIN_NS = 2_000_000_000  # chosen: sessions that ended have a few kilobytes left to read


class _Peer:
    """A connection and who it said it is; -1 until then."""

    def __init__(self, link: Link, session: int) -> None:
        self.link = link
        self.session = session
        self.node = -1


class Venue:
    """Sessions in, executions into the ledger, fills out."""

    def __init__(self, listener: socket.socket, ledger: TextIO) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._ledger = ledger
        self._peers: dict[Link, _Peer] = {}
        self._sessions = 0
        self._executed: defaultdict[int, int] = defaultdict(int)

    def run(self, stop: socket.socket) -> None:
        """Execute until `stop` is readable; then until the routers that have ended are read to their last byte."""
        stop_ns: int | None = None
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(stop, selectors.EVENT_READ)
            while stop_ns is None or (self._peers and clock.now_ns() - stop_ns < DRAIN_NS):
                for key, _ in selector.select(0.1):
                    if key.fileobj is stop:
                        selector.unregister(stop)
                        stop_ns = clock.now_ns()
                    elif key.fileobj is self._listener:
                        self._accept(selector)
                    elif isinstance(key.fileobj, Link) and key.fileobj in self._peers:
                        self._serve(self._peers[key.fileobj])
                self._settle(selector)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        stream, _ = self._listener.accept()
        self._sessions += 1
        link = Link(stream)
        self._peers[link] = _Peer(link, self._sessions)
        selector.register(link, selectors.EVENT_READ)

    def _serve(self, peer: _Peer) -> None:
        """Read one session: hello, child orders, or the gateway's questions."""
        peer.link.receive()
        receipt_ns = clock.now_ns()
        if peer.node < 0 and not self._greet(peer, receipt_ns):
            return
        if peer.node == GATEWAY_NODE:
            self._answer_questions(peer)
            return
        lines = []
        for record in peer.link.take_all(CHILD):
            child = Child._make(record)
            self._executed[child.parent] += child.shares
            lines.append(format_line(Execution._make((receipt_ns, peer.node, peer.session, *record))))
            peer.link.send(FILL.pack(*Fill(child.child, child.parent, child.shares)))
        self._ledger.write("".join(lines))
        peer.link.flush()

    def _greet(self, peer: _Peer, at_ns: int) -> bool:
        hello = peer.link.take_one(HELLO)
        if hello is None:
            return False
        if hello[0] != MAGIC:
            print(f"session {peer.session} began with {hello[0]!r}, not {MAGIC!r}: closed", file=sys.stderr)  # noqa: T201 - a process's own error stream
            peer.link.is_closed = True
            return False
        peer.node = hello[1]
        self._ledger.write(format_line(Session(at_ns, peer.node, peer.session, True)))
        return True

    def _answer_questions(self, gateway: _Peer) -> None:
        """Drop copy. The asked-for router has ended, so all it ever sent is in our sockets: read those first."""
        questions = [Child._make(record) for record in gateway.link.take_all(CHILD)]
        if questions:
            for peer in list(self._peers.values()):
                if peer is not gateway:
                    self._serve(peer)
        for question in questions:
            gateway.link.send(FILL.pack(*Fill(question.child, question.parent, self._executed[question.parent])))
        gateway.link.flush()

    def _settle(self, selector: selectors.BaseSelector) -> None:
        """Let go of ended sessions, wait for writability only where fills are queued, put the lines on disk's way."""
        for link, peer in list(self._peers.items()):
            if link.is_closed or link.is_congested:  # a router that reads no fills is cut off, as a venue would
                self._ledger.write(format_line(Session(clock.now_ns(), peer.node, peer.session, False)))
                selector.unregister(link)
                link.close()
                del self._peers[link]
                continue
            link.flush()
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.has_outgoing else 0)
            if selector.get_map()[link].events != events:
                selector.modify(link, events)
        self._ledger.flush()


def main(argv: list[str]) -> None:
    """Serve the inherited listening socket until SIGTERM."""
    listener = socket.socket(fileno=int(argv[1]))
    with stop_signal() as stop, Path(argv[2]).open("a", encoding="ascii") as ledger:
        Venue(listener, ledger).run(stop)


if __name__ == "__main__":
    main(sys.argv)
