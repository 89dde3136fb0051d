# SPDX-License-Identifier: Apache-2.0
"""A ledger over a fake bus whose records a test may break, and one over a real broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from firecurtain.bus.memory import MemoryBroker
from firecurtain.bus.port import Bus
from firecurtain.ledger.ledger import Ledger, open_ledger
from support.nats import CONTROL

OpenLedger = Callable[[Bus, Path], Awaitable[Ledger]]


@pytest.fixture
def broker() -> MemoryBroker:
    """The fake broker."""
    return MemoryBroker()


@pytest.fixture
def bus(broker: MemoryBroker) -> Bus:
    """A client of the fake."""
    return broker.connect(CONTROL, print)


@pytest.fixture
async def opened() -> AsyncIterator[OpenLedger]:
    """Opens ledgers of fleet knight, epoch 1, and closes them afterwards."""
    async with AsyncExitStack() as stack:

        async def open_one(bus: Bus, path: Path, **changes: object) -> Ledger:
            settings = {"fleet": "knight", "epoch": 1, "disks": (path.parent,), "reserve_bytes": 0} | changes
            ledger = await open_ledger(bus, path, **settings)
            stack.push_async_callback(ledger.close)
            return ledger

        yield open_one
