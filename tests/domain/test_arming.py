# SPDX-License-Identifier: Apache-2.0
"""Arming: fence, wait, arm. Going back: disarm, wait, open."""

from __future__ import annotations

import pytest

from firecurtain.domain import refusals
from firecurtain.domain.binding import plan_fences
from firecurtain.domain.commands import Arm, OpenStage
from firecurtain.domain.content import compute_allowed
from firecurtain.domain.events import Armed
from firecurtain.domain.rollout import StepArm, StepFence, StepOpenStage
from support.fleet_world import World, make_id, make_release, make_token

FLAG, OTHER_FLAG = make_token(0x2012), make_token(0x2013)


@pytest.fixture
def gate_open(old_world: World) -> tuple[World, str, str]:
    """The new release behind its open gate, the old one still allowed; the world, the old release, the new one."""
    old = next(iter(old_world.state.releases))
    new = old_world.release(2, "new", tokens=(FLAG,), arms=(FLAG,))
    old_world.turn()
    old_world.attest_all("new")
    return old_world, old, new


def test_the_gate_alone_arms_nothing_while_a_release_without_the_flag_may_run(
    gate_open: tuple[World, str, str],
) -> None:
    world, old, new = gate_open
    assert plan_fences(world.state, new) == (f"release:{old}",)
    with pytest.raises(refusals.FenceMissing, match=FLAG):
        world.do(Arm(new))


def test_arming_waits_until_the_fence_has_run_out(gate_open: tuple[World, str, str]) -> None:
    """(1500 ms + 250 ms) times 1.001 on the issuer clock, and one nanosecond before is too early."""
    world, old, new = gate_open
    assert next(step for step in world.turn() if isinstance(step, StepFence)).scope == f"release:{old}"
    world.wait(1.75175 - 1e-9)
    with pytest.raises(refusals.FenceNotWaited, match=r"1\.752 s of 1\.752 s"):
        world.do(Arm(new))
    assert world.turn() == ()
    world.wait(1e-9)
    assert world.turn() == (StepArm(new),)
    assert compute_allowed(world.state, "smars")[0].armed == (FLAG,)


def test_a_fence_of_an_earlier_boot_counts_from_when_this_issuer_started(gate_open: tuple[World, str, str]) -> None:
    world, _, new = gate_open
    world.turn()
    world.wait(60)
    world.restart_issuer(clock_id=make_id("next boot"))
    world.attest_all("new")
    with pytest.raises(refusals.FenceNotWaited):
        world.do(Arm(new))
    world.wait(1.752)
    world.do(Arm(new))


def test_a_fence_of_the_same_boot_counts_from_when_it_was_durable(gate_open: tuple[World, str, str]) -> None:
    world, _, new = gate_open
    world.turn()
    world.wait(60)
    world.restart_issuer()
    world.attest_all("new")
    world.do(Arm(new))


def test_a_lifted_fence_is_missing_again(gate_open: tuple[World, str, str]) -> None:
    world, old, new = gate_open
    fence = world.stop(f"release:{old}", "fence")
    world.wait(2)
    world.lift(fence)
    with pytest.raises(refusals.FenceMissing):
        world.do(Arm(new))
    second = world.stop(f"release:{old}", "fence")
    assert second != fence
    with pytest.raises(refusals.FenceNotWaited):
        world.do(Arm(new))


def test_a_halt_of_the_release_is_as_good_as_a_fence_but_a_halt_of_the_service_is_not(
    gate_open: tuple[World, str, str],
) -> None:
    world, old, new = gate_open
    world.stop("service:smars")
    world.stop("fleet")
    world.wait(2)
    with pytest.raises(refusals.FenceMissing):
        world.do(Arm(new))
    world.stop(f"release:{old}", "halt")
    world.wait(2)
    world.attest_all("new")
    world.do(Arm(new))


def test_every_release_that_ever_ran_is_fenced_even_when_no_node_is_called_to_it(
    gate_open: tuple[World, str, str],
) -> None:
    world, old, new = gate_open
    assert [entry.release for entry in compute_allowed(world.state, "smars")] == [new]
    assert plan_fences(world.state, new) == (f"release:{old}",)


def test_a_release_that_declares_the_flag_is_not_fenced(world: World) -> None:
    world.release(1, "old", tokens=(FLAG,))
    world.roll_out("old", seconds=2)
    new = world.release(2, "new", tokens=(FLAG, OTHER_FLAG), arms=(FLAG,))
    world.turn()
    world.attest_all("new")
    assert plan_fences(world.state, new) == ()
    assert isinstance(world.do(Arm(new))[0], Armed)


def test_a_disarmed_flag_is_not_armed_again_while_the_stop_is_in_force(armed_world: World) -> None:
    release = next(record for record in armed_world.state.releases.values() if record.armed)
    stop_id = armed_world.stop(f"token:{FLAG}", "disarm")
    assert armed_world.state.releases[release.release].armed == ()
    armed_world.wait(1)
    armed_world.attest_all("new")
    assert armed_world.turn() == ()
    with pytest.raises(refusals.StopInForce, match=stop_id.hex()):
        armed_world.do(Arm(release.release))
    armed_world.lift(stop_id)
    assert armed_world.state.releases[release.release].armed == ()
    assert armed_world.turn() == (StepArm(release.release),)


def test_there_is_nothing_to_arm_twice(armed_world: World) -> None:
    release = next(record for record in armed_world.state.releases.values() if record.armed)
    with pytest.raises(refusals.NothingToArm, match="1 are armed"):
        armed_world.do(Arm(release.release))
    assert armed_world.turn() == ()


def test_going_back_is_disarm_wait_open(armed_world: World) -> None:
    with pytest.raises(refusals.ArmedFlagNotDeclared):
        armed_world.propose(make_release(3, "old"))
    armed_world.stop(f"token:{FLAG}", "disarm")
    release = armed_world.release(3, "old")
    assert armed_world.turn() == ()
    armed_world.wait(1.7517)
    with pytest.raises(refusals.DisarmNotWaited, match=FLAG):
        armed_world.do(OpenStage(release, "all"))
    armed_world.wait(0.0001)
    assert armed_world.turn() == (StepOpenStage(release, "all"),)


def test_a_lift_of_the_disarm_does_not_shorten_the_wait(armed_world: World) -> None:
    disarm = armed_world.stop(f"token:{FLAG}", "disarm")
    release = armed_world.release(3, "old")
    armed_world.lift(disarm)
    with pytest.raises(refusals.DisarmNotWaited):
        armed_world.do(OpenStage(release, "all"))


def test_a_flag_armed_between_proposal_and_stage_is_noticed(gate_open: tuple[World, str, str]) -> None:
    world, _, new = gate_open
    back = world.propose(make_release(3, "old"))
    while world.state.releases[new].armed == ():
        world.turn()
        world.wait(1)
    world.approve(back)
    assert world.turn() == ()
    with pytest.raises(refusals.ArmedFlagNotDeclared):
        world.do(OpenStage(back, "all"))


def test_lifting_a_fence_beside_an_armed_flag_is_refused(armed_world: World) -> None:
    fence = next(stop for stop in armed_world.state.stops.values() if stop.kind == "fence")
    with pytest.raises(refusals.ArmedFlagNotDeclared, match=FLAG):
        armed_world.lift(fence.id)
    armed_world.stop(f"token:{FLAG}", "disarm")
    with pytest.raises(refusals.DisarmNotWaited):
        armed_world.lift(fence.id)
    armed_world.wait(2)
    armed_world.lift(fence.id)


def test_a_fenced_release_opens_no_stage_and_is_not_armed(gate_open: tuple[World, str, str]) -> None:
    world, _, new = gate_open
    stop_id = world.stop(f"release:{new}", "trip", "orders out of line")
    with pytest.raises(refusals.StopInForce, match="orders out of line"):
        world.do(Arm(new))
    assert world.turn() == ()
    world.lift(stop_id)
    assert world.turn()


def test_a_fence_on_the_armed_release_does_not_disarm_its_flag(armed_world: World) -> None:
    """The fence may be lifted, so the flag counts as armed until a stop names it."""
    release = next(record for record in armed_world.state.releases.values() if record.armed)
    armed_world.stop(f"release:{release.release}", "halt")
    armed_world.wait(5)
    with pytest.raises(refusals.ArmedFlagNotDeclared):
        armed_world.propose(make_release(3, "old"))


def test_an_incomplete_release_arms_nothing(old_world: World) -> None:
    release = old_world.propose(make_release(2, "new", tokens=(FLAG,), arms=(FLAG,)))
    with pytest.raises(refusals.ReleaseIncomplete, match="2 distinct approvers"):
        old_world.do(Arm(release))
