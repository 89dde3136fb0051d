# SPDX-License-Identifier: Apache-2.0
"""What people and programs read: progress while arms run, the final table, the plain answer, the one JSON object.

Figures come from the judge; this module adds words and leaves none of the assumptions out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from firecurtain.rehearsal.knight.arms import ARMS, BURN_EXTRAPOLATED, Outcome
from firecurtain.rehearsal.knight.judge import Figures
from firecurtain.rehearsal.knight.market import ASSUMPTIONS, MORNING_S, NODES, PARENTS
from firecurtain.rehearsal.knight.runner import Options, Progress, Result

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


def format_progress(progress: Progress, options: Options) -> str:
    """A running arm and its processes."""
    place = f"{options.arms.index(progress.arm) + 1} of {len(options.arms)}, {ARMS[progress.arm].title}"
    if not progress.pids:
        return f"{place}: setting up"
    return (
        f"{place}: {progress.elapsed_s:.1f} of {progress.window_s:g} s, {progress.executions:,} executions, "
        f"{progress.parents_done:,} of {PARENTS:,} orders reported done\n{format_pids(progress)}"
    )


def format_pids(progress: Progress) -> str:
    """Which processes play an arm."""
    return f"{progress.arm}: " + ", ".join(f"{role} {pid}" for role, pid in progress.pids.items())


def print_result(result: Result, console: Console) -> None:
    """The table, what stands behind it, and the answer."""
    console.print(make_table(result))
    console.print()
    console.print(_make_notes(result))
    console.print()
    for line in _list_assumptions(result.options):
        console.print(line, highlight=False)
    for name, broken in result.broken.items():
        for claim in broken:
            console.print(f"BROKEN {name}: {claim}", style="bold red", highlight=False)
    console.print(f"\n{QUESTION}", style="bold", highlight=False)
    for sentence in answer(result.outcomes):
        console.print(sentence, highlight=False)


def make_table(result: Result) -> Table:
    """One row for each arm."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    table.add_column("arm", no_wrap=True)
    table.add_column("wrong orders", justify="right", no_wrap=True)
    table.add_column("correct orders", justify="right", no_wrap=True)
    table.add_column("judged by the venue's own ledger")
    for name, outcome in result.outcomes.items():
        figures, arm = outcome.figures, ARMS[name]
        correct = f"{figures.parents_completed:,} of {figures.parents_total:,}"
        remark = arm.remark.format(straggler=outcome.straggler)
        style = "red" if figures.wrong_executions else None
        table.add_row(arm.title, f"{figures.wrong_executions:,}", correct, remark, style=style)
    return table


def _make_notes(result: Result) -> Table:
    """What stands behind each row, in hanging lines."""
    notes = Table.grid(padding=(0, 2, 0, 0))
    for name, outcome in result.outcomes.items():
        figures = outcome.figures
        sentences = [_describe_burn(figures)] if figures.wrong_executions else [_describe_play(figures)]
        if name == BURN_EXTRAPOLATED and result.options.window_s < MORNING_S:
            count = figures.wrong_per_s * MORNING_S / 1e6
            sentences.append(f"Extrapolated, not run: {count:.1f} M in 45 minutes at that rate.")
        sentences += [f"Refused: {refusal}" for refusal in outcome.report.refusals]
        notes.add_row(ARMS[name].title, "\n".join(sentences))
    return notes


def _describe_burn(figures: Figures) -> str:
    return (
        f"{figures.wrong_per_s:,.0f} wrong executions/s in the second half, "
        f"{figures.wrong_gross_usd / 1e6:,.1f} M USD gross, {_list_nodes(figures.wrong_nodes)}."
    )


def _describe_play(figures: Figures) -> str:
    """When the last order was filled and the first attempt denied, counted from the first offer."""
    words = [f"{figures.false_denials} false denials"]
    if figures.first_denial_ms is not None:
        words.append(f"first denial after {figures.first_denial_ms:.0f} ms")
    if figures.last_completed_ms is not None:
        words.append(f"last order filled after {figures.last_completed_ms / 1000:.1f} s")
    return ", ".join(words) + "."


def _list_assumptions(options: Options) -> list[str]:
    longer = "" if options.window_s >= MORNING_S else " (--full runs all 45 minutes of each arm)"
    first = f"Real processes, real time, window {options.window_s:g} s{longer}, seed {options.seed}. Assumed:"
    return [first, *(f"  {assumption}" for assumption in ASSUMPTIONS)]


def answer(outcomes: Mapping[str, Outcome]) -> list[str]:
    """Plain sentences on the arms in which a server missed the update; what ended alike is said once."""
    found: dict[str, list[str]] = {}
    for name, outcome in outcomes.items():
        if ARMS[name].has_straggler:
            found.setdefault(_answer_one(outcome), []).append(ARMS[name].title)
    return [f"{', '.join(titles)}: {sentence}" for sentence, titles in found.items()]


def _answer_one(outcome: Outcome) -> str:
    figures = outcome.figures
    unfilled = figures.parents_total - figures.parents_completed
    if figures.wrong_executions:
        return (
            f"the theatre burns. {figures.wrong_executions:,} executions that nobody ordered, "
            f"from {_list_nodes(figures.wrong_nodes)}."
        )
    if unfilled:
        return f"nothing burns, and {unfilled:,} of {figures.parents_total:,} orders are not filled."
    return (
        f"the play continues. Server {outcome.straggler} sent no wrong order, and all "
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
