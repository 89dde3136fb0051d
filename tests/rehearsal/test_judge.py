# SPDX-License-Identifier: Apache-2.0
"""The judge over made-up ledgers: what is wrong, what is complete, when it began and when it ended."""

from __future__ import annotations

from types import ModuleType

import pytest

from firecurtain.rehearsal.knight import judge as judge_module
from firecurtain.rehearsal.knight.judge import Figures, GuardView
from firecurtain.rehearsal.knight.ledgers import (
    Answered,
    Event,
    Execution,
    Offered,
    Order,
    Reconciled,
    RehearsalError,
    format_line,
    read_lines,
)
from support.mutants import load_mutant

OPEN_NS = 5_000_000_000_000
WINDOW_NS = 10_000_000_000
MS = 1_000_000


def order(parent: int, shares: int = 300) -> Order:
    return Order(OPEN_NS, parent, 3, 0, shares, 1675)


def execution(parent: int, shares: int = 100, node: int = 1, at_ns: int = OPEN_NS) -> Execution:
    return Execution(at_ns, node, node, 1, parent, 3, 0, shares, 1675, 0, 0)


def done(parent: int, node: int = 1) -> Answered:
    return Answered(OPEN_NS + 9 * MS, parent, node, "done", 300, "")


def denied(at_ns: int, node: int = 8) -> Answered:
    return Answered(at_ns, 1, node, "denied", 0, "expired")


def judged(
    venue: list[Event], feeder: list[Event], guards: GuardView | None = None, by: ModuleType = judge_module
) -> Figures:
    first = Offered(OPEN_NS + 2 * MS, 1, 1, 300)
    figures: Figures = by.judge(venue, [order(1), order(2), first, *feeder], OPEN_NS, WINDOW_NS, guards)
    return figures


def test_an_order_that_is_exactly_filled_is_correct_and_nothing_is_wrong():
    figures = judged([execution(1)] * 3, [done(1)])
    assert (figures.wrong_executions, figures.wrong_shares, figures.wrong_gross_usd) == (0, 0, 0.0)
    assert (figures.parents_completed, figures.parents_total) == (1, 2)
    assert figures.wrong_nodes == ()


def test_one_share_too_many_is_wrong_and_the_order_is_not_completed():
    figures = judged([execution(1)] * 2 + [execution(1, shares=101, node=4)], [done(1)])
    assert (figures.wrong_executions, figures.wrong_shares, figures.wrong_gross_usd) == (1, 1, 16.75)
    assert figures.parents_completed == 0
    assert figures.wrong_nodes == (4,)


@pytest.mark.parametrize(
    ("old", "new"),
    [("if excess > 0:", "if excess > 1:"), ("tally.executed[event.parent] - ordered", "event.shares - ordered")],
)
def test_a_judge_that_lets_one_share_pass_would_be_caught(old: str, new: str):
    lenient = load_mutant(judge_module.__name__, old, new)
    figures = judged([execution(1)] * 2 + [execution(1, shares=101)], [done(1)], by=lenient)
    assert figures.wrong_executions != 1


def test_every_execution_after_the_last_ordered_share_is_wrong():
    figures = judged([execution(1)] * 7, [done(1)])
    assert (figures.wrong_executions, figures.wrong_shares) == (4, 400)


def test_an_execution_of_a_parent_that_nobody_ordered_is_wrong_as_a_whole():
    assert judged([execution(99)], []).wrong_shares == 100


def test_an_order_is_not_completed_while_shares_are_missing_or_nobody_reported_it():
    assert judged([execution(1)] * 2, [done(1)]).parents_completed == 0
    assert judged([execution(1)] * 3, []).parents_completed == 0


def test_a_lost_routers_order_is_completed_by_the_drop_copy():
    lost = Reconciled(OPEN_NS, 1, 5, 300)
    assert judged([execution(1)] * 3, [lost]).parents_completed == 1
    assert judged([execution(1)] * 2, [lost._replace(shares_executed=200)]).parents_completed == 0


def test_the_rate_counts_the_second_half_of_the_window_and_nothing_else():
    half_ns, end_ns = OPEN_NS + WINDOW_NS // 2, OPEN_NS + WINDOW_NS
    venue = [execution(99, at_ns=at_ns) for at_ns in (half_ns - 1, half_ns, end_ns - 1, end_ns)]
    figures = judged(venue, [])
    assert figures.wrong_executions == 4
    assert figures.wrong_per_s == 2 / 5


def test_gross_is_added_up_per_node_and_the_largest_is_named():
    venue = [execution(1, node=1), execution(1, node=2), execution(1, node=2)]
    assert judged(venue, []).node_gross_usd_max == 3350.0


def test_times_count_from_the_feeders_first_offer():
    guards = GuardView({1: 1}, {})
    late = OPEN_NS + 12 * MS
    figures = judged([execution(99, at_ns=late)], [denied(late + MS), denied(late)], guards)
    assert (figures.first_denial_ms, figures.all_stopped_ms) == (10.0, 10.0)


def test_what_only_guards_can_tell_is_null_without_guards():
    figures = judged([execution(99)], [denied(OPEN_NS)])
    assert (figures.first_denial_ms, figures.all_stopped_ms, figures.venue_equals_guard) == (None, None, None)
    assert figures.false_denials == 0


def test_nothing_wrong_under_guards_means_stopped_from_the_start_and_no_denial_is_null():
    figures = judged([execution(1)], [], GuardView({1: 1}, {}))
    assert (figures.first_denial_ms, figures.all_stopped_ms) == (None, 0.0)


def test_a_denial_is_false_only_where_and_while_the_node_was_in_the_right():
    guards = GuardView({}, {7: ((OPEN_NS, OPEN_NS + 5 * MS),)})
    inside, after = OPEN_NS + 5 * MS - 1, OPEN_NS + 5 * MS
    assert (
        judged([], [denied(inside, node=7), denied(after, node=7), denied(inside, node=8)], guards).false_denials == 1
    )


@pytest.mark.parametrize(("actions", "equal"), [({1: 2}, True), ({1: 1}, False), ({1: 2, 8: 1}, False), ({}, False)])
def test_venue_and_guards_agree_node_by_node(actions: dict[int, int], equal: bool):
    assert judged([execution(1), execution(1)], [], GuardView(actions, {})).venue_equals_guard is equal


def test_ledger_lines_read_back_as_they_were_written():
    events: list[Event] = [order(1), execution(1), done(1), denied(7), Reconciled(1, 2, 3, 4), Offered(1, 2, 3, 4)]
    assert list(read_lines([format_line(event) for event in events])) == events


@pytest.mark.parametrize("line", ["execution\t1\t2", "execution\t1\t2\t3\t4\t5\t6\t7\t8\t9\t10\tx", "trade\t1", ""])
def test_a_ledger_that_was_cut_or_changed_is_refused_by_line(line: str):
    with pytest.raises(RehearsalError, match="ledger line 2 "):
        list(read_lines([format_line(order(1)), line]))
