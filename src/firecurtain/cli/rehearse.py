# SPDX-License-Identifier: Apache-2.0
"""`rehearse knight`: the morning of 1 August 2012 on real processes."""

from __future__ import annotations

from typing import Annotated

import typer

from firecurtain.cli.shared import JsonOption, guarded


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    rehearsals = typer.Typer(help="Replay an incident on real processes.", no_args_is_help=True)
    rehearsals.command()(guarded(knight))
    app.add_typer(rehearsals, name="rehearse")


def knight(
    arm: Annotated[list[str] | None, typer.Option(help="run this arm; may be given several times")] = None,
    all_arms: Annotated[bool, typer.Option("--all-arms", help="run every arm")] = False,
    seed: Annotated[int, typer.Option(help="order of the parents; totals stay the same")] = 1,
    straggler: Annotated[int, typer.Option(help="the server that misses the update, 1 to 8")] = 8,
    window: Annotated[float, typer.Option(help="seconds of real time per arm, at least 5")] = 10.0,
    full: Annotated[bool, typer.Option("--full", help="all 45 minutes per arm")] = False,
    as_json: JsonOption = False,
) -> None:
    """Replay the morning on which one server of eight missed the update."""
    # Imported here: no other command pays for the rehearsal.
    from firecurtain.rehearsal.knight.arms import ARMS, DEFAULT_ARMS
    from firecurtain.rehearsal.knight.command import rehearse
    from firecurtain.rehearsal.knight.market import MORNING_S
    from firecurtain.rehearsal.knight.runner import Options

    arms = tuple(ARMS) if all_arms else tuple(arm or DEFAULT_ARMS)
    options = Options(arms, seed, straggler, MORNING_S if full else window)
    raise typer.Exit(rehearse(options, as_json=as_json))
