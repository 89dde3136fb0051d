# SPDX-License-Identifier: Apache-2.0
"""The core by values: what must happen in which order, and one nanosecond or one issuer on either side of each bound.

The faults planted here are those that no schedule can see; `tests/simulation/test_mutants.py` plants the others.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import msgspec
import pytest

from firecurtain.agent.core import machine, verdict
from firecurtain.agent.core.clocks import ClockSample, Pair
from firecurtain.agent.core.effects import (
    Acknowledge,
    Challenge,
    ClosePage,
    FetchRelease,
    LatchLifts,
    LatchStops,
    Renew,
    SendAttest,
    VerifyLift,
    WriteGrant,
)
from firecurtain.agent.core.freshness import ANSWER_LIFE_NS
from firecurtain.agent.core.state import AgentState, Denied, Identity, Permitted, ReleaseFacts
from firecurtain.terms import NS_PER_MS, NS_PER_S, Reason
from firecurtain.wire.messages import (
    AllowedRelease,
    Answer,
    Beacon,
    Running,
    StopEntry,
    compute_content_digest,
)
from support.mutants import load_mutant

KEYS = (b"issuer-1", b"issuer-2", b"issuer-3")
CLOCK, OTHER_CLOCK = b"clock of issuer.", b"another clock id"
ARTIFACT, RELEASE, LIMITS = "a" * 64, "b" * 64, "c" * 64
TOKEN, REUSED = "fc1-0000000000AB", "fc1-0000000000CD"
D_NS = 1500 * NS_PER_MS
FACTS = ReleaseFacts(RELEASE, 3, "router", ARTIFACT, LIMITS, (TOKEN,))
ENTRY = AllowedRelease(RELEASE, ARTIFACT, "all", (), (TOKEN,), LIMITS)


class Day:
    """One agent whose local clock and issuers' clocks are moved by hand; everything happens at `now_ns`."""

    def __init__(self, issuers: int = 1, core: ModuleType = machine) -> None:
        self.core = core
        self.now_ns = 10**15
        self.issuer_ns = 5 * 10**14
        identity = Identity("knight", "router", "host-1", b"the session's id", KEYS[:issuers], D_NS)
        self.state, _ = core.begin(identity)
        self.do(core.on_release(self.state, FACTS, self.now_ns))
        self.run(ARTIFACT)

    def do(self, step: tuple[AgentState, tuple[object, ...]]) -> tuple[object, ...]:
        self.state, effects = step
        return effects

    def wait(self, local_ns: int) -> None:
        self.now_ns += local_ns
        self.issuer_ns += local_ns

    def run(self, artifact: str | None, pid: int = 100) -> tuple[object, ...]:
        running = None if artifact is None else Running(pid, 7, artifact, 0)
        return self.do(self.core.on_running(self.state, running, "" if running else "it is gone", self.now_ns))

    def ask(self, nonce: bytes = b"n" * 16) -> SendAttest:
        send, *_ = self.do(self.core.begin_attest(self.state, self.now_ns, nonce))
        assert isinstance(send, SendAttest)
        return send

    def answer(self, key: int = 0, nonce: bytes = b"n" * 16, **fields: object) -> tuple[object, ...]:
        answer = Answer(
            version=1,
            fleet="knight",
            node="host-1",
            session=b"the session's id",
            nonce=nonce,
            accepted=ARTIFACT,
            clock_id=CLOCK,
            clock_ns=self.issuer_ns,
            lifts=(),
        )
        answer = msgspec.structs.replace(answer, **fields)
        return self.do(self.core.on_answer(self.state, KEYS[key], answer, self.now_ns))

    def beacon(self, key: int = 0, seq: int = 5, **fields: object) -> tuple[object, ...]:
        allowed = fields.get("allowed", (ENTRY,))
        beacon = Beacon(
            version=1,
            fleet="knight",
            service="router",
            clock_id=CLOCK,
            signed_ns=self.issuer_ns,
            issued_utc_ms=0,
            max_age_ms=1500,
            ledger_epoch=1,
            ledger_seq=seq,
            content=compute_content_digest(1, seq, "router", allowed),  # type: ignore[arg-type]  # as a tuple
            allowed=(ENTRY,),
            stops=(),
        )
        beacon = msgspec.structs.replace(beacon, **fields)
        return self.do(self.core.on_beacon(self.state, KEYS[key], beacon, self.now_ns))

    def tick(self, wall_step_ns: int = 0, suspended_ns: int = 0, rate_ppm: int = 0) -> tuple[object, ...]:
        now_ns = self.now_ns
        raw_ns = now_ns - (now_ns - 10**15) * rate_ppm // 1_000_000
        sample = ClockSample(
            now_ns,
            b"boot",
            Pair(now_ns, raw_ns, now_ns),
            Pair(now_ns, now_ns - suspended_ns, now_ns),
            Pair(now_ns, now_ns + wall_step_ns, now_ns),
        )
        return self.do(self.core.on_tick(self.state, sample))

    def permit(self, issuers: int = 1) -> Day:
        """Answers and beacons of this many issuers."""
        for key in range(issuers):
            self.ask(nonce := bytes([key]) * 16)
            self.answer(key, nonce)
            self.beacon(key)
        return self

    @property
    def grant(self) -> Permitted:
        assert isinstance(self.state.page, Permitted), self.state.page
        return self.state.page

    @property
    def reason(self) -> Reason:
        assert isinstance(self.state.page, Denied), self.state.page
        return self.state.page.reason


def stop_of(scope: str, number: int = 1) -> StopEntry:
    return StopEntry(bytes([number]) * 16, "halt", scope, "a test")


def kinds(effects: tuple[object, ...]) -> list[type]:
    return [type(effect) for effect in effects]


# ---- taking away: the order


def test_a_stop_closes_the_page_then_is_written_down_then_acknowledged() -> None:
    day = Day().permit()
    assert kinds(day.do(machine.on_stop(day.state, stop_of("fleet"), day.now_ns))) == [
        ClosePage,
        LatchStops,
        Acknowledge,
    ]
    assert day.ask().attest.latched == (), "not acknowledged before the shell says that it is durable"
    day.state = machine.on_latched(day.state, (stop_of("fleet").id,))
    assert day.ask().attest.latched == (stop_of("fleet").id,)


def test_a_disarmed_token_narrows_the_page_before_it_is_written_down() -> None:
    day = Day().permit()
    narrowed, *rest = day.do(machine.on_stop(day.state, stop_of(f"token:{TOKEN}"), day.now_ns))
    assert isinstance(narrowed, WriteGrant)
    assert narrowed.grant.armed == frozenset()
    assert kinds(tuple(rest)) == [LatchStops, Acknowledge]


def test_writing_down_before_closing_would_be_seen() -> None:
    mutant = load_mutant(
        "firecurtain.agent.core.machine",
        "(*settled, LatchStops(new), Acknowledge(tuple(entry.id for entry in new)))",
        "(LatchStops(new), Acknowledge(tuple(entry.id for entry in new)), *settled)",
    )
    day = Day(core=mutant).permit()
    assert kinds(day.do(mutant.on_stop(day.state, stop_of("fleet"), day.now_ns)))[0] is not ClosePage


def test_a_latch_that_fails_keeps_the_page_at_zero_whatever_comes() -> None:
    day = Day().permit()
    day.do(machine.on_stop(day.state, stop_of("node:host-2"), day.now_ns))
    assert kinds(day.do(machine.on_latch_failed(day.state, "disk full"))) == [ClosePage]
    day.permit()
    assert day.reason is Reason.STOP_IN_FORCE


def test_a_stop_in_a_beacon_is_latched_from_one_issuer_of_three() -> None:
    day = Day(issuers=3).permit(issuers=3)
    effects = day.beacon(2, stops=(stop_of("service:router"),))
    assert kinds(effects)[:3] == [ClosePage, LatchStops, Acknowledge]
    day.beacon(0)
    day.beacon(1)
    assert day.reason is Reason.STOP_IN_FORCE


def test_a_stop_counts_even_when_its_beacon_contradicts_itself() -> None:
    day = Day().permit()
    day.beacon(content="0" * 64, stops=(stop_of("fleet"),))
    assert day.reason is Reason.STOP_IN_FORCE


def test_a_scope_that_cannot_be_read_stops_everything() -> None:
    day = Day().permit()
    day.do(machine.on_stop(day.state, stop_of("region:europe"), day.now_ns))
    assert day.reason is Reason.STOP_IN_FORCE


@pytest.mark.parametrize("scope", ["service:other", "node:host-2", f"release:{'d' * 64}"])
def test_a_stop_of_something_else_leaves_the_permit(scope: str) -> None:
    day = Day().permit()
    day.do(machine.on_stop(day.state, stop_of(scope), day.now_ns))
    assert day.grant


@pytest.mark.parametrize("order", ["HL", "LH", "HLH", "LHL", "HHL"])
def test_a_lifted_stop_stays_lifted_in_whatever_order_both_come(order: str) -> None:
    day = Day().permit()
    day.do(machine.on_stop(day.state, stop_of("fleet", 2), day.now_ns))
    for letter in order:
        if letter == "H":
            day.do(machine.on_stop(day.state, stop_of("fleet", 1), day.now_ns))
        else:
            day.do(machine.on_lift(day.state, (stop_of("fleet", 1).id,), day.now_ns))
    assert day.reason is Reason.STOP_IN_FORCE, "the other stop is not lifted"
    effects = day.do(machine.on_lift(day.state, (stop_of("fleet", 2).id,), day.now_ns))
    assert kinds(effects) == [LatchLifts, ClosePage], "no longer a stop; what was affirmed under it does not count"
    day.wait(1)
    assert kinds(day.beacon()) == [WriteGrant], "given back by a beacon signed after the lift"


def lift_the_cover(day: Day) -> None:
    """A node hears only the broad stop that stands for its own; k of n lift the broad one."""
    day.permit()
    day.wait(1)
    day.beacon(stops=(stop_of("service:router", 2),))
    assert day.reason is Reason.STOP_IN_FORCE
    day.do(day.core.on_lift(day.state, (stop_of("service:router", 2).id,), day.now_ns))


def test_what_was_affirmed_under_a_broad_stop_does_not_count_without_it() -> None:
    day = Day()
    lift_the_cover(day)
    assert day.reason is Reason.EXPIRED
    day.ask(b"2" * 16)
    day.answer(nonce=b"2" * 16)
    assert day.reason is Reason.EXPIRED, "an answer does not bring the forgotten beacon back"
    day.wait(1)
    day.beacon(stops=(stop_of("service:router", 2),))
    assert day.reason is Reason.EXPIRED, "signed before the issuer heard of the lift: it may leave out narrower stops"
    assert day.state.drops["beacon-before-lift"] == 1
    day.wait(1)
    day.beacon(stops=(stop_of("service:router", 3),))
    assert day.reason is Reason.STOP_IN_FORCE, "widened anew"


def test_a_broad_stop_heard_after_its_lift_stands_for_nothing_either() -> None:
    day = Day()
    day.ask()
    day.answer()
    day.do(machine.on_lift(day.state, (stop_of("fleet").id,), day.now_ns))
    day.beacon(stops=(stop_of("fleet"),))
    assert day.reason is Reason.EXPIRED
    day.wait(1)
    day.beacon()
    assert day.grant


@pytest.mark.parametrize("scope", ["service:other", "node:host-2", f"release:{'d' * 64}", f"token:{REUSED}"])
def test_a_lift_of_something_else_never_closes_the_page(scope: str) -> None:
    day = Day().permit()
    day.do(machine.on_stop(day.state, stop_of(scope), day.now_ns))
    assert kinds(day.do(machine.on_lift(day.state, (stop_of(scope).id,), day.now_ns))) == [LatchLifts]
    day.wait(NS_PER_MS)
    assert kinds(day.beacon(stops=(stop_of(scope),))) == [Renew], "its issuer has not heard of the lift yet"


def test_a_token_disarmed_and_lifted_at_once_is_not_armed_by_older_content() -> None:
    day = Day().permit()
    assert day.grant.grant.armed == {TOKEN}
    day.do(machine.on_stop(day.state, stop_of(f"token:{TOKEN}"), day.now_ns))
    day.do(machine.on_lift(day.state, (stop_of(f"token:{TOKEN}").id,), day.now_ns))
    assert day.reason is Reason.EXPIRED
    day.wait(1)
    day.beacon(seq=6, allowed=(msgspec.structs.replace(ENTRY, armed=()),))
    assert day.grant.grant.armed == frozenset()


@pytest.mark.parametrize("scope", ["fleet", "service:router", "node:host-1", "region:europe"])
def test_a_release_takes_back_fences_and_disarms_and_no_other_stop(scope: str) -> None:
    day = Day().permit()
    fences = stop_of(f"release:{RELEASE}", 1), stop_of(f"token:{TOKEN}", 2)
    for entry in (*fences, stop_of(scope, 3), stop_of(f"release:{RELEASE}", 4), stop_of(scope, 4)):
        day.do(machine.on_stop(day.state, entry, day.now_ns))
    named = tuple(bytes([number]) * 16 for number in range(1, 6))
    assert day.do(machine.on_taken_back(day.state, named, day.now_ns))[0] == LatchLifts(named[:2])
    assert day.reason is Reason.STOP_IN_FORCE, "neither a halt, nor an id that a halt shares"
    day.do(machine.on_stop(day.state, stop_of("fleet", 5), day.now_ns))
    assert named[4] not in day.state.sets.lifted, "an id not held here yet could be a halt's"
    mutant = load_mutant("firecurtain.agent.core.machine", "stops.find_fences(state.sets, stop_ids)", "stop_ids")
    assert mutant.on_taken_back(day.state, named[2:3], day.now_ns)[1], "the fault, seen"


def test_an_id_announced_early_with_a_narrow_scope_does_not_shadow_the_stop() -> None:
    day = Day().permit()
    day.do(machine.on_stop(day.state, stop_of("node:host-2"), day.now_ns))
    day.do(machine.on_stop(day.state, stop_of("fleet"), day.now_ns))
    assert day.reason is Reason.STOP_IN_FORCE


def test_a_full_set_refuses_every_grant_and_no_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firecurtain.agent.core.stops.STOPS_MAX", 3)
    day = Day().permit()
    for number in range(1, 3):
        day.do(machine.on_stop(day.state, stop_of("node:host-2", number), day.now_ns))
    assert day.grant, "one below the bound"
    day.do(machine.on_stop(day.state, stop_of("node:host-2", 3), day.now_ns))
    assert day.reason is Reason.STOP_IN_FORCE
    assert day.do(machine.on_stop(day.state, stop_of("fleet", 4), day.now_ns)) == (Acknowledge((bytes([4]) * 16,)),)


def test_attests_name_the_newest_stops_in_force_and_no_lifted_one() -> None:
    day = Day()
    ids = tuple(number.to_bytes(16, "big") for number in range(1100))
    day.state = machine.on_latched(day.state, ids)
    assert day.ask().attest.latched == ids[-1024:]
    day.do(machine.on_lift(day.state, (ids[-1],), day.now_ns))
    assert day.ask().attest.latched == ids[-1024:-1]


def hold_many(core: ModuleType) -> Day:
    """A day with more stops in force than an attest can name, the node's own among the first."""
    day = Day(core=core)
    for number in range(1100):
        entry = StopEntry(number.to_bytes(16, "big"), "halt", f"node:host-{1 + (number > 0)}", "one of many")
        day.do(core.on_stop(day.state, entry, day.now_ns))
        day.state = core.on_latched(day.state, (entry.id,))
    return day


def lift_what_is_attested(day: Day) -> Day:
    """As an issuer does: it sends lifts of what is attested, and only of that."""
    while latched := day.ask().attest.latched:
        day.do(day.core.on_lift(day.state, latched[-700:], day.now_ns))
    return day


def test_older_stops_are_attested_again_when_newer_ones_are_lifted() -> None:
    assert not lift_what_is_attested(hold_many(machine)).state.sets.in_force
    mutant = load_mutant("firecurtain.agent.core.machine", "stops.find_unlifted(sets) + state.latched", "state.latched")
    assert "node:host-1" in lift_what_is_attested(hold_many(mutant)).state.sets.in_force, "the fault, seen"


def test_a_stop_that_never_reached_the_disk_is_not_attested_after_a_lift_either() -> None:
    day = Day().permit()
    day.do(machine.on_stop(day.state, stop_of("fleet", 1), day.now_ns))
    day.do(machine.on_latch_failed(day.state, "disk full"))
    day.do(machine.on_lift(day.state, (stop_of("fleet", 2).id,), day.now_ns))
    assert day.ask().attest.latched == ()


# ---- giving: content, releases, tokens


def test_one_server_without_the_update_gets_no_permit_and_learns_both_digests() -> None:
    day = Day()
    day.run("d" * 64)
    day.ask()
    day.answer(accepted="d" * 64)
    day.beacon()
    assert day.reason is Reason.RELEASE_MISMATCH
    assert isinstance(day.state.page, Denied)
    assert "dddddddddddd" in day.state.page.detail
    assert "aaaaaaaaaaaa" in day.state.page.detail


def test_an_artifact_that_only_the_beacon_vouches_for_gets_no_permit() -> None:
    day = Day()
    stolen = msgspec.structs.replace(ENTRY, release="e" * 64, artifact="d" * 64)
    day.run("d" * 64)
    day.ask()
    day.answer(accepted="d" * 64)
    assert FetchRelease("e" * 64) in day.beacon(allowed=(stolen,))
    assert day.reason is Reason.NO_RELEASE
    day.do(machine.on_release(day.state, msgspec.structs.replace(FACTS, release="e" * 64), day.now_ns))
    assert day.reason is Reason.NO_RELEASE, "the envelope is for another artifact"


def test_a_release_whose_limits_are_not_the_signed_ones_gets_no_permit() -> None:
    day = Day().permit()
    day.wait(1)
    day.beacon(seq=6, allowed=(msgspec.structs.replace(ENTRY, limits="f" * 64),))
    assert day.reason is Reason.NO_RELEASE


def test_a_stage_that_does_not_name_this_node_gives_it_nothing() -> None:
    day = Day().permit()
    day.wait(1)
    day.beacon(seq=6, allowed=(msgspec.structs.replace(ENTRY, nodes=("host-2",)),))
    assert day.reason is Reason.RELEASE_MISMATCH
    day.beacon(
        seq=7, allowed=(msgspec.structs.replace(ENTRY, nodes=("host-2", "host-1")),), signed_ns=day.issuer_ns + 1
    )
    assert day.grant


def reuse_a_flag(day: Day) -> frozenset[str]:
    day.permit()
    day.beacon(seq=6, allowed=(msgspec.structs.replace(ENTRY, armed=(TOKEN, REUSED)),), signed_ns=day.issuer_ns + 1)
    return day.grant.grant.armed


def test_a_token_the_release_does_not_declare_is_never_armed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reuse_a_flag(Day()) == {TOKEN}
    by_name = load_mutant("firecurtain.agent.core.verdict", "if token in facts.tokens and", "if")
    monkeypatch.setattr(machine, "verdict", by_name)
    assert reuse_a_flag(Day()) == {TOKEN, REUSED}, "the fault, seen"


def adopt_from_one(day: Day) -> bool:
    day.permit(issuers=3)
    day.beacon(0, seq=6, allowed=(), signed_ns=day.issuer_ns + 1)
    return day.state.content.ledger_seq == 6


def test_content_is_adopted_when_m_issuers_name_it_and_kept_until_they_name_a_newer_one() -> None:
    day = Day(issuers=3)
    assert not adopt_from_one(day)
    effects = day.beacon(1, seq=6, allowed=(), signed_ns=day.issuer_ns + 1)
    assert Challenge() in effects
    assert day.state.content.ledger_seq == 6
    for key in range(3):
        day.beacon(key, seq=5, signed_ns=day.issuer_ns + 2)
    assert day.state.content.ledger_seq == 6
    mutant = load_mutant("firecurtain.agent.core.machine", "named_count < state.identity.majority", "named_count < 1")
    assert adopt_from_one(Day(issuers=3, core=mutant)), "the fault, seen"


def test_a_new_ledger_epoch_is_not_taken_from_an_issuers_word() -> None:
    day = Day().permit()
    allowed = (msgspec.structs.replace(ENTRY, armed=()),)
    digest = compute_content_digest(2, 99, "router", allowed)
    day.beacon(seq=99, ledger_epoch=2, allowed=allowed, content=digest, signed_ns=day.issuer_ns + 1)
    assert day.state.content.ledger_epoch == 1
    assert day.grant, "it renews all the same"


def test_any_valid_beacon_renews_whatever_its_seq() -> None:
    day = Day().permit()
    day.wait(NS_PER_S)
    assert kinds(day.beacon(seq=4)) == [Renew]


# ---- freshness


def test_a_permit_ends_at_its_deadline_and_not_one_nanosecond_before() -> None:
    day = Day().permit()
    deadline_ns = day.grant.deadline_ns
    assert deadline_ns == day.now_ns + D_NS * 999 // 1000
    day.now_ns = deadline_ns - 1
    day.tick()
    assert day.grant
    day.now_ns = deadline_ns
    day.tick()
    assert day.reason is Reason.EXPIRED


def test_two_of_three_issuers_must_be_fresh() -> None:
    day = Day(issuers=3).permit(issuers=1)
    assert day.reason is Reason.EXPIRED
    day.permit(issuers=2)
    assert day.grant


def test_beacons_without_answers_give_nothing_and_the_page_says_who_is_silent() -> None:
    day = Day()
    day.beacon()
    assert day.reason is Reason.NOT_ENROLLED


def answer_twice(day: Day) -> None:
    day.ask(b"1" * 16)
    day.answer(nonce=b"1" * 16)
    day.wait(NS_PER_MS)
    day.answer(nonce=b"1" * 16)


def test_a_nonce_is_answered_once() -> None:
    day = Day()
    answer_twice(day)
    assert day.state.drops["answer-not-asked"] == 1
    assert len(day.state.tracks[0].answers) == 1


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"nonce": b"x" * 16}, "answer-not-asked"),
        ({"session": b"another session."}, "answer-foreign"),
        ({"node": "host-2"}, "answer-foreign"),
        ({"accepted": "d" * 64}, "answer-other-artifact"),
    ],
)
def test_an_answer_to_somebody_or_something_else_does_not_count(fields: dict[str, object], cause: str) -> None:
    day = Day()
    day.ask()
    nonce = fields.pop("nonce", b"n" * 16)
    assert isinstance(nonce, bytes)
    day.answer(nonce=nonce, **fields)
    assert dict(day.state.drops) == {cause: 1}
    assert not day.state.tracks


def test_an_answer_older_than_three_seconds_does_not_count_one_of_three_does() -> None:
    for late_ns, counts in ((ANSWER_LIFE_NS, True), (ANSWER_LIFE_NS + 1, False)):
        day = Day()
        day.ask()
        day.wait(late_ns)
        day.answer()
        assert bool(day.state.tracks) is counts


def test_an_answer_given_to_another_artifact_is_worth_nothing_after_a_change() -> None:
    day = Day().permit()
    assert Challenge() in day.run("d" * 64)
    assert not day.state.tracks
    day.run(ARTIFACT)
    day.beacon(signed_ns=day.issuer_ns + 1)
    assert day.reason is not Reason.OK


def test_unknown_keys_and_foreign_beacons_are_dropped_and_counted() -> None:
    day = Day()
    day.beacon(1)
    day.beacon(fleet="other")
    day.beacon(service="other")
    assert dict(day.state.drops) == {"beacon-unknown-issuer": 1, "beacon-foreign": 2}


def test_only_the_last_questions_are_remembered() -> None:
    day = Day()
    for number in range(40):
        day.ask(bytes([number]) * 16)
    assert len(day.state.questions) == 16


def test_lifts_in_an_answer_are_handed_on_to_be_verified() -> None:
    day = Day()
    day.ask()
    assert VerifyLift(b"an envelope") in day.answer(lifts=(b"an envelope",))


# ---- clocks


def pause(day: Day) -> tuple[object, ...]:
    day.permit()
    day.issuer_ns += NS_PER_S
    return day.beacon(signed_ns=day.issuer_ns)


def test_a_beacon_younger_than_its_arrival_closes_forgets_and_asks_again() -> None:
    day = Day()
    assert kinds(pause(day)) == [ClosePage, Challenge]
    assert day.reason is Reason.CLOCK_DOUBT
    assert not day.state.tracks
    day.permit()
    assert day.grant


def test_a_slow_issuer_clock_is_safe_and_a_fast_one_is_a_doubt() -> None:
    for elapsed_ns, doubted in ((NS_PER_S * 1003 // 1000, False), (NS_PER_S * 1003 // 1000 + 10**6, True), (1, False)):
        day = Day()
        day.ask(b"1" * 16)
        day.answer(nonce=b"1" * 16)
        day.now_ns += NS_PER_S
        day.issuer_ns += elapsed_ns
        day.ask(b"2" * 16)
        day.answer(nonce=b"2" * 16)
        assert bool(day.state.clock_doubt) is doubted, elapsed_ns


Jump = Callable[[Day], tuple[object, ...]]


@pytest.mark.parametrize(
    ("jump", "is_doubt"),
    [
        (lambda day: day.tick(wall_step_ns=50 * NS_PER_MS), False),
        (lambda day: day.tick(wall_step_ns=50 * NS_PER_MS + 1), True),
        (lambda day: day.tick(suspended_ns=NS_PER_MS), False),
        (lambda day: day.tick(suspended_ns=NS_PER_MS + 1), True),
    ],
)
def test_steps_of_the_hosts_clocks_are_doubts_beyond_their_bounds(jump: Jump, is_doubt: bool) -> None:
    day = Day().permit()
    day.tick()
    effects = jump(day)
    assert (kinds(effects) == [ClosePage, Challenge]) is is_doubt


def test_a_wall_clock_that_is_an_hour_off_costs_nothing() -> None:
    day = Day()
    day.tick(wall_step_ns=3600 * NS_PER_S)
    day.permit()
    day.tick(wall_step_ns=3600 * NS_PER_S)
    assert day.grant


def test_a_restored_boot_is_a_doubt() -> None:
    day = Day().permit()
    day.tick()
    pair = Pair(day.now_ns, day.now_ns, day.now_ns)
    sample = ClockSample(day.now_ns, b"another boot", pair, pair, pair)
    assert kinds(day.do(machine.on_tick(day.state, sample))) == [ClosePage, Challenge]


def test_a_wide_bracket_is_skipped_and_compared_with_the_last_tight_one_later() -> None:
    day = Day().permit()
    day.tick()
    now_ns = day.now_ns
    tight, wide = Pair(now_ns, now_ns, now_ns), Pair(now_ns - 100_001, now_ns - NS_PER_S, now_ns)
    assert day.do(machine.on_tick(day.state, ClockSample(now_ns, b"boot", tight, wide, tight))) == ()
    assert kinds(day.tick(suspended_ns=NS_PER_S)) == [ClosePage, Challenge]


def slew(rate_ppm: int) -> Day:
    """A host that has run for six seconds at this rate, then holds a permit."""
    day = Day()
    for _ in range(7):
        day.tick(rate_ppm=rate_ppm)
        day.wait(NS_PER_S)
    day.tick(rate_ppm=rate_ppm)
    day.permit()
    day.tick(rate_ppm=rate_ppm)
    return day


def test_a_slewing_host_gets_a_shorter_permit_and_a_racing_one_none() -> None:
    day = slew(20_000)
    assert day.state.clock.rho_ppm == pytest.approx(40_000, abs=1000)
    assert day.grant.deadline_ns < day.now_ns + D_NS * 962 // 1000
    assert slew(0).grant.deadline_ns == slew(0).now_ns + D_NS * 999 // 1000
    assert slew(60_000).reason is Reason.CLOCK_DOUBT


# ---- what the page says


def test_every_text_fits_the_page_and_says_what_to_do() -> None:
    day = Day().permit()
    longest = StopEntry(bytes(16), "disarm", f"release:{RELEASE}", "x" * 500)
    day.do(machine.on_stop(day.state, longest, day.now_ns))
    denied = verdict.decide_permit(day.state, day.now_ns)
    assert isinstance(denied, Denied)
    assert len(denied.detail.encode()) <= 255
    assert "Do: " in denied.detail


def test_the_page_is_touched_only_when_what_it_says_changes() -> None:
    day = Day().permit()
    assert day.tick() == ()
    assert day.beacon() == ()
    day.run(None)
    assert day.run(None) == ()
