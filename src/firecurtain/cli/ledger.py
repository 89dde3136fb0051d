# SPDX-License-Identifier: Apache-2.0
"""`ledger verify`: every record of the stream against our own copy, beside a living control plane or without one."""

from __future__ import annotations

from dataclasses import asdict

import typer

from firecurtain.cli.config import read_config
from firecurtain.cli.outcome import REFUSED, show
from firecurtain.cli.shared import ConfigOption, JsonOption, guarded, wait


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    ledgers = typer.Typer(help="Check the ledger.", no_args_is_help=True)
    ledgers.callback()(lambda: None)  # a group stays a group, although it has one command
    ledgers.command("verify")(guarded(verify_ledger))
    app.add_typer(ledgers, name="ledger")


def verify_ledger(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check every record and compare the stream with our own copy. Exit 1: a start would be refused."""
    # Imported here: no other command pays for the ledger and the control plane behind it.
    from firecurtain.cli.verification import verify_stream

    found = wait(verify_stream(read_config(config)))
    text = f"{found.verdict}: {found.detail}\nchecked {found.checked} of {found.stream_last} records, head {found.head}"
    show({"ok": found.is_intact, **asdict(found)}, text, as_json)
    if not found.is_intact:
        raise typer.Exit(REFUSED)
