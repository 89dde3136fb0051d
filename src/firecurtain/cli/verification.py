# SPDX-License-Identifier: Apache-2.0
"""How `ledger verify` reaches the stream: over the running broker, or by running it for as long as the check takes."""

from __future__ import annotations

import os
import secrets

from firecurtain.bus.binary import find_binary
from firecurtain.bus.nats import connect
from firecurtain.bus.port import Unavailable
from firecurtain.bus.server import Server
from firecurtain.cli.access import read_access, report_trouble
from firecurtain.cli.config import Config
from firecurtain.control.credentials import CONTROL, Credentials
from firecurtain.control.run import EPOCH, LEDGER_FILE
from firecurtain.ledger.verify import Verification, verify


async def verify_stream(config: Config) -> Verification:
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
