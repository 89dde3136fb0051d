# SPDX-License-Identifier: Apache-2.0
"""A parent for the supervised broker: prints the broker's pid and waits to be killed or interrupted.

With a second argument the parent-death signal is left out, to show that a test would see it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from firecurtain.bus import server as server_module
from support.mutants import load_mutant
from support.nats import running_server


async def hold() -> None:
    """Run a broker until a signal comes."""
    async with running_server(Path(sys.argv[1])) as server:
        sys.stdout.write(f"{server.pid}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if len(sys.argv) > 2:
    server_module.spawn = load_mutant(
        "firecurtain.bus.child", "_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0", "False"
    ).spawn
try:
    asyncio.run(hold())
except KeyboardInterrupt:
    sys.exit(130)
