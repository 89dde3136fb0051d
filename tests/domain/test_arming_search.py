# SPDX-License-Identifier: Apache-2.0
"""Goal: no order of events lets the old code run beside its armed flag. Method: all orders, in a small fleet.

The same search finds the shortest way in once a rule is taken out: that is what says the search can see.
"""

from __future__ import annotations

import pytest

from support.arming_search import Search
from support.mutants import load_mutant


def test_in_no_order_of_events_does_an_old_node_act_beside_an_armed_flag() -> None:
    found, seen = Search().run()
    assert found is None, " -> ".join(found)
    assert seen > 10_000  # it searched; fewer situations would mean that a step never happens


def test_arming_by_attestation_without_fence_and_wait_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = load_mutant("firecurtain.domain.stages", "    check_fences(state, record, now)\n", "")
    monkeypatch.setattr("firecurtain.domain.decide.decide_arm", mutant.decide_arm)
    found, _ = Search().run()
    assert found is not None
    assert found[-2:] == ["open new", "arm new"]


def test_a_fence_without_its_wait_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = load_mutant("firecurtain.domain.binding", "ages[rival.release] < wait_ns", "False")
    monkeypatch.setattr("firecurtain.domain.stages.check_fences", mutant.check_fences)
    found, _ = Search().run()
    assert found is not None
    assert "everything waits" not in found


def test_a_rollback_without_the_wait_after_disarming_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = load_mutant("firecurtain.domain.binding", "and age_ns < wait_ns:", "and False:")
    for module in ("stages", "lifts"):
        monkeypatch.setattr(f"firecurtain.domain.{module}.check_may_run", mutant.check_may_run)
    found, _ = Search().run()
    assert found is not None
    assert "open rollback" in found[-1] or "lift release" in found[-1]


def test_a_rollback_beside_an_armed_flag_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = load_mutant("firecurtain.domain.binding", "        if token not in document.tokens:", "        if False:")
    for module in ("stages", "lifts"):
        monkeypatch.setattr(f"firecurtain.domain.{module}.check_may_run", mutant.check_may_run)
    found, _ = Search().run()
    assert found is not None
    assert found[-1] == "open rollback" or found[-1].startswith("lift release")


def test_a_lift_that_is_not_judged_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = load_mutant("firecurtain.domain.lifts", "    _check_freed(state, evolve(state, event), now)\n", "")
    monkeypatch.setattr("firecurtain.domain.decide.decide_lift", mutant.decide_lift)
    found, _ = Search().run()
    assert found is not None
    assert found[-1].startswith("lift release")
