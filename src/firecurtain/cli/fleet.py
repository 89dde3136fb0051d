# SPDX-License-Identifier: Apache-2.0
"""`init`, `up` and `status`: make a fleet, run its control plane, look at it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from firecurtain.cli.access import read_signer
from firecurtain.cli.config import FILE_NAME, read_config
from firecurtain.cli.nodes import describe_node
from firecurtain.cli.operator import read_root, send_command
from firecurtain.cli.outcome import show
from firecurtain.cli.shared import ConfigOption, JsonErrorOption, JsonOption, guarded, wait
from firecurtain.terms import ConfigError, parse_name
from firecurtain.wire.commands import Status

DEVELOPMENT = (
    "FOR DEVELOPMENT: every key of this fleet lies on this disk, so one person can play all parts and k of n proves "
    "nothing. In production each person makes their own key elsewhere."
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(guarded(init))
    app.command()(guarded(up))
    app.command()(guarded(status))


def init(
    fleet: Annotated[str, typer.Option(help="name of the fleet")],
    directory: Annotated[Path, typer.Argument(metavar="[DIR]")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Make a fleet with keys on local disk, for development."""
    from firecurtain.trust.dev_init import make_development_keys

    config = directory / FILE_NAME
    if config.exists():
        raise ConfigError(f"{config} exists already. Name another directory, or use the fleet that is there.")
    directory.mkdir(parents=True, exist_ok=True)
    keys = make_development_keys(directory / "keys", parse_name(fleet))
    (directory / "state").mkdir(mode=0o700, exist_ok=True)
    lines = [f"fleet = {json.dumps(fleet)}", 'state_dir = "state"', 'keys_dir = "keys"', 'root = "keys/root.json"', ""]
    config.write_text("\n".join(lines), encoding="utf-8")
    sys.stderr.write(f"firecurtain: {DEVELOPMENT}\n")
    result = {"ok": True, "config": str(config), "keys": sorted(keys.paths), "development": True}
    show(result, f"{config}\nkeys: {', '.join(sorted(keys.paths))}\nnext: firecurtain up", as_json)


def up(
    config: ConfigOption = None,
    as_json: JsonErrorOption = False,  # noqa: ARG001 - `guarded` reads it
) -> None:
    """Run the control plane with its broker until it is told to end."""
    # Imported here: no other command pays for the control plane.
    from firecurtain.control.run import ControlConfig, run

    settings = read_config(config)
    read_root(settings)
    asyncio.run(
        run(
            ControlConfig(
                fleet=settings.fleet,
                state_dir=settings.state_dir,
                root=settings.root.read_bytes(),
                issuer=read_signer(settings, settings.issuer),
                disk_reserve_bytes=settings.disk_reserve_bytes,
                environ=os.environ,
            )
        )
    )


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the fleet as the control plane sees it."""
    seq, found = wait(send_command(read_config(config), Status()))
    show({"ok": True, **found}, _describe(found, seq), as_json)


def _describe(found: dict[str, Any], seq: int) -> str:
    lines = [f"fleet {found['fleet']}, ledger_seq {seq}, permits last {found['max_age_ms']} ms"]
    lines += [f"SILENT: {found['silence']}"] if found["silence"] else []
    lines += [f"GRANTS REFUSED: {found['grants_refused']}"] if found["grants_refused"] else []
    lines += [describe_node(node) for node in found["nodes"]]
    lines += [f"stop {stop['id']} {stop['kind']} {stop['scope']}: {stop['reason']}" for stop in found["stops"]]
    return "\n".join(lines)
