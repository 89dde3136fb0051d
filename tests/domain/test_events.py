# SPDX-License-Identifier: Apache-2.0
"""The bytes of every event, for ever: a changed byte here is a ledger that nobody can read any more."""

from __future__ import annotations

import typing

import pytest

from firecurtain.domain import events
from firecurtain.terms import LedgerError
from support.fleet_world import World, replay

# Each value was chosen by hand; the hexadecimal text is msgpack: an array that begins with the name of the event.
GOLDEN: dict[events.EventBase, str] = {
    events.FleetFounded("f", 1, b"r"): "94ac" + b"FleetFounded".hex() + "a166" + "01" + "c40172",
    events.NodeEnrolled("n", "s", b"k", b"o"): "95ac" + b"NodeEnrolled".hex() + "a16ea173c4016bc4016f",
    events.SessionOpened("n", b"s"): "93ad" + b"SessionOpened".hex() + "a16ec40173",
    events.ReleaseProposed("r", b"e"): "93af" + b"ReleaseProposed".hex() + "a172c40165",
    events.ReleaseApproved("r", b"e", True): "94af" + b"ReleaseApproved".hex() + "a172c40165c3",
    events.StageOpened("r", "a"): "93ab" + b"StageOpened".hex() + "a172a161",
    events.Armed("r", ("t",), 7): "94a5" + b"Armed".hex() + "a17291a17407",
    events.StopRecorded(b"i", "halt", "fleet", "w", b"o", b"c", 5, 6): (
        "99ac" + b"StopRecorded".hex() + "c40169" + "a468616c74" + "a5666c656574" + "a177" + "c4016fc401630506"
    ),
    events.NodeExcluded("n", b"i", b"o"): "94ac" + b"NodeExcluded".hex() + "a16ec40169c4016f",
    events.StopsLifted((b"i",), b"e"): "93ab" + b"StopsLifted".hex() + "91c40169c40165",
    events.CommandRefused("Arm", b"o", "gate-closed", "no"): (
        "95ae" + b"CommandRefused".hex() + "a341726dc4016f" + "ab" + b"gate-closed".hex() + "a26e6f"
    ),
}


def test_every_event_has_golden_bytes() -> None:
    assert {type(event) for event in GOLDEN} == set(typing.get_args(events.Event))


@pytest.mark.parametrize("event", GOLDEN, ids=lambda event: type(event).__name__)
def test_an_event_is_written_and_read_as_ever(event: events.Event) -> None:
    assert events.encode_event(event).hex() == GOLDEN[event]
    assert events.decode_event(bytes.fromhex(GOLDEN[event])) == event


@pytest.mark.parametrize(
    "data",
    [b"", b"\x92\xa7Unknown\xa1n", b"\x92\xadSessionOpened\xa1n", b"\x94\xadSessionOpened\xa1n\xc4\x01s\x01", b"\xff"],
)
def test_an_unknown_short_or_long_event_is_refused(data: bytes) -> None:
    with pytest.raises(LedgerError, match="Upgrade before reading on"):
        events.decode_event(data)


def test_a_replay_gives_the_same_fleet(armed_world: World) -> None:
    stop_id = armed_world.stop("token:" + armed_world.events[-1].tokens[0], "disarm")  # type: ignore[union-attr]  # it is Armed
    armed_world.lift(stop_id)
    armed_world.exclude("host-2")
    assert replay(armed_world.events) == armed_world.state
    assert armed_world.state.seq == len(armed_world.events)
