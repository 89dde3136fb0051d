# SPDX-License-Identifier: Apache-2.0
"""What people and programs read: progress while arms run, the final table, the plain answer, the one JSON object.

Figures come from the judge; this module adds words and leaves none of the assumptions out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from firecurtain.rehearsal.knight.arms import ARMS, Outcome
from firecurtain.rehearsal.knight.market import ASSUMPTIONS, MORNING_S, NODES
from firecurtain.rehearsal.knight.runner import Progress, Result

QUESTION = "If one server misses this update, does the play continue, or does the theatre burn?"


def format_json(result: Result) -> str:
    """The whole rehearsal as one JSON object."""
    arms = {name: _make_figures(outcome) for name, outcome in result.outcomes.items()}
    return json.dumps({"seed": result.options.seed, "window_s": result.options.window_s, "arms": arms}, indent=2)


def _make_figures(outcome: Outcome) -> Mapping[str, object]:
    figures, report = outcome.figures, outcome.report
    return {
        "wrong_executions": figures.wrong_executions,
        "wrong_shares": figures.wrong_shares,
        "wrong_gross_usd": figures.wrong_gross_usd,
        "node_gross_usd_max": figures.node_gross_usd_max,
        "parents_total": figures.parents_total,
        "parents_completed": figures.parents_completed,
        "false_denials": figures.false_denials,
        "first_denial_ms": figures.first_denial_ms,
        "all_stopped_ms": figures.all_stopped_ms,
        "nodes_without_permit": list(report.nodes_without_permit),
        "venue_equals_guard": figures.venue_equals_guard,
        "refusals": list(report.refusals),
        "pids": dict(outcome.pids),
    }


def format_progress(progress: Progress) -> str:
    """One line on a running arm."""
    return (
        f"{progress.arm}: {progress.elapsed_s:5.1f} of {progress.window_s:g} s, "
        f"{progress.executions:,} executions at the venue, {progress.parents_done:,} parents reported done"
    )


def format_pids(progress: Progress) -> str:
    """Which processes play an arm."""
    return f"{progress.arm}: " + ", ".join(f"{role} {pid}" for role, pid in progress.pids.items())


def print_result(result: Result, console: Console) -> None:
    """The table, what stands behind it, and the answer."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("arm", no_wrap=True)
    table.add_column("wrong orders", justify="right")
    table.add_column("correct orders", justify="right")
    table.add_column("judged by the venue's own ledger")
    for name, outcome in result.outcomes.items():
        figures = outcome.figures
        correct = f"{figures.parents_completed:,} of {figures.parents_total:,}"
        table.add_row(ARMS[name].title, f"{figures.wrong_executions:,}", correct, ARMS[name].remark)
    console.print(table)
    for name, outcome in result.outcomes.items():
        _print_burn(name, outcome, result.options.window_s, console)
    console.print(
        f"Real time, window {result.options.window_s:g} s, seed {result.options.seed}. Assumed:", highlight=False
    )
    for assumption in ASSUMPTIONS:
        console.print(f"  {assumption}", highlight=False, soft_wrap=True)
    for name, broken in result.broken.items():
        for claim in broken:
            console.print(f"BROKEN {name}: {claim}", style="bold red", highlight=False, soft_wrap=True)
    console.print(f"\n{QUESTION}", style="bold", highlight=False, soft_wrap=True)
    for sentence in answer(result.outcomes):
        console.print(sentence, highlight=False, soft_wrap=True)


def _print_burn(name: str, outcome: Outcome, window_s: float, console: Console) -> None:
    figures = outcome.figures
    if not figures.wrong_executions:
        return
    text = (
        f"{name}: {figures.wrong_per_s:,.0f} wrong executions/s over the second half of the window, "
        f"{figures.wrong_gross_usd / 1e6:,.1f} M USD gross, from {_list_nodes(figures.wrong_nodes)}."
    )
    if window_s < MORNING_S:
        text += (
            f" Extrapolated, not run: 45 minutes at that rate are {figures.wrong_per_s * MORNING_S / 1e6:.1f} M "
            "executions."
        )
    console.print(text, highlight=False, soft_wrap=True)


def answer(outcomes: Mapping[str, Outcome]) -> list[str]:
    """One plain sentence for each arm in which a server missed the update."""
    return [_answer_one(ARMS[name].title, outcome) for name, outcome in outcomes.items() if ARMS[name].has_straggler]


def _answer_one(title: str, outcome: Outcome) -> str:
    figures = outcome.figures
    unfilled = figures.parents_total - figures.parents_completed
    if figures.wrong_executions:
        return (
            f"{title}: the theatre burns. {figures.wrong_executions:,} executions that nobody ordered, "
            f"from {_list_nodes(figures.wrong_nodes)}."
        )
    if unfilled:
        return f"{title}: nothing burns, and {unfilled:,} of {figures.parents_total:,} orders are not filled."
    return (
        f"{title}: the play continues. Server {outcome.straggler} sent no wrong order, and all "
        f"{figures.parents_total:,} orders are filled exactly."
    )


def _list_nodes(nodes: tuple[int, ...]) -> str:
    """Servers in words.

    >>> _list_nodes((8,)), _list_nodes((1, 8)), _list_nodes(tuple(range(1, 9)))
    ('server 8', 'servers 1, 8', 'all 8 servers')
    """
    if len(nodes) == NODES:
        return f"all {NODES} servers"
    return ("server " if len(nodes) == 1 else "servers ") + ", ".join(map(str, nodes))
