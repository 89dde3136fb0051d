# SPDX-License-Identifier: Apache-2.0
"""Opening a stage and arming: the two grants of a rollout, each judged on the whole state.

Opening a stage calls its nodes: from then on they run this release or nothing. Tokens are armed behind the gate of the
last stage, because arming fences every release that does not declare them. When to ask is `rollout`.
Source: 03-protocol, "Gate and arming".
"""

from __future__ import annotations

from firecurtain.domain.binding import check_fences, check_may_run
from firecurtain.domain.commands import Arm, OpenStage
from firecurtain.domain.content import check_entries_fit
from firecurtain.domain.events import Armed, Event, StageOpened
from firecurtain.domain.evolve import evolve
from firecurtain.domain.gate import check_gate, compute_gate, find_newest_open
from firecurtain.domain.refusals import (
    Duplicate,
    NothingToArm,
    ReleaseIncomplete,
    StageOutOfOrder,
    StopInForce,
    Superseded,
    UnknownStage,
)
from firecurtain.domain.releases import find_release
from firecurtain.domain.state import Fleet, Instant, Live, ReleaseRecord
from firecurtain.domain.stops import check_bound, in_force
from firecurtain.terms import short
from firecurtain.trust.verify import compute_approvals_needed


def decide_open_stage(state: Fleet, command: OpenStage, now: Instant, live: Live) -> tuple[Event, ...]:
    """Call a stage's nodes to a release, behind the gate of the stages before it.

    Raises: UnknownRelease, ReleaseIncomplete, StopInForce, Superseded, UnknownStage, Duplicate, StageOutOfOrder,
    GateClosed, ArmedFlagNotDeclared, DisarmNotWaited, EntryBound, LedgerBound.
    """
    record = _find_grantable(state, command.release)
    _check_order(record, command.stage)
    if record.stages:
        check_gate(record, compute_gate(state, record, now, live), live)
    check_may_run(state, record, now)
    opened = StageOpened(command.release, command.stage)
    check_entries_fit(evolve(state, opened), record.document.service)
    return (opened,)


def decide_arm(state: Fleet, command: Arm, now: Instant, live: Live) -> tuple[Event, ...]:
    """Arm a release's tokens: every stage open, the gate passed, every other release fenced and waited out.

    Raises: UnknownRelease, ReleaseIncomplete, StopInForce, Superseded, NothingToArm, StageOutOfOrder, GateClosed,
    MinNodes, ArmedFlagNotDeclared, DisarmNotWaited, FenceMissing, FenceNotWaited, LedgerBound.
    """
    record = _find_grantable(state, command.release)
    _check_something_to_arm(record)
    _check_not_disarmed(state, record)
    check_gate(record, compute_gate(state, record, now, live), live)
    check_may_run(state, record, now)
    check_fences(state, record, now)
    return (Armed(command.release, record.document.arms, now.utc_ms),)


def _find_grantable(state: Fleet, release: str) -> ReleaseRecord:
    """A complete release that nothing stops and no newer one replaced."""
    check_bound(state)
    record = find_release(state, release)
    if not record.complete:
        needed = compute_approvals_needed(record.document, state.root)
        raise ReleaseIncomplete(
            f"release {short(release)} lacks approvals: {needed} distinct approvers are needed. "
            f"Do: `firecurtain release approve {release}`."
        )
    for stop in in_force(state):
        if stop.scope == f"release:{release}":
            raise StopInForce(
                f"{stop.kind} {stop.id.hex()} ({stop.reason}) covers release {short(release)}. "
                "Do: lift it with k of n, or sign a new release of the same artifact."
            )
    newest = find_newest_open(state, record.document.service)
    if newest is not None and newest.document.version > record.document.version:
        raise Superseded(
            f"release {short(release)} has version {record.document.version}, version {newest.document.version} has "
            "called the nodes. Do: sign it again with a higher version; going back is a new release too."
        )
    return record


def _check_order(record: ReleaseRecord, stage: str) -> None:
    """Raises: UnknownStage, Duplicate, StageOutOfOrder."""
    names = [each.name for each in record.document.stages]
    if stage not in names:
        raise UnknownStage(f"release {short(record.release)} has the stages {', '.join(names)}, not {stage}.")
    if stage in record.stages:
        raise Duplicate(f"stage {stage} of release {short(record.release)} is open already. Nothing to do.")
    following = names[len(record.stages)]
    if stage != following:
        raise StageOutOfOrder(f"stage {stage} of release {short(record.release)} comes later, {following} is next.")


def _check_something_to_arm(record: ReleaseRecord) -> None:
    """Raises: StageOutOfOrder, NothingToArm."""
    unopened = [stage.name for stage in record.document.stages if stage.name not in record.stages]
    if unopened:
        raise StageOutOfOrder(
            f"release {short(record.release)} arms behind the gate of its last stage; not open yet: "
            f"{', '.join(unopened)}. Do: nothing; the rollout goes on by itself."
        )
    if record.armed == record.document.arms:
        raise NothingToArm(
            f"release {short(record.release)} arms {len(record.document.arms)} tokens, {len(record.armed)} are armed. "
            "Nothing to do."
        )


def _check_not_disarmed(state: Fleet, record: ReleaseRecord) -> None:
    """Raises: StopInForce."""
    for stop in in_force(state):
        for token in record.document.arms:
            if stop.scope == f"token:{token}":
                raise StopInForce(
                    f"{stop.kind} {stop.id.hex()} ({stop.reason}) covers flag {token}, which release "
                    f"{short(record.release)} arms. Do: lift it with k of n (`firecurtain resume`)."
                )
