# SPDX-License-Identifier: Apache-2.0
"""Refusals: quotable, bounded, and each code told apart for ever."""

from __future__ import annotations

import inspect

import msgspec

from firecurtain.domain import refusals
from firecurtain.domain.commands import Arm, Exclude, Request
from firecurtain.domain.evolve import evolve
from firecurtain.domain.refused import (
    OPERATORS_MAX,
    RECORDED_PER_MINUTE_MAX,
    RefusalBudget,
    refusal_event,
    spend_refusal,
)
from firecurtain.terms import NS_PER_S, Refusal
from firecurtain.wire.commands import Status
from support.fleet_world import World, make_signer

OPERATOR = make_signer("operator").keyid


def test_a_refusal_is_quoted_with_who_asked_for_what() -> None:
    refusal = refusals.GateClosed("7 of 8")
    event = refusal_event(Request(OPERATOR, Status()), refusal)
    assert (event.command, event.by, event.code, event.text) == ("Status", OPERATOR, "gate-closed", "7 of 8")
    assert refusal_event(Exclude("host-1", b"", OPERATOR), refusal).by == OPERATOR
    assert refusal_event(Arm("ab" * 32), refusal).by == b""


def test_a_recorded_refusal_changes_nothing_but_the_seq(world: World) -> None:
    after = evolve(world.state, refusal_event(Arm("ab" * 32), refusals.GateClosed("7 of 8")))
    assert after == msgspec.structs.replace(world.state, seq=world.state.seq + 1)


def test_an_operator_fills_at_most_sixty_records_a_minute(world: World) -> None:
    budget, recorded = RefusalBudget(), 0
    for _ in range(1000):
        is_recorded, budget = spend_refusal(budget, OPERATOR, world.now)
        recorded += is_recorded
    assert recorded == RECORDED_PER_MINUTE_MAX
    assert spend_refusal(budget, make_signer("another").keyid, world.now)[0]
    world.wait(60)
    assert spend_refusal(budget, OPERATOR, world.now)[0]


def test_the_budget_itself_is_bounded(world: World) -> None:
    budget = RefusalBudget()
    for number in range(10 * OPERATORS_MAX):
        _, budget = spend_refusal(budget, number.to_bytes(8, "big"), world.now)
    assert len(budget.recorded) == OPERATORS_MAX


def test_a_budget_of_an_earlier_boot_with_a_higher_clock_still_opens(world: World) -> None:
    later = msgspec.structs.replace(world.now, issuer_ns=world.now.issuer_ns + 7200 * NS_PER_S)
    budget = RefusalBudget()
    for _ in range(RECORDED_PER_MINUTE_MAX):
        _, budget = spend_refusal(budget, OPERATOR, later)
    assert spend_refusal(budget, OPERATOR, world.now)[0]


def test_every_code_is_its_own() -> None:
    classes = [
        each
        for _, each in inspect.getmembers(refusals, inspect.isclass)
        if issubclass(each, Refusal) and each is not Refusal
    ]
    assert len(classes) > 20
    assert len({each.code for each in classes} | {Refusal.code}) == len(classes) + 1
