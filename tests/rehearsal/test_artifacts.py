# SPDX-License-Identifier: Apache-2.0
"""The two artifacts: other code, other token, the same words everywhere else, and no message that tells them apart."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from firecurtain.artifact.seal import Sealed, seal
from firecurtain.rehearsal.knight.artifacts.smars.link import Link
from firecurtain.rehearsal.knight.artifacts.smars.messages import CHILD, DONE, FILL, STOPPED, Answer, Fill, Offer
from firecurtain.rehearsal.knight.artifacts.smars.order_exit import OrderExit
from firecurtain.rehearsal.knight.artifacts.smars.power_peg import PACE_NS, POWER_PEG, PowerPeg
from firecurtain.rehearsal.knight.artifacts.smars.retail_liquidity import RETAIL_LIQUIDITY, RetailLiquidity
from firecurtain.rehearsal.knight.assemble import Code, Exit, assemble
from firecurtain.terms import parse_token

ORDER = Offer(parent=17, symbol=3, side=1, flag=1, shares=300, price_cents=1675)
NOW_NS = 123_456_789_000


@pytest.fixture
def sealed(tmp_path: Path) -> dict[Code, Sealed]:
    """Both codes with the bare exit, sealed."""
    both = {}
    for code in Code:
        assemble(code, Exit.BARE, tmp_path / code.name)
        both[code] = seal(tmp_path / code.name, tmp_path / "store")
    return both


class Venue:
    """The far end of an exit, here in the test."""

    def __init__(self) -> None:
        near, far = socket.socketpair()
        self.near, self.far = Link(near), Link(far)

    def take(self) -> list[tuple[int, ...]]:
        self.near.flush()
        self.far.receive()
        return list(self.far.take_all(CHILD))

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def venue():
    far_end = Venue()
    yield far_end
    far_end.close()


def test_old_and_new_differ_in_digest_and_token(sealed: dict[Code, Sealed]):
    assert sealed[Code.OLD].digest != sealed[Code.NEW].digest
    assert sealed[Code.OLD].tokens == (parse_token(POWER_PEG),)
    assert sealed[Code.NEW].tokens == (parse_token(RETAIL_LIQUIDITY),)


def test_old_and_new_differ_in_routing_code_only(sealed: dict[Code, Sealed]):
    old, new = ({file.path: file.digest for file in sealed[code].files} for code in (Code.OLD, Code.NEW))
    assert {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)} == {
        "smars/start.py",
        "smars/power_peg.py",
        "smars/retail_liquidity.py",
    }


def test_the_same_flag_word_stands_in_both_sources(sealed: dict[Code, Sealed]):
    for code, module in ((Code.OLD, "power_peg"), (Code.NEW, "retail_liquidity")):
        assert 'ROUTING_FLAG = "routing-flag"' in (sealed[code].path / "smars" / f"{module}.py").read_text()


def test_no_message_says_which_code_sent_it(venue: Venue):
    order_exit = OrderExit(venue.near)
    children = []
    for code in (PowerPeg(order_exit), RetailLiquidity(order_exit)):
        assert code.accept(ORDER, NOW_NS) == []
        code.on_time(NOW_NS)
        children += venue.take()
    (_, *old), (_, *new) = children
    assert old == new
    assert new == [17, 3, 1, 100, 1675, 0, 0]


def test_the_new_code_sends_exactly_what_was_ordered(venue: Venue):
    code = RetailLiquidity(OrderExit(venue.near))
    order = ORDER._replace(shares=250)
    answers = code.accept(order, NOW_NS)
    sent = []
    while not code.is_idle():
        [child] = venue.take()
        sent.append(child[4])
        answers += code.on_fill(Fill(child[0], child[1], child[4]))
    assert sent == [100, 100, 50]
    assert answers == [Answer(17, DONE, 250)]


def test_power_peg_never_comes_past_the_check_that_counts_shares(venue: Venue):
    code = PowerPeg(OrderExit(venue.near))
    code.accept(ORDER, NOW_NS)
    answers, executed = [], 0
    for step in range(50):
        code.on_time(NOW_NS + step * PACE_NS)
        for child in venue.take():
            executed += child[4]
            answers += code.on_fill(Fill(child[0], child[1], child[4]))
    assert answers == [Answer(17, DONE, 300)]  # somebody knew it was filled, after three children
    assert executed == 5000


def test_power_peg_keeps_its_pace_exactly_and_makes_up_for_a_pause(venue: Venue):
    code = PowerPeg(OrderExit(venue.near))
    code.accept(ORDER, NOW_NS)
    code.on_time(NOW_NS)
    code.on_time(NOW_NS + PACE_NS - 1)
    assert len(venue.take()) == 1
    code.on_time(NOW_NS + 10 * PACE_NS)
    assert len(venue.take()) == 10
    assert code.next_due_ns() == NOW_NS + 11 * PACE_NS


def test_without_the_flag_the_bare_exit_wakes_neither_code(venue: Venue):
    order_exit, quiet = OrderExit(venue.near), ORDER._replace(flag=0)
    for code in (PowerPeg(order_exit), RetailLiquidity(order_exit)):
        [answer] = code.accept(quiet, NOW_NS)
        assert (answer.shares_sent, answer.reason) == (0, b"routing-flag")
    assert venue.take() == []


def test_a_stopping_router_hands_back_what_it_has_not_sent(venue: Venue):
    order_exit = OrderExit(venue.near)
    old, new = PowerPeg(order_exit), RetailLiquidity(order_exit)
    old.accept(ORDER, NOW_NS)
    old.on_time(NOW_NS)
    assert old.stop() == [Answer(17, STOPPED, 100, b"router stops")]
    assert old.is_idle()
    new.accept(ORDER, NOW_NS)
    assert new.stop() == []
    assert not new.is_idle()
    assert new.on_fill(Fill(1, 17, 100)) == [Answer(17, STOPPED, 100, b"router stops")]
    assert new.is_idle()


def test_bytes_of_a_lost_peer_are_read_to_the_last_one():
    near, far = socket.socketpair()
    reader, writer = Link(near), Link(far)
    writer.send(FILL.pack(1, 17, 100))
    writer.flush()
    writer.close()
    reader.send(FILL.pack(2, 17, 100))
    reader.flush()
    assert not reader.is_closed
    reader.receive()
    assert list(reader.take_all(FILL)) == [(1, 17, 100)]
    reader.receive()
    assert reader.is_closed
    reader.close()
