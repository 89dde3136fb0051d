# SPDX-License-Identifier: Apache-2.0
"""What a person reads: every line fits, the extrapolation is called one, a refusal is quoted, the answer is plain."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace

import pytest
from rich.console import Console

from firecurtain.rehearsal.knight.arms import ARMS, Outcome
from firecurtain.rehearsal.knight.fleet import Report
from firecurtain.rehearsal.knight.judge import Figures
from firecurtain.rehearsal.knight.report import QUESTION, answer, format_progress, print_result
from firecurtain.rehearsal.knight.runner import Options, Progress, Result

REFUSAL = (
    "ledger_seq 28 armed-flag-not-declared: release 0279a8d7092a (artifact c21e222e317e) does not declare armed flag "
    "fc1-58TXHRWVD30B, armed for release 29cc65b218aa: it would give it another meaning."
)
PLAYED = Figures(
    wrong_executions=0,
    wrong_shares=0,
    wrong_gross_usd=0.0,
    wrong_nodes=(),
    wrong_per_s=0.0,
    node_gross_usd_max=1_246_200.0,
    parents_total=1696,
    parents_completed=1696,
    false_denials=0,
    first_denial_ms=11.2,
    all_stopped_ms=0.0,
    last_completed_ms=5020.0,
    venue_equals_guard=True,
)
BURNT = replace(
    PLAYED, wrong_executions=10566, wrong_nodes=(8,), wrong_per_s=1481.5, wrong_gross_usd=17.7e6, parents_completed=1484
)
ROLLED_BACK = replace(BURNT, wrong_executions=41205, wrong_nodes=tuple(range(1, 9)), wrong_per_s=6642.0)


@pytest.fixture
def outcomes() -> Mapping[str, Outcome]:
    """One morning in all arms."""
    figures = dict.fromkeys(ARMS, PLAYED) | {"none": BURNT, "rollback-unbound": ROLLED_BACK}
    refusals = {"rollback-bound": (REFUSAL,)}
    return {name: Outcome(8, figures[name], Report(refusals=refusals.get(name, ())), {}) for name in ARMS}


def printed(outcomes: Mapping[str, Outcome], broken: Mapping[str, tuple[str, ...]], window_s: float = 10.0) -> str:
    """What a terminal of 100 columns shows."""
    text = io.StringIO()
    options = Options(tuple(outcomes), window_s=window_s)
    print_result(Result(options, outcomes, broken), Console(file=text, width=100))
    return text.getvalue()


def test_no_line_of_the_table_breaks_at_100_columns(outcomes: Mapping[str, Outcome]):
    lines = printed(outcomes, {}).splitlines()
    assert max(map(len, lines)) <= 100
    assert [line[:22].strip() for line in lines[:8]] == ["arm", *(arm.title for arm in ARMS.values()), ""]
    assert all(len(line.rstrip()) > 60 for line in lines[1:7])


def test_only_the_uncontrolled_arm_is_carried_on_to_45_minutes(outcomes: Mapping[str, Outcome]):
    text = printed(outcomes, {})
    assert text.count("xtrapolated") == 1
    assert "Extrapolated, not run: 4.0 M in 45 minutes at that rate." in text
    assert "--full runs all 45 minutes" in text
    whole = printed(outcomes, {}, window_s=2700)
    assert "xtrapolated" not in whole
    assert "--full" not in whole


def test_the_refusal_is_quoted_with_its_place_in_the_ledger(outcomes: Mapping[str, Outcome]):
    assert " ".join(REFUSAL.split()) in " ".join(printed(outcomes, {}).split())


def test_a_broken_claim_is_shown_before_the_question(outcomes: Mapping[str, Outcome]):
    text = printed(outcomes, {"all": ("1 wrong executions, claimed 0",)})
    assert 0 < text.index("BROKEN all: 1 wrong executions, claimed 0") < text.index(QUESTION)


def test_the_answer_says_once_what_ended_alike(outcomes: Mapping[str, Outcome]):
    assert answer(outcomes) == [
        "no controls: the theatre burns. 10,566 executions that nobody ordered, from server 8.",
        "roll back the good 7: the theatre burns. 41,205 executions that nobody ordered, from all 8 servers.",
        "firecurtain, straggler excluded, rollback asked again: the play continues. Server 8 sent no wrong order, and "
        "all 1,696 orders are filled exactly.",
    ]


def test_orders_that_stay_open_are_not_called_a_play_that_continues():
    short = replace(PLAYED, parents_completed=1690)
    assert answer({"all": Outcome(8, short, Report(), {})}) == [
        "firecurtain: nothing burns, and 6 of 1,696 orders are not filled."
    ]


def test_progress_says_which_arm_of_how_many_and_who_plays_it():
    options = Options(("none", "all"))
    assert format_progress(Progress("all", 0.0, 10.0, 0, 0, {}), options) == "2 of 2, firecurtain: setting up"
    running = Progress("all", 2.51, 10.0, 1204, 401, {"venue": 11, "agent-1": 12})
    assert format_progress(running, options) == (
        "2 of 2, firecurtain: 2.5 of 10 s, 1,204 executions, 401 of 1,696 orders reported done\n"
        "all: venue 11, agent-1 12"
    )
