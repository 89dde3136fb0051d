# SPDX-License-Identifier: Apache-2.0
"""One event applied to the fleet. Total: it knows every event, refuses none, and counts each in `seq`.

The ledger is what happened; whether it should have happened was asked in `decide`. A mapping is replaced, never changed
in place. H and L only grow here: no branch removes an id from either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from firecurtain.domain.events import (
    Armed,
    CommandRefused,
    Event,
    FleetFounded,
    NodeEnrolled,
    NodeExcluded,
    ReleaseApproved,
    ReleaseProposed,
    SessionOpened,
    StageOpened,
    StopRecorded,
    StopsLifted,
)
from firecurtain.domain.state import Fleet, Node, ReleaseRecord, StopRecord
from firecurtain.domain.stops import widen_scope
from firecurtain.terms import Scope
from firecurtain.trust.envelope import LIFT_TYPE, RELEASE_TYPE, EnvelopeError, read_envelope
from firecurtain.trust.release import decode_release
from firecurtain.trust.root import Root
from firecurtain.trust.verify import verify_root

# Before the first event nothing is decided, so these keys, of which nobody has the private half, are never asked.
_NOBODY = Root(
    fleet="unfounded",
    version=1,
    issuers=("11" * 32,),
    stop_keys=("22" * 32,),
    operators=("22" * 32,),
    approvers=("22" * 32,),
    approve_threshold=1,
    lift_threshold=1,
    authors=("22" * 32,),
)


def initial() -> Fleet:
    """The fleet before its first event: no key may do anything."""
    return Fleet(fleet="", epoch=0, root=_NOBODY, seq=0, nodes={}, releases={}, stops={}, lifts=(), content_seq={})


def evolve(state: Fleet, event: Event) -> Fleet:
    """The fleet after one more event."""
    state = replace(state, seq=state.seq + 1)
    match event:
        case FleetFounded():
            return replace(state, fleet=event.fleet, epoch=event.epoch, root=verify_root(event.root))
        case NodeEnrolled():
            return _enrol(state, event)
        case SessionOpened():
            return _replace_node(state, event.node, session=event.session)
        case NodeExcluded():
            return _exclude(state, event)
        case ReleaseProposed():
            return _propose(state, event)
        case ReleaseApproved():
            return _replace_release(state, event.release, envelope=event.envelope, complete=event.complete)
        case StageOpened():
            return _open_stage(state, event)
        case Armed():
            state = _replace_release(state, event.release, armed=event.tokens)
            return _touch(state, Scope("release", event.release))
        case StopRecorded():
            return _record_stop(state, event)
        case StopsLifted():
            return _lift(state, event)
        case CommandRefused():
            return state


def is_taken_back(state: Fleet, stop_id: bytes) -> bool:
    """Whether a release is all that lifts this id. A node that knows a halt by the same id does not take that."""
    return stop_id in state.lifted and _holds(state.lifts[state.lifted[stop_id]], RELEASE_TYPE)


def _holds(envelope: bytes, payload_type: str) -> bool:
    try:
        read_envelope(envelope, payload_type)
    except EnvelopeError:
        return False
    return True


def _enrol(state: Fleet, event: NodeEnrolled) -> Fleet:
    # The session outlives an exclusion: its last grant must run out before another one is answered.
    known = state.nodes.get(event.node)
    node = Node(event.node, event.service, event.public_key, session=known.session if known else None)
    return _touch_services(replace(state, nodes={**state.nodes, event.node: node}), (event.service,))


def _exclude(state: Fleet, event: NodeExcluded) -> Fleet:
    return _touch(_replace_node(state, event.node, excluded_by=event.stop), Scope("node", event.node))


def _propose(state: Fleet, event: ReleaseProposed) -> Fleet:
    payload, _ = read_envelope(event.envelope, RELEASE_TYPE)
    record = ReleaseRecord(event.release, decode_release(payload), event.envelope)
    return replace(state, releases={**state.releases, event.release: record})


def _open_stage(state: Fleet, event: StageOpened) -> Fleet:
    record = state.releases.get(event.release)
    if record is None:
        return state
    state = _replace_release(state, event.release, stages=(*record.stages, event.stage))
    return _touch(state, Scope("release", event.release))


def _record_stop(state: Fleet, event: StopRecorded) -> Fleet:
    if event.id in state.stops:
        return state
    stop = StopRecord(
        id=event.id,
        kind=event.kind,
        scope=event.scope,
        reason=event.reason,
        author=event.author,
        clock_id=event.clock_id,
        durable_ns=event.durable_ns,
        seq=state.seq,
        lifted=event.id in state.lifted,
    )
    state = replace(state, stops={**state.stops, event.id: stop})
    scope = widen_scope(event.scope)
    return _touch(_disarm(state, scope.name) if scope.kind == "token" else state, scope)


def _disarm(state: Fleet, token: str) -> Fleet:
    """Take the token out of every armed set; after a lift it needs `Armed` again."""
    releases = {
        name: replace(record, armed=tuple(armed for armed in record.armed if armed != token))
        for name, record in state.releases.items()
    }
    return replace(state, releases=releases)


def _lift(state: Fleet, event: StopsLifted) -> Fleet:
    """Add to L. An id may come before its stop does: in force = H \\ L in whatever order."""
    place = len(state.lifts)
    # The first proof stays, but a lift covers every stop that nodes hold under its ids and a release only fences.
    better = [known for known in event.ids if is_taken_back(state, known) and _holds(event.envelope, LIFT_TYPE)]
    lifted = {**dict.fromkeys(event.ids, place), **state.lifted, **dict.fromkeys(better, place)}
    stops = {stop_id: replace(stop, lifted=stop_id in lifted) for stop_id, stop in state.stops.items()}
    state = replace(state, lifts=(*state.lifts, event.envelope), lifted=lifted, stops=stops)
    for stop_id in event.ids:
        if stop_id in stops:
            state = _touch(state, widen_scope(stops[stop_id].scope))
    return state


def _replace_node(state: Fleet, name: str, **changes: object) -> Fleet:
    node = state.nodes.get(name)
    return state if node is None else replace(state, nodes={**state.nodes, name: replace(node, **changes)})


def _replace_release(state: Fleet, name: str, **changes: object) -> Fleet:
    record = state.releases.get(name)
    return state if record is None else replace(state, releases={**state.releases, name: replace(record, **changes)})


def _touch(state: Fleet, scope: Scope) -> Fleet:
    """Name this event as the last one that changed the grants of every service the scope reaches."""
    if scope.kind == "service":
        return _touch_services(state, (scope.name,) if scope.name in state.content_seq else ())
    if scope.kind == "node":
        node = state.nodes.get(scope.name)
        return _touch_services(state, (node.service,) if node else ())
    if scope.kind == "release":
        record = state.releases.get(scope.name)
        return _touch_services(state, (record.document.service,) if record else ())
    return _touch_services(state, state.content_seq)


def _touch_services(state: Fleet, services: Iterable[str]) -> Fleet:
    touched: Mapping[str, int] = dict.fromkeys(services, state.seq)
    return replace(state, content_seq={**state.content_seq, **touched})
