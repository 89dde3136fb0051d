# SPDX-License-Identifier: Apache-2.0
"""Which release a node runs: the newest it is called to and holds; without any call, the newest it holds."""

from __future__ import annotations

import msgspec

from firecurtain.agent.core import machine
from firecurtain.agent.core.choice import choose_release
from firecurtain.agent.core.state import AgentState, Content, Identity, ReleaseFacts
from firecurtain.wire.messages import AllowedRelease, Running

OLD = ReleaseFacts("1" * 64, 1, "router", "a" * 64, "c" * 64, ())
NEW = ReleaseFacts("2" * 64, 2, "router", "b" * 64, "c" * 64, ())
BOTH = {OLD.artifact, NEW.artifact}


def make_state(*called: tuple[ReleaseFacts, tuple[str, ...]], runs: ReleaseFacts | None = None) -> AgentState:
    identity = Identity("knight", "router", "host-1", bytes(16), (b"issuer-1",), 1)
    state, _ = machine.begin(identity)
    allowed = tuple(
        AllowedRelease(facts.release, facts.artifact, "all", nodes, (), facts.limits) for facts, nodes in called
    )
    return msgspec.structs.replace(
        state,
        releases=(NEW, OLD),
        content=Content(1, 5, "f" * 64, allowed),
        running=Running(100, 1, runs.artifact, 0) if runs else None,
    )


def test_the_newest_release_that_calls_this_node() -> None:
    assert choose_release(make_state((OLD, ()), (NEW, ()), runs=OLD), BOTH) == NEW


def test_a_canary_for_other_nodes_changes_nothing_here() -> None:
    assert choose_release(make_state((OLD, ()), (NEW, ("host-2",)), runs=OLD), BOTH) == OLD


def test_a_node_without_the_new_artifact_goes_on_with_the_old_one() -> None:
    assert choose_release(make_state((NEW, ()), runs=OLD), {OLD.artifact}) is None


def test_with_the_control_plane_down_the_newest_release_on_disk_is_started() -> None:
    assert choose_release(make_state(), BOTH) == NEW
    assert choose_release(make_state(), set()) is None


def test_what_runs_goes_on_while_the_ledger_names_nothing() -> None:
    assert choose_release(make_state(runs=OLD), BOTH) is None


def test_a_rollback_is_a_newer_version_of_older_code() -> None:
    back = msgspec.structs.replace(OLD, release="3" * 64, version=3)
    state = make_state((back, ()), runs=NEW)
    state = msgspec.structs.replace(state, releases=(back, NEW, OLD))
    assert choose_release(state, BOTH) == back
