# SPDX-License-Identifier: Apache-2.0
"""No message says which code sent it. Goal: venue and feeder tell old from new code only by what it does.
Method: both artifacts as real processes between a venue and a feeder that the test plays, their bytes compared."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from firecurtain import permit
from firecurtain.artifact.seal import seal
from firecurtain.rehearsal.knight.artifacts.smars.messages import ANSWER, CHILD, FILL, HELLO, OFFER, Fill, Offer
from firecurtain.rehearsal.knight.assemble import Code, Exit, assemble
from firecurtain.rehearsal.knight.release_file import ACTION, EFFECTS_PER_CAUSE, GROSS_USD, SERVICE, TOKENS
from firecurtain.rehearsal.knight.runner import listen
from firecurtain.terms import NS_PER_S, FlagToken

ORDER = Offer(parent=17, symbol=3, side=1, flag=1, shares=300, price_cents=1675)
AGE_NS = 60 * NS_PER_S


def write_page(directory: Path, digest: str, token: str) -> permit.PageWriter:
    """The page of node 1 as an agent would write it for this code, the same in everything else."""
    directory.mkdir(mode=0o700)
    header = permit.PageHeader("knight", SERVICE, "host-1", AGE_NS, permit.read_boot_id(), permit.read_time_namespace())
    page = permit.PageWriter(str(directory / "permit.page"), header)
    limits = {ACTION: permit.ActionLimits(effects_per_cause=EFFECTS_PER_CAUSE, gross_usd=GROSS_USD)}
    named = permit.write_limits(str(directory), permit.encode_limits(limits))
    grant = permit.Grant(1, 40, digest, digest, named, frozenset({FlagToken(token)}))
    page.grant(grant, permit.boottime_ns() + AGE_NS // 2)
    return page


def read_exactly(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += (chunk := stream.recv(size - len(data)))
        assert chunk, f"the router went after {len(data)} of {size} bytes"
    return data


def play_one_order(sockets: Path, argv: list[str], environment: dict[str, str]) -> tuple[bytes, bytes]:
    """Everything that a router says to the venue and to the feeder while it fills one order."""
    with listen(sockets / "venue.sock") as venue_listener, listen(sockets / "feeder.sock") as feeder_listener:
        router = subprocess.Popen(argv, env=environment)
        try:
            venue, feeder = venue_listener.accept()[0], feeder_listener.accept()[0]
            with venue, feeder:
                venue.settimeout(10)
                feeder.settimeout(10)
                to_venue, to_feeder = read_exactly(venue, HELLO.size), read_exactly(feeder, HELLO.size)
                feeder.sendall(OFFER.pack(*ORDER))
                for _ in range(3):
                    child = read_exactly(venue, CHILD.size)
                    to_venue += child
                    number, parent, _, _, shares, *_ = CHILD.unpack(child)
                    venue.sendall(FILL.pack(*Fill(number, parent, shares)))
                to_feeder += read_exactly(feeder, ANSWER.size)
        finally:
            router.kill()
            router.wait()
    return to_venue, to_feeder


@pytest.mark.parametrize("order_exit", Exit)
def test_old_and_new_code_say_the_same_bytes_while_they_fill_an_order(tmp_path: Path, order_exit: Exit):
    said = {}
    for code in Code:
        place = tmp_path / code.name.lower()
        assemble(code, order_exit, place / "build")
        sealed = seal(place / "build", place / "store")
        page = write_page(place / "permit", sealed.digest, TOKENS[code])
        argv = [sys.executable, "-B", str(sealed.path / "main.py"), "1", str(place)]
        environment = {permit.PERMIT_VARIABLE: str(place / "permit" / "permit.page"), "PATH": os.defpath}
        said[code] = play_one_order(place, argv, environment)
        page.release()
    assert said[Code.OLD] == said[Code.NEW]
    to_venue, to_feeder = said[Code.NEW]
    assert (len(to_venue), len(to_feeder)) == (HELLO.size + 3 * CHILD.size, HELLO.size + ANSWER.size)
