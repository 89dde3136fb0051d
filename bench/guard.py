# SPDX-License-Identifier: Apache-2.0
"""What asking costs: check, acquire and on in pure Python, beside the floor of this interpreter in the same run.

Use the ratios: nanoseconds are this machine's. The floor is a Python function call, an eight-byte read of mapped memory
and a clock reading; an answer needs at least one of each. Each figure is the fastest of the rounds, less the empty
loop: what disturbs a round only makes it slower.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import time
import timeit
from collections.abc import Iterator
from pathlib import Path

import firecurtain
from bench.clock import now_ns
from bench.report import Figure, Found, compute_percentile
from bench.service import ACTION, SERVICE
from firecurtain.artifact.seal import seal
from firecurtain.permit import (
    ActionLimits,
    Grant,
    PageHeader,
    PageWriter,
    encode_limits,
    read_boot_id,
    read_time_namespace,
    write_limits,
)
from firecurtain.terms import NS_PER_S, Digest, mint_token

ROUNDS, CALLS = 15, 100_000
LIFE_NS = 600 * NS_PER_S

# As text, so that timeit puts each right into its loop and no call of ours comes on top.
STATEMENTS = {
    "Python function call": "nothing()",
    "8-byte mmap read": "words[32]",
    "clock_gettime_ns(BOOTTIME)": "read_clock(BOOTTIME)",
    "check": "check()",
    "check with a cause": "check('p-17', 5)",
    "acquire": "acquire(usd=1, cause='p-17')",
    "on": "on(token)",
}
FLOOR = tuple(STATEMENTS)[:3]


def measure() -> Found:
    """Time every statement in each round, so that a slow moment of the machine meets all of them."""
    with _guarded_names() as names:
        timers = {name: timeit.Timer(statement, globals=names) for name, statement in STATEMENTS.items()}
        empty = timeit.Timer("pass")
        rounds: dict[str, list[float]] = {name: [] for name in STATEMENTS}
        for _ in range(ROUNDS):
            loop_s = empty.timeit(CALLS)
            for name, timer in timers.items():
                rounds[name].append((timer.timeit(CALLS) - loop_s) / CALLS * 1e9)
    fastest = {name: min(samples) for name, samples in rounds.items()}
    floor_ns = sum(fastest[name] for name in FLOOR)
    asked = [name for name in STATEMENTS if name not in FLOOR]
    return Found(
        "guard",
        (
            *(Figure(name, fastest[name], "ns") for name in STATEMENTS),
            Figure("floor (sum of the first three)", floor_ns, "ns"),
            *(Figure(f"{name} / floor", fastest[name] / floor_ns, "times") for name in asked),
        ),
        (f"{ROUNDS} rounds of {CALLS:,} calls, the fastest round, less the empty loop; pure Python.",),
        {
            "rounds_ns": {name: [round(sample, 1) for sample in samples] for name, samples in rounds.items()},
            "p50_ns": {name: round(compute_percentile(samples, 50), 1) for name, samples in rounds.items()},
        },
    )


@contextlib.contextmanager
def _guarded_names() -> Iterator[dict[str, object]]:
    """An open permit for a sealed artifact, a guard attached as that artifact, and the floor's own few names."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a private directory is made there
    with tempfile.TemporaryDirectory(prefix="firecurtain-bench-", dir=memory) as directory:
        source, runtime = Path(directory) / "artifact", Path(directory) / "runtime"
        source.mkdir()
        (source / "main.py").write_text("# only its digest counts here\n")
        sealed = seal(source, Path(directory) / "store")
        page = str(runtime / "permit.page")
        header = PageHeader("bench", SERVICE, "host-1", LIFE_NS, read_boot_id(), read_time_namespace())
        with PageWriter(page, header) as writer, mmap.mmap(-1, mmap.PAGESIZE) as memory_page:
            limits = write_limits(str(runtime), encode_limits({ACTION: ActionLimits(10**12, 10**12)}))
            token = mint_token(17)
            grant = Grant(1, 1, sealed.digest, Digest("b" * 64), limits, frozenset([token]))
            writer.grant(grant, now_ns() + LIFE_NS - NS_PER_S)
            descriptor = os.open(sealed.path, os.O_RDONLY)
            curtain = firecurtain.attach(SERVICE, page, artifact_descriptor=descriptor)
            os.close(descriptor)
            action = curtain.action(ACTION)
            with memoryview(memory_page).cast("Q") as words:
                yield {
                    "nothing": _nothing,
                    "words": words,
                    "read_clock": time.clock_gettime_ns,
                    "BOOTTIME": time.CLOCK_BOOTTIME,
                    "check": action.check,
                    "acquire": action.acquire,
                    "on": curtain.on,
                    "token": token,
                }


def _nothing() -> None:
    return None
