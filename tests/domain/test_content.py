# SPDX-License-Identifier: Apache-2.0
"""What a beacon grants: one release for each node, named nodes, never an empty list that means everybody."""

from __future__ import annotations

import pytest

from firecurtain.domain import refusals
from firecurtain.domain.content import compute_allowed, find_allowed
from firecurtain.trust.release import Stage
from firecurtain.wire.messages import AllowedRelease
from support.fleet_world import EVERY_NODE, SERVICE, World, make_artifact, make_token

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
