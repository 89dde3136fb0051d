# SPDX-License-Identifier: Apache-2.0
"""Proposing and approving: one payload, its author, and k of n other people."""

from __future__ import annotations

import pytest

from firecurtain.domain import refusals
from firecurtain.domain.commands import OpenStage, Request
from firecurtain.domain.content import find_lifts
from firecurtain.domain.decide import decide
from firecurtain.domain.events import ReleaseApproved, ReleaseProposed, StopsLifted
from firecurtain.domain.evolve import evolve
from firecurtain.domain.rollout import StepOpenStage
from firecurtain.trust.envelope import RELEASE_TYPE, read_envelope
from firecurtain.trust.sign import add_signature, sign_envelope
from firecurtain.wire.commands import ApproveRelease, ProposeRelease
from support.fleet_world import World, make_release, make_signer, make_token

FLAG = make_token(0x2012)


def test_two_of_three_distinct_approvers_complete_a_release(world: World) -> None:
    release = world.propose(make_release(1, "old"))
    world.approve(release, "cid")
    assert not world.state.releases[release].complete
    assert world.turn() == ()
    world.approve(release, "ann")
    assert world.state.releases[release].complete
    assert world.turn() == (StepOpenStage(release, "all"),)


def test_one_approver_twice_is_one_approver(world: World) -> None:
    release = world.propose(make_release(1, "old"))
    world.approve(release, "ann")
    with pytest.raises(refusals.ThresholdMissing, match="no new signature"):
        world.approve(release, "ann")


def test_the_signature_of_the_author_is_no_approval(world: World) -> None:
    envelope = make_release(1, "old")
    world.propose(envelope)
    with pytest.raises(refusals.ThresholdMissing):
        world.ask(ApproveRelease(envelope))


def test_a_stranger_cannot_approve(world: World) -> None:
    release = world.propose(make_release(1, "old"))
    with pytest.raises(refusals.ThresholdMissing):
        world.approve(release, "stranger")


def test_approvals_given_apart_are_merged_when_the_payload_is_the_same(world: World) -> None:
    envelope = make_release(1, "old")
    release = world.propose(envelope)
    for name in ("ann", "bob"):
        world.ask(ApproveRelease(add_signature(envelope, RELEASE_TYPE, make_signer(name))))
    assert world.state.releases[release].complete


def test_an_approval_of_a_changed_payload_is_for_an_unknown_release(world: World) -> None:
    world.propose(make_release(1, "old"))
    with pytest.raises(refusals.UnknownRelease):
        world.ask(ApproveRelease(add_signature(make_release(2, "old"), RELEASE_TYPE, make_signer("ann"))))


def test_a_proposal_without_its_author_is_refused(world: World) -> None:
    payload, _ = read_envelope(make_release(1, "old"), RELEASE_TYPE)
    with pytest.raises(refusals.ThresholdMissing):
        world.ask(ProposeRelease(sign_envelope(payload, RELEASE_TYPE, [make_signer("ann"), make_signer("bob")])))


def test_a_proposal_that_brings_its_approvals_is_complete_at_once(world: World) -> None:
    envelope = make_release(1, "old")
    for name in ("ann", "bob"):
        envelope = add_signature(envelope, RELEASE_TYPE, make_signer(name))
    events = world.ask(ProposeRelease(envelope))
    assert [type(event) for event in events] == [ReleaseProposed, ReleaseApproved]
    assert world.turn()


def test_a_proposal_of_another_fleet_is_refused(world: World) -> None:
    with pytest.raises(refusals.ThresholdMissing, match="fleet other"):
        world.propose(make_release(1, "old", fleet="other"))


def test_bytes_that_are_no_envelope_are_refused_by_name(world: World) -> None:
    for body in (ProposeRelease(b"{}"), ApproveRelease(b"\xff")):
        with pytest.raises(refusals.DocumentRefused):
            world.ask(body)


def test_a_release_without_limits_cannot_even_be_written() -> None:
    with pytest.raises(ValueError, match="limits"):
        World().propose(make_release(1, "old", limits={}))


@pytest.mark.parametrize("version", [1, 2])
def test_versions_of_a_service_only_grow(world: World, version: int) -> None:
    world.release(2, "old")
    with pytest.raises(refusals.VersionNotNewer, match=f"version {version} .* newer than 2"):
        world.propose(make_release(version, "new"))


def test_the_highest_version_that_one_author_only_proposed_ends_nothing(world: World) -> None:
    world.propose(make_release(2**53 - 1, "old"))
    release = world.release(1, "new")
    assert world.state.releases[release].complete


def test_an_older_version_that_waited_for_approvals_is_overtaken(world: World) -> None:
    waiting = world.propose(make_release(1, "old"))
    world.approve(waiting, "ann")
    world.release(2, "new")
    with pytest.raises(refusals.VersionNotNewer, match=r"version 1 .* newer than 2"):
        world.approve(waiting, "bob")
    assert not world.state.releases[waiting].complete


def test_versions_of_different_services_have_nothing_to_do_with_each_other(world: World) -> None:
    world.propose(make_release(2, "old"))
    world.propose(make_release(1, "old", service="payouts"))


def test_the_same_release_twice_is_a_duplicate(world: World) -> None:
    release = world.release(1, "old")
    with pytest.raises(refusals.Duplicate):
        world.propose(make_release(1, "old"))
    with pytest.raises(refusals.Duplicate):
        world.approve(release, "cid")


def test_a_rollback_that_does_not_declare_the_armed_flag_is_refused_with_both_values(armed_world: World) -> None:
    with pytest.raises(refusals.ArmedFlagNotDeclared) as refusal:
        armed_world.propose(make_release(3, "old"))
    text = str(refusal.value)
    assert f"does not declare armed flag {FLAG}" in text
    assert "it would give it another meaning" in text
    assert f"firecurtain halt token:{FLAG}" in text


def test_a_release_takes_back_a_fence_when_k_of_n_signed_it(armed_world: World) -> None:
    fence = next(stop for stop in armed_world.state.stops.values() if stop.kind == "fence")
    disarm = armed_world.stop(f"token:{FLAG}", "disarm")
    armed_world.wait(2)
    release = armed_world.propose(make_release(3, "old", lifts_fences=tuple(sorted([fence.id.hex(), disarm.hex()]))))
    armed_world.approve(release, "ann")
    assert not armed_world.state.stops[fence.id].lifted
    armed_world.approve(release, "bob")
    lifted = armed_world.events[-1]
    assert isinstance(lifted, StopsLifted)
    assert set(lifted.ids) == {fence.id, disarm}
    assert lifted.envelope == armed_world.state.releases[release].envelope


def test_what_a_release_took_back_people_may_still_lift_for_the_nodes_that_heard_a_halt_by_its_id(
    old_world: World,
) -> None:
    """A stop key may cast a halt under the id of a fence; nodes hold both, and the release proves the fence alone."""
    fence, other = old_world.stop(f"release:{'ab' * 32}", "fence"), old_world.stop("node:host-1")
    old_world.lift(other)
    release = old_world.release(2, "new", lifts_fences=(fence.hex(),))
    assert find_lifts(old_world.state, (fence,)) == (old_world.state.releases[release].envelope,)
    old_world.lift(fence, other)
    assert find_lifts(old_world.state, (fence,)) == (old_world.state.lifts[-1],)
    assert find_lifts(old_world.state, (other,)) == (old_world.state.lifts[0],), "a lift needs no better proof"
    with pytest.raises(refusals.Duplicate):
        old_world.lift(fence, other)


def test_a_release_cannot_take_back_the_fence_that_keeps_an_armed_flag_alone(armed_world: World) -> None:
    fence = next(stop for stop in armed_world.state.stops.values() if stop.kind == "fence")
    release = armed_world.propose(make_release(3, "newer", tokens=(FLAG,), lifts_fences=(fence.id.hex(),)))
    armed_world.approve(release, "ann")
    with pytest.raises(refusals.ArmedFlagNotDeclared):
        armed_world.approve(release, "bob")
    assert not armed_world.state.releases[release].complete


def test_a_release_takes_back_no_halt_of_a_node_and_no_unknown_stop(old_world: World) -> None:
    halt = old_world.stop("node:host-1")
    with pytest.raises(refusals.NotAFence, match="node:host-1"):
        old_world.propose(make_release(2, "new", lifts_fences=(halt.hex(),)))
    with pytest.raises(refusals.UnknownStop):
        old_world.propose(make_release(2, "new", lifts_fences=("ab" * 16,)))


def test_lifts_that_a_crash_left_out_come_with_one_more_approval(armed_world: World) -> None:
    disarm = armed_world.stop(f"token:{FLAG}", "disarm")
    release = armed_world.propose(make_release(3, "newer", tokens=(FLAG,), lifts_fences=(disarm.hex(),)))
    armed_world.approve(release, "ann")
    envelope = add_signature(armed_world.state.releases[release].envelope, RELEASE_TYPE, make_signer("bob"))
    first = decide(
        armed_world.state, Request(make_signer("operator").keyid, ApproveRelease(envelope)), armed_world.now, {}
    )
    armed_world.state = evolve(armed_world.state, first[0])
    events = armed_world.ask(ApproveRelease(envelope))
    assert [type(event) for event in events] == [StopsLifted]
    with pytest.raises(refusals.Duplicate):
        armed_world.ask(ApproveRelease(envelope))


def test_where_a_lift_needs_more_people_a_release_that_takes_back_a_fence_needs_them_too() -> None:
    world = World(lift_threshold=3)
    world.release(1, "old")
    fence = world.stop(f"release:{'ab' * 32}", "fence")
    release = world.release(2, "new", lifts_fences=(fence.hex(),))
    assert not world.state.releases[release].complete
    with pytest.raises(refusals.ReleaseIncomplete, match="3 distinct approvers"):
        world.do(OpenStage(release, "all"))
    world.approve(release, "cid")
    assert world.state.releases[release].complete
    assert fence in world.state.lifted
