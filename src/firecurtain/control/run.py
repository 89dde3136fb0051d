# SPDX-License-Identifier: Apache-2.0
"""Start a control plane, run it until it is told to end, and take it apart again.

Order of the start: broker, connection, ledger (checked whole, or no start), latch, then everything else. What the
running parts do is `plane`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import secrets
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import structlog

from firecurtain.bus.binary import find_binary
from firecurtain.bus.nats import NatsBus, connect
from firecurtain.bus.server import Server
from firecurtain.control.clock import IssuerClock
from firecurtain.control.credentials import CONTROL, Credentials, write_private
from firecurtain.control.latch import Latch, create_latch, open_latch
from firecurtain.control.plane import Plane
from firecurtain.domain.commands import FoundFleet
from firecurtain.domain.decide import decide
from firecurtain.domain.events import Event, decode_event, encode_event
from firecurtain.domain.evolve import evolve, initial
from firecurtain.domain.state import Fleet, Instant
from firecurtain.ledger.ledger import Ledger, open_ledger
from firecurtain.terms import BusError, ConfigError
from firecurtain.wire.keys import Ed25519Signer

EPOCH = 1
"""The ledger epoch of a fleet that was never restored from a backup."""

LEDGER_FILE = "ledger.sqlite"
"""Our own checked copy, in state_dir."""

LEDGER_BYTES_MAX = 16 * 1024**3
"""Chosen: 25 million events of 600 bytes; a full ledger refuses grants, it never drops a record."""

RUN_FILE_S = 0.2
"""How often the run file is compared with the broker that runs. Chosen: a restart takes a fifth of a second."""

_log = structlog.get_logger("firecurtain.control")


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """What `run` needs. `root` is the root envelope; `environ` says where to look for nats-server."""

    fleet: str
    state_dir: Path
    root: bytes
    issuer: Ed25519Signer
    disk_reserve_bytes: int
    environ: Mapping[str, str]


async def run(config: ControlConfig) -> None:
    """Run until SIGTERM or SIGINT. Call it in the main thread, whose end ends the broker.

    Raises: FirecurtainError: it could not start, or a part of it could not go on.
    """
    _configure_log()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    _make_state_dir(config.state_dir)
    credentials = Credentials(config.state_dir, config.fleet, lambda: secrets.token_urlsafe(24))
    binary = find_binary(config.environ)
    _log.info("broker binary", path=str(binary.path), version=binary.version, sha256=binary.sha256)
    users = credentials.make_users(credentials.find_nodes())
    async with Server(config.state_dir / "broker", binary, users, _report) as server:
        bus = await connect(server.url, user=CONTROL, password=credentials.control_password, report=_report)
        try:
            await _run_connected(config, server, bus, credentials, ended)
        finally:
            await bus.close()


async def _run_connected(
    config: ControlConfig, server: Server, bus: NatsBus, credentials: Credentials, ended: asyncio.Event
) -> None:
    """Check ledger and latch, then serve."""
    await bus.create_ledger(LEDGER_BYTES_MAX)
    ledger = await open_ledger(
        bus,
        config.state_dir / LEDGER_FILE,
        fleet=config.fleet,
        epoch=EPOCH,
        disks=(server.store, config.state_dir),
        reserve_bytes=config.disk_reserve_bytes,
    )
    try:
        clock = IssuerClock(config.issuer.keyid)
        latch = _open_latch(config.state_dir / "stops", clock, is_new=ledger.head.seq == 0)
        fleet = await _replay(ledger) if ledger.head.seq else await _found(config, ledger, clock)
        _check_root(config, fleet, clock)
        _check_issuer(config, fleet)

        async def admit(node: str) -> dict[str, str]:
            await server.reload(credentials.make_users({*credentials.find_nodes(), node}))
            return {"url": server.url, "user": node, "password": credentials.get_node_password(node)}

        # What was imported and replayed stays: no full collection looks through it again while a stop waits (30 ms).
        gc.freeze()
        plane = Plane(fleet, ledger, latch, bus, clock, config.issuer, server.revive, admit)
        await plane.serve(ended, lambda: keep_run_file(config.state_dir, server, clock.read_utc_ms()))
    finally:
        await ledger.close()


async def _found(config: ControlConfig, ledger: Ledger, clock: IssuerClock) -> Fleet:
    """Write the first event of a new fleet."""
    for event in _decide_founding(config, clock):
        await ledger.append(encode_event(event), ledger.head.seq)
    return await _replay(ledger)


def _decide_founding(config: ControlConfig, clock: IssuerClock) -> tuple[Event, ...]:
    now = Instant(clock.clock_id, clock.read_ns(), clock.started_ns, clock.read_utc_ms())
    return decide(initial(), FoundFleet(config.fleet, EPOCH, config.root), now, {})


async def _replay(ledger: Ledger) -> Fleet:
    """The fleet as the checked ledger tells it."""
    fleet = initial()
    async for entry in ledger.history(0):
        fleet = evolve(fleet, decode_event(entry.event))
    return fleet


def _check_root(config: ControlConfig, fleet: Fleet, clock: IssuerClock) -> None:
    """Raises: ConfigError: nodes and people who were given this root file would not believe what we sign."""
    configured = reduce(evolve, _decide_founding(config, clock), initial()).root
    if configured != fleet.root:
        raise ConfigError(
            f"the root file is version {configured.version} of fleet {configured.fleet} with issuers "
            f"{_name_keys(configured.issuers)}, the ledger was founded on version {fleet.root.version} of fleet "
            f"{fleet.root.fleet} with issuers {_name_keys(fleet.root.issuers)}. Restore the root file of this fleet, "
            "or name another state_dir for a new one."
        )


def _name_keys(keys: Iterable[str]) -> str:
    return ", ".join(key[:16] for key in keys)


def _check_issuer(config: ControlConfig, fleet: Fleet) -> None:
    """Raises: ConfigError: agents would refuse every beacon."""
    public = config.issuer.public.hex()
    if public not in fleet.root.issuers:
        raise ConfigError(
            f"the issuer key {public} is not among the {len(fleet.root.issuers)} issuers of root version "
            f"{fleet.root.version}. Use the issuer key made with this root."
        )


def _open_latch(path: Path, clock: IssuerClock, *, is_new: bool) -> Latch:
    """Open the stop file; only a fleet that is being founded may lack it."""
    if is_new and not path.exists():
        create_latch(path)
    latch, dropped_bytes = open_latch(path, clock.read_ns)
    if dropped_bytes:
        _log.warning(
            "a stop was being written when the last control plane died; nobody was told of it",
            dropped_bytes=dropped_bytes,
        )
    return latch


def _make_state_dir(path: Path) -> None:
    """Raises: ConfigError: others could read our passwords."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise ConfigError(
            f"state_dir {path} cannot be made: {error.strerror}. Name another in firecurtain.toml."
        ) from error
    if mode & 0o077:
        raise ConfigError(f"state_dir {path} has mode {mode:04o}; it holds passwords. Do: chmod 700 {path}")


async def keep_run_file(state_dir: Path, server: Server, started_utc_ms: int) -> None:
    """Say where we are, for the command line on this machine and for whoever watches us start.

    While it cannot be written it is tried again: a full disk ends no control plane whose broker came back.
    Raises: BusError: the broker is not started again, and without it nobody hears us.
    """
    known_pid, trouble = 0, ""
    while True:
        server.check()
        if server.pid != known_pid:
            run = {"pid": os.getpid(), "broker_pid": server.pid, "url": server.url, "started_utc_ms": started_utc_ms}
            try:
                write_private(state_dir / "run.json", json.dumps(run, indent=1))
            except ConfigError as error:
                if str(error) != trouble:
                    _log.error("the run file is not up to date", code=error.code, error=str(error))
                trouble = str(error)
            else:
                _log.info("broker runs again" if known_pid else "control plane is up", **run)
                known_pid, trouble = server.pid, ""
        await asyncio.sleep(RUN_FILE_S)


def _configure_log() -> None:
    """JSON lines on standard error; nothing that is logged is a secret."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _report(error: BusError) -> None:
    _log.error("bus", code=error.code, error=str(error))
