# SPDX-License-Identifier: Apache-2.0
"""What each arm claims, over made-up outcomes: one wrong execution, one order short, one false denial, one dollar over
the limit break it, and a claim that overlooks one of them would be seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from firecurtain.rehearsal.knight import arms, command
from firecurtain.rehearsal.knight.arms import ARMS, Outcome
from firecurtain.rehearsal.knight.fleet import Report
from firecurtain.rehearsal.knight.judge import Figures
from firecurtain.rehearsal.knight.runner import Options, Progress, Result
from support.mutants import load_mutant

REFUSAL = "ledger_seq 28 armed-flag-not-declared: it would give the flag another meaning."
CURTAIN_ARMS = ("all", "straggler-excluded", "rollback-bound", "healthy")

GOOD = Figures(
    wrong_executions=0,
    wrong_shares=0,
    wrong_gross_usd=0.0,
    wrong_nodes=(),
    wrong_per_s=0.0,
    node_gross_usd_max=1_246_200.0,
    parents_total=1696,
    parents_completed=1696,
    false_denials=0,
    first_denial_ms=11.0,
    all_stopped_ms=0.0,
    last_completed_ms=4980.0,
    venue_equals_guard=True,
)
BURNT = replace(GOOD, wrong_executions=7405, wrong_nodes=(8,), wrong_per_s=1481.0, parents_completed=1484)


def make_good(name: str) -> Outcome:
    """What an arm is to look like."""
    if name == "none":
        return Outcome(8, BURNT, Report(), {})
    if name == "rollback-unbound":
        return Outcome(8, replace(BURNT, wrong_nodes=tuple(range(1, 9)), wrong_per_s=9000.0), Report(), {})
    figures = replace(GOOD, first_denial_ms=None) if name == "healthy" else GOOD
    refusals = (REFUSAL,) if name == "rollback-bound" else ()
    nodes = () if name == "healthy" else (8,)
    report = Report(refusals=refusals, refusals_recorded=refusals, nodes_without_permit=nodes)
    return Outcome(8, figures, report, {})


def claim(name: str, outcome: Outcome, by: ModuleType = arms) -> list[str]:
    broken: list[str] = by.ARMS[name].claim(outcome)
    return broken


@pytest.mark.parametrize("name", ARMS)
def test_what_went_well_breaks_no_claim(name: str):
    assert claim(name, make_good(name)) == []


SPOILT: list[tuple[Mapping[str, Any], str]] = [
    ({"wrong_executions": 1, "wrong_nodes": (8,)}, "1 wrong executions from servers (8,), claimed 0"),
    ({"parents_completed": 1695}, "1695 parents completed, claimed all 1696"),
    ({"false_denials": 1}, "1 denials on servers that were permitted, claimed 0"),
    ({"node_gross_usd_max": 2_000_001.0}, "one server spent 2,000,001 USD, its limit is 2,000,000"),
    ({"venue_equals_guard": False}, "venue and guards count differently"),
    ({"venue_equals_guard": None}, "venue and guards count differently"),
]


@pytest.mark.parametrize("name", CURTAIN_ARMS)
@pytest.mark.parametrize(("change", "complaint"), SPOILT)
def test_one_thing_that_went_wrong_breaks_the_claim(name: str, change: Mapping[str, Any], complaint: str):
    good = make_good(name)
    assert claim(name, replace(good, figures=replace(good.figures, **change))) == [complaint]


def test_a_gross_of_exactly_the_limit_is_within_it():
    good = make_good("all")
    assert claim("all", replace(good, figures=replace(good.figures, node_gross_usd_max=2_000_000.0))) == []


@pytest.mark.parametrize("name", ["all", "straggler-excluded", "rollback-bound"])
@pytest.mark.parametrize("nodes", [(), (7,), (7, 8)])
def test_another_set_of_servers_without_permit_breaks_the_claim(name: str, nodes: tuple[int, ...]):
    good = make_good(name)
    [complaint] = claim(name, replace(good, report=replace(good.report, nodes_without_permit=nodes)))
    assert complaint == f"servers {nodes} hold no permit, claimed (8,)"


def test_a_straggler_that_was_never_asked_shows_nothing():
    good = make_good("all")
    [complaint] = claim("all", replace(good, figures=replace(good.figures, first_denial_ms=None)))
    assert complaint.startswith("nobody was denied")


def test_a_healthy_day_allows_no_denial_and_no_server_without_permit():
    good = make_good("healthy")
    assert claim("healthy", replace(good, figures=replace(good.figures, first_denial_ms=3.0))) == [
        "a legitimate order was denied after 3.0 ms"
    ]
    assert claim("healthy", replace(good, report=Report(nodes_without_permit=(5,)))) == [
        "servers (5,) hold no permit, claimed none"
    ]


def test_a_rollback_that_was_not_refused_or_not_as_the_ledger_holds_it_breaks_the_claim():
    good = make_good("rollback-bound")
    for report, complaint in (
        (replace(good.report, refusals=()), "the rollback was not refused for the armed flag"),
        (replace(good.report, refusals=(REFUSAL.replace("armed-flag", "other"),)), "the rollback was not refused for"),
        (replace(good.report, refusals_recorded=()), "people were told "),
        (replace(good.report, refusals=(REFUSAL.replace("28", "29"),)), "people were told "),
    ):
        assert claim("rollback-bound", replace(good, report=report))[0].startswith(complaint)


@pytest.mark.parametrize(
    ("change", "complaints"),
    [
        ({"wrong_per_s": 1481 * 0.89}, 1),
        ({"wrong_per_s": 1481 * 1.11}, 1),
        ({"wrong_nodes": (7, 8)}, 1),
        ({"wrong_nodes": (7,)}, 1),
        ({"parents_completed": 1485}, 1),
        ({"parents_completed": 1483}, 1),
        ({"wrong_per_s": 1481 * 1.09}, 0),
    ],
)
def test_the_fire_is_claimed_as_exactly_as_its_absence(change: Mapping[str, Any], complaints: int):
    assert len(claim("none", Outcome(8, replace(BURNT, **change), Report(), {}))) == complaints


@pytest.mark.parametrize(
    ("old", "new", "name", "change"),
    [
        ("if figures.wrong_executions:", "if figures.wrong_executions > 1:", "all", SPOILT[0][0]),
        (
            "if figures.parents_completed != figures.parents_total:",
            "if figures.parents_completed < figures.parents_total - 1:",
            "healthy",
            SPOILT[1][0],
        ),
        ("if figures.false_denials:", "if figures.false_denials > 1:", "straggler-excluded", SPOILT[2][0]),
        (
            "if figures.node_gross_usd_max > GROSS_USD:",
            "if figures.node_gross_usd_max > GROSS_USD + 1:",
            "all",
            SPOILT[3][0],
        ),
        ("if not figures.venue_equals_guard:", "if figures.venue_equals_guard is False:", "all", SPOILT[5][0]),
    ],
)
def test_a_claim_that_overlooks_one_would_be_seen(old: str, new: str, name: str, change: Mapping[str, Any]):
    lenient = load_mutant(arms.__name__, old, new)
    good = make_good(name)
    assert claim(name, replace(good, figures=replace(good.figures, **change)), by=lenient) == []


@pytest.mark.parametrize(("broken", "code"), [((), 0), (("1 wrong executions from servers (8,), claimed 0",), 1)])
def test_rehearse_exits_1_when_an_arm_breaks_its_claim(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: tuple[str, ...], code: int
):
    def run(options: Options, observe: Callable[[Progress], None]) -> Result:
        return Result(options, {"all": make_good("all")}, {"all": broken})

    monkeypatch.setattr(command, "run_rehearsal", run)
    assert command.rehearse(Options(("all",)), as_json=True) == code
    assert ("BROKEN all: 1 wrong executions" in capsys.readouterr().err) is bool(broken)
