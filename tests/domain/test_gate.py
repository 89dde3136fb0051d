# SPDX-License-Identifier: Apache-2.0
"""The gate: 8 of 8, never 7; who counts, and when a node has provably left the count."""

from __future__ import annotations

import pytest

from firecurtain.domain import refusals
from firecurtain.domain.commands import Arm, OpenStage
from firecurtain.domain.rollout import StepArm, StepExclude, StepFence, StepOpenStage
from firecurtain.domain.waits import compute_lapse_ns
from firecurtain.terms import NS_PER_S, Refusal
from firecurtain.trust.release import Stage
from support.fleet_world import EVERY_NODE, World, make_artifact, make_id, make_token

FLAG = make_token(0x2012)
STAGES = (Stage("first", ("host-1", "host-2")), Stage("rest", EVERY_NODE))


def call_to_new(world: World, **changes: object) -> str:
    """Propose, approve and open a release that arms the flag."""
    release = world.release(2, "new", tokens=(FLAG,), arms=(FLAG,), **changes)
    assert isinstance(world.turn()[0], StepOpenStage)
    return release


def test_seven_of_eight_do_not_open_the_gate(old_world: World) -> None:
    release = call_to_new(old_world)
    for _ in range(30):
        old_world.attest_all("new", "host-8")
        old_world.attest("host-8", "old")
        assert old_world.turn() == ()
        old_world.wait(1)
    with pytest.raises(refusals.GateClosed) as refusal:
        old_world.do(Arm(release))
    assert "7 of 8" in str(refusal.value)
    assert f"host-8 attests {make_artifact('old')[:12]}" in str(refusal.value)


def test_the_eighth_opens_it(old_world: World) -> None:
    release = call_to_new(old_world)
    old_world.attest_all("new", "host-8")
    with pytest.raises(refusals.GateClosed):
        old_world.do(Arm(release))
    old_world.attest("host-8", "new")
    with pytest.raises(refusals.FenceMissing):
        old_world.do(Arm(release))


def test_an_empty_gate_is_closed() -> None:
    world = World(nodes=0)
    release = world.release(1, "old", tokens=(FLAG,), arms=(FLAG,))
    world.turn()
    with pytest.raises(refusals.GateClosed, match="0 of 0"):
        world.do(Arm(release))


def test_a_node_that_fell_silent_leaves_the_count_when_its_permit_has_lapsed(old_world: World) -> None:
    release = call_to_new(old_world)
    old_world.attest("host-8", "old")
    lapse_s = (3 + 1.5 + 0.25) * 1.001
    old_world.wait(lapse_s)
    old_world.attest_all("new", "host-8")
    with pytest.raises(refusals.GateClosed):
        old_world.do(Arm(release))
    old_world.wait(1e-9)
    with pytest.raises(refusals.FenceMissing):
        old_world.do(Arm(release))


def test_a_node_that_attests_something_else_never_leaves_by_itself_under_hold(old_world: World) -> None:
    call_to_new(old_world, on_straggler="hold")
    for _ in range(60):
        old_world.attest_all("new", "host-8")
        old_world.attest("host-8", "old")
        assert old_world.turn() == ()
        old_world.wait(1)


def test_a_node_unknown_since_the_issuer_started_counts_until_its_permit_has_lapsed(old_world: World) -> None:
    release = call_to_new(old_world)
    old_world.attest_all("new", "host-8")
    old_world.restart_issuer()
    old_world.wait(4.7)
    old_world.attest_all("new", "host-8")
    with pytest.raises(refusals.GateClosed, match="host-8 attests nothing"):
        old_world.do(Arm(release))
    old_world.wait(0.1)
    with pytest.raises(refusals.FenceMissing):
        old_world.do(Arm(release))


def test_a_node_whose_process_does_not_run_keeps_the_gate_closed(old_world: World) -> None:
    release = call_to_new(old_world, on_straggler="exclude")
    for _ in range(10):
        old_world.attest_all("new", "host-8")
        old_world.attest("host-8", None)
        old_world.turn()
        old_world.wait(1)
    with pytest.raises(refusals.GateClosed, match="host-8 attests nothing running"):
        old_world.do(Arm(release))


def test_an_excluded_node_counts_until_its_stop_has_run_out(old_world: World) -> None:
    release = call_to_new(old_world)
    old_world.attest_all("new", "host-8")
    old_world.exclude("host-8")
    old_world.wait(1.75)
    with pytest.raises(refusals.GateClosed, match="host-8 was excluded a moment ago"):
        old_world.do(Arm(release))
    old_world.wait(0.002)
    with pytest.raises(refusals.FenceMissing):
        old_world.do(Arm(release))


@pytest.mark.parametrize(("late_s", "refused"), [(-0.001, refusals.GateClosed), (0.0, refusals.FenceMissing)])
def test_an_excluded_node_whose_stop_was_lifted_at_once_counts_until_its_last_answer_has_run_out(
    old_world: World, late_s: float, refused: type[Refusal]
) -> None:
    """Nothing but silence ends what it may do: 3 s for the answer, 1.5 s for the beacon, 0.25 s for the effect."""
    release = call_to_new(old_world)
    answered_ns = old_world.live["host-8"].answered_ns
    assert answered_ns is not None
    old_world.lift(old_world.exclude("host-8"))
    lapse_s = (answered_ns + compute_lapse_ns(old_world.state.root) - old_world.now.issuer_ns) / NS_PER_S
    old_world.wait(lapse_s + late_s)
    old_world.attest_all("new", "host-8")
    old_world.attest("host-8", "old")  # heard, not answered
    with pytest.raises(refused):
        old_world.do(Arm(release))


def test_the_policy_exclude_takes_a_straggler_out_after_the_others_ran_for_two_seconds(old_world: World) -> None:
    call_to_new(old_world, on_straggler="exclude")
    old_world.attest_all("new", "host-8")
    old_world.attest("host-8", "old")
    old_world.wait(1.9)
    old_world.attest_all("new", "host-8")
    old_world.attest("host-8", "old")
    assert old_world.turn() == ()
    old_world.wait(0.1)
    assert [type(step) for step in old_world.turn()] == [StepExclude]
    assert old_world.state.nodes["host-8"].excluded_by is not None


def test_the_policy_exclude_waits_for_those_that_have_just_come(old_world: World) -> None:
    """A node that was slow to switch is no reason to blame the one that is slower."""
    call_to_new(old_world, on_straggler="exclude")
    for _ in range(5):
        old_world.attest_all("new", "host-7", "host-8")
        old_world.attest("host-8", "old")
        old_world.attest("host-7", None)
        assert old_world.turn() == ()
        old_world.wait(1)
    old_world.attest("host-7", "new")
    assert old_world.turn() == ()
    old_world.wait(2)
    assert [step for step in old_world.turn() if isinstance(step, StepExclude)]


def test_a_straggler_that_changes_its_artifact_begins_its_two_seconds_anew(old_world: World) -> None:
    call_to_new(old_world, on_straggler="exclude")
    old_world.attest_all("new", "host-8")
    old_world.wait(1.9)
    old_world.attest_all("new", "host-8")
    old_world.attest("host-8", "something else")
    old_world.wait(0.2)
    assert old_world.turn() == ()


def test_the_policy_exclude_never_leaves_fewer_nodes_than_the_release_demands(old_world: World) -> None:
    call_to_new(old_world, on_straggler="exclude", min_nodes=7)
    for _ in range(6):
        old_world.attest_all("new", "host-7", "host-8")
        old_world.attest("host-7", "old")
        old_world.attest("host-8", "old")
        assert old_world.turn() == ()
        old_world.wait(1)
    assert all(node.excluded_by is None for node in old_world.state.nodes.values())


def test_the_gate_of_the_last_stage_demands_min_nodes(old_world: World) -> None:
    release = call_to_new(old_world, min_nodes=8)
    old_world.attest_all("new", "host-8")
    old_world.wait(4.7)
    old_world.attest_all("new", "host-8")
    old_world.wait(0.1)
    with pytest.raises(refusals.MinNodes, match=r"7 nodes attest .* demands 8"):
        old_world.do(Arm(release))


def test_the_next_stage_opens_behind_the_gate_of_the_first(old_world: World) -> None:
    release = call_to_new(old_world, stages=STAGES, min_nodes=8)
    assert old_world.turn() == ()
    with pytest.raises(refusals.GateClosed, match="0 of 2"):
        old_world.do(OpenStage(release, "rest"))
    old_world.attest("host-1", "new")
    assert old_world.turn() == ()
    old_world.attest("host-2", "new")
    assert old_world.turn() == (StepOpenStage(release, "rest"),)
    assert old_world.turn() == ()
    old_world.attest_all("new")
    assert isinstance(old_world.turn()[0], StepFence)
    old_world.wait(1.752)
    assert old_world.turn() == (StepArm(release),)


def test_nothing_is_armed_before_the_last_stage_is_open(old_world: World) -> None:
    release = call_to_new(old_world, stages=STAGES)
    old_world.attest_all("new")
    with pytest.raises(refusals.StageOutOfOrder, match="not open yet: rest"):
        old_world.do(Arm(release))


def test_stages_open_in_the_order_in_which_they_were_signed(old_world: World) -> None:
    release = old_world.release(2, "new", stages=STAGES)
    with pytest.raises(refusals.StageOutOfOrder, match="first is next"):
        old_world.do(OpenStage(release, "rest"))
    with pytest.raises(refusals.UnknownStage):
        old_world.do(OpenStage(release, "last"))
    old_world.do(OpenStage(release, "first"))
    with pytest.raises(refusals.Duplicate):
        old_world.do(OpenStage(release, "first"))


def test_an_incomplete_or_superseded_release_opens_nothing(old_world: World) -> None:
    second = old_world.release(2, "new")
    third = old_world.release(3, "newer")
    assert old_world.turn() == (StepOpenStage(third, "all"),)
    with pytest.raises(refusals.Superseded, match="version 2, version 3"):
        old_world.do(OpenStage(second, "all"))
    with pytest.raises(refusals.UnknownRelease):
        old_world.do(OpenStage("00" * 32, "all"))


def test_a_newcomer_in_a_stage_that_runs_something_else_closes_the_gate(old_world: World) -> None:
    release = call_to_new(old_world)
    old_world.attest_all("new")
    old_world.enrol("host-9")
    old_world.attest("host-9", "old", session="restored image")
    with pytest.raises(refusals.GateClosed, match="8 of 9"):
        old_world.do(Arm(release))


def test_an_exclusion_by_a_stop_of_an_earlier_boot_counts_from_when_this_issuer_started(old_world: World) -> None:
    release = call_to_new(old_world)
    old_world.exclude("host-8")
    old_world.restart_issuer(clock_id=make_id("next boot"))
    old_world.attest_all("new")
    with pytest.raises(refusals.GateClosed):
        old_world.do(Arm(release))
    old_world.wait(1.752)
    with pytest.raises(refusals.FenceMissing):
        old_world.do(Arm(release))


def test_the_fence_does_not_wait_for_an_exclusion_that_is_running_out(old_world: World) -> None:
    """Both run out at the same pace, so an exclusion costs one wait and not two."""
    release = call_to_new(old_world)
    old_world.attest_all("new", "host-8")
    old_world.attest("host-8", "old")
    assert old_world.turn() == ()
    old_world.exclude("host-8")
    assert [type(step) for step in old_world.turn()] == [StepFence]
    assert old_world.turn() == ()
    old_world.wait(1.752)
    assert old_world.turn() == (StepArm(release),)
