# SPDX-License-Identifier: Apache-2.0
"""The arms: what is run, and what each arm claims about its own result. A new arm is one more value in `ARMS`.

A claim is a pure function from the judged result to the list of what does not hold; `rehearse` ends with 1 when there
is one. An arm that should burn claims that it burns: a fire that goes out by itself would prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from firecurtain.rehearsal.knight.fleet import BareFleet, Fleet, Report, Site
from firecurtain.rehearsal.knight.judge import Figures
from firecurtain.rehearsal.knight.market import PARENTS_PER_NODE, SERVERS

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
    """One way to live through that morning. `title` and `remark` are its words in the table."""

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
)

ARMS: Mapping[str, Arm] = {arm.name: arm for arm in _ALL}
DEFAULT_ARMS = tuple(ARMS)
