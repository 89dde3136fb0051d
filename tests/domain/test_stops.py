# SPDX-License-Identifier: Apache-2.0
"""H and L: stops are never refused, lifts need k of n, and order does not matter."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from firecurtain.domain import refusals, stops
from firecurtain.domain.commands import RecordStop
from firecurtain.domain.content import compute_allowed, compute_floor, find_lifts
from firecurtain.domain.events import StopRecorded, StopsLifted
from firecurtain.domain.evolve import evolve
from firecurtain.domain.stops import in_force, widen_scope
from firecurtain.terms import FLEET, Scope
from firecurtain.wire.messages import StopEntry
from support.fleet_world import World, make_id, make_release, make_signer, make_token


def test_a_stop_recorded_twice_is_one_stop(world: World) -> None:
    entry = StopEntry(make_id("one"), "halt", "fleet", "smoke")
    command = RecordStop(entry, make_signer("operator").keyid, world.now.clock_id, world.now.issuer_ns)
    assert len(world.do(command)) == 1
    assert world.do(command) == ()
    assert len(in_force(world.state)) == 1


def test_a_stop_of_anything_is_recorded_known_or_not(world: World) -> None:
    for scope in ("fleet", "service:nobody", "node:host-99", "release:" + "ab" * 32, f"token:{make_token(9)}"):
        world.stop(scope)
    assert len(in_force(world.state)) == 5


def test_a_scope_that_we_cannot_read_covers_everything() -> None:
    assert widen_scope("planet:earth") == FLEET
    assert widen_scope("service:") == FLEET


def test_a_lift_adds_to_l_and_takes_nothing_from_h(old_world: World) -> None:
    stop_id = old_world.stop("service:smars")
    old_world.lift(stop_id)
    assert stop_id in old_world.state.stops
    assert old_world.state.stops[stop_id].lifted
    assert in_force(old_world.state) == ()
    assert old_world.do(RecordStop(StopEntry(stop_id, "halt", "service:smars", ""), b"", b"", 0)) == ()
    assert in_force(old_world.state) == ()


def test_one_lift_lifts_only_what_it_names(old_world: World) -> None:
    first, second = old_world.stop("service:smars"), old_world.stop("service:smars")
    old_world.lift(first)
    assert [stop.id for stop in in_force(old_world.state)] == [second]


def test_one_person_cannot_lift(old_world: World) -> None:
    stop_id = old_world.stop("fleet")
    for people in (("ann",), ("ann", "ann"), ("ann", "operator"), ("ann", "author"), ("stranger", "bob")):
        with pytest.raises(refusals.ThresholdMissing):
            old_world.lift(stop_id, by=people)
    assert len(in_force(old_world.state)) == 1


def test_a_lift_of_another_fleet_lifts_nothing(old_world: World) -> None:
    stop_id = old_world.stop("fleet")
    with pytest.raises(refusals.ThresholdMissing, match="fleet other"):
        old_world.lift(stop_id, fleet="other")


def test_an_unknown_stop_is_not_lifted_in_advance(old_world: World) -> None:
    with pytest.raises(refusals.UnknownStop):
        old_world.lift(make_id("not made yet"))


def test_lifting_twice_is_a_duplicate(old_world: World) -> None:
    stop_id = old_world.stop("fleet")
    old_world.lift(stop_id)
    with pytest.raises(refusals.Duplicate):
        old_world.lift(stop_id)


def test_what_is_in_force_does_not_depend_on_the_order_of_stops_and_lifts(old_world: World) -> None:
    recorded = [
        StopRecorded(make_id(name), "halt", "fleet", "", b"", b"", 0, 0) for name in ("first", "second", "third")
    ]
    lifted = StopsLifted((make_id("first"), make_id("third")), b"envelope")
    for order in itertools.permutations([*recorded, lifted]):
        state = old_world.state
        for event in order:
            state = evolve(state, event)
        assert [stop.id for stop in in_force(state)] == [make_id("second")]
        assert {stop.id for stop in state.stops.values() if not stop.lifted} == {make_id("second")}


def test_at_the_bound_grants_are_refused_and_stops_never(old_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_id = old_world.stop("node:host-1")
    monkeypatch.setattr(stops, "ENTRIES_MAX", 1)
    grants = (
        lambda: old_world.enrol("host-9"),
        lambda: old_world.propose(make_release(2, "new")),
        lambda: old_world.lift(stop_id),
    )
    for grant in grants:
        with pytest.raises(refusals.LedgerBound, match="holds 1 stops"):
            grant()
    old_world.exclude("host-2")
    assert len(in_force(old_world.state)) == 2


def test_the_fencing_floor_is_never_lowered_by_a_lift(old_world: World) -> None:
    scope = Scope("service", "smars")
    assert compute_floor(old_world.state, scope) == 0
    before = old_world.state.content_seq["smars"]
    stop_id = old_world.stop("service:smars")
    floor = compute_floor(old_world.state, scope)
    assert before < floor
    old_world.lift(stop_id)
    assert compute_floor(old_world.state, scope) == floor
    assert old_world.state.content_seq["smars"] > floor


def test_a_stop_of_the_whole_fleet_raises_every_floor(old_world: World) -> None:
    old_world.stop("fleet")
    assert compute_floor(old_world.state, Scope("node", "host-1")) == old_world.state.seq
    old_world.stop("node:host-1")
    assert compute_floor(old_world.state, Scope("node", "host-1")) == old_world.state.seq
    assert compute_floor(old_world.state, Scope("node", "host-2")) == old_world.state.seq - 1


def test_a_node_is_given_the_lifts_of_what_it_latched(old_world: World) -> None:
    first, second, third = (old_world.stop(f"node:host-{number}") for number in (1, 2, 3))
    old_world.lift(first, second)
    assert len(find_lifts(old_world.state, (first, second, third))) == 1
    assert find_lifts(old_world.state, (third, make_id("foreign"))) == ()
    assert find_lifts(old_world.state, (second,)) == old_world.state.lifts


def test_a_stop_of_an_unknown_service_makes_no_content_for_it(old_world: World) -> None:
    old_world.stop("service:nobody")
    assert set(old_world.state.content_seq) == {"smars"}
    assert compute_allowed(old_world.state, "nobody") == ()


def test_a_stop_keeps_every_word_of_its_entry(world: World) -> None:
    stop_id = world.stop("fleet", "trip", "gross limit", by="host-1")
    stop = world.state.stops[stop_id]
    assert msgspec.structs.asdict(stop) == {
        "id": stop_id,
        "kind": "trip",
        "scope": "fleet",
        "reason": "gross limit",
        "author": make_signer("host-1").keyid,
        "clock_id": world.now.clock_id,
        "durable_ns": world.now.issuer_ns,
        "seq": world.state.seq,
        "lifted": False,
    }
