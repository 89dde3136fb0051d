# SPDX-License-Identifier: Apache-2.0
"""The arms: what is run, and what each arm claims about its own result. A new arm is one more value in `ARMS`.

A claim is a pure function from the judged result to the list of what does not hold; `rehearse` ends with 1 when there
is one. An arm that should burn claims that it burns: a fire that goes out by itself would prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from firecurtain.rehearsal.knight.curtain import CurtainFleet
from firecurtain.rehearsal.knight.fleet import BareFleet, Fleet, Report, Site
from firecurtain.rehearsal.knight.judge import Figures
from firecurtain.rehearsal.knight.market import PARENTS_PER_NODE, SERVERS
from firecurtain.rehearsal.knight.release_file import GROSS_USD

BURN_PER_S = 1481.0  # derived: 4 million executions in 2,700 s (SEC Release 34-70694, paragraphs 1 and 17)
BURN_TOLERANCE = 0.10


@dataclass(frozen=True, slots=True)
class Outcome:
    """One arm after its run."""

    straggler: int
    figures: Figures
    report: Report
    pids: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to live through that morning. `title` and `remark` are its words in the table; a remark may name the
    server that missed the update as `{straggler}`."""

    name: str
    title: str
    remark: str
    make_fleet: Callable[[Site], Fleet]
    claim: Callable[[Outcome], list[str]]
    has_straggler: bool = True


def claim_burns(outcome: Outcome) -> list[str]:
    """One server burns at the derived rate, the other seven fill their orders."""
    figures, broken = outcome.figures, []
    if not abs(figures.wrong_per_s / BURN_PER_S - 1) <= BURN_TOLERANCE:
        broken.append(
            f"{figures.wrong_per_s:.0f} wrong executions/s in the second half of the window, "
            f"claimed {BURN_PER_S:.0f} +-{BURN_TOLERANCE:.0%}: close other programs and run again"
        )
    if figures.wrong_nodes != (outcome.straggler,):
        broken.append(f"wrong executions from servers {figures.wrong_nodes}, claimed ({outcome.straggler},) only")
    correct = figures.parents_total - PARENTS_PER_NODE
    if figures.parents_completed != correct:
        broken.append(f"{figures.parents_completed} parents completed exactly, claimed {correct}")
    return broken


def claim_all_burn(outcome: Outcome) -> list[str]:
    """The rollback makes all eight servers bad."""
    figures, broken = outcome.figures, []
    if figures.wrong_nodes != SERVERS:
        broken.append(f"wrong executions from servers {figures.wrong_nodes}, claimed all eight")
    if not figures.wrong_per_s > BURN_PER_S * (1 + BURN_TOLERANCE):
        broken.append(f"{figures.wrong_per_s:.0f} wrong executions/s, claimed more than one server's {BURN_PER_S:.0f}")
    return broken


def claim_play_continues(outcome: Outcome) -> list[str]:
    """Nothing wrong leaves, the other seven fill every order, and the straggler holds no permit."""
    broken = _claim_exact(outcome)
    if outcome.report.nodes_without_permit != (outcome.straggler,):
        broken.append(f"servers {outcome.report.nodes_without_permit} hold no permit, claimed ({outcome.straggler},)")
    if outcome.figures.first_denial_ms is None:
        broken.append("nobody was denied: the straggler was never asked, so nothing was shown")
    return broken


def claim_rollback_refused(outcome: Outcome) -> list[str]:
    """The rollback is refused by name, and the play continues."""
    broken, report = claim_play_continues(outcome), outcome.report
    if not any("armed-flag-not-declared" in refusal for refusal in report.refusals):
        broken.append(f"the rollback was not refused for the armed flag; refusals: {report.refusals}")
    if not set(report.refusals) <= set(report.refusals_recorded):
        broken.append(f"people were told {report.refusals}, the ledger holds {report.refusals_recorded}")
    return broken


def claim_healthy(outcome: Outcome) -> list[str]:
    """Eight good servers: every order filled, nobody denied."""
    broken = _claim_exact(outcome)
    if outcome.report.nodes_without_permit:
        broken.append(f"servers {outcome.report.nodes_without_permit} hold no permit, claimed none")
    if outcome.figures.first_denial_ms is not None:
        broken.append(f"a legitimate order was denied after {outcome.figures.first_denial_ms:.1f} ms")
    return broken


def _claim_exact(outcome: Outcome) -> list[str]:
    """What every arm under the curtain claims."""
    figures, broken = outcome.figures, []
    if figures.wrong_executions:
        broken.append(f"{figures.wrong_executions} wrong executions from servers {figures.wrong_nodes}, claimed 0")
    if figures.parents_completed != figures.parents_total:
        broken.append(f"{figures.parents_completed} parents completed, claimed all {figures.parents_total}")
    if figures.false_denials:
        broken.append(f"{figures.false_denials} denials on servers that were permitted, claimed 0")
    if not figures.venue_equals_guard:
        broken.append("venue and guards count differently")
    if figures.node_gross_usd_max > GROSS_USD:
        broken.append(f"one server spent {figures.node_gross_usd_max:,.0f} USD, its limit is {GROSS_USD:,}")
    return broken


def _do_nothing(_fleet: CurtainFleet) -> None:
    """Nobody needs to act."""


_ALL = (
    Arm(
        "none",
        "no controls",
        "still burning when the window ends",
        lambda site: BareFleet(site, rolls_back=False),
        claim_burns,
    ),
    Arm(
        "rollback-unbound",
        "roll back the good 7",
        "what Knight did",
        lambda site: BareFleet(site, rolls_back=True),
        claim_all_burn,
    ),
    Arm(
        "all",
        "firecurtain",
        "server {straggler} never acted; a person took it out",
        lambda site: CurtainFleet(
            site, on_straggler="hold", awaits_armed=False, at_quarter=CurtainFleet.exclude_straggler
        ),
        claim_play_continues,
    ),
    Arm(
        "straggler-excluded",
        "straggler excluded",
        "taken out by the policy that k of n signed",
        lambda site: CurtainFleet(site, on_straggler="exclude", awaits_armed=True, at_quarter=_do_nothing),
        claim_play_continues,
    ),
    Arm(
        "rollback-bound",
        "rollback asked again",
        "refused: the armed flag would wake old code",
        lambda site: CurtainFleet(site, on_straggler="exclude", awaits_armed=True, at_quarter=CurtainFleet.roll_back),
        claim_rollback_refused,
    ),
    Arm(
        "healthy",
        "healthy day",
        "all eight updated, nobody was denied",
        lambda site: CurtainFleet(site, on_straggler="hold", awaits_armed=True, at_quarter=_do_nothing),
        claim_healthy,
        has_straggler=False,
    ),
)

BURN_EXTRAPOLATED = "none"
"""The one arm whose rate is carried on to 45 minutes: nothing in it changes after the window."""

ARMS: Mapping[str, Arm] = {arm.name: arm for arm in _ALL}
DEFAULT_ARMS = tuple(ARMS)
