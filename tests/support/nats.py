# SPDX-License-Identifier: Apache-2.0
"""A real broker for tests: `async with running_server(tmp_path) as server:` and `await connect(server, user)`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from firecurtain.bus import nats
from firecurtain.bus.binary import Binary, find_binary
from firecurtain.bus.server import Server
from firecurtain.bus.users import User, control_user, node_user, operator_user
from firecurtain.terms import BusError

FLEET = "knight"
CONTROL = control_user(FLEET, "control", "control-password")
HOST_7 = node_user(FLEET, "host-7", "host-7-password")
HOST_8 = node_user(FLEET, "host-8", "host-8-password")
OPERATOR = operator_user(FLEET, "operator", "operator-password")
USERS = (CONTROL, HOST_7, HOST_8, OPERATOR)
LEDGER_BYTES_MAX = 1024**3


@cache
def find_server_binary() -> Binary:
    """The binary, looked for and hashed once per test run."""
    return find_binary(os.environ)


@asynccontextmanager
async def running_server(
    directory: Path, users: tuple[User, ...] = USERS, report: Callable[[BusError], None] = print
) -> AsyncIterator[Server]:
    """A supervised nats-server with its files in `directory`; ended at the end of the block."""
    server = Server(directory / "broker", find_server_binary(), users, report)
    async with server:
        yield server


async def connect(server: Server, user: User = CONTROL, report: Callable[[BusError], None] = print) -> nats.NatsBus:
    """One connection as `user`; close it yourself."""
    return await nats.connect(server.url, user=user.name, password=user.password, report=report)


async def connect_with_ledger(server: Server, report: Callable[[BusError], None] = print) -> nats.NatsBus:
    """The control plane's connection, with the ledger stream made ready."""
    bus = await connect(server, CONTROL, report)
    await bus.create_ledger(LEDGER_BYTES_MAX)
    return bus
