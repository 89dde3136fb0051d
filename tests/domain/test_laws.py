# SPDX-License-Identifier: Apache-2.0
"""Laws that hold whatever happens, tried by Hypothesis against whole fleets that live, fail, lie and come back.

The machine plays people, nodes and time; after every event it holds the fleet against rules written down here a second
time, without the domain's own helpers where that is possible.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from firecurtain.domain.commands import Arm, OpenStage
from firecurtain.domain.content import compute_allowed
from firecurtain.domain.events import Armed, Event, StopRecorded, StopsLifted
from firecurtain.domain.evolve import evolve
from firecurtain.domain.presence import Answer
from firecurtain.domain.stops import in_force
from firecurtain.terms import NS_PER_S, Refusal, parse_scope
from firecurtain.trust.release import Stage
from support.fleet_world import EVERY_NODE, SERVICE, World, make_artifact, make_id, make_token, replay
from support.mutants import load_mutant

NODES = ("host-1", "host-2", "host-3")
FIRST, SECOND = make_token(1), make_token(2)
TOKENS = {"plain": (), "one": (FIRST,), "both": (FIRST, SECOND)}
STAGES = {
    "all": (Stage("all", EVERY_NODE),),
    "some": (Stage("some", ("host-1", "host-2")),),
    "two": (Stage("first", ("host-1",)), Stage("rest", EVERY_NODE)),
}
PERMIT_NS = (1500 + 250) * NS_PER_S // 1000  # d and delta_max: the last effect of a beacon heard now


class Process(msgspec.Struct):
    """A process that may act: under a node's name, in a session of its own, with whatever code it was started from."""

    node: str
    session: str
    artifact: str
    answered_ns: int = -(2**60)
    release: str = ""
    armed: tuple[str, ...] = ()
    until_ns: int = -(2**60)


class FleetMachine(RuleBasedStateMachine):
    """Three nodes, a newcomer, copies of each; releases, stops, lifts and restarts in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(nodes=len(NODES))
        self.world.watchers.append(self.check_event)
        self.processes = [Process(node, "first", "plain") for node in (*NODES, "host-4")]
        self.before = self.world.state
        self.release("plain", "all", arm=False)
        self.live_on(seconds=2)

    # What may happen

    @rule(
        artifact=st.sampled_from(sorted(TOKENS)),
        stages=st.sampled_from(sorted(STAGES)),
        lagging=st.sets(st.integers(0, 5), max_size=1),
        seconds=st.integers(1, 9),
    )
    def roll_out(self, artifact: str, stages: str, lagging: set[int], seconds: int) -> None:
        """An ordinary morning: a new release, everybody starts it except who lags, and time goes on."""
        self.release(artifact, stages, arm=True)
        for place in range(len(self.processes)):
            if place not in lagging:
                self.processes[place] = msgspec.structs.replace(self.processes[place], artifact=artifact, until_ns=0)
        self.live_on(seconds)

    @rule(seconds=st.integers(1, 9))
    def live_on(self, seconds: int) -> None:
        for _ in range(seconds):
            self.everybody_speaks()
            self.world.turn()
            self.everybody_speaks()
            self.world.wait(1)

    @rule(artifact=st.sampled_from(sorted(TOKENS)), stages=st.sampled_from(sorted(STAGES)), arm=st.booleans())
    def release(self, artifact: str, stages: str, arm: bool) -> None:
        version = len(self.world.state.releases) + 1
        tokens = TOKENS[artifact]
        arms = tokens if arm else ()
        policy = "exclude" if version % 2 else "hold"
        self.attempt(
            lambda: self.world.release(
                version, artifact, tokens=tokens, arms=arms, stages=STAGES[stages], on_straggler=policy
            )
        )

    @rule(turns=st.integers(1, 3))
    def go_on(self, turns: int) -> None:
        for _ in range(turns):
            self.world.turn()

    @rule(release=st.integers(0, 9), stage=st.sampled_from(["all", "some", "first", "rest"]))
    def push(self, release: int, stage: str) -> None:
        """Ask for grants that the rollout would not ask for now."""
        known = list(self.world.state.releases)
        if known:
            chosen = known[release % len(known)]
            self.attempt(lambda: self.world.do(OpenStage(chosen, stage)))
            self.attempt(lambda: self.world.do(Arm(chosen)))

    @rule(kind=st.sampled_from(["release", "release", "token", "token", "node", "fleet"]), which=st.integers(0, 9))
    def stop(self, kind: str, which: int) -> None:
        names = {"release": list(self.world.state.releases), "token": [FIRST, SECOND], "node": list(NODES)}
        choices = names.get(kind, [])
        if kind == "fleet" or choices:
            self.world.stop("fleet" if kind == "fleet" else f"{kind}:{choices[which % len(choices)]}")

    @rule(which=st.sets(st.integers(0, 9), min_size=1, max_size=3))
    def lift(self, which: set[int]) -> None:
        known = [stop.id for stop in in_force(self.world.state)]
        if known:
            self.attempt(lambda: self.world.lift(*{known[place % len(known)] for place in which}))

    @rule()
    def lift_what_covers_everything(self) -> None:
        """A fleet that stays halted would never show anything again."""
        broad = [stop.id for stop in in_force(self.world.state) if stop.scope == "fleet"]
        if broad:
            self.attempt(lambda: self.world.lift(*broad))

    @rule(node=st.sampled_from(NODES))
    def exclude(self, node: str) -> None:
        self.attempt(lambda: self.world.exclude(node))

    @rule(node=st.sampled_from([*NODES, "host-4"]))
    def enrol(self, node: str) -> None:
        self.attempt(lambda: self.world.enrol(node))

    @rule(place=st.integers(0, 9), artifact=st.sampled_from(sorted(TOKENS)))
    def restart(self, place: int, artifact: str) -> None:
        """A process ends and starts anew, from an old image or a new one."""
        process = self.processes[place % len(self.processes)]
        self.processes.remove(process)
        self.processes.append(Process(process.node, f"{process.session}'", artifact))

    @precondition(lambda self: len(self.processes) < 6)
    @rule(place=st.integers(0, 9), artifact=st.sampled_from(sorted(TOKENS)))
    def copy(self, place: int, artifact: str) -> None:
        """A second process speaks under a node's name, in a session of its own."""
        process = self.processes[place % len(self.processes)]
        self.processes.append(Process(process.node, f"{process.session}+", artifact))

    @rule(seconds=st.sampled_from([0.2, 1.0, 1.8, 4.6, 5.0]), is_quiet=st.booleans())
    def wait(self, seconds: float, is_quiet: bool) -> None:
        """Time passes; unless the network is down, everybody attests and hears a beacon before and after."""
        if not is_quiet:
            self.everybody_speaks()
        self.world.wait(seconds)
        if not is_quiet:
            self.everybody_speaks()

    @rule(place=st.integers(0, 9))
    def speak(self, place: int) -> None:
        self.let_speak(self.processes[place % len(self.processes)])

    @rule(place=st.integers(0, 9))
    def hear(self, place: int) -> None:
        self.let_hear(self.processes[place % len(self.processes)])

    @rule(is_same_boot=st.booleans())
    def restart_issuer(self, is_same_boot: bool) -> None:
        clock_id = self.world.now.clock_id if is_same_boot else make_id(f"boot at {self.world.now.issuer_ns}")
        self.world.restart_issuer(clock_id)

    def everybody_speaks(self) -> None:
        for process in self.processes:
            self.let_speak(process)
            self.let_hear(process)

    def let_speak(self, process: Process) -> None:
        if isinstance(self.world.attest(process.node, process.artifact, process.session), Answer):
            process.answered_ns = self.world.now.issuer_ns

    def let_hear(self, process: Process) -> None:
        """A beacon of this moment, to an agent that keeps an answer for three seconds."""
        now_ns = self.world.now.issuer_ns
        stopped = {stop.scope for stop in in_force(self.world.state)}
        process.until_ns = min(process.until_ns, now_ns)
        if now_ns - process.answered_ns > 3 * NS_PER_S or {"fleet", f"service:{SERVICE}"} & stopped:
            return
        for entry in compute_allowed(self.world.state, SERVICE):
            is_named = not entry.nodes or process.node in entry.nodes
            is_stopped = {f"release:{entry.release}", f"node:{process.node}"} & stopped
            if is_named and not is_stopped and entry.artifact == make_artifact(process.artifact):
                process.release = entry.release
                process.armed = tuple(token for token in entry.armed if f"token:{token}" not in stopped)
                process.until_ns = now_ns + PERMIT_NS

    def attempt(self, act: Callable[[], object]) -> None:
        """What may be refused, but never fails otherwise."""
        with contextlib.suppress(Refusal):
            act()

    # What always holds

    def check_event(self, world: World, event: Event) -> None:
        """H and L only grow, content never changes under the same seq, and only a full gate arms."""
        before, after = self.before, world.state
        assert before.stops.keys() <= after.stops.keys()
        assert before.lifted.keys() <= after.lifted.keys()
        assert after.lifts[: len(before.lifts)] == before.lifts
        assert after.seq == before.seq + 1
        if compute_allowed(before, SERVICE) != compute_allowed(after, SERVICE):
            assert after.content_seq[SERVICE] == after.seq
        if isinstance(event, StopRecorded) and parse_scope(event.scope).kind != "release":
            assert after.content_seq[SERVICE] == after.seq
        if isinstance(event, Armed):
            self.check_gate(world, event)
        self.before = after

    def check_gate(self, world: World, event: Armed) -> None:
        document = world.state.releases[event.release].document
        lapse_ns = (3 * NS_PER_S + PERMIT_NS) * 1001 // 1000
        named = [
            node for stage in document.stages for node in (world.state.nodes if stage.nodes == "*" else stage.nodes)
        ]
        for name in named:
            node, presence = world.state.nodes.get(name), world.live.get(name)
            if node is None or node.excluded_by is not None or presence is None:
                continue
            if world.now.issuer_ns - presence.attested_ns <= lapse_ns:
                assert presence.artifact == document.artifact, f"{name} lags behind an open gate"

    @invariant()
    def an_armed_flag_never_stands_beside_a_release_that_does_not_declare_it(self) -> None:
        stopped = {stop.scope for stop in in_force(self.world.state)}
        running = [
            record
            for record in self.world.state.releases.values()
            if record.complete and record.stages and f"release:{record.release}" not in stopped
        ]
        armed = {token for record in running for token in record.armed}
        for record in running:
            assert armed <= set(record.document.tokens)

    @invariant()
    def no_process_acts_beside_a_flag_that_its_code_does_not_declare(self) -> None:
        for process in self.find_acting():
            for other in self.find_acting():
                declared = self.world.state.releases[other.release].document.tokens
                assert set(process.armed) <= set(declared), f"{other.node} beside {process.armed}"

    @invariant()
    def no_two_sessions_of_one_node_act_at_once(self) -> None:
        names = [process.node for process in self.find_acting()]
        assert len(names) == len(set(names))

    @invariant()
    def every_node_has_at_most_one_release(self) -> None:
        entries = compute_allowed(self.world.state, SERVICE)
        assert sum(not entry.nodes for entry in entries) <= 1
        named = [node for entry in entries for node in entry.nodes]
        assert len(named) == len(set(named))

    def find_acting(self) -> list[Process]:
        return [process for process in self.processes if process.until_ns > self.world.now.issuer_ns]

    def teardown(self) -> None:
        assert replay(self.world.events) == self.world.state


FleetMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestFleetMachine = FleetMachine.TestCase

FAULTS = {
    "no law for lifts": (
        "binding",
        "        if token not in document.tokens:",
        "        if False:",
        [
            "firecurtain.domain.stages.check_may_run",
            "firecurtain.domain.lifts.check_may_run",
            "firecurtain.domain.releases.check_armed_declared",
        ],
    ),
    "a gate of N-1": (
        "gate",
        "if missing or not",
        "if len(missing) > 1 or not",
        ["firecurtain.domain.stages.check_gate"],
    ),
    "an empty list of nodes": (
        "content",
        "tuple(sorted(base - called)) or None",
        "tuple(sorted(base - called))",
        [
            "firecurtain.domain.presence.find_allowed",
            "test_laws.compute_allowed",
        ],
    ),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_the_machine_sees_each_fault(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: trust its silence. Method: take out one rule at a time; it must cry out.

    Fence and wait are taken out in test_arming_search.py, which finds them a hundred times faster.
    """
    module, old, new, places = FAULTS[fault]
    mutant = load_mutant(f"firecurtain.domain.{module}", old, new)
    for place in places:
        name = place.rpartition(".")[2]
        target = place.replace("test_laws", __name__)
        monkeypatch.setattr(target, getattr(mutant, name))
    only_search = settings(FleetMachine.TestCase.settings, phases=[Phase.generate], max_examples=400, database=None)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(FleetMachine, settings=only_search)


def make_events(names: Iterable[str], lifted: Iterable[str]) -> list[Event]:
    stops: list[Event] = [StopRecorded(make_id(name), "halt", "fleet", "", b"", b"", 0, 0) for name in names]
    return [*stops, *(StopsLifted((make_id(name),), b"envelope") for name in lifted)]


@given(data=st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_in_force_does_not_depend_on_order_or_repetition(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8))
    lifted = data.draw(st.lists(st.sampled_from("abcdef"), max_size=8))
    expected = {make_id(name) for name in names} - {make_id(name) for name in lifted}
    state = replay([])
    for event in data.draw(st.permutations(make_events(names, lifted))):
        state = evolve(state, event)
    assert {stop.id for stop in in_force(state)} == expected
