# SPDX-License-Identifier: Apache-2.0
"""Each rule taken out on purpose: what holds with the rule must fail without it, or the test of the rule sees nothing.

The faults are planted in the real source text. Those of fence, wait and rollback are in test_arming_search.py.
Source: 03-protocol, "Mutants that the simulator must catch".
"""

from __future__ import annotations

import pytest

from firecurtain.domain import content, refusals, stops
from firecurtain.domain.commands import Arm, RecordStop
from firecurtain.domain.presence import Verdict
from firecurtain.wire.messages import StopEntry
from support.fleet_world import World, make_attest, make_id, make_signer, make_token
from support.mutants import load_mutant

FLAG = make_token(0x2012)


def is_answered(verdict: Verdict) -> bool:
    """By name, because a mutant has classes of its own."""
    return type(verdict).__name__ == "Answer"


def is_gate_closed_at_seven_of_eight() -> bool:
    world = World()
    release = world.release(1, "new", tokens=(FLAG,), arms=(FLAG,))
    world.turn()
    world.attest_all("new", "host-8")
    world.attest("host-8", "old")
    try:
        world.do(Arm(release))
    except refusals.GateClosed:
        return True
    return False


def test_an_n_minus_one_gate_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_gate_closed_at_seven_of_eight()
    mutant = load_mutant("firecurtain.domain.gate", "if missing or not", "if len(missing) > 1 or not")
    monkeypatch.setattr("firecurtain.domain.stages.check_gate", mutant.check_gate)
    assert not is_gate_closed_at_seven_of_eight()


def test_a_gate_that_forgets_a_lagging_node_by_time_alone_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = load_mutant("firecurtain.domain.gate", "elif presence.artifact ==", "elif True or presence.artifact ==")
    assert is_gate_closed_at_seven_of_eight()
    monkeypatch.setattr("firecurtain.domain.stages.compute_gate", mutant.compute_gate)
    assert not is_gate_closed_at_seven_of_eight()


def is_an_older_fence_still_in_force_after_a_newer_halt() -> bool:
    world = World()
    release = world.release(1, "old")
    world.turn()
    world.stop(f"release:{release}", "fence")
    world.stop("node:host-5", "halt")
    return content.find_allowed(world.state, "smars", "host-1") is None


def test_the_newest_halt_instead_of_the_union_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_an_older_fence_still_in_force_after_a_newer_halt()
    mutant = load_mutant(
        "firecurtain.domain.stops",
        "for stop in state.stops.values() if stop.id not in state.lifted)",
        "for stop in list(state.stops.values())[-1:] if stop.id not in state.lifted)",
    )
    monkeypatch.setattr("firecurtain.domain.content.find_fenced", mutant.find_fenced)
    assert not is_an_older_fence_still_in_force_after_a_newer_halt()


def is_a_lifted_stop_still_known_and_a_replay_of_it_harmless() -> bool:
    world = World()
    stop_id = world.stop("fleet")
    world.lift(stop_id)
    is_known = stop_id in world.state.stops
    entry = StopEntry(stop_id, "halt", "fleet", "because")
    world.do(RecordStop(entry, make_signer("operator").keyid, world.now.clock_id, world.now.issuer_ns))
    return is_known and stops.in_force(world.state) == ()


def test_a_lift_that_removes_ids_from_h_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_a_lifted_stop_still_known_and_a_replay_of_it_harmless()
    mutant = load_mutant(
        "firecurtain.domain.evolve",
        """    lifted = {**dict.fromkeys(event.ids, place), **state.lifted, **dict.fromkeys(better, place)}
    stops = {stop_id: replace(stop, lifted=stop_id in lifted) for stop_id, stop in state.stops.items()}
""",
        """    lifted = {}
    stops = {stop_id: stop for stop_id, stop in state.stops.items() if stop_id not in event.ids or place < 0}
""",
    )
    monkeypatch.setattr("support.fleet_world.evolve", mutant.evolve)
    assert not is_a_lifted_stop_still_known_and_a_replay_of_it_harmless()


def find_answered() -> list[str]:
    """Who is answered of those that must not be: a straggler, a restored image, a foreign artifact, a re-enrolled."""
    world = World()
    world.release(1, "old")
    world.roll_out("old", seconds=1)
    world.release(2, "new")
    world.turn()
    stop_id = world.exclude("host-2")
    world.lift(stop_id)
    world.enrol("host-2")
    world.enrol("host-9")
    asked = [("host-1", "old"), ("host-2", "old"), ("host-3", "homebrew"), ("host-9", "old")]
    return [node for node, artifact in asked if is_answered(world.attest(node, artifact))]


def test_a_deny_list_instead_of_no_answer_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answering whoever is not known to be bad lets the clone and the re-enrolled node in."""
    assert find_answered() == []
    mutant = load_mutant(
        "firecurtain.domain.presence",
        "    if allowed is not None and allowed.artifact == artifact:\n",
        "    if node.excluded_by is None:\n",
    )
    monkeypatch.setattr("support.fleet_world.presence_module", mutant)
    assert find_answered() == ["host-1", "host-2", "host-3", "host-9"]


def is_a_new_session_kept_waiting() -> bool:
    world = World()
    world.release(1, "old")
    world.roll_out("old", seconds=1)
    return not is_answered(world.attest("host-1", "old", session="second"))


def test_a_new_session_answered_at_once_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_a_new_session_kept_waiting()
    mutant = load_mutant(
        "firecurtain.domain.presence", "    if node.session is None:\n", "    if node.session or not node.session:\n"
    )
    monkeypatch.setattr("support.fleet_world.presence_module", mutant)
    monkeypatch.setattr("firecurtain.domain.roster.compute_session_wait_left_ns", mutant.compute_session_wait_left_ns)
    assert not is_a_new_session_kept_waiting()


def is_a_copy_noticed() -> bool:
    world = World()
    world.release(1, "old")
    world.roll_out("old", seconds=1)
    session = make_id("session first")
    world.send(make_attest("host-1", "old", 7, session))
    return not is_answered(world.send(make_attest("host-1", "old", 6, session)))


def test_an_attest_number_that_nobody_looks_at_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_a_copy_noticed()
    mutant = load_mutant("firecurtain.domain.presence", "or attest.number > presence.number:", "or attest.number != 0:")
    monkeypatch.setattr("support.fleet_world.presence_module", mutant)
    assert not is_a_copy_noticed()
