# SPDX-License-Identifier: Apache-2.0
"""Founding, enrolling and excluding: who takes part, and who does not any more."""

from __future__ import annotations

import pytest

from firecurtain.domain import refusals
from firecurtain.domain.commands import Exclude, FoundFleet
from firecurtain.domain.decide import decide
from firecurtain.domain.events import NodeEnrolled
from firecurtain.domain.evolve import initial
from firecurtain.wire.commands import EnrolNode, ExcludeNode, Status
from support.fleet_world import SERVICE, World, make_id, make_release, make_root_envelope, make_signer


def test_nothing_is_decided_before_the_fleet_is_founded(world: World) -> None:
    with pytest.raises(refusals.NotFounded):
        decide(initial(), Exclude("host-1", make_id("stop"), b""), world.now, {})


def test_a_fleet_is_founded_once(world: World) -> None:
    with pytest.raises(refusals.AlreadyFounded, match="knight at seq 9"):
        world.do(FoundFleet("knight", 1, make_root_envelope()))


def test_a_root_of_another_fleet_founds_nothing(world: World) -> None:
    with pytest.raises(refusals.DocumentRefused, match="fleet other"):
        decide(initial(), FoundFleet("knight", 1, make_root_envelope("other")), world.now, {})


def test_only_an_operator_asks(world: World) -> None:
    for name in ("ann", "issuer", "stranger"):
        with pytest.raises(refusals.NotOperator, match=make_signer(name).keyid.hex()):
            world.ask(Status(), by=name)
    assert world.ask(Status()) == ()


def test_a_name_is_bound_to_one_key_and_one_service(world: World) -> None:
    with pytest.raises(refusals.NameTaken, match="host-1 belongs to service smars"):
        world.ask(EnrolNode("host-1", SERVICE, make_signer("another").public))
    with pytest.raises(refusals.NameTaken, match="asked for payouts"):
        world.ask(EnrolNode("host-1", "payouts", make_signer("host-1").public))


def test_a_key_is_bound_to_one_name(world: World) -> None:
    with pytest.raises(refusals.NameTaken, match="belongs to node host-1"):
        world.ask(EnrolNode("host-9", SERVICE, make_signer("host-1").public))


def test_enrolling_twice_is_a_duplicate(world: World) -> None:
    with pytest.raises(refusals.Duplicate):
        world.enrol("host-1")


def test_an_excluded_node_comes_back_only_after_k_of_n_lifted_its_stop(old_world: World) -> None:
    stop_id = old_world.exclude("host-3")
    with pytest.raises(refusals.StopInForce, match=stop_id.hex()):
        old_world.enrol("host-3")
    old_world.lift(stop_id)
    assert isinstance(old_world.enrol("host-3")[0], NodeEnrolled)
    assert old_world.state.nodes["host-3"].excluded_by is None


def test_any_other_stop_of_the_node_keeps_it_out_as_well(old_world: World) -> None:
    stop_id = old_world.exclude("host-3")
    old_world.stop("node:host-3", "trip")
    old_world.lift(stop_id)
    with pytest.raises(refusals.StopInForce, match=r"stop .* is in force"):
        old_world.enrol("host-3")


def test_an_exclusion_needs_a_recorded_stop_of_this_very_node(old_world: World) -> None:
    other = old_world.stop("node:host-4")
    for stop_id in (other, make_id("never made")):
        with pytest.raises(refusals.UnknownStop, match="needs one of node:host-3"):
            old_world.do(Exclude("host-3", stop_id, make_signer("operator").keyid))


def test_an_exclusion_never_leaves_fewer_nodes_than_the_release_demands() -> None:
    world = World(nodes=3)
    world.release(1, "old", min_nodes=2)
    world.roll_out("old", seconds=2)
    world.exclude("host-1")
    with pytest.raises(refusals.MinNodes, match=r"1 nodes, release .* demands 2"):
        world.ask(ExcludeNode("host-2", "it lags"))


def test_a_request_to_exclude_is_judged_before_anything_is_stopped(old_world: World) -> None:
    assert old_world.ask(ExcludeNode("host-2", "it lags")) == ()
    with pytest.raises(refusals.UnknownNode, match="node enrol host-9"):
        old_world.ask(ExcludeNode("host-9", "it lags"))
    old_world.exclude("host-2")
    with pytest.raises(refusals.NodeExcludedAlready):
        old_world.ask(ExcludeNode("host-2", "it lags"))


def test_the_roster_and_the_list_of_releases_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firecurtain.domain.roster.NODES_MAX", 8)
    with pytest.raises(refusals.LedgerBound, match="8 nodes are enrolled, the bound is 8"):
        world.enrol("host-9")
    world.propose(make_release(1, "old"))
    monkeypatch.setattr("firecurtain.domain.releases.RELEASES_MAX", 1)
    with pytest.raises(refusals.LedgerBound, match="1 releases are known, the bound is 1"):
        world.propose(make_release(2, "new"))
