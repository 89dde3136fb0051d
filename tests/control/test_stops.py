# SPDX-License-Identifier: Apache-2.0
"""A stop is durable before it is cast, stands in the very next beacon, and waits for no ledger."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from firecurtain.bus.port import Message, NoAnswer, Unavailable
from firecurtain.control.issuer import NODE_STOPS_MAX, Issuer
from firecurtain.control.latch import Latch, LatchError
from firecurtain.control.stops import StopDesk
from firecurtain.domain.events import CommandRefused, SessionOpened, StopRecorded, encode_event
from firecurtain.terms import LedgerDamaged
from firecurtain.wire import subjects
from firecurtain.wire.commands import EnrolNode, ExcludeNode, Status
from firecurtain.wire.frame import decode_frame
from firecurtain.wire.messages import Stop
from support.fleet_world import make_signer
from support.mutants import load_mutant
from support.plane import FLEET, SERVICE, STOP, make_stop, read_detail, running_plane


async def test_a_stop_is_cast_to_every_agent_and_stands_in_every_later_beacon(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        await site.enrol()
        async with await site.host.listen(subjects.stop_down(FLEET)) as down:
            reply = await site.stop(make_stop("service:smars", b"a" * 16))
            message = await asyncio.wait_for(anext(aiter(down)), 5.0)
        assert decode_frame(Stop, message.data, {STOP.keyid: STOP.public}).message.entry.id == b"a" * 16
        beacon = await site.read_beacon()
        assert [entry.id for entry in beacon.stops] == [b"a" * 16]
        assert read_detail(reply)["durable_ns"] < beacon.signed_ns
        assert read_detail(reply)["nodes"] == {"host-8": False}


class Broker:
    """Instead of a bus: at every cast it notes whether the stop was on disk already."""

    def __init__(self, path: Path, frame: bytes) -> None:
        self._path, self._frame = path, frame
        self.was_durable: dict[str, bool] = {}

    async def cast(self, subject: str, _: bytes) -> None:
        self.was_durable[subject] = self._frame.hex().encode() in self._path.read_bytes()


LATCH_THEN_SEND = """
        try:
            latched = self._issuer.add(frame)
        finally:
            await self._send(frame)
"""
SEND_THEN_LATCH = """
        await self._send(frame)
        latched = self._issuer.add(frame)
"""


@pytest.mark.parametrize("is_mutant", [False, True])
async def test_a_stop_is_on_disk_before_anybody_hears_of_it(
    is_mutant: bool, make_issuer: Callable[..., Issuer], latch: Latch, tmp_path: Path, operator_fleet: object
) -> None:
    """The mutant casts first and latches then; it must be seen."""
    desk = StopDesk
    if is_mutant:
        desk = load_mutant("firecurtain.control.stops", LATCH_THEN_SEND, SEND_THEN_LATCH).StopDesk
    frame = make_stop()
    broker = Broker(tmp_path / "latch", frame)
    stops = desk(make_issuer(), broker, lambda: operator_fleet, dict, lambda: None)  # type: ignore[arg-type]  # a fake
    await stops.handle(Message(subjects.stop(FLEET), frame))
    assert broker.was_durable[subjects.stop_down(FLEET)] is not is_mutant


def make_hanging_append(released: asyncio.Event) -> Callable[..., Awaitable[None]]:
    """An append that hangs until a test lets it fail."""

    async def append(*_: object, **__: object) -> None:
        await released.wait()
        raise Unavailable("planted: the append failed", ambiguous=True)

    return append


async def test_a_hanging_and_then_failing_append_neither_delays_nor_undoes_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_plane(tmp_path) as site:
        await site.enrol()
        released = asyncio.Event()
        monkeypatch.setattr(site.ledger, "append", make_hanging_append(released))
        reply = await site.stop(make_stop("fleet", b"a" * 16))
        assert reply.ok, "durable and answered while the append hangs"
        assert [entry.id for entry in (await site.read_beacon()).stops] == [b"a" * 16]
        released.set()
        assert [entry.id for entry in (await site.read_beacon()).stops] == [b"a" * 16]
        monkeypatch.undo()
        assert (await site.wait_for(StopRecorded)).id == b"a" * 16, "recorded once the ledger takes records again"


async def test_with_a_damaged_ledger_grants_are_refused_by_name_while_beacons_and_stops_go_on(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        await site.enrol()
        site.ledger.damage = LedgerDamaged("planted: record 2 changed")
        reply = await site.command(EnrolNode("host-9", SERVICE, make_signer("host-9").public))
        assert (reply.ok, reply.code) == (False, "ledger-damaged")
        assert (await site.stop(make_stop("fleet", b"a" * 16))).ok
        assert [entry.id for entry in (await site.read_beacon()).stops] == [b"a" * 16]
        assert "record 2 changed" in read_detail(await site.command(Status()))["grants_refused"]


async def test_after_a_failed_fsync_the_stop_is_passed_on_and_no_beacon_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_plane(tmp_path) as site:
        await site.enrol()
        descriptor = site.latch._descriptor
        real = os.fsync

        def fail(number: int) -> None:
            if number == descriptor:
                raise OSError(errno.EIO, "Input/output error")
            real(number)

        monkeypatch.setattr(os, "fsync", fail)
        async with await site.host.listen(subjects.stop_down(FLEET)) as down:
            reply = await site.stop(make_stop("fleet", b"a" * 16))
            assert (reply.ok, reply.code) == (False, "latch")
            assert await asyncio.wait_for(anext(aiter(down)), 5.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):  # two and a half periods
                await site.read_beacon()


async def test_only_stop_keys_stop_others(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        host_8 = await site.enrol()
        await site.enrol("host-7")
        for frame in (
            make_stop(by=make_signer("stranger")),
            make_stop("node:host-7", by=host_8),
            make_stop("fleet", by=host_8),
            make_stop(fleet="other"),
            b"FCB1 and then nothing",
        ):
            assert not (await site.stop(frame)).ok
        assert not site.latch.stops
        assert (await site.stop(make_stop("node:host-8", by=host_8))).ok


async def test_a_node_cannot_fill_the_set_with_stops_for_itself(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        host_8 = await site.enrol()
        for _ in range(NODE_STOPS_MAX):
            assert (await site.stop(make_stop("node:host-8", by=host_8))).ok
        reply = await site.stop(make_stop("node:host-8", by=host_8))
        assert not reply.ok
        assert len(site.latch.stops) == NODE_STOPS_MAX


async def test_taking_the_id_of_a_stop_for_a_harmless_scope_does_not_suppress_it(tmp_path: Path) -> None:
    """A node that hears a stop first answers to it with the same id for itself only; the fleet stops all the same."""
    async with running_plane(tmp_path) as site:
        host_8 = await site.enrol()
        await site.stop(make_stop("node:host-8", b"a" * 16, by=host_8))
        await site.stop(make_stop("fleet", b"a" * 16))
        assert {entry.scope for entry in (await site.read_beacon()).stops} == {"node:host-8", "fleet"}


@pytest.mark.parametrize("scope", ["node:host-8", "planet:earth"])
async def test_a_stop_that_got_another_id_and_is_sent_again_is_still_one_stop(tmp_path: Path, scope: str) -> None:
    """A captured frame, sent a thousand times, may not become a thousand stops that we signed."""
    async with running_plane(tmp_path) as site:
        host_8 = await site.enrol()
        await site.stop(make_stop("service:other", b"a" * 16))
        frame = make_stop(scope, b"a" * 16, by=host_8 if scope.startswith("node") else STOP)
        for _ in range(3):
            assert (await site.stop(frame)).ok
        assert len(site.latch.stops) == 2


async def test_a_node_cannot_fill_the_set_with_ids_of_other_stops(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        host_8 = await site.enrol()
        answers = []
        for number in range(NODE_STOPS_MAX + 2):
            await site.stop(make_stop("service:other", stop_id := number.to_bytes(16, "big")))
            answers.append(await site.stop(make_stop("node:host-8", stop_id, by=host_8)))
        assert [answer.ok for answer in answers] == [True] * NODE_STOPS_MAX + [False] * 2


async def test_taking_the_other_id_too_does_not_suppress_a_stop(tmp_path: Path) -> None:
    """How the other id is made is no secret, so whoever hears a stop first may take that one as well."""
    async with running_plane(tmp_path) as site:
        host_8 = await site.enrol()
        other_id = hashlib.sha256(b"a" * 16 + b"fleet").digest()[:16]
        for stop_id in (b"a" * 16, other_id):
            await site.stop(make_stop("node:host-8", stop_id, by=host_8))
        assert (await site.stop(make_stop("fleet", b"a" * 16))).ok
        assert "fleet" in {entry.scope for entry in (await site.read_beacon()).stops}


async def test_a_scope_nobody_can_read_stops_everything(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        await site.enrol()
        assert (await site.stop(make_stop("planet:earth", b"a" * 16))).ok
        assert [entry.id for entry in (await site.read_beacon()).stops] == [b"a" * 16]


async def test_a_stop_that_only_a_node_remembers_silences_the_issuer_then_counts_for_the_whole_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant of 03-protocol: issuer restarted without its latch. The node's memory is enough to stop everybody."""
    monkeypatch.setattr("firecurtain.control.issuer.REMEMBERED_WAIT_NS", 300_000_000)
    (tmp_path / "stops").touch()  # what a person makes when the file is lost
    async with running_plane(tmp_path) as site:
        host_8 = await site.enrol()
        with pytest.raises(NoAnswer):
            await site.attest(site.make_attest(latched=(b"a" * 16,)), host_8, 0.05)
        assert "remembered" in site.plane.issuer.silence
        beacon = await site.read_beacon()
        assert [(entry.id, entry.scope) for entry in beacon.stops] == [(b"a" * 16, "fleet")]


async def test_what_a_node_makes_up_stops_that_node_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One node's key names two hundred stops that never were."""
    monkeypatch.setattr("firecurtain.control.issuer.REMEMBERED_WAIT_NS", 300_000_000)
    async with running_plane(tmp_path) as site:
        host_8 = await site.enrol()
        await site.cast_attest(site.make_attest(), host_8)
        await site.wait_for(SessionOpened)
        made_up = tuple(number.to_bytes(16, "big") for number in range(200))
        await site.cast_attest(site.make_attest(latched=made_up), host_8)
        assert not site.plane.issuer.silence
        assert (await site.wait_for(StopRecorded)).scope == "node:host-8"
        assert {entry.scope for entry in site.plane.issuer.in_force().values()} == {"node:host-8"}


async def test_a_stop_file_that_fails_while_the_ledger_is_folded_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others append, or a refusal of a command, may make stops widen, and the wider one fits on no full disk."""
    async with running_plane(tmp_path) as site:
        folded = asyncio.Event()

        def fail() -> None:
            folded.set()
            raise LatchError("planted: no space left")

        monkeypatch.setattr(site.plane.issuer, "_widen", fail)
        foreign = CommandRefused("Status", b"somebody", "refused", "appended behind our back")
        await site.ledger.append(encode_event(foreign), site.plane.turn.fleet.seq)
        await asyncio.wait_for(folded.wait(), 5.0)
        reply = await site.command(ExcludeNode("nobody", "refused, and recorded"))
        assert (reply.ok, reply.code) == (False, "unknown-node")
        assert (await site.command(Status())).ok
