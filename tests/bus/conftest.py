# SPDX-License-Identifier: Apache-2.0
"""Both adapters of the `Bus` port behind one fixture, so that one suite judges them alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from firecurtain.bus.memory import MemoryBroker
from firecurtain.bus.port import Bus
from firecurtain.bus.users import User
from firecurtain.terms import BusError
from support import nats as support


@dataclass
class Buses:
    """Opens clients of one broker, whichever it is, and remembers what they reported."""

    open: Callable[[User, Callable[[BusError], None]], Awaitable[Bus]]
    reports: list[BusError] = field(default_factory=list)
    opened: list[Bus] = field(default_factory=list)

    async def connect(self, user: User = support.CONTROL) -> Bus:
        bus = await self.open(user, self.reports.append)
        self.opened.append(bus)
        return bus


@asynccontextmanager
async def _memory_buses(_: Path) -> AsyncIterator[Buses]:
    broker = MemoryBroker()

    async def open_client(user: User, report: Callable[[BusError], None]) -> Bus:
        return broker.connect(user, report)

    yield Buses(open_client)


@asynccontextmanager
async def _nats_buses(directory: Path) -> AsyncIterator[Buses]:
    async with support.running_server(directory) as server:

        async def open_client(user: User, report: Callable[[BusError], None]) -> Bus:
            bus = await support.connect(server, user, report)
            if user == support.CONTROL:
                await bus.create_ledger(support.LEDGER_BYTES_MAX)
            return bus

        yield Buses(open_client)


@pytest.fixture(params=[_memory_buses, _nats_buses], ids=["memory", "nats"])
async def buses(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Buses]:
    """One broker per test, fake and real; its clients are closed afterwards."""
    async with request.param(tmp_path) as opened:
        yield opened
        for bus in opened.opened:
            await bus.close()
