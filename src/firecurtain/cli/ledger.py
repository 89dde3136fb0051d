# SPDX-License-Identifier: Apache-2.0
"""`ledger verify`: every record of the stream against our own copy, beside a living control plane or without one."""

from __future__ import annotations

import os
import secrets
from dataclasses import asdict

import typer

from firecurtain.bus.binary import find_binary
from firecurtain.bus.nats import connect
from firecurtain.bus.port import Unavailable
from firecurtain.bus.server import Server
from firecurtain.cli.access import read_access, report_trouble
from firecurtain.cli.config import Config, read_config
from firecurtain.cli.outcome import REFUSED, show
from firecurtain.cli.shared import ConfigOption, JsonOption, guarded, wait
from firecurtain.control.credentials import CONTROL, Credentials
from firecurtain.control.run import EPOCH, LEDGER_FILE
from firecurtain.ledger.verify import Verification, verify


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    ledgers = typer.Typer(help="Check the ledger.", no_args_is_help=True)
    ledgers.callback()(lambda: None)  # a group stays a group, although it has one command
    ledgers.command("verify")(guarded(verify_ledger))
    app.add_typer(ledgers, name="ledger")


def verify_ledger(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check every record and compare the stream with our own copy. Exit 1: a start would be refused."""
    found = wait(_verify(read_config(config)))
    text = f"{found.verdict}: {found.detail}\nchecked {found.checked} of {found.stream_last} records, head {found.head}"
    show({"ok": found.is_intact, **asdict(found)}, text, as_json)
    if not found.is_intact:
        raise typer.Exit(REFUSED)


async def _verify(config: Config) -> Verification:
    """Use the running broker; without one, run it for as long as the check takes."""
    credentials = Credentials(config.state_dir, config.fleet, lambda: secrets.token_urlsafe(24))
    try:
        return await _verify_at(config, read_access(config)[0], credentials)
    except Unavailable:
        users = credentials.make_users(credentials.find_nodes())
        async with Server(config.state_dir / "broker", find_binary(os.environ), users, report_trouble) as server:
            return await _verify_at(config, server.url, credentials)


async def _verify_at(config: Config, url: str, credentials: Credentials) -> Verification:
    bus = await connect(url, user=CONTROL, password=credentials.control_password, report=report_trouble)
    try:
        return await verify(bus, config.state_dir / LEDGER_FILE, fleet=config.fleet, epoch=EPOCH)
    finally:
        await bus.close()
