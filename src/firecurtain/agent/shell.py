# SPDX-License-Identifier: Apache-2.0
"""Puts one agent together, runs it until it is told to stop, and takes it apart again: page first, process next.

It starts with the control plane down: the service starts, the page stays closed and says why, and the connection is
tried until it stands. Two connections, so that counters never queue before an attest.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing

import structlog

from firecurtain.agent.config import AgentConfig
from firecurtain.agent.core.state import Identity
from firecurtain.agent.counters import CounterSum
from firecurtain.agent.exchange import Connect, Exchange
from firecurtain.agent.host import Host
from firecurtain.agent.latch import Latch
from firecurtain.agent.releases import ReleaseShelf
from firecurtain.agent.service import Service
from firecurtain.bus import nats
from firecurtain.bus.port import Bus, Report, Unavailable
from firecurtain.permit import PageHeader, PageWriter, boottime_ns, read_boot_id, read_time_namespace
from firecurtain.terms import NS_PER_MS, BusError, ConfigError
from firecurtain.trust.fields import index_keys
from firecurtain.trust.keys import load_private_key
from firecurtain.trust.root import Root
from firecurtain.trust.verify import verify_root

TICK_S = 0.05
RECONNECT_S = 0.25

_log = structlog.get_logger("firecurtain.agent")


def run(config: AgentConfig) -> int:
    """Run one agent in the main thread until SIGTERM or SIGINT.

    Returns: 0 when it was told to stop.
    Raises: FirecurtainError: it cannot start: root, key, latch or page cannot be used.
    """
    configure_log()

    async def main() -> None:
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)

        async def connect(report: Report) -> Bus:
            return await nats.connect(config.bus.url, user=config.bus.user, password=config.bus.password, report=report)

        # What was imported stays for ever. Looked through again by every full collection it holds up whatever comes
        # meanwhile, a stop too: 28 to 150 ms measured, beside seven other agents on two cores.
        gc.freeze()
        await serve(config, connect, stopping)

    asyncio.run(main())
    return 0


async def serve(config: AgentConfig, connect: Connect, stopping: asyncio.Event) -> None:
    """Run one agent over connections that `connect` opens, until `stopping` is set. Raises: as `run`."""
    root = read_root(config)
    signer = load_private_key(config.node_key)
    config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The page first: it is closed from here on, whatever else fails, and its lock keeps a second agent out.
    with PageWriter(config.page_path, make_header(config, root)) as page, closing(Latch(config.state_dir)) as latch:
        if latch.torn_bytes:
            _log.warning("torn end of a latch dropped: it was never acknowledged", size_bytes=latch.torn_bytes)
        shelf = ReleaseShelf(config.state_dir / "releases", root, config.service)
        for text in shelf.load():
            _log.warning("release on disk refused", error=text)
        host = Host(make_identity(config, root), root, page, latch, shelf)
        service = Service(config, host)
        exchange = Exchange(host, service, root, signer, CounterSum(config.page_path))
        await _run_tasks(host, service, exchange, connect, stopping)


def read_root(config: AgentConfig) -> Root:
    """Raises: ConfigError: unreadable or of another fleet. TrustError: not signed by its own approvers."""
    try:
        root = verify_root(config.root.read_bytes())
    except OSError as error:
        raise ConfigError(f"root {config.root} cannot be read: {error}. Copy root.json here.") from error
    if root.fleet != config.fleet:
        raise ConfigError(
            f"{config.root} is the root of fleet {root.fleet}, configured is {config.fleet}. Correct one."
        )
    return root


def make_identity(config: AgentConfig, root: Root) -> Identity:
    """Who this agent is from now on: its session is bound to the boot and to the moment of its start."""
    start = f"{config.node}|{boottime_ns()}".encode()
    return Identity(
        fleet=config.fleet,
        service=config.service,
        node=config.node,
        session=hashlib.sha256(read_boot_id() + start).digest()[:16],
        issuers=tuple(sorted(index_keys(root.issuers))),
        max_age_ns=root.max_age_ms * NS_PER_MS,
    )


def make_header(config: AgentConfig, root: Root) -> PageHeader:
    """Whose page this is, on which clock."""
    return PageHeader(
        fleet=config.fleet,
        service=config.service,
        node=config.node,
        max_age_ns=root.max_age_ms * NS_PER_MS,
        boot_id=read_boot_id(),
        time_namespace=read_time_namespace(),
    )


def configure_log() -> None:
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


async def _run_tasks(
    host: Host, service: Service, exchange: Exchange, connect: Connect, stopping: asyncio.Event
) -> None:
    """All tasks until one fails or we are told to stop. The service ends while the page is already closed."""

    def report_and_ask(error: BusError) -> None:
        _report(error)
        if isinstance(error, Unavailable):
            host.ask_now.set()  # asked until heard: an issuer that comes back must soon hear what we remember

    tasks = [
        asyncio.create_task(work)
        for work in (
            _tick(host),
            service.run(),
            _keep_connected("beacons", lambda: connect(report_and_ask), exchange.serve),
            _keep_connected("counters", lambda: connect(_report), exchange.count),
        )
    ]
    waiting = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        host.close("the agent stops")
        for task in (waiting, *tasks):
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _tick(host: Host) -> None:
    while True:
        host.tick()
        await asyncio.sleep(TICK_S)


async def _keep_connected(
    name: str, connect: Callable[[], Awaitable[Bus]], use: Callable[[Bus], Awaitable[None]]
) -> None:
    """Connect, use the connection until it ends, connect again. A broker that is down is told once, not every try."""
    told = ""
    while True:
        try:
            bus = await connect()
            _log.info("connected", connection=name)
            told = ""
            try:
                await use(bus)
            finally:
                await bus.close()
        except* BusError as group:
            text = "; ".join(str(error) for error in group.exceptions)
            if text != told:
                _log.warning("no connection", connection=name, error=text)
            told = text
        await asyncio.sleep(RECONNECT_S)


def _report(error: BusError) -> None:
    _log.warning("bus", code=error.code, error=str(error))
