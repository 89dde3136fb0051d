# SPDX-License-Identifier: Apache-2.0
"""`firecurtain halt` as a person feels it, ten times, while the fleet acts: enter key to cast, and to DURABLE.

`enter_to_cast_ms` is the command's own word, counted from the kernel's start time of its process (to a tick of 10 ms).
DURABLE is the whole command as a shell sees it: issuer and all eight nodes have confirmed, and it has ended.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from bench.clock import now_ns
from bench.fleet import NODES, BenchError, Fleet, running_fleet
from bench.kill import wait_until
from bench.people import meet_people
from bench.report import Figure, Found, compute_percentile
from bench.service import SERVICE
from firecurtain.terms import NS_PER_MS

HALTS = 10
CAST_MS_MAX = 300.0
COMMAND = Path(sys.executable).with_name("firecurtain")


def measure() -> Found:
    """Halt ten times."""
    with running_fleet() as fleet:
        halts = asyncio.run(_halt_and_lift(fleet))
    casts = [cast_ms for cast_ms, _ in halts]
    durables = [durable_ms for _, durable_ms in halts]
    return Found(
        "halt",
        (
            Figure("enter to cast, longest", max(casts), "ms", at_most=CAST_MS_MAX),
            Figure("enter to cast, p50", compute_percentile(casts, 50), "ms"),
            Figure("enter to DURABLE, longest", max(durables), "ms"),
            Figure("enter to DURABLE, p50", compute_percentile(durables, 50), "ms"),
        ),
        (f"{HALTS} halts of service {SERVICE} by the command line, eight nodes acting; DURABLE: all confirmed.",),
        {"enter_to_cast_ms": casts, "enter_to_durable_ms": [round(durable, 1) for durable in durables]},
    )


async def _halt_and_lift(fleet: Fleet) -> list[tuple[float, float]]:
    async with meet_people(fleet) as people:
        found = []
        for _ in range(HALTS):
            await wait_until(fleet.make_acting())
            stop_id, cast_ms, durable_ms = await asyncio.to_thread(_halt, fleet)
            found.append((cast_ms, durable_ms))
            await people.lift(stop_id)
        return found


def _halt(fleet: Fleet) -> tuple[bytes, float, float]:
    """One halt: its stop's id, enter to cast, enter to DURABLE. Raises: BenchError: somebody did not confirm."""
    words = [str(COMMAND), "halt", SERVICE, "--reason", "bench", "--json"]
    start_ns = now_ns()
    done = subprocess.run(words, cwd=fleet.directory, capture_output=True, text=True, check=False)
    durable_ms = (now_ns() - start_ns) / NS_PER_MS
    if done.returncode != 0:
        raise BenchError(f"halt ended with {done.returncode}: {done.stdout}{done.stderr}")
    answer = json.loads(done.stdout)
    if sum(answer["nodes"].values()) != NODES:
        raise BenchError(f"halt says DURABLE with {answer['nodes']}")
    return bytes.fromhex(answer["stop"]), float(answer["enter_to_cast_ms"]), durable_ms
