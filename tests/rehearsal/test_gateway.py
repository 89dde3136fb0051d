# SPDX-License-Identifier: Apache-2.0
"""The gateway's rules: an even spread, no parent lost, nothing offered that was executed already."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from firecurtain.rehearsal.knight.artifacts.smars.messages import DENIED, DONE, NOT_ARMED, STOPPED
from firecurtain.rehearsal.knight.gateway import Gateway
from firecurtain.rehearsal.knight.market import NODES, Parent, make_parents

OPEN_NS = 77_000_000_000_000
OFFERS_NS = 5_000_000_000
FOREVER_NS = OPEN_NS * 2


def make_gateway(parents: tuple[Parent, ...], nodes: range = range(1, NODES + 1)) -> Gateway:
    gateway = Gateway()
    gateway.open_market(parents, OPEN_NS, OFFERS_NS)
    for node in nodes:
        gateway.on_open(node)
    return gateway


def test_all_eight_get_212_parents_over_154_symbols_each():
    parents = make_parents(seed=3)
    symbols = {parent.parent: parent.symbol for parent in parents}
    offers = make_gateway(parents).take_due(OPEN_NS + OFFERS_NS)
    assert Counter(node for _, node, _ in offers) == dict.fromkeys(range(1, 9), 212)
    for node in range(1, 9):
        assert len({symbols[parent] for parent, receiver, _ in offers if receiver == node}) == 154


def test_seeds_move_the_order_and_never_the_totals():
    first, second = make_parents(1), make_parents(2)
    assert first != second
    assert make_parents(1) == first
    by_symbol = [Counter(parent.symbol for parent in parents) for parents in (first, second)]
    assert by_symbol[0] == by_symbol[1]
    assert len(by_symbol[0]) == 154
    assert sum(parent.shares for parent in first) == 1696 * 300
    assert len({parent.symbol for parent in first if parent.side == 0}) == 80


def test_first_offers_are_spread_evenly_over_the_first_half_of_the_window():
    gateway = make_gateway(make_parents(1))
    assert len(gateway.take_due(OPEN_NS - 1)) == 0
    assert len(gateway.take_due(OPEN_NS + OFFERS_NS // 2 - 1)) == 848
    assert len(gateway.take_due(OPEN_NS + OFFERS_NS)) == 848


def test_a_refused_parent_goes_to_another_router_and_only_what_was_not_sent():
    gateway = make_gateway(make_parents(1)[:1])
    [(parent, node, shares)] = gateway.take_due(OPEN_NS)
    gateway.on_answer(parent, node, DENIED, 200, OPEN_NS)
    assert shares == 300
    assert gateway.take_due(OPEN_NS) == []
    [(again, other, rest)] = gateway.take_due(FOREVER_NS)
    assert (again, rest) == (parent, 100)
    assert other != node


def test_the_parents_of_a_refusing_router_spread_evenly_over_the_others():
    gateway = make_gateway(make_parents(1))
    taken: Counter[int] = Counter()
    for parent, node, _ in gateway.take_due(OPEN_NS + OFFERS_NS):
        if node == 8:
            gateway.on_answer(parent, node, DENIED, 0, OPEN_NS)
        else:
            taken[node] += 1
    taken.update(node for _, node, _ in gateway.take_due(FOREVER_NS))
    assert sum(taken.values()) == 1696
    assert set(taken) == set(range(1, 8))
    assert max(taken.values()) - min(taken.values()) <= 1


def test_pauses_double_up_to_a_bound_and_never_end():
    gateway = make_gateway(make_parents(1)[:1])
    now_ns, pauses_ms = OPEN_NS, []
    for _ in range(9):
        [(parent, node, _)] = gateway.take_due(now_ns)
        gateway.on_answer(parent, node, NOT_ARMED, 0, now_ns)
        due_ns = gateway.next_due_ns()
        assert due_ns is not None
        pauses_ms.append((due_ns - now_ns) // 1_000_000)
        now_ns = due_ns
    assert pauses_ms == [20, 40, 80, 160, 320, 640, 640, 640, 640]


def test_without_routers_parents_wait_and_with_only_the_refusing_one_it_is_asked_again():
    gateway = make_gateway(make_parents(1)[:1], range(8, 9))
    [(parent, node, _)] = gateway.take_due(OPEN_NS)
    gateway.on_answer(parent, node, NOT_ARMED, 0, OPEN_NS)
    assert gateway.on_close(8) == []
    assert gateway.next_due_ns() is None
    assert gateway.take_due(FOREVER_NS) == []
    gateway.on_open(8)
    assert gateway.take_due(FOREVER_NS) == [(parent, 8, 300)]


def test_a_lost_routers_parents_wait_for_the_drop_copy():
    gateway = make_gateway(make_parents(1)[:8])
    offers = gateway.take_due(FOREVER_NS)
    lost = {node: parent for parent, node, _ in offers}[5]
    assert gateway.on_close(5) == [lost]
    assert gateway.take_due(FOREVER_NS) == []
    gateway.on_reconciled(lost, 100, OPEN_NS)
    [(parent, node, shares)] = gateway.take_due(FOREVER_NS)
    assert (parent, shares) == (lost, 100)
    assert node != 5


def test_an_answer_from_a_router_that_no_longer_holds_the_parent_changes_nothing():
    gateway = make_gateway(make_parents(1)[:1])
    [(parent, node, _)] = gateway.take_due(OPEN_NS)
    gateway.on_answer(parent, node, DONE, 300, OPEN_NS)
    gateway.on_answer(parent, node, DENIED, 300, OPEN_NS)
    gateway.on_answer(parent, node % 8 + 1, DENIED, 0, OPEN_NS)
    assert gateway.next_due_ns() is None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_routers_answer_no_parent_is_lost_and_none_is_offered_beyond_its_shares(data: st.DataObject):
    parents = make_parents(1)[:24]
    gateway = make_gateway(parents)
    sent: Counter[int] = Counter()
    now_ns = OPEN_NS + OFFERS_NS
    for turn in range(200):
        for parent, node, shares in gateway.take_due(now_ns):
            sends = data.draw(st.sampled_from((0, 100, shares))) if turn < 20 else shares
            sends = min(sends, shares)
            sent[parent] += sends
            outcome = DONE if sends == shares else data.draw(st.sampled_from((DENIED, NOT_ARMED, STOPPED)))
            gateway.on_answer(parent, node, outcome, sends, now_ns)
        due_ns = gateway.next_due_ns()
        if due_ns is None:
            break
        now_ns = due_ns
    assert sent == {parent.parent: 300 for parent in parents}
