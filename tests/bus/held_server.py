# SPDX-License-Identifier: Apache-2.0
"""A parent for the supervised broker: prints the broker's pid and waits to be killed or interrupted."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from support.nats import running_server


async def hold() -> None:
    """Run a broker until a signal comes."""
    async with running_server(Path(sys.argv[1])) as server:
        sys.stdout.write(f"{server.pid}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


try:
    asyncio.run(hold())
except KeyboardInterrupt:
    sys.exit(130)
