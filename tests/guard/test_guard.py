# SPDX-License-Identifier: Apache-2.0
"""One process asks before every effect: what is allowed, what is denied, and that each denial says what to do."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import firecurtain
from firecurtain.guard import Denied
from firecurtain.permit import ActionLimits, compute_slots_directory
from firecurtain.permit.page import PAGE_SIZE
from firecurtain.terms import Digest, LimitError, PermitError, Reason, TermError

MAX_AGE_NS = 1_500_000_000
OWN = Digest("a1" * 32)
FLAG = "fc1-00000000000Z"


def deny(action, **arguments):
    """Acquire, expect a denial, and see that `check` would have said the same."""
    verdict = action.check(**arguments)
    with pytest.raises(Denied) as denial:
        action.acquire(**{"usd": 0, **arguments})
    assert not verdict
    assert verdict == denial.value.verdict
    assert "Do: " in str(denial.value)
    return denial.value


def test_an_allowed_effect_gets_the_fencing_token_and_is_counted(stage):
    stage.permit()
    action = stage.attach().action("send-order")
    assert action.check(cause="p-17", usd=25)
    assert action.acquire(cause="p-17", usd=25) == (7, 4711)
    assert stage.read_totals() == {"send-order:acquired": 1, "send-order:usd_micro": 25_000_000}


def test_without_an_agent_everything_is_denied_and_the_text_says_how_to_start_one(tmp_path):
    tmp_path.chmod(0o700)
    guard = firecurtain.attach("payouts", f"{tmp_path}/permit.page")
    denied = deny(guard.action("send-order"), cause="p-17")
    assert denied.reason == "no-agent"
    assert denied.scope == "service:payouts"
    assert "firecurtain agent" in str(denied)
    assert not guard.on(FLAG)


@pytest.mark.parametrize(
    ("late_ns", "reason"), [(0, None), (MAX_AGE_NS - 1, None), (MAX_AGE_NS, "expired"), (-1, "not-yet")]
)
def test_one_nanosecond_late_is_denied(stage, late_ns, reason):
    stage.permit()
    guard = stage.attach()
    action = guard.action("send-order")
    stage.now_ns += late_ns
    if reason is None:
        action.acquire(cause="p-17", usd=1)
        assert guard.on(FLAG)
    else:
        assert deny(action, cause="p-17").reason == reason
        assert not guard.on(FLAG)


def test_a_denial_by_age_says_how_old(stage):
    stage.permit()
    action = stage.attach().action("send-order")
    stage.now_ns += MAX_AGE_NS + 5
    denied = deny(action, cause="p-17")
    assert (denied.age_ns, denied.epoch) == (5, 7)


def test_a_stop_is_quoted_and_counted_by_its_reason(stage):
    stage.permit()
    action = stage.attach().action("send-order")
    action.acquire(cause="p-17", usd=1)
    stage.writer.close(Reason.STOP_IN_FORCE, "halted by ops-1: wrong prices. Do: firecurtain resume")
    denied = deny(action, cause="p-17")
    assert denied.reason == "stop-in-force"
    assert "halted by ops-1: wrong prices" in str(denied)
    totals = stage.read_totals()
    assert totals["send-order:denied"] == totals["send-order:denied:stop-in-force"] == 1


def test_exactly_at_the_limit_is_allowed_and_one_order_too_many_is_denied(stage):
    stage.permit()
    action = stage.attach().action("send-order")
    for _ in range(3):
        action.acquire(cause="p-17", usd=1)
    denied = deny(action, cause="p-17")
    assert denied.reason == "effects-per-cause"
    assert "cause p-17 has 3 effects, the release allows 3" in str(denied)
    action.acquire(cause="p-18", usd=997)
    denied = deny(action, cause="p-19", usd=0.000001)
    assert denied.reason == "gross-usd"
    assert "1,000 USD are reserved, this effect asks for 0.000001, the release allows 1,000 a process" in str(denied)
    action.acquire(cause="p-19", usd=0)


def test_a_cause_travels_with_the_context_and_the_inner_one_counts(stage):
    stage.permit()
    guard = stage.attach()
    action = guard.action("send-order")
    with guard.cause("p-17") as outer:
        assert outer.id == "p-17"
        with guard.cause("p-18"):
            for _ in range(3):
                action.acquire(usd=0)
            assert deny(action).reason == "effects-per-cause"
        action.acquire(usd=0)
        assert deny(action, cause="p-18").reason == "effects-per-cause"
    with pytest.raises(Denied, match=r"unknown-cause.*no cause was named") as denial:
        action.acquire(usd=0)
    assert denial.value.reason == "unknown-cause"
    assert action.check(), "without a cause, check answers for one not met yet"


def test_an_action_the_release_does_not_limit_is_denied(stage):
    stage.permit()
    denied = deny(stage.attach().action("cancel"), cause="p-17")
    assert denied.reason == "no-limit"
    assert "declares limits for send-order, not for cancel" in str(denied)


def test_a_release_without_any_limits_denies(stage):
    stage.permit(limits=Digest("0" * 64))
    denied = deny(stage.attach().action("send-order"), cause="p-17")
    assert denied.reason == "no-limit"
    assert "declares limits for no action" in str(denied)


def test_other_limits_than_the_page_names_are_a_mismatch(stage):
    missing = Digest("ee" * 32)
    stage.permit(limits=missing)
    denied = deny(stage.attach().action("send-order"), cause="p-17")
    assert denied.reason == "limits-mismatch"
    assert missing in str(denied)


def test_limits_that_appear_later_are_read_on_a_denial_at_most_every_100_ms(stage):
    limits = {"send-order": ActionLimits(1, 1)}
    digest = stage.write_limits(limits)
    path = Path(stage.directory, f"limits-{digest}.json")
    data = path.read_bytes()
    path.unlink()
    stage.permit(limits=digest)
    action = stage.attach().action("send-order")
    path.write_bytes(data)
    assert deny(action, cause="p").reason == "limits-mismatch"
    stage.now_ns += 100_000_000
    action.acquire(cause="p", usd=1)


def test_new_limits_for_the_same_artifact_keep_the_totals(stage):
    stage.permit()
    action = stage.attach().action("send-order")
    action.acquire(cause="p-17", usd=900)
    stage.now_ns += 100_000_000
    stage.permit(limits=stage.write_limits({"send-order": ActionLimits(2, 950)}), ledger_seq=4712)
    assert deny(action, cause="p-18", usd=51).reason == "gross-usd"
    assert action.acquire(cause="p-17", usd=50) == (7, 4712)
    assert deny(action, cause="p-17").reason == "effects-per-cause"


def test_limits_named_by_a_closed_page_are_read_before_the_first_permit(stage):
    stage.writer.close(Reason.NOT_ENROLLED, "no answer yet. Do: wait", stage.grant)
    guard = stage.attach()
    for path in Path(stage.directory).glob("limits-*"):
        path.unlink()
    assert deny(guard.action("send-order")).reason == "not-enrolled"
    stage.permit()
    guard.action("send-order").acquire(cause="p-17", usd=1)


def test_one_server_without_the_update_is_denied_with_both_artifacts(stage):
    stage.permit(artifact=Digest("dd" * 32))
    denied = deny(stage.attach().action("send-order"), cause="p-17")
    assert denied.reason == "release-mismatch"
    assert "started from artifact a1a1a1a1a1a1, the page permits dddddddddddd" in str(denied)


def test_a_process_that_is_in_no_store_is_denied_and_told_so(stage):
    stage.permit()
    denied = deny(stage.attach(artifact=None).action("send-order"), cause="p-17")
    assert denied.reason == "release-mismatch"
    assert "/srv/router.py, which is in no artifact store" in str(denied)


def test_without_a_slot_nothing_is_allowed(stage):
    directory = Path(compute_slots_directory(stage.path))
    directory.rmdir()
    stage.permit()
    action = stage.attach().action("send-order")
    denied = deny(action, cause="p-17")
    assert denied.reason == "no-slot"
    directory.mkdir(mode=0o700)
    stage.now_ns += 100_000_000
    action.acquire(cause="p-17", usd=1)


def test_a_flag_is_on_only_armed_alive_and_for_the_own_artifact(stage):
    guard = stage.attach()
    assert not guard.on(FLAG)
    stage.permit()
    assert guard.on(FLAG)
    assert not guard.on("fc1-000000000010")
    assert not guard.on("send-orders-the-new-way")
    assert not stage.attach(artifact=Digest("dd" * 32)).on(FLAG)
    assert not stage.attach(artifact=None).on(FLAG)
    stage.permit(armed=frozenset())
    assert not guard.on(FLAG)
    stage.permit(armed=frozenset([FLAG]))
    stage.writer.close(Reason.STOP_IN_FORCE, "halted")
    assert not guard.on(FLAG)


def test_an_agent_that_comes_later_is_found(stage):
    stage.writer.release()
    away = Path(stage.directory).rename(f"{stage.directory}-away")
    action = stage.attach().action("send-order")
    assert deny(action, cause="p-17").reason == "no-agent"
    away.rename(stage.directory)
    stage.now_ns += 100_000_000
    denied = deny(action, cause="p-17")
    assert "the agent has stopped" in str(denied)


@pytest.mark.parametrize("usd", [-1, -0.5, float("nan"), float("inf"), "5", None, True])
def test_an_amount_that_is_no_amount_is_the_callers_error(stage, usd):
    stage.permit()
    action = stage.attach().action("send-order")
    with pytest.raises(LimitError, match="usd must be a number of dollars"):
        action.acquire(cause="p-17", usd=usd)
    with pytest.raises(LimitError):
        action.check(cause="p-17", usd=usd)
    assert stage.read_totals() == {}


@pytest.mark.parametrize("cause", ["", "x" * 129, 17])
def test_a_cause_that_is_no_cause_is_the_callers_error(stage, cause):
    stage.permit()
    guard = stage.attach()
    with pytest.raises(LimitError, match="a cause is a text"):
        guard.action("send-order").acquire(cause=cause, usd=1)
    with pytest.raises(LimitError):
        guard.action("send-order").check(cause=cause)
    with pytest.raises(LimitError):
        guard.cause(cause)


def test_forgetting_the_amount_is_an_error_not_a_free_order(stage):
    stage.permit()
    with pytest.raises(TypeError):
        stage.attach().action("send-order").acquire(cause="p-17")


def test_the_same_action_and_the_same_guard_have_one_total(stage):
    stage.permit()
    guard = stage.attach()
    assert guard.action("send-order") is guard.action("send-order")
    attached = firecurtain.attach("payouts", stage.path)
    assert firecurtain.attach("payouts", stage.path) is attached


def test_actions_and_their_names_are_bounded(stage):
    guard = stage.attach()
    with pytest.raises(LimitError, match="at most 30"):
        guard.action("x" * 31)
    with pytest.raises(LimitError):
        guard.action("send order")
    for index in range(16):
        guard.action(f"action-{index}")
    with pytest.raises(LimitError, match="one too many"):
        guard.action("action-16")


def test_every_action_has_its_counters_however_many_reasons_there_are(stage):
    names = [f"action-{index}" for index in range(16)]
    stage.permit(limits=stage.write_limits({name: ActionLimits(1, 10) for name in names}))
    guard = stage.attach()
    for reason in list(Reason)[1:]:
        stage.writer.close(reason, "closed. Do: wait")
        for name in names[:8]:
            deny(guard.action(name), cause="p")
    stage.permit()
    for name in names:
        guard.action(name).acquire(cause="p", usd=1)
    totals = stage.read_totals()
    assert all(totals[f"{name}:acquired"] == 1 for name in names)
    assert all(totals[f"{name}:denied"] == len(Reason) - 1 for name in names[:8])


def test_a_service_that_is_no_name_is_the_callers_error():
    with pytest.raises(TermError):
        firecurtain.attach("pay outs")


def test_one_page_spelt_in_several_ways_gives_one_guard(stage, monkeypatch):
    guard = firecurtain.attach("payouts", stage.path)
    folder, _, name = stage.path.rpartition("/")
    for other in (f"/{stage.path}", f"{folder}//{name}", f"{folder}/./{name}"):
        assert firecurtain.attach("payouts", other) is guard, other
        monkeypatch.setenv("FIRECURTAIN_PERMIT", other)
        assert firecurtain.attach("payouts") is guard, other
    around = f"{folder}/../permit/{name}"
    assert firecurtain.attach("payouts", around).action("send-order").check(cause="p-17").reason == "page-unsafe"


def test_guards_are_bounded(monkeypatch, tmp_path):
    monkeypatch.setattr("firecurtain.guard.curtain._guards", {})
    for index in range(64):
        firecurtain.attach("payouts", f"{tmp_path}/{index}/permit.page")
    with pytest.raises(PermitError, match="attach once"):
        firecurtain.attach("payouts", f"{tmp_path}/64/permit.page")


def test_the_environment_says_where_the_page_is(stage, monkeypatch):
    monkeypatch.setenv("FIRECURTAIN_PERMIT", stage.path)
    assert firecurtain.attach("payouts").path == stage.path
    monkeypatch.delenv("FIRECURTAIN_PERMIT")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
    assert firecurtain.attach("payouts").path.endswith("/firecurtain/payouts/permit.page")


def test_a_denial_survives_a_worker_pool(stage):
    denied = deny(stage.attach().action("send-order"), cause="p-17")
    copy = pickle.loads(pickle.dumps(denied))  # noqa: S301 - our own bytes
    assert (str(copy), copy.verdict) == (str(denied), denied.verdict)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.binary(max_size=64) | st.integers(0, 2**32).map(lambda seed: random.Random(seed).randbytes(PAGE_SIZE)))
def test_no_content_of_a_page_raises_anything_but_denied(tmp_path, data):
    tmp_path.chmod(0o700)
    path = tmp_path / "permit.page"
    path.write_bytes(data)
    guard = firecurtain.guard.Guard("payouts", str(path), OWN)
    deny(guard.action("send-order"), cause="p-17")
    assert not guard.on(FLAG)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.integers(0, PAGE_SIZE - 1), st.binary(min_size=1, max_size=16))
def test_no_damage_to_a_live_page_raises_anything_but_denied(stage, offset, damage):
    stage.permit()
    page = bytearray(Path(stage.path).read_bytes())
    guard = stage.attach()
    stage.writer._page[offset : offset + len(damage)] = damage[: PAGE_SIZE - offset]
    try:
        guard.action("send-order").acquire(cause="p-17", usd=1)
    except Denied as denied:
        assert denied.reason != "ok"  # noqa: PT017 - either answer is right, depending on the byte
    stage.writer._page[:] = bytes(page)
    for slot in Path(compute_slots_directory(stage.path)).iterdir():
        slot.unlink()
