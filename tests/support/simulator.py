# SPDX-License-Identifier: Apache-2.0
"""Plays one schedule against the pure core of the agent and watches every instant at which a guard would act.

The shell's part is modelled in a dozen lines: it carries effects out in order, may be killed between any two of them,
and keeps on its disk only what was fsynced. The guard is not stepped: between two changes of the page its last moment
of action follows from the deadline and the clock.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from firecurtain.agent.core import effects, machine
from firecurtain.agent.core.clocks import ClockSample, Pair
from firecurtain.agent.core.freshness import ANSWER_LIFE_NS
from firecurtain.agent.core.state import AgentState, Identity, ReleaseFacts
from firecurtain.permit.page import Grant
from firecurtain.wire.messages import Answer, Attest, Beacon, Running, StopEntry
from support.drawn import MAX_AGE_NS, MS, PERIOD_NS, Network, S, Schedule
from support.world import (
    ARTIFACT,
    FLEET,
    LIMITS,
    NODE,
    OTHER_TOKEN,
    RELEASE,
    SCOPE_TEXTS,
    SERVICE,
    STOP_ID,
    TOKEN,
    Clock,
    Flaws,
    Issuer,
)

TICK_NS = 50 * MS
EXCHANGE_NS = S
SETTLED_NS = 3 * S  # from here on a day without faults has a permit
FACTS = ReleaseFacts(RELEASE, 1, SERVICE, ARTIFACT, LIMITS, (TOKEN, OTHER_TOKEN))
RUNNING = Running(100, 1, ARTIFACT, 0)


@dataclass
class Outcome:
    """What was seen. `ratio` is (last action in scope - kappa) / d; a paused host counts from its resume."""

    schedule: Schedule
    last_action_ns: int = -1
    closed_ns: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Negative when nothing in scope happened after kappa. Exact enough: the bound is judged on integers."""
        return (self.last_action_ns - self.origin_ns) / MAX_AGE_NS

    @property
    def origin_ns(self) -> int:
        kappa_ns = self.schedule.kappa_ns or 0
        return max([kappa_ns, *(end for _, end in self.schedule.pauses)])

    def judge(self) -> None:
        """The invariant of the whole project."""
        if self.schedule.kappa_ns is not None and self.last_action_ns >= self.origin_ns + MAX_AGE_NS:
            self.broken.append(f"acted {self.ratio:.4f} d after the stop was durable")


def play(schedule: Schedule, core: ModuleType = machine, flaws: Flaws = Flaws()) -> Outcome:  # noqa: B008 - a frozen value
    """Run the schedule to its end."""
    simulator = Simulator(schedule, core, flaws)
    simulator.run()
    simulator.outcome.judge()
    return simulator.outcome


class Simulator:
    """One agent, its issuers and the network between them."""

    def __init__(self, schedule: Schedule, core: ModuleType, flaws: Flaws) -> None:
        self.schedule, self.core, self.random = schedule, core, schedule.random
        self.outcome = Outcome(schedule)
        self.clock = Clock(schedule.local_offset_ns, schedule.local_rate_ppb, schedule.pauses)
        self.stop = StopEntry(STOP_ID, "halt", SCOPE_TEXTS[schedule.scope], "drawn")
        self.lifted = StopEntry(bytes([8]) * 16, "halt", f"service:{SERVICE}", "lifted later")
        self.issuers = [
            Issuer(index, plan, flaws, schedule.cover_lifted_ns) for index, plan in enumerate(schedule.issuers)
        ]
        self.queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self.serial = itertools.count()
        self.page: tuple[int, bool] = (0, False)  # deadline, is the grant in scope of the stop
        self.page_since_ns = 0
        self.disk_stops: list[StopEntry] = []
        self.disk_lifts: list[bytes] = []
        self.life = 0
        self.acknowledged_ns: int | None = None
        self.old_answers: list[tuple[bytes, Answer]] = []
        self.state: AgentState | None = None

    # ---- the run

    def run(self) -> None:
        """Set everything going and take events in order of real time."""
        self._latch_at_issuers()
        for issuer in self.issuers:
            self._at(issuer.plan.phase_ns, self._beat, issuer)
        self._at(0, self._start_agent)
        for down_ns, up_ns in self.schedule.crashes:
            self._at(down_ns, self._kill_agent)
            self._at(up_ns, self._start_agent)
        for index, when_ns in enumerate(self.schedule.lifted_stop_ns):
            self._at(when_ns, self._deliver_stop if index % 2 else self._deliver_lift, self.lifted)
        if self.schedule.cover_lifted_ns is not None:
            for issuer in self.issuers:
                cover = issuer.find_cover(self.schedule.cover_lifted_ns - 1)
                when_ns = self.schedule.cover_lifted_ns + self.random.randrange(PERIOD_NS)
                self._at(when_ns, self._deliver_lift, cover)
        if self.schedule.stop_delivered and self.schedule.kappa_ns is not None:
            for _ in range(2):  # an answerless cast may be repeated
                self._at(self.schedule.kappa_ns + self.random.randrange(2 * S), self._deliver_stop, self.stop)
        if self.schedule.forged:
            self._forge()
        while self.queue and self.queue[0][0] <= self.schedule.end_ns:
            now_ns, _, action, arguments = heapq.heappop(self.queue)
            action(now_ns, *arguments)
        self._account(self.schedule.end_ns)
        self._judge_sets()

    def _at(self, real_ns: int, action: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self.queue, (real_ns, next(self.serial), action, arguments))

    def _latch_at_issuers(self) -> None:
        for issuer in self.issuers:
            if issuer.plan.latched_ns is not None:
                issuer.stops.append((issuer.plan.latched_ns, self.stop))
                if self.schedule.other_stop_ns is not None:
                    other = StopEntry(bytes([7]) * 16, "halt", "node:host-2", "not ours")
                    issuer.stops.append((self.schedule.other_stop_ns, other))

    # ---- the network

    def _beat(self, now_ns: int, issuer: Issuer) -> None:
        """Sign and cast one beacon, and come back one period later."""
        self._at(now_ns + PERIOD_NS, self._beat, issuer)
        if not issuer.is_up(now_ns):
            return
        beacon = issuer.sign_beacon(now_ns)
        tells_stop = any(entry.id == STOP_ID or entry.reason == "widened" for entry in beacon.stops)
        is_hidden = tells_stop and self.random.random() < self.schedule.hides_stop
        if not is_hidden:
            self._send(now_ns, self.schedule.beacons, self._deliver_beacon, issuer.keyid, beacon)

    def _send(self, now_ns: int, network: Network, deliver: Callable[..., None], *arguments: Any) -> None:
        draw = self.random
        if draw.random() < network.lost:
            return
        for _ in range(1 + (draw.random() < network.repeated)):
            held_ns = draw.randrange(network.held_ns_max) if draw.random() < network.held else 0
            arrival_ns = now_ns + held_ns + draw.randrange(network.delay_ns_max)
            self._at(self.clock.wake(arrival_ns), deliver, *arguments)

    def _forge(self) -> None:
        """Beacons of an unknown key, and genuine ones of another clock of the right key, all without the stop."""
        for number in range(30):
            now_ns = self.random.randrange(S, self.schedule.end_ns)
            issuer = self.random.choice(self.issuers)
            genuine = issuer.sign_beacon(min(now_ns, (self.schedule.kappa_ns or now_ns) - 1))
            shifted_ns = genuine.signed_ns + self.random.randrange(2 * S)
            if number % 2:
                forged = machine.replace(genuine, signed_ns=shifted_ns)
                self._at(self.clock.wake(now_ns), self._deliver_beacon, b"unknown!", forged)
            elif not genuine.stops:
                forged = machine.replace(genuine, signed_ns=shifted_ns, clock_id=b"another clock id")
                self._at(self.clock.wake(now_ns), self._deliver_beacon, issuer.keyid, forged)

    def _exchange(self, now_ns: int, issuer: Issuer, attest: Attest) -> None:
        """The attest travels, the issuer answers, the answer travels; an old answer may come in its place."""
        if not issuer.is_up(now_ns) or attest.running is None:
            return
        answer = issuer.answer(attest, now_ns)
        self.old_answers.append((issuer.keyid, answer))
        if self.schedule.answers.repeated and self.random.random() < 0.3:
            self._send(now_ns, Network(), self._deliver_answer, *self.random.choice(self.old_answers))
        self._send(now_ns, self.schedule.answers, self._deliver_answer, issuer.keyid, answer)

    # ---- the agent's shell

    def _start_agent(self, now_ns: int) -> None:
        self.life += 1
        session = self.life.to_bytes(16, "big")
        keyids = tuple(issuer.keyid for issuer in self.issuers)
        identity = Identity(FLEET, SERVICE, NODE, session, keyids, MAX_AGE_NS)
        self._carry_out(now_ns, self.core.begin(identity, tuple(self.disk_stops), tuple(self.disk_lifts)))
        local_ns = self.clock.read(now_ns)
        self._carry_out(now_ns, self.core.on_release(self.state, FACTS, local_ns))
        self._carry_out(now_ns, self.core.on_running(self.state, RUNNING, "", local_ns))
        self._at(now_ns + TICK_NS, self._tick, self.life)
        self._at(now_ns, self._ask_all, self.life)

    def _kill_agent(self, now_ns: int) -> None:
        """The page stays as it is: nobody is left to close it."""
        self._account(now_ns)
        self.life += 1
        self.state = None

    def _tick(self, now_ns: int, life: int) -> None:
        if life != self.life:
            return
        self._at(self.clock.wake(now_ns + TICK_NS), self._tick, life)
        local_ns = self.clock.read(now_ns)
        pair = Pair(local_ns, local_ns, local_ns)
        wall_ns = local_ns - self.schedule.local_offset_ns + self.schedule.wall_offset_ns
        wall = Pair(local_ns, wall_ns, local_ns)
        self._carry_out(now_ns, self.core.on_tick(self.state, ClockSample(local_ns, b"boot", pair, pair, wall)))

    def _ask_all(self, now_ns: int, life: int) -> None:
        if life == self.life:
            self._at(self.clock.wake(now_ns + EXCHANGE_NS), self._ask_all, life)
            self._ask(now_ns)

    def _ask(self, now_ns: int) -> None:
        """One attest exchange per issuer; t0 is read before anything is signed."""
        for issuer in self.issuers:
            nonce = self.random.getrandbits(128).to_bytes(16, "big")
            state, (send, *_) = self.core.begin_attest(self.state, self.clock.read(now_ns), nonce)
            self.state = state
            self._judge_latched(now_ns, send.attest)
            way_ns = self.random.randrange(self.schedule.answers.delay_ns_max)
            self._at(now_ns + way_ns, self._exchange, issuer, send.attest)

    def _deliver_beacon(self, now_ns: int, keyid: bytes, beacon: Beacon) -> None:
        if self.state is not None:
            self._carry_out(now_ns, self.core.on_beacon(self.state, keyid, beacon, self.clock.read(now_ns)))

    def _deliver_answer(self, now_ns: int, keyid: bytes, answer: Answer) -> None:
        if self.state is not None:
            self._carry_out(now_ns, self.core.on_answer(self.state, keyid, answer, self.clock.read(now_ns)))

    def _deliver_stop(self, now_ns: int, entry: StopEntry) -> None:
        if self.state is not None:
            self._carry_out(now_ns, self.core.on_stop(self.state, entry, self.clock.read(now_ns)))

    def _deliver_lift(self, now_ns: int, entry: StopEntry) -> None:
        if self.state is not None:
            self._carry_out(now_ns, self.core.on_lift(self.state, (entry.id,), self.clock.read(now_ns)))

    def _carry_out(self, now_ns: int, step: tuple[AgentState, tuple[effects.Effect, ...]]) -> None:
        self.state, todo = step
        asks = False
        for effect in todo:
            match effect:
                case effects.ClosePage():
                    self._turn_page(now_ns, 0, None)
                case effects.WriteGrant(grant, deadline_ns):
                    self._turn_page(now_ns, deadline_ns, grant)
                case effects.Renew(deadline_ns):
                    self._turn_page(now_ns, deadline_ns, None)
                case effects.LatchStops(entries):
                    if self._is_torn(now_ns):
                        return self._kill_agent(now_ns)
                    self.disk_stops.extend(entries)
                case effects.LatchLifts(stop_ids):
                    self.disk_lifts.extend(stop_ids)
                case effects.Acknowledge(stop_ids):
                    self.state = self.core.on_latched(self.state, stop_ids)
                    self._ask(now_ns)
                case effects.Challenge():
                    asks = True
        if asks:
            self._ask(now_ns)
        return None

    def _is_torn(self, now_ns: int) -> bool:
        """Whether the agent is killed in the middle of this fsync: nothing of it is on the disk."""
        downs = self.schedule.crashes
        return self.schedule.tears_latch and any(down_ns <= now_ns + S and now_ns < down_ns for down_ns, _ in downs)

    # ---- what a guard does, and what must hold

    def _turn_page(self, now_ns: int, deadline_ns: int, grant: Grant | None) -> None:
        self._account(now_ns)
        in_scope = self.page[1]
        if grant is not None:
            in_scope = self.schedule.scope != "token" or TOKEN in grant.armed
        self.page = (deadline_ns, in_scope)

    def _account(self, until_ns: int) -> None:
        """The last moment before `until_ns` at which a guard that looks at the present page would act."""
        since_ns, (deadline_ns, in_scope) = self.page_since_ns, self.page
        self.page_since_ns = until_ns
        end_ns = min(until_ns, self.clock.reach(deadline_ns)) if deadline_ns else since_ns
        self.outcome.closed_ns += max(0, until_ns - max(since_ns, end_ns, SETTLED_NS))
        last_ns = end_ns - 1
        if last_ns < since_ns or deadline_ns - self.clock.read(last_ns) > MAX_AGE_NS or not in_scope:
            return
        self.outcome.last_action_ns = max(self.outcome.last_action_ns, last_ns)
        if self.acknowledged_ns is not None and last_ns > self.acknowledged_ns:
            self.outcome.broken.append(f"acted at {last_ns}, after acknowledging the stop at {self.acknowledged_ns}")

    def _judge_latched(self, now_ns: int, attest: Attest) -> None:
        """What an attest acknowledges must be on the disk at that moment."""
        durable = {entry.id for entry in self.disk_stops}
        if not durable.issuperset(attest.latched):
            self.outcome.broken.append("acknowledged a stop that is not on the disk")
        if self.acknowledged_ns is None and self.stop.id in attest.latched:
            self._account(now_ns)
            self.acknowledged_ns = now_ns

    def _judge_sets(self) -> None:
        """In force is exactly what is on the disk and not lifted there, in whatever order it came."""
        if self.state is None:
            return
        expected = {entry.scope for entry in self.disk_stops if entry.id not in self.disk_lifts}
        if set(self.state.sets.in_force) != expected:
            self.outcome.broken.append(f"in force {sorted(self.state.sets.in_force)}, expected {sorted(expected)}")


def compute_hidden_pause_bound_ns(schedule: Schedule) -> int:
    """How late an action can be when a network hides a pause: an answer's life and d of local time after the resume."""
    resume_ns = max(end for _, end in schedule.pauses)
    local_ns = ANSWER_LIFE_NS + MAX_AGE_NS
    return resume_ns + local_ns * 1_000_000 // 999_000 + 1
