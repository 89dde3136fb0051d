# SPDX-License-Identifier: Apache-2.0
"""Ledgers that were once written must replay for ever: an event may be added, none may change. Rewrite none of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from firecurtain.domain.events import CommandRefused, Event, decode_event, encode_event
from firecurtain.domain.stops import in_force
from support.fleet_world import replay

LEDGERS = sorted((Path(__file__).parents[1] / "ledgers").glob("*.events"))


def read_events(path: Path) -> list[tuple[bytes, Event]]:
    lines = [line for line in path.read_text("ascii").splitlines() if not line.startswith("#")]
    return [(data, decode_event(data)) for data in map(bytes.fromhex, lines)]


@pytest.mark.parametrize("path", LEDGERS, ids=lambda path: path.stem)
def test_every_event_of_an_old_ledger_keeps_its_bytes(path: Path) -> None:
    events = read_events(path)
    assert events
    assert [encode_event(event) for _, event in events] == [data for data, _ in events]


def test_the_morning_replays_to_seven_servers_armed_and_the_eighth_taken_out(root: Path) -> None:
    events = [event for _, event in read_events(root / "tests" / "ledgers" / "knight-rollback-bound.events")]
    fleet = replay(events)
    old, new = sorted(fleet.releases.values(), key=lambda record: record.document.version)
    assert fleet.seq == len(events)
    assert [name for name, node in fleet.nodes.items() if node.excluded_by] == ["host-8"]
    assert (old.armed, new.armed) == ((), ("fc1-58TXHRWVD30B",))
    assert sorted(stop.scope for stop in in_force(fleet)) == ["node:host-8", f"release:{old.release}"]
    assert [event.code for event in events if isinstance(event, CommandRefused)] == ["armed-flag-not-declared"]
