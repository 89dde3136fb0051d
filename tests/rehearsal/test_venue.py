# SPDX-License-Identifier: Apache-2.0
"""The venue as a process: it executes what it gets, cheaply, and its ledger is its own."""

from __future__ import annotations

import os
import selectors
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from firecurtain.rehearsal.knight.artifacts.smars.link import Link, connect
from firecurtain.rehearsal.knight.artifacts.smars.messages import CHILD, FILL, HELLO, MAGIC, Child, Fill, Hello
from firecurtain.rehearsal.knight.ledgers import Execution, Session, read_lines
from firecurtain.rehearsal.knight.processes import Processes
from firecurtain.rehearsal.knight.runner import listen

RATE_PER_S = 2000
SECONDS = 2


class Venue:
    """A running venue and the way to it."""

    def __init__(self, directory: Path, processes: Processes) -> None:
        self.socket, self.ledger, self.processes = directory / "venue.sock", directory / "venue.ledger", processes
        with listen(self.socket) as listener:
            argv = [
                sys.executable,
                "-m",
                "firecurtain.rehearsal.knight.venue",
                str(listener.fileno()),
                str(self.ledger),
            ]
            self.pid = processes.start("venue", argv, listener_fd=listener.fileno()).pid

    def connect(self, node: int, magic: bytes = MAGIC) -> Link:
        return connect(self.socket, HELLO.pack(*Hello(magic, node)))

    def compute_cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> list[object]:
        self.processes.stop(["venue"])
        return list(read_lines(self.ledger.read_text().splitlines()))


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[Venue]:
    with Processes(tmp_path) as processes:
        yield Venue(tmp_path, processes)


def exchange(link: Link, children: list[Child], fills: int) -> list[Fill]:
    """Send children and wait for so many fills."""
    for child in children:
        link.send(CHILD.pack(*child))
    link.flush()
    received: list[Fill] = []
    with selectors.DefaultSelector() as selector:
        selector.register(link, selectors.EVENT_READ)
        while len(received) < fills:
            assert selector.select(5), f"{len(received)} of {fills} fills after 5 s"
            link.receive()
            received += [Fill._make(record) for record in link.take_all(FILL)]
    return received


def test_every_child_is_filled_and_stands_in_the_ledger_with_its_session_and_token(venue: Venue):
    before_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    router = venue.connect(4)
    fills = exchange(router, [Child(1, 17, 3, 1, 100, 1675, 1, 42), Child(2, 17, 3, 1, 50, 1675)], 2)
    router.close()
    assert fills == [Fill(1, 17, 100), Fill(2, 17, 50)]
    opened, first, second, closed = venue.close()
    assert isinstance(first, Execution)
    assert isinstance(opened, Session)
    assert before_ns < first.receipt_ns < time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert first[1:] == (4, 1, 1, 17, 3, 1, 100, 1675, 1, 42)
    assert second[1:] == (4, 1, 2, 17, 3, 1, 50, 1675, 0, 0)
    assert (opened.is_open, closed.is_open) == (True, False)


def test_the_drop_copy_counts_the_last_bytes_of_a_router_that_is_gone(venue: Venue):
    gateway, router = venue.connect(0), venue.connect(5)
    for number in range(1, 51):
        router.send(CHILD.pack(*Child(number, 9, 3, 0, 100, 1675)))
    router.flush()
    router.close()  # with every fill unread, as a killed process leaves it
    assert exchange(gateway, [Child(0, 9, 3, 0, 0, 1675)], 1) == [Fill(0, 9, 5000)]
    gateway.close()


def test_a_stranger_is_shown_the_door_and_the_others_go_on(venue: Venue):
    stranger, router = venue.connect(3, b"HTTP"), venue.connect(4)
    assert exchange(router, [Child(1, 17, 3, 1, 100, 1675)], 1) == [Fill(1, 17, 100)]
    with selectors.DefaultSelector() as selector:
        selector.register(stranger, selectors.EVENT_READ)
        assert selector.select(5)
    stranger.receive()
    assert stranger.is_closed
    stranger.close()
    router.close()
    assert {event.node for event in venue.close() if isinstance(event, Execution)} == {4}


def test_two_thousand_executions_a_second_cost_the_venue_less_than_15_percent_of_a_core(venue: Venue):
    router = venue.connect(1)
    exchange(router, [Child(0, 1, 3, 0, 100, 1675)], 1)
    cpu_s, began_s, batch = venue.compute_cpu_s(), time.monotonic(), RATE_PER_S // 500
    with selectors.DefaultSelector() as selector:
        selector.register(router, selectors.EVENT_READ)
        filled = 0
        for turn in range(500 * SECONDS):
            for number in range(batch):
                router.send(CHILD.pack(*Child(number, 1, 3, 0, 100, 1675)))
            router.flush()
            while (left_s := began_s + turn / 500 - time.monotonic()) > 0:
                selector.select(left_s)
                router.receive()
                filled += len(list(router.take_all(FILL)))
    elapsed_s = time.monotonic() - began_s
    share = (venue.compute_cpu_s() - cpu_s) / elapsed_s
    router.close()
    executions = sum(isinstance(event, Execution) for event in venue.close())
    assert executions == RATE_PER_S * SECONDS + 1
    assert share < 0.15, f"{share:.1%} of a core at {executions / elapsed_s:.0f} executions/s"
