# SPDX-License-Identifier: Apache-2.0
"""How fast a stop is: eight guarded routers at 2,000 actions a second, a venue that stamps every arrival.

Two figures. `halt`: from the issuer's fsync of the stop to the venue's receipt of the last execution, 50 pulls, p50 at
most 10 ms and p99 at most 15 ms. `cut off`: control plane and broker killed with SIGKILL at once; the last execution
comes at most max_age + 20 ms after the last signing, 10 runs. All times are CLOCK_BOOTTIME of one machine: the issuer's
clock is converted with an offset read beside it. Everything is real: processes, broker, ledger, permits, sockets.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from firecurtain.bus.nats import NatsBus, connect
from firecurtain.cli.access import connect_operator, read_access, read_signer
from firecurtain.cli.config import Config, read_config
from firecurtain.cli.operator import read_issuer_keys, send_command
from firecurtain.trust.envelope import LIFT_TYPE
from firecurtain.trust.lift import make_lift
from firecurtain.trust.sign import sign_envelope
from firecurtain.wire import subjects
from firecurtain.wire.commands import LiftStops
from firecurtain.wire.frame import decode_frame, encode_frame
from firecurtain.wire.messages import VERSION, Beacon, Reply, Stop, StopEntry

NODES = 8
ACTIONS_PER_S = 2_000
PULLS = 50
CUTS = 10
MAX_AGE_MS = 1_500.0
HALT_MS_P50, HALT_MS_P99, CUT_MS = 10.0, 15.0, MAX_AGE_MS + 20.0
SETTLE_S = 0.3  # a node that had not stopped by then would show in the next pull's figures and in the venue's count
BUSY_ACTIONS = 200
PATIENCE_S = 30.0
COMMAND = Path(sys.executable).with_name("firecurtain")

ROUTER = f"""import socket, sys, time
import firecurtain
from firecurtain.guard import Denied
action = firecurtain.attach("smars").action("send-order")
venue = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
venue.connect(sys.argv[1])
period_s, due_s = {NODES / ACTIONS_PER_S}, time.monotonic()
while True:
    due_s += period_s
    time.sleep(max(0.0, due_s - time.monotonic()))
    try:
        action.acquire(usd=0, cause="bench")
    except Denied:
        continue
    venue.send(b"order")
"""
RELEASE = """fleet = "bench"
service = "smars"
version = 1
entrypoint = ["main.py"]
tokens = []
on_straggler = "hold"
min_nodes = 1
limits.send-order = { effects_per_cause = 1000000000, gross_usd = 1 }
stages = [{ name = "all", nodes = "*" }]
"""


@dataclass
class Site:
    """One fleet in one directory, the processes started for it, and the venue's ledger."""

    directory: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        return read_config(self.directory / "firecurtain.toml")

    def run(self, *words: str) -> dict[str, object]:
        done = subprocess.run([COMMAND, *words, "--json"], cwd=self.directory, capture_output=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} exited {done.returncode}: {done.stderr.decode()}")
        return dict(json.loads(done.stdout))

    def start(self, name: str, *argv: str | Path) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(argv, cwd=self.directory, stdout=log, stderr=log)

    def up(self) -> None:
        run = self.directory / "state" / "run.json"
        run.unlink(missing_ok=True)
        self.start("control", COMMAND, "up")
        wait_for(run.exists)

    def read_arrivals(self, after_ns: int = 0) -> list[int]:
        """When executions reached the venue, CLOCK_BOOTTIME."""
        data = (self.directory / "venue.ledger").read_bytes()
        whole = len(data) // 8
        return [stamp for stamp in struct.unpack(f"={whole}Q", data[: whole * 8]) if stamp > after_ns]

    def wait_until_busy(self) -> None:
        """Every node acts again: a tenth of a second's actions have arrived since now."""
        start_ns = boottime_ns()
        wait_for(lambda: len(self.read_arrivals(start_ns)) >= BUSY_ACTIONS)


def main() -> int:
    """Measure and print; 1 when a bound is missed."""
    if sys.argv[1:2] == ["venue"]:
        return serve_venue(Path(sys.argv[2]), Path(sys.argv[3]))
    with running_site() as site:
        halts, pulls = asyncio.run(measure_halts(site))
        cuts = [asyncio.run(measure_cut(site)) for _ in range(CUTS)]
    p50, p99 = compute_quantiles(halts)
    print(f"halt: {PULLS} pulls at {ACTIONS_PER_S} actions/s, fsync to last receipt:", end=" ")
    print(f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {max(halts):.2f} ms")
    print("halt: from the cast to last receipt: p50 {:.2f} ms, p99 {:.2f} ms".format(*compute_quantiles(pulls)))
    print(f"cut off: {CUTS} runs, permits last {MAX_AGE_MS:.0f} ms:", end=" ")
    print(f"last receipt at most {max(cuts):.1f} ms after the last signing")
    return int(p50 > HALT_MS_P50 or p99 > HALT_MS_P99 or max(cuts) > CUT_MS)


def compute_quantiles(figures: list[float]) -> tuple[float, float]:
    return statistics.median(figures), sorted(figures)[int(len(figures) * 0.99)]


async def measure_halts(site: Site) -> tuple[list[float], list[float]]:
    """Milliseconds to the last execution, from the fsync and from the cast, a figure of each for every pull.

    Agents hear the cast themselves, so they often stop while the issuer waits for its disk: then 0 from the fsync.
    """
    config = site.config
    bus = await connect_operator(config)
    keys = read_issuer_keys(config)
    from_fsync, from_cast = [], []
    for _ in range(PULLS):
        site.wait_until_busy()
        await asyncio.sleep(random.random() * 0.2)  # noqa: S311 - any phase between two beacons
        cast_ns = boottime_ns()
        stop_id, durable_ns = await pull(bus, config, keys)
        await asyncio.sleep(SETTLE_S)
        last_ns = max(site.read_arrivals(cast_ns), default=cast_ns)
        from_fsync.append(max(0, last_ns - durable_ns) / 1e6)
        from_cast.append((last_ns - cast_ns) / 1e6)
        await lift(config, stop_id)
    await bus.close()
    return from_fsync, from_cast


async def pull(bus: NatsBus, config: Config, keys: dict[bytes, bytes]) -> tuple[bytes, int]:
    """Halt the fleet; returns the stop and the moment of its fsync, CLOCK_BOOTTIME."""
    entry = StopEntry(os.urandom(16), "halt", "fleet", "bench")
    frame = encode_frame(Stop(VERSION, config.fleet, entry, 0), read_signer(config, config.stop))
    reply = decode_frame(Reply, await bus.ask(subjects.stop(config.fleet), frame, 5.0), keys).message
    return entry.id, json.loads(reply.detail)["durable_ns"] + read_offset_ns()


async def lift(config: Config, stop_id: bytes) -> None:
    payload = make_lift(config.fleet, [stop_id], "bench", os.urandom(16))
    signers = [read_signer(config, name) for name in ("approver-1", "approver-2")]
    await send_command(config, LiftStops(sign_envelope(payload, LIFT_TYPE, signers)))


async def measure_cut(site: Site) -> float:
    """Milliseconds from the last signing to the last execution, after control plane and broker died at once."""
    site.wait_until_busy()
    config = site.config
    keys = read_issuer_keys(config)
    url, user, password = read_access(config)
    bus = await connect(url, user=user, password=password, report=lambda _: None)  # losing it is the purpose
    beacons = await bus.listen(subjects.beacon(config.fleet, "smars"))
    for _ in range(3):
        signed_ns = decode_frame(Beacon, (await anext(beacons)).data, keys).message.signed_ns
    run = json.loads((site.directory / "state" / "run.json").read_text())
    for pid in (run["broker_pid"], run["pid"]):
        os.kill(pid, signal.SIGKILL)
    last_ns = signed_ns + read_offset_ns()
    site.processes["control"].wait()
    await asyncio.sleep(MAX_AGE_MS / 1000 + SETTLE_S)
    arrivals = site.read_arrivals(last_ns)
    await bus.close()
    site.up()
    return (max(arrivals) - last_ns) / 1e6


@contextmanager
def running_site() -> Iterator[Site]:
    """A fleet of eight routers that all act; nothing of it is left afterwards."""
    memory = Path("/dev/shm")  # noqa: S108 - a private directory is made there
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="firecurtain-bench-")))
        runtime = Path(tempfile.mkdtemp(prefix="firecurtain-bench-", dir=memory if memory.is_dir() else None))
        stack.callback(shutil.rmtree, runtime)
        site = Site(directory)
        stack.callback(end, site)
        start(site, runtime)
        yield site


def start(site: Site, runtime: Path) -> None:
    """Venue, control plane, one release, eight agents."""
    site.start("venue", sys.executable, __file__, "venue", site.directory / "venue", site.directory / "venue.ledger")
    site.run("init", str(site.directory), "--fleet", "bench")
    site.up()
    (site.directory / "artifact").mkdir()
    (site.directory / "artifact" / "main.py").write_text(ROUTER)
    (site.directory / "release.toml").write_text(RELEASE)
    digest = str(site.run("seal", "artifact", "--store", "store")["digest"])
    for number in range(1, NODES + 1):
        places = ("--out", f"node-{number}", "--store", "store", "--runtime-dir", str(runtime / str(number)))
        path = Path(str(site.run("node", "enrol", f"host-{number}", "--service", "smars", *places)["agent_config"]))
        text = (site.directory / path).read_text()
        argv = json.dumps([str(site.directory / "venue")])
        (site.directory / path).write_text(text.replace("\n[bus]", f"argv = {argv}\n\n[bus]", 1))
    release = str(site.run("release", "propose", "release.toml", "--artifact", digest, "--store", "store")["release"])
    site.run("release", "approve", release, "--key", "approver-1", "--key", "approver-2")
    for number in range(1, NODES + 1):
        site.start(f"agent-{number}", COMMAND, "agent", "--config", f"node-{number}/agent.toml")
    site.wait_until_busy()


def end(site: Site) -> None:
    for process in reversed(site.processes.values()):
        process.terminate()
    for process in site.processes.values():
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def serve_venue(place: Path, ledger: Path) -> int:
    """Stamp every arrival and write it down at once."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as orders, ledger.open("ab", buffering=0) as file:
        orders.bind(str(place))
        while True:
            orders.recv(64)
            file.write(struct.pack("=Q", boottime_ns()))


def wait_for(is_there: object) -> None:
    """Look every 5 ms, give up loudly."""
    end_s = time.monotonic() + PATIENCE_S
    while not is_there():  # type: ignore[operator]
        if time.monotonic() > end_s:
            raise SystemExit(f"nothing happened within {PATIENCE_S} s")
        time.sleep(0.005)


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def read_offset_ns() -> int:
    """CLOCK_BOOTTIME minus CLOCK_MONOTONIC_RAW, from the tightest of five readings."""
    readings = []
    for _ in range(5):
        before_ns = boottime_ns()
        raw_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        after_ns = boottime_ns()
        readings.append((after_ns - before_ns, (before_ns + after_ns) // 2 - raw_ns))
    return min(readings)[1]


if __name__ == "__main__":
    raise SystemExit(main())
