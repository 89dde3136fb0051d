# SPDX-License-Identifier: Apache-2.0
"""Every order of events in a small fleet, over the real `decide` and `evolve`: does a flag ever wake the old code?

Breadth first, so that a counter-example is the shortest one. Control is made as credulous as it can be: it sees one
node that attests the new release and believes every other node to have vanished, while these go on hearing beacons.
What a node may hold is kept as a set: everything it could have heard since the last full wait, because any beacon may
have been its last. Time passes in full waits only. Not modelled: limits, sessions, more than one service.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

from firecurtain.domain import decide as decide_module
from firecurtain.domain.commands import Arm, Command, Exclude, OpenStage, RecordStop, Request
from firecurtain.domain.content import compute_allowed
from firecurtain.domain.evolve import evolve
from firecurtain.domain.state import Fleet, Instant, Live, Presence
from firecurtain.domain.stops import compute_age_ns, in_force
from firecurtain.domain.waits import compute_stop_wait_ns
from firecurtain.terms import NS_PER_S, Refusal
from firecurtain.trust.envelope import LIFT_TYPE
from firecurtain.trust.lift import make_lift
from firecurtain.trust.release import Stage
from firecurtain.trust.sign import sign_envelope
from firecurtain.wire.commands import EnrolNode, LiftStops
from firecurtain.wire.messages import AllowedRelease, StopEntry
from support.fleet_world import (
    FLEET_NAME,
    SERVICE,
    World,
    make_artifact,
    make_id,
    make_signer,
    make_token,
)

FLAG = make_token(0x2012)
STOPS_PER_SCOPE_MAX = 1  # two make 162,254 situations and a hundred seconds; they were searched once, without a find
OLD, NEW = make_artifact("old"), make_artifact("new")

# Processes that may act: the name each attests under. The last one is a copy of the first, made from an old image.
PROCESSES = ("good", "straggler", "newcomer", "good")

Permit = tuple[str, tuple[str, ...]]  # release, armed tokens


class Moment(msgspec.Struct, frozen=True):
    """One reachable situation; `held` is what each process may hold, `codes` the artifact it runs."""

    fleet: Fleet
    issuer_ns: int
    codes: tuple[str, ...]
    held: tuple[frozenset[Permit], ...]


class Search:
    """A fleet whose old release runs, whose new one arms a flag, and whose third goes back to the old artifact."""

    def __init__(self) -> None:
        world = World(nodes=0)
        for node in ("good", "straggler"):
            world.enrol(node)
        self.first = world.release(1, "old")
        world.do(OpenStage(self.first, "all"))
        # It calls one node only, so that the old release stays what the others may run until it is fenced.
        self.second = world.release(2, "new", tokens=(FLAG,), arms=(FLAG,), stages=(Stage("one", ("good",)),))
        self.third = world.release(3, "old")
        self.wait_ns = compute_stop_wait_ns(world.state.root)
        self.begin = self._hear(
            Moment(world.state, world.now.issuer_ns + 3600 * NS_PER_S, (NEW, OLD, OLD, OLD), (frozenset(),) * 4)
        )
        self.now = world.now

    def run(self) -> tuple[list[str] | None, int]:
        """The shortest way into a bad situation, or None when there is none; and how many situations were seen."""
        came_from: dict[object, tuple[object, str] | None] = {self._compute_key(self.begin): None}
        waiting = deque([self.begin])
        while waiting:
            moment = waiting.popleft()
            key = self._compute_key(moment)
            if self._is_bad(moment):
                return _trace(came_from, key), len(came_from)
            for name, following in self._find_following(moment):
                following_key = self._compute_key(following)
                if following_key not in came_from:
                    came_from[following_key] = (key, name)
                    waiting.append(following)
        return None, len(came_from)

    def _is_bad(self, moment: Moment) -> bool:
        """Whether one process may act with a flag armed while another runs a release that does not declare it."""
        permits = [(place, permit) for place, held in enumerate(moment.held) for permit in held]
        for place, (_, armed) in permits:
            for other, (release, _) in permits:
                declared = moment.fleet.releases[release].document.tokens
                if place != other and any(token not in declared for token in armed):
                    return True
        return False

    def _find_following(self, moment: Moment) -> Iterator[tuple[str, Moment]]:
        yield "everything waits", self._pass_time(moment)
        for release, stage, name in ((self.second, "one", "new"), (self.third, "all", "rollback")):
            yield from self._try(moment, f"open {name}", OpenStage(release, stage))
            yield from self._try(moment, f"arm {name}", Arm(release))
        for scope in (f"release:{self.first}", f"token:{FLAG}", "node:straggler"):
            yield from self._try_stop(moment, scope)
        for stop in in_force(moment.fleet):
            yield from self._try(moment, f"lift {stop.scope}", self._ask(_make_lift(stop.id)))
        for node in ("straggler", "newcomer"):
            enrol = EnrolNode(node, SERVICE, make_signer(node).public)
            yield from self._try(moment, f"enrol {node}", self._ask(enrol))
        if moment.codes[0] == NEW:
            restored = msgspec.structs.replace(
                moment, codes=(OLD, *moment.codes[1:]), held=(frozenset(), *moment.held[1:])
            )
            yield "good is restored from an old image", self._hear(restored)

    def _try(self, moment: Moment, name: str, command: Command) -> Iterator[tuple[str, Moment]]:
        live: Live = {"good": Presence(b"", 1, NEW, 0, moment.issuer_ns, None)}
        try:
            events = decide_module.decide(moment.fleet, command, self._read_instant(moment), live)
        except Refusal:
            return
        fleet = functools.reduce(evolve, events, moment.fleet)
        yield name, self._hear(msgspec.structs.replace(moment, fleet=fleet))

    def _try_stop(self, moment: Moment, scope: str) -> Iterator[tuple[str, Moment]]:
        given = [stop for stop in moment.fleet.stops.values() if stop.scope == scope]
        if len(given) >= STOPS_PER_SCOPE_MAX or any(not stop.lifted for stop in given):
            return
        entry = StopEntry(make_id(f"{scope} {len(given)}"), "halt", scope, "")
        record = RecordStop(entry, b"", self.now.clock_id, moment.issuer_ns)
        for name, following in self._try(moment, f"stop {scope}", record):
            yield name, following
            if scope.startswith("node:"):
                exclude = Exclude(scope.removeprefix("node:"), entry.id, b"")
                yield from self._try(following, f"exclude {scope}", exclude)

    def _ask(self, body: EnrolNode | LiftStops) -> Request:
        return Request(make_signer("operator").keyid, body)

    def _pass_time(self, moment: Moment) -> Moment:
        later = msgspec.structs.replace(
            moment, issuer_ns=moment.issuer_ns + self.wait_ns, held=(frozenset(),) * len(PROCESSES)
        )
        return self._hear(later)

    def _read_instant(self, moment: Moment) -> Instant:
        return msgspec.structs.replace(self.now, issuer_ns=moment.issuer_ns)

    def _hear(self, moment: Moment) -> Moment:
        """Let every enrolled process hear a beacon of this moment, in addition to what it heard before."""
        entries = compute_allowed(moment.fleet, SERVICE)
        stopped = {stop.scope for stop in in_force(moment.fleet)}
        held = tuple(
            before | self._find_permit(moment.fleet, name, code, entries, stopped)
            for name, code, before in zip(PROCESSES, moment.codes, moment.held, strict=True)
        )
        return msgspec.structs.replace(moment, held=held)

    def _find_permit(
        self, fleet: Fleet, name: str, code: str, entries: Iterable[AllowedRelease], stopped: set[str]
    ) -> frozenset[Permit]:
        """What an agent of this name, running this code, makes of a beacon."""
        if name not in fleet.nodes:
            return frozenset()
        for entry in entries:
            is_stopped = {f"node:{name}", f"release:{entry.release}"} & stopped
            if entry.artifact == code and (not entry.nodes or name in entry.nodes) and not is_stopped:
                armed = tuple(token for token in entry.armed if f"token:{token}" not in stopped)
                return frozenset({(entry.release, armed)})
        return frozenset()

    def _compute_key(self, moment: Moment) -> object:
        """What tells two situations apart; times only as `has run out` or not."""
        fleet, now = moment.fleet, self._read_instant(moment)
        stops = sorted(
            (stop.scope, stop.lifted, compute_age_ns(stop, now) >= self.wait_ns) for stop in fleet.stops.values()
        )
        releases = tuple((record.stages, record.armed) for record in fleet.releases.values())
        nodes = tuple((node.name, node.excluded_by is None) for node in fleet.nodes.values())
        return (moment.codes, moment.held, tuple(stops), releases, nodes)


@functools.cache
def _make_lift(stop_id: bytes) -> LiftStops:
    payload = make_lift(FLEET_NAME, (stop_id,), "checked", make_id("statement"))
    return LiftStops(sign_envelope(payload, LIFT_TYPE, [make_signer("ann"), make_signer("bob")]))


def _trace(came_from: dict[object, tuple[object, str] | None], key: object) -> list[str]:
    names: list[str] = []
    while (step := came_from[key]) is not None:
        key, name = step
        names.append(name)
    return names[::-1]
