# SPDX-License-Identifier: Apache-2.0
"""What the issuer signs: every stop durable before it read its clock, and nothing when it may have forgotten one."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from firecurtain.control.issuer import (
    NODE_STOPS_MAX,
    REMEMBERED_PER_NODE_MAX,
    REMEMBERED_WAIT_NS,
    START_WAIT_S,
    SUSPECT_WAIT_S,
    Grants,
    Issuer,
    IssuerSilentError,
)
from firecurtain.control.latch import Latch, LatchError, create_latch, open_latch
from firecurtain.terms import mint_token
from firecurtain.wire.frame import decode_frame
from firecurtain.wire.keys import Ed25519Signer
from firecurtain.wire.messages import STOPS_PER_BEACON_MAX, Beacon, StopEntry
from support.mutants import load_mutant


class Sent(Protocol):
    async def wait_for(self, count: int) -> None: ...


class Clock(Protocol):
    now_ns: int


MakeStop = Callable[..., bytes]
MakeIssuer = Callable[..., Issuer]


@pytest.fixture
def read(issuer_key: Ed25519Signer) -> Callable[[bytes], Beacon]:
    return lambda frame: decode_frame(Beacon, frame, {issuer_key.keyid: issuer_key.public}).message


def get_ids(beacon: Beacon) -> set[bytes]:
    return {entry.id for entry in beacon.stops}


def test_a_stop_stands_in_the_very_next_beacon(
    make_issuer: MakeIssuer, make_stop: MakeStop, read: Callable[[bytes], Beacon]
) -> None:
    issuer = make_issuer()
    assert get_ids(read(issuer.compute_beacon("smars"))) == set()
    stop = issuer.add(make_stop(b"a" * 16))
    beacon = read(issuer.compute_beacon("smars"))
    assert get_ids(beacon) == {b"a" * 16}
    assert stop.durable_ns < beacon.signed_ns
    assert beacon.clock_id == issuer.clock.clock_id


def misses_a_durable_stop(issuer: Issuer, make_stop: MakeStop, read: Callable[[bytes], Beacon], clock: object) -> bool:
    """A stop becomes durable between the issuer's two steps; its beacon may not be signed later and lack the stop."""
    durable_ns: list[int] = []

    def stop_between() -> None:
        clock.on_reading = lambda: None  # type: ignore[attr-defined]  # the hand clock
        durable_ns.append(issuer.add(make_stop(b"a" * 16)).durable_ns)

    clock.on_reading = stop_between  # type: ignore[attr-defined]  # the hand clock
    beacon = read(issuer.compute_beacon("smars"))
    return beacon.signed_ns >= durable_ns[0] and b"a" * 16 not in get_ids(beacon)


def test_the_clock_is_read_before_the_stops(
    make_issuer: MakeIssuer, make_stop: MakeStop, read: Callable[[bytes], Beacon], hand_clock: object
) -> None:
    assert not misses_a_durable_stop(make_issuer(), make_stop, read, hand_clock)


def test_an_issuer_that_reads_its_clock_after_the_stops_is_caught(
    make_issuer: MakeIssuer, make_stop: MakeStop, read: Callable[[bytes], Beacon], hand_clock: object
) -> None:
    mutant = load_mutant(
        "firecurtain.control.issuer",
        "        signed_ns = self.clock.read_ns()  # first: a stop durable before this moment must stand below\n"
        "        stops, _ = self._select(service)\n",
        "        stops, _ = self._select(service)\n        signed_ns = self.clock.read_ns()\n",
    )
    assert misses_a_durable_stop(make_issuer(mutant.Issuer), make_stop, read, hand_clock)


def test_a_restarted_issuer_signs_the_stops_of_its_latch(
    make_issuer: MakeIssuer, make_stop: MakeStop, read: Callable[[bytes], Beacon], tmp_path: Path
) -> None:
    make_issuer().add(make_stop(b"a" * 16))
    again, _ = open_latch(tmp_path / "latch", lambda: 1)
    assert get_ids(read(make_issuer(own_latch=again).compute_beacon("smars"))) == {b"a" * 16}
    again.close()


def test_an_issuer_restarted_without_its_latch_is_silenced_by_the_first_node_that_remembers(
    make_issuer: MakeIssuer, make_stop: MakeStop, read: Callable[[bytes], Beacon], tmp_path: Path
) -> None:
    """Mutant of 03-protocol: the latch is gone, the ledger never got the stop; a node still has it."""
    make_issuer().add(make_stop(b"a" * 16))
    (tmp_path / "empty").touch()
    empty, _ = open_latch(tmp_path / "empty", lambda: 1)
    forgetful = make_issuer(own_latch=empty)
    forgetful.note_remembered("host-1", (b"a" * 16,))
    with pytest.raises(IssuerSilentError, match="host-1"):
        forgetful.compute_beacon("smars")
    forgetful.add(make_stop(b"a" * 16))
    assert get_ids(read(forgetful.compute_beacon("smars"))) == {b"a" * 16}
    empty.close()


def test_a_latch_that_lacks_what_the_ledger_recorded_is_silenced_too(
    make_issuer: MakeIssuer,
) -> None:
    """Restored from an older copy: founded, but behind the ledger from the start on."""
    issuer = make_issuer(recorded=(StopEntry(b"b" * 16, "halt", "node:host-1", ""),))
    issuer.note_remembered("host-1", (b"a" * 16,))
    assert issuer.silence


def test_one_node_alone_does_not_silence_an_issuer_whose_latch_is_whole(make_issuer: MakeIssuer) -> None:
    issuer = make_issuer()
    issuer.note_remembered("host-1", (b"a" * 16,))
    assert not issuer.silence
    issuer.note_remembered("host-1", (b"a" * 16,))
    assert not issuer.silence, "it said so twice, but it is still alone"
    issuer.note_remembered("host-2", (b"a" * 16,))
    assert "host-1" in issuer.silence


def test_of_what_one_node_alone_remembers_only_that_node_is_stopped(make_issuer: MakeIssuer, hand_clock: Clock) -> None:
    issuer = make_issuer()
    issuer.note_remembered("host-1", tuple(number.to_bytes(16, "big") for number in range(200)))
    assert not issuer.find_lost(), "whoever sent it may still send it to us"
    hand_clock.now_ns += REMEMBERED_WAIT_NS
    assert {str(scope) for _, scope, _ in issuer.find_lost()} == {"node:host-1"}
    assert len(issuer.find_lost()) == REMEMBERED_PER_NODE_MAX


def test_however_many_stops_were_lost_the_fleet_is_halted_once(
    make_issuer: MakeIssuer, hand_clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    empty, _ = open_latch(tmp_path / "empty", lambda: 1)
    issuer = make_issuer(own_latch=empty)
    for number in range(3 * NODE_STOPS_MAX):
        issuer.note_remembered("host-1", (number.to_bytes(16, "big"),))
        hand_clock.now_ns += REMEMBERED_WAIT_NS
        for stop_id, scope, _ in issuer.find_lost():
            issuer.add(issuer.make_stop("halt", scope, "lost", stop_id))
    scopes = [entry.scope for entry in issuer.in_force().values()]
    assert scopes.count("fleet") == 1
    assert scopes.count("node:host-1") == NODE_STOPS_MAX
    assert not issuer.silence, "the fleet is stopped, and its beacons say so"
    empty.close()


def test_a_drill_in_force_does_not_shrink_a_lost_stop_to_one_node(
    make_issuer: MakeIssuer,
    make_stop: MakeStop,
    grants: Callable[..., Grants],
    read: Callable[[bytes], Beacon],
    hand_clock: Clock,
) -> None:
    """The drill is lifted for reasons of its own; whatever the lost stop covered must be stopped still."""
    issuer = make_issuer()
    drill = issuer.add(make_stop(b"d" * 16)).entry
    for node in ("host-1", "host-2"):
        issuer.note_remembered(node, (b"x" * 16, b"y" * 16))
    hand_clock.now_ns += REMEMBERED_WAIT_NS
    for _ in range(2):
        for stop_id, scope, _ in issuer.find_lost():
            issuer.add(issuer.make_stop("halt", scope, "lost", stop_id))
    issuer.adopt(grants(recorded=tuple(issuer.in_force().values()), lifted=frozenset({drill.id})))
    listed = {entry.id: entry.scope for entry in read(issuer.compute_beacon("smars")).stops}
    assert listed == {b"x" * 16: "fleet", b"y" * 16: "node:host-1"}


def test_a_lost_stop_that_comes_after_all_is_no_halt_for_the_others(
    make_issuer: MakeIssuer, make_stop: MakeStop, hand_clock: Clock
) -> None:
    issuer = make_issuer()
    for node in ("host-1", "host-2"):
        issuer.note_remembered(node, (b"x" * 16, b"y" * 16))
    hand_clock.now_ns += REMEMBERED_WAIT_NS
    assert [(stop_id, str(scope)) for stop_id, scope, _ in issuer.find_lost()] == [(b"x" * 16, "fleet")]
    issuer.add(make_stop(b"x" * 16, "service:smars"))  # its sender was quicker than we
    assert [(stop_id, str(scope)) for stop_id, scope, _ in issuer.find_lost()] == [(b"y" * 16, "fleet")]


def test_while_nobody_remembers_more_than_we_the_stops_in_force_are_not_looked_through(
    make_issuer: MakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked ten times a second, and a hundred thousand stops may be in force."""
    issuer = make_issuer()
    monkeypatch.setattr(issuer, "_in_force", None)
    assert issuer.find_lost() == ()


def test_lifting_an_unknown_id_ends_the_silence_it_caused(
    make_issuer: MakeIssuer, grants: Callable[..., Grants]
) -> None:
    issuer = make_issuer()
    for node in ("host-1", "host-2"):
        issuer.note_remembered(node, (b"a" * 16,))
    assert issuer.silence
    issuer.adopt(grants(lifted=frozenset({b"a" * 16})))
    assert not issuer.silence


def test_a_lift_adds_to_the_lifted_and_a_replayed_stop_stays_lifted(
    make_issuer: MakeIssuer, make_stop: MakeStop, grants: Callable[..., Grants]
) -> None:
    issuer = make_issuer()
    entry = issuer.add(make_stop(b"a" * 16)).entry
    issuer.adopt(grants(recorded=(entry,), lifted=frozenset({b"a" * 16})))
    assert not issuer.in_force()
    issuer.add(make_stop(b"a" * 16))
    assert not issuer.in_force()


def test_a_stop_only_the_ledger_remembers_is_signed_too(
    make_issuer: MakeIssuer, grants: Callable[..., Grants], read: Callable[[bytes], Beacon]
) -> None:
    issuer = make_issuer()
    issuer.adopt(grants(recorded=(StopEntry(b"a" * 16, "halt", "node:host-1", ""),)))
    assert get_ids(read(issuer.compute_beacon("smars"))) == {b"a" * 16}


def test_after_a_failed_fsync_nothing_is_signed(
    make_issuer: MakeIssuer, make_stop: MakeStop, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = make_issuer()

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(LatchError):
        issuer.add(make_stop(b"a" * 16))
    assert b"a" * 16 in issuer.in_force()
    with pytest.raises(IssuerSilentError, match="No space left"):
        issuer.compute_beacon("smars")


def test_more_stops_than_a_beacon_carries_stop_the_whole_service(
    make_issuer: MakeIssuer, make_stop: MakeStop, read: Callable[[bytes], Beacon], latch: Latch
) -> None:
    issuer = make_issuer()
    for number in range(1000, 1000 + STOPS_PER_BEACON_MAX + 1):
        issuer.add(make_stop(number.to_bytes(16, "big"), f"token:{mint_token(number)}", "x" * 500))
    beacon = read(issuer.compute_beacon("smars"))
    assert beacon.stops[0].scope == "service:smars"
    assert "widened" in beacon.stops[0].reason
    assert beacon.stops[0].id in latch.stops, "the widening is a stop like any other: durable, lifted by k of n"


async def test_a_change_is_cast_at_once_not_after_the_period(
    make_issuer: MakeIssuer, grants: Callable[..., Grants], sent: Sent
) -> None:
    """With a period of an hour, whatever comes after the first beacon comes because something changed."""
    issuer = make_issuer(period_ms=3_600_000)
    casting = asyncio.create_task(issuer.run())
    async with asyncio.timeout(10.0):
        await sent.wait_for(1)
        issuer.adopt(grants())
        await sent.wait_for(2)
    casting.cancel()


async def test_before_nodes_could_tell_what_they_remember_no_beacon_goes_out(
    make_issuer: MakeIssuer, sent: Sent
) -> None:
    issuer = make_issuer()
    await issuer.cast_now()
    assert not sent


@pytest.mark.parametrize(("is_founded", "wait_s"), [(True, START_WAIT_S), (False, START_WAIT_S + SUSPECT_WAIT_S)])
async def test_an_issuer_in_doubt_of_its_memory_listens_for_a_whole_exchange_before_its_first_beacon(
    make_issuer: MakeIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_founded: bool, wait_s: float
) -> None:
    """A normal restart may take no longer: the pages of its fleet stay open for max_age only."""
    make = create_latch if is_founded else Path.touch
    make(tmp_path / "own")
    own, _ = open_latch(tmp_path / "own", lambda: 1)
    slept_s: list[float] = []

    async def sleep(delay_s: float) -> None:
        slept_s.append(delay_s)
        raise asyncio.CancelledError

    issuer = make_issuer(own_latch=own)
    monkeypatch.setattr("firecurtain.control.issuer.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await issuer.run()
    assert slept_s == [wait_s]
    own.close()


def test_what_a_beacon_lists_follows_every_change_of_stops_lifts_and_roster(
    make_issuer: MakeIssuer, make_stop: MakeStop, grants: Callable[..., Grants], read: Callable[[bytes], Beacon]
) -> None:
    """The list is kept between beacons, so each kind of change must be seen to renew it."""
    issuer = make_issuer()

    def get_listed() -> set[bytes]:
        return get_ids(read(issuer.compute_beacon("smars")))

    foreign = issuer.add(make_stop(b"o" * 16, "node:other-1")).entry  # of service refunds, says the roster
    assert get_listed() == set()
    own = issuer.add(make_stop(b"a" * 16, "node:host-1")).entry
    assert get_listed() == {own.id}
    issuer.adopt(dataclasses.replace(grants(), service_of={"host-1": "smars", "other-1": "smars"}))
    assert get_listed() == {own.id, foreign.id}
    issuer.adopt(grants(recorded=(own, foreign), lifted=frozenset({own.id})))
    assert get_listed() == set()
    late = StopEntry(b"l" * 16, "halt", "fleet", "of the ledger only")
    issuer.adopt(grants(recorded=(own, foreign, late), lifted=frozenset({own.id})))
    assert get_listed() == {late.id}
