# SPDX-License-Identifier: Apache-2.0
"""What a beacon grants: one release for each node, named nodes, never an empty list that means everybody."""

from __future__ import annotations

import msgspec
import pytest

from firecurtain.control.widen import STOP_BYTES_MAX
from firecurtain.domain import refusals
from firecurtain.domain.commands import OpenStage
from firecurtain.domain.content import ALLOWED_BYTES_MAX, compute_allowed, find_allowed, find_lifts
from firecurtain.trust.release import Stage
from firecurtain.wire.frame import encode_frame
from firecurtain.wire.messages import AllowedRelease, Answer, Beacon, StopEntry
from support.fleet_world import EVERY_NODE, SERVICE, World, make_artifact, make_signer, make_token

FLAG = make_token(0x2012)
ALL = Stage("all", EVERY_NODE)


def show(world: World) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """The entries as artifact, nodes, armed tokens."""
    names = {make_artifact(name): name for name in ("old", "new", "newer")}
    return [(names[entry.artifact], entry.nodes, entry.armed) for entry in compute_allowed(world.state, SERVICE)]


def test_nothing_is_allowed_before_a_stage_is_open(world: World) -> None:
    world.release(1, "old")
    assert show(world) == []
    world.turn()
    assert show(world) == [("old", (), ())]


def test_an_open_first_stage_leaves_the_older_release_to_the_others_by_name(old_world: World) -> None:
    old_world.release(2, "new", stages=(Stage("first", ("host-2", "host-1")), ALL))
    old_world.turn()
    others = tuple(f"host-{number}" for number in range(3, 9))
    assert show(old_world) == [("new", ("host-1", "host-2"), ()), ("old", others, ())]


def test_an_older_release_without_nodes_is_dropped_and_not_given_to_everybody(old_world: World) -> None:
    old_world.release(2, "new", stages=(Stage("named", tuple(f"host-{number}" for number in range(1, 9))), ALL))
    old_world.turn()
    assert [artifact for artifact, _, _ in show(old_world)] == ["new"]
    assert all(find_allowed(old_world.state, SERVICE, f"host-{number}") for number in range(1, 9))
    assert find_allowed(old_world.state, SERVICE, "host-9") is None


def test_excluded_nodes_and_newcomers_are_counted_to_the_older_release(old_world: World) -> None:
    old_world.release(2, "new", stages=(Stage("first", ("host-1",)), ALL))
    old_world.turn()
    old_world.exclude("host-2")
    old_world.enrol("host-9")
    assert show(old_world)[1][1] == tuple(f"host-{number}" for number in range(3, 10))


def test_three_releases_share_the_nodes_newest_first(old_world: World) -> None:
    old_world.release(2, "new", stages=(Stage("first", ("host-1", "host-2")), ALL))
    old_world.turn()
    old_world.release(3, "newer", stages=(Stage("first", ("host-2",)), ALL))
    old_world.turn()
    assert [entry[:2] for entry in show(old_world)][:2] == [("newer", ("host-2",)), ("new", ("host-1",))]
    assert len(show(old_world)) == 3


def test_a_fenced_release_keeps_its_nodes_and_gives_them_nothing(old_world: World) -> None:
    """Nothing runs again because something else was stopped."""
    release = old_world.release(2, "new", stages=(Stage("first", ("host-1",)), ALL))
    old_world.turn()
    old_world.stop(f"release:{release}", "trip")
    assert find_allowed(old_world.state, SERVICE, "host-1") is None
    assert [artifact for artifact, _, _ in show(old_world)] == ["old"]


def test_a_halt_of_the_service_leaves_the_content_to_stand_beside_the_stop(old_world: World) -> None:
    before = show(old_world)
    old_world.stop("service:smars")
    assert show(old_world) == before


def test_the_armed_set_belongs_to_its_release(armed_world: World) -> None:
    assert show(armed_world) == [("new", (), (FLAG,))]
    armed_world.stop(f"token:{FLAG}", "disarm")
    assert show(armed_world) == [("new", (), ())]


def test_a_ninth_release_that_may_run_is_refused_before_it_would_be_cut() -> None:
    world = World(nodes=9)
    for version in range(1, 9):
        world.release(version, "old", stages=(Stage("first", (f"host-{version}",)), ALL))
        world.turn()
    assert len(show(world)) == 8
    world.release(9, "old", stages=(Stage("first", ("host-9",)), ALL))
    assert world.turn() == ()
    assert len(show(world)) == 8


def test_more_names_than_a_beacon_holds_are_refused_and_cut_if_ever_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firecurtain.domain.content.NODES_MAX", 3)
    world = World(nodes=4)
    world.release(1, "old")
    world.turn()
    world.release(2, "new", stages=(Stage("first", ("host-1",)), ALL))
    world.turn()
    assert show(world)[1][1] == ("host-2", "host-3", "host-4")
    with pytest.raises(refusals.EntryBound, match="name 4 nodes"):
        world.enrol("host-5")
    monkeypatch.setattr("firecurtain.domain.content.NODES_MAX", 2)
    assert show(world)[1][1] == ("host-2", "host-3")


def test_every_entry_is_a_valid_part_of_a_beacon(armed_world: World) -> None:
    entry = compute_allowed(armed_world.state, SERVICE)[0]
    assert isinstance(entry, AllowedRelease)
    assert (len(entry.release), len(entry.limits), entry.stage) == (64, 64, "all")


def test_entries_with_long_names_are_counted_in_bytes() -> None:
    """Two hundred nodes may be named, but not two hundred of the longest names twice over."""
    names = [f"host-{number:03d}".ljust(63, "x") for number in range(400)]
    world = World(nodes=0)
    for name in names:
        world.enrol(name)
    world.release(1, "old", stages=(Stage("named", tuple(names[:200])), ALL))
    world.turn()
    release = world.release(2, "new", stages=(Stage("named", tuple(names[200:])), ALL))
    with pytest.raises(refusals.EntryBound, match=f"it has {ALLOWED_BYTES_MAX}"):
        world.do(OpenStage(release, "named"))
    assert [len(nodes) for _, nodes, _ in show(world)] == [200]


def test_the_longest_content_and_the_most_stops_fit_one_beacon() -> None:
    entries = AllowedRelease("a" * 64, "b" * 64, "s" * 63, ("n" * 63,) * 256, (FLAG,) * 64, "c" * 64)
    name, clock_id = "f" * 63, bytes(16)
    stops = (StopEntry(bytes(16), "fence", "x" * 100, "y" * 100),) * (STOP_BYTES_MAX // 229)
    allowed = (entries, msgspec.structs.replace(entries, nodes=("n" * 63,) * 71))
    assert ALLOWED_BYTES_MAX - 100 < len(msgspec.msgpack.encode(allowed)) <= ALLOWED_BYTES_MAX
    assert STOP_BYTES_MAX - 300 < len(msgspec.msgpack.encode(stops)) <= STOP_BYTES_MAX
    most = 2**63 - 1
    beacon = Beacon(1, name, name, clock_id, most, most, 600_000, most, most, "d" * 64, allowed, stops)
    encode_frame(beacon, make_signer("issuer"))


def test_large_lifts_are_cut_by_bytes_and_one_always_goes(old_world: World) -> None:
    """One lift of a thousand stops fits an answer, two do not; a node with two is answered twice."""
    for _ in range(2):
        old_world.lift(*[old_world.stop("node:host-1") for _ in range(800)])
    latched = tuple(old_world.state.stops)
    lifts = find_lifts(old_world.state, latched)
    assert len(lifts) == 1
    answer = Answer(1, "f" * 63, "n" * 63, bytes(16), bytes(16), "a" * 64, bytes(16), 2**63 - 1, lifts)
    encode_frame(answer, make_signer("issuer"))
    assert find_lifts(old_world.state, latched[800:]) == old_world.state.lifts[1:]
