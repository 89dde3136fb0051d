# SPDX-License-Identifier: Apache-2.0
"""Keys, a clock that tests turn by hand, and an issuer that casts into a list."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firecurtain.control.issuer import Grants, Issuer, make_content
from firecurtain.control.latch import Latch, create_latch, open_latch
from firecurtain.domain.commands import FoundFleet
from firecurtain.domain.decide import decide
from firecurtain.domain.evolve import evolve, initial
from firecurtain.domain.state import Fleet, Instant
from firecurtain.wire.frame import encode_frame
from firecurtain.wire.keys import Ed25519Signer
from firecurtain.wire.messages import VERSION, AllowedRelease, Stop, StopEntry
from support.plane import make_root

FLEET = "knight"


class HandClock:
    """Time that moves one millisecond per reading, from a large odd start, and whenever a test says so."""

    clock_id = bytes(range(16))

    def __init__(self) -> None:
        self.started_ns = 987_654_321_012_345
        self.now_ns = self.started_ns
        self.on_reading: Callable[[], None] = lambda: None

    def read_ns(self) -> int:
        self.now_ns += 1_000_000
        self.on_reading()
        return self.now_ns

    def read_utc_ms(self) -> int:
        return 1_343_822_400_000 + (self.now_ns - self.started_ns) // 1_000_000


class Sent(list[tuple[str, bytes]]):
    """What an issuer cast, in order."""

    def __init__(self) -> None:
        super().__init__()
        self._came = asyncio.Event()

    async def cast(self, subject: str, message: bytes) -> None:
        self.append((subject, message))
        self._came.set()

    async def wait_for(self, count: int) -> None:
        while len(self) < count:
            self._came.clear()
            await self._came.wait()


@pytest.fixture
def issuer_key() -> Ed25519Signer:
    return Ed25519Signer(b"i" * 32)


@pytest.fixture
def stop_key() -> Ed25519Signer:
    return Ed25519Signer(b"s" * 32)


@pytest.fixture
def hand_clock() -> HandClock:
    return HandClock()


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def latch(tmp_path: Path, hand_clock: HandClock) -> Iterator[Latch]:
    create_latch(tmp_path / "latch")
    latch, _ = open_latch(tmp_path / "latch", hand_clock.read_ns)
    yield latch
    latch.close()


@pytest.fixture
def make_issuer(issuer_key: Ed25519Signer, hand_clock: HandClock, latch: Latch, sent: Sent) -> Callable[..., Issuer]:
    """Build an issuer for service `smars` with one allowed release; `kind` may be a mutant's class."""

    def build(
        kind: type[Issuer] = Issuer,
        own_latch: Latch | None = None,
        period_ms: int = 200,
        recorded: tuple[StopEntry, ...] = (),
    ) -> Issuer:
        serial = itertools.count(1)
        issuer = kind(
            FLEET,
            issuer_key,
            hand_clock,  # type: ignore[arg-type]  # the same two readings and a name
            own_latch or latch,
            sent.cast,
            lambda: next(serial).to_bytes(16, "big"),
            1500,
            period_ms,
        )
        issuer.adopt(make_grants(recorded))
        return issuer

    return build


def make_grants(recorded: tuple[StopEntry, ...] = (), lifted: frozenset[bytes] = frozenset()) -> Grants:
    allowed = (AllowedRelease("1" * 64, "2" * 64, "all", (), (), "3" * 64),)
    return Grants(
        contents={"smars": make_content(1, 7, "smars", allowed)},
        recorded={entry.id: entry for entry in recorded},
        lifted=lifted,
        service_of={"host-1": "smars", "other-1": "refunds"},
    )


@pytest.fixture
def grants() -> Callable[..., Grants]:
    return make_grants


@pytest.fixture
def make_stop(stop_key: Ed25519Signer) -> Callable[..., bytes]:
    """Sign a stop the way a person's command line does."""

    def make(stop_id: bytes, scope: str = "fleet", reason: str = "drill") -> bytes:
        return encode_frame(Stop(VERSION, FLEET, StopEntry(stop_id, "halt", scope, reason), 0), stop_key)

    return make


@pytest.fixture
def operator_fleet() -> Fleet:
    """A fleet that was founded and nothing else."""
    now = Instant(bytes(16), 2, 1, 0)
    fleet = initial()
    for event in decide(fleet, FoundFleet(FLEET, 1, make_root()), now, {}):
        fleet = evolve(fleet, event)
    return fleet
