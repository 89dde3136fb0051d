# SPDX-License-Identifier: Apache-2.0
"""Who hears an answer: every doubt about a node is silence, and silence closes at the node."""

from __future__ import annotations

import msgspec
import pytest

from firecurtain.domain import refusals
from firecurtain.domain.commands import OpenSession
from firecurtain.domain.presence import Answer, Clone, NewSession, Silence, judge_attest, observe
from firecurtain.trust.release import Stage
from support.fleet_world import World, make_artifact, make_attest, make_id, make_token

FIRST, SECOND = make_id("session first"), make_id("session second")
SESSION_WAIT_S = (3 + 1.5) * 1.001


def silence(verdict: object) -> str:
    assert isinstance(verdict, Silence), verdict
    return verdict.code


def test_a_node_that_runs_what_is_allowed_there_is_answered(old_world: World) -> None:
    assert old_world.attest("host-1", "old") == Answer(make_artifact("old"))


def test_before_anything_is_released_nobody_is_answered(world: World) -> None:
    assert silence(world.attest("host-1", "old")) == "not-allowed"


def test_an_unknown_node_and_one_of_another_service_or_fleet_hear_nothing(old_world: World) -> None:
    assert silence(old_world.attest("host-9", "old")) == "unknown-node"
    attest = make_attest("host-1", "old", 99, FIRST)
    for wrong in ({"service": "payouts"}, {"fleet": "other"}):
        assert silence(old_world.send(msgspec.structs.replace(attest, **wrong))) == "unknown-node"
    assert "host-9" not in old_world.live


def test_an_excluded_node_hears_nothing_even_after_the_lift_until_it_is_enrolled_again(old_world: World) -> None:
    stop_id = old_world.exclude("host-1")
    assert silence(old_world.attest("host-1", "old")) == "node-excluded"
    old_world.lift(stop_id)
    assert silence(old_world.attest("host-1", "old")) == "node-excluded"
    old_world.enrol("host-1")
    assert isinstance(old_world.attest("host-1", "old"), Answer)


def test_a_re_enrolled_node_with_a_new_session_still_waits_for_the_old_grant(old_world: World) -> None:
    """Excluded, lifted and enrolled again within a moment: the grant of the first session may still be alive."""
    stop_id = old_world.exclude("host-1")
    old_world.lift(stop_id)
    old_world.enrol("host-1")
    assert silence(old_world.attest("host-1", "old", session="second")) == "duplicate-session"


def test_a_straggler_hears_nothing_once_its_stage_is_open_under_hold_too(old_world: World) -> None:
    old_world.release(2, "new", on_straggler="hold")
    assert isinstance(old_world.attest("host-8", "old"), Answer)
    old_world.turn()
    verdict = old_world.attest("host-8", "old")
    assert silence(verdict) == "straggling"
    assert isinstance(verdict, Silence)
    assert make_artifact("old")[:12] in verdict.text
    assert make_artifact("new")[:12] in verdict.text
    assert isinstance(old_world.attest("host-1", "new"), Answer)


def test_a_node_without_a_running_process_hears_nothing_but_is_seen(old_world: World) -> None:
    assert silence(old_world.attest("host-1", None)) == "not-running"
    assert old_world.live["host-1"].artifact is None


def test_an_artifact_that_nobody_released_is_silence(old_world: World) -> None:
    assert silence(old_world.attest("host-1", "homebrew")) == "straggling"


def test_a_node_of_a_fenced_release_hears_nothing(old_world: World) -> None:
    release = next(iter(old_world.state.releases))
    old_world.stop(f"release:{release}", "fence")
    assert silence(old_world.attest("host-1", "old")) == "not-allowed"


def test_a_halted_node_is_answered_so_that_it_can_say_why_it_denies(old_world: World) -> None:
    """The stop itself travels in every beacon; silence would only change the reason to `expired`."""
    old_world.stop("node:host-1")
    assert isinstance(old_world.attest("host-1", "old"), Answer)


def test_the_first_session_of_a_node_is_opened_at_once(world: World) -> None:
    attest = make_attest("host-1", "old", 1, FIRST)
    assert judge_attest(world.state, world.live, attest, world.now) == NewSession("host-1", FIRST)
    assert observe(world.state, world.live, attest, world.now) == {}


def test_a_new_session_is_opened_only_after_the_old_grant_has_run_out(old_world: World) -> None:
    old_world.attest("host-1", "old")
    old_world.wait(SESSION_WAIT_S - 1e-6)
    assert silence(old_world.attest("host-1", "old", session="second")) == "duplicate-session"
    with pytest.raises(refusals.SessionTooEarly, match=r"another 0\.000 s"):
        old_world.do(OpenSession("host-1", SECOND))
    old_world.wait(2e-6)
    assert isinstance(old_world.attest("host-1", "old", session="second"), Answer)
    assert old_world.state.nodes["host-1"].session == SECOND


def test_after_an_issuer_restart_a_new_session_waits_from_the_start(old_world: World) -> None:
    old_world.restart_issuer()
    old_world.wait(SESSION_WAIT_S - 0.001)
    assert silence(old_world.attest("host-1", "old", session="second")) == "duplicate-session"
    old_world.wait(0.002)
    assert isinstance(old_world.attest("host-1", "old", session="second"), Answer)


def test_after_an_issuer_restart_the_known_session_is_answered_at_once(old_world: World) -> None:
    old_world.restart_issuer()
    assert isinstance(old_world.attest("host-1", "old"), Answer)


def test_two_agents_that_are_both_alive_never_take_the_node_from_each_other(old_world: World) -> None:
    """Also when neither is answered: the first keeps the node for as long as it speaks."""
    old_world.release(2, "new")
    old_world.turn()
    for _ in range(20):
        assert silence(old_world.attest("host-1", "old")) == "straggling"
        assert silence(old_world.attest("host-1", "new", session="second")) == "duplicate-session"
        old_world.wait(1)
    assert old_world.state.nodes["host-1"].session == FIRST


def test_opening_the_open_session_again_changes_nothing(old_world: World) -> None:
    assert old_world.do(OpenSession("host-1", FIRST)) == ()


def test_a_repeated_delivery_is_silence(old_world: World) -> None:
    attest = make_attest("host-1", "old", 50, FIRST)
    assert isinstance(old_world.send(attest), Answer)
    assert silence(old_world.send(attest)) == "repeated-attest"


def test_the_same_number_with_other_content_is_a_clone(old_world: World) -> None:
    old_world.send(make_attest("host-1", "old", 50, FIRST))
    before = old_world.live["host-1"]
    verdict = old_world.send(make_attest("host-1", "new", 50, FIRST))
    assert isinstance(verdict, Clone)
    assert verdict.scope == "node:host-1"
    assert old_world.live["host-1"] == before


def test_a_lower_number_is_a_clone(old_world: World) -> None:
    old_world.send(make_attest("host-1", "old", 50, FIRST))
    assert isinstance(old_world.send(make_attest("host-1", "old", 49, FIRST)), Clone)


def test_a_clone_that_is_stopped_already_gives_no_second_stop(old_world: World) -> None:
    old_world.send(make_attest("host-1", "old", 50, FIRST))
    old_world.stop("node:host-1", "trip")
    assert silence(old_world.send(make_attest("host-1", "old", 49, FIRST))) == "clone"


def test_each_node_runs_one_release_while_a_first_stage_is_open(old_world: World) -> None:
    old_world.release(2, "new", tokens=(make_token(1),), stages=(Stage("first", ("host-1",)), Stage("rest", "*")))
    old_world.turn()
    assert isinstance(old_world.attest("host-1", "new"), Answer)
    assert isinstance(old_world.attest("host-2", "old"), Answer)
    assert silence(old_world.attest("host-3", "new")) == "straggling"


def test_a_node_counts_as_accepted_from_its_first_answer_for_this_artifact(old_world: World) -> None:
    old_world.wait(5)
    old_world.attest("host-1", "old")
    accepted_ns = old_world.live["host-1"].accepted_ns
    old_world.wait(1)
    old_world.attest("host-1", "old")
    assert old_world.live["host-1"].accepted_ns == accepted_ns
    assert old_world.live["host-1"].answered_ns == old_world.now.issuer_ns
    old_world.attest("host-1", "new")
    assert old_world.live["host-1"].accepted_ns is None
    assert old_world.live["host-1"].since_ns == old_world.now.issuer_ns
    assert old_world.live["host-1"].answered_ns == old_world.now.issuer_ns
