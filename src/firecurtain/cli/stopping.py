# SPDX-License-Identifier: Apache-2.0
"""`halt` as the list of commands shows it, and `resume`: one person stops, k of n people lift.

`firecurtain halt` itself never comes this way; see `cli.main`.
"""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from firecurtain.cli.access import read_signer
from firecurtain.cli.config import read_config
from firecurtain.cli.halt import main as run_halt
from firecurtain.cli.operator import send_command
from firecurtain.cli.outcome import show
from firecurtain.cli.shared import ConfigOption, JsonOption, guarded, wait
from firecurtain.terms import TermError
from firecurtain.trust.envelope import LIFT_TYPE
from firecurtain.trust.lift import make_lift
from firecurtain.trust.sign import sign_envelope
from firecurtain.wire.commands import LiftStops


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    unparsed = {"ignore_unknown_options": True, "allow_extra_args": True}
    app.command(context_settings=unparsed, add_help_option=False)(halt)
    app.command()(guarded(resume))


def halt(context: typer.Context) -> None:
    """Stop SCOPE now: needs no ledger, no approval, no control plane."""
    raise typer.Exit(run_halt(context.args))


def resume(
    stop_ids: Annotated[list[str], typer.Argument(metavar="STOPID...", help="from `firecurtain status`")],
    reason: Annotated[str, typer.Option(help="why these stops no longer hold")],
    key: Annotated[list[str], typer.Option(help="an approver's key; give it k times")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lift stops with the signatures of k of n approvers."""
    settings = read_config(config)
    payload = make_lift(settings.fleet, [_read_stop_id(text) for text in stop_ids], reason, secrets.token_bytes(16))
    envelope = sign_envelope(payload, LIFT_TYPE, [read_signer(settings, name) for name in key])
    seq, _ = wait(send_command(settings, LiftStops(envelope)))
    show(
        {"ok": True, "lifted": stop_ids, "ledger_seq": seq},
        f"lifted {len(stop_ids)} stop{'s' if len(stop_ids) > 1 else ''} at ledger_seq {seq}",
        as_json,
    )


def _read_stop_id(text: str) -> bytes:
    try:
        stop_id = bytes.fromhex(text)
    except ValueError:
        stop_id = b""
    if len(stop_id) != 16:
        raise TermError(f"stop id {text!r} is not 32 hexadecimal characters. Copy it from `firecurtain status`.")
    return stop_id
