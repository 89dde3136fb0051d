# SPDX-License-Identifier: Apache-2.0
"""Closing a connection whose broker is gone. Found by a measurement that killed brokers and never ended: nats-py went
on reconnecting after close(), because a wait_for of Python 3.11 had swallowed its cancellation."""

from __future__ import annotations

import asyncio
from pathlib import Path

from firecurtain.bus.nats import NatsBus
from support import nats


async def reconnect_for_ever(swallows: int) -> None:
    """What nats-py's task does with a cancellation that comes together with a refused connection: nothing."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallows -= 1
            if swallows < 0:
                raise


async def test_close_ends_reconnecting_even_when_a_cancellation_is_swallowed(tmp_path: Path) -> None:
    async with nats.running_server(tmp_path) as server:
        bus: NatsBus = await nats.connect(server, nats.OPERATOR)
        task = asyncio.create_task(reconnect_for_ever(swallows=2))
        await asyncio.sleep(0)
        bus._link._client._reconnection_task = task
        try:
            async with asyncio.timeout(5.0):
                await bus.close()
            assert task.cancelled()
        finally:
            while not task.done():
                task.cancel()
                await asyncio.sleep(0)
