# SPDX-License-Identifier: Apache-2.0
"""One command judged against the fleet: events to append, or a typed refusal. It never acts.

This module only finds the rule; the rules stand by topic in `roster`, `releases`, `stages`, `lifts` and `stops`. The
shell calls it inside its turn loop with one reading of the clocks and the attestations as they are.
"""

from __future__ import annotations

from firecurtain.domain.commands import (
    Arm,
    Command,
    Exclude,
    FoundFleet,
    OpenSession,
    OpenStage,
    RecordStop,
    Request,
)
from firecurtain.domain.events import Event, FleetFounded
from firecurtain.domain.lifts import decide_lift
from firecurtain.domain.refusals import AlreadyFounded, DocumentRefused, NotFounded, NotOperator, refusing_documents
from firecurtain.domain.releases import decide_approve, decide_propose
from firecurtain.domain.roster import decide_enrol, decide_exclude, decide_exclude_request, decide_open_session
from firecurtain.domain.stages import decide_arm, decide_open_stage
from firecurtain.domain.state import Fleet, Instant, Live
from firecurtain.domain.stops import decide_record_stop
from firecurtain.trust.verify import verify_root
from firecurtain.wire.commands import ApproveRelease, EnrolNode, ExcludeNode, LiftStops, ProposeRelease, Status
from firecurtain.wire.keys import compute_keyid


def decide(state: Fleet, command: Command, now: Instant, live: Live) -> tuple[Event, ...]:
    """The events that carry out `command`; none when the ledger says so already and nothing is wrong with that.

    Raises: Refusal: one of `refusals`, with both values and what to do.
    """
    if isinstance(command, FoundFleet):
        return _decide_found(state, command)
    if state.seq == 0:
        raise NotFounded("the ledger is empty: no fleet is founded. Do: `firecurtain init`, then `firecurtain up`.")
    match command:
        case Request():
            return _decide_request(state, command, now)
        case RecordStop():
            return decide_record_stop(state, command, now)
        case OpenSession():
            return decide_open_session(state, command, now, live)
        case OpenStage():
            return decide_open_stage(state, command, now, live)
        case Arm():
            return decide_arm(state, command, now, live)
        case Exclude():
            return decide_exclude(state, command)


def _decide_found(state: Fleet, command: FoundFleet) -> tuple[Event, ...]:
    if state.seq:
        raise AlreadyFounded(f"this ledger belongs to fleet {state.fleet} at seq {state.seq}, not to {command.fleet}.")
    with refusing_documents():
        root = verify_root(command.root)
    if root.fleet != command.fleet:
        raise DocumentRefused(f"the root is for fleet {root.fleet}, the configuration says {command.fleet}. Fix one.")
    return (FleetFounded(command.fleet, command.epoch, command.root),)


def _decide_request(state: Fleet, command: Request, now: Instant) -> tuple[Event, ...]:
    _check_operator(state, command)
    match command.body:
        case EnrolNode() as body:
            return decide_enrol(state, body, command.by)
        case ExcludeNode() as body:
            return decide_exclude_request(state, body)
        case ProposeRelease() as body:
            return decide_propose(state, body, now)
        case ApproveRelease() as body:
            return decide_approve(state, body, now)
        case LiftStops() as body:
            return decide_lift(state, body, now)
        case Status():
            return ()  # a question; the shell answers it from the state


def _check_operator(state: Fleet, command: Request) -> None:
    operators = {compute_keyid(bytes.fromhex(key)) for key in state.root.operators}
    if command.by not in operators:
        raise NotOperator(
            f"key {command.by.hex()} is not one of the {len(operators)} operators of root version "
            f"{state.root.version}. Do: use an operator's key, or have the root signed anew."
        )
