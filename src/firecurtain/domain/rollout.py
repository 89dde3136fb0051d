# SPDX-License-Identifier: Apache-2.0
"""What the control plane does by itself once k of n approved: open stages, take out stragglers, fence, arm.

`next_steps` only names the steps; `decide` judges each of them again. A step that stops something is carried out as a
stop (latch, fsync, cast) before it is recorded. Waiting is no step: a later turn asks again.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from firecurtain.domain.binding import find_service_records, plan_fences
from firecurtain.domain.commands import Arm, OpenStage
from firecurtain.domain.gate import compute_gate
from firecurtain.domain.refusals import FenceMissing, GateClosed
from firecurtain.domain.roster import count_others
from firecurtain.domain.stages import decide_arm, decide_open_stage
from firecurtain.domain.state import Fleet, Instant, Live, ReleaseRecord
from firecurtain.terms import NS_PER_S, Refusal, short

STRAGGLER_NS = 2 * NS_PER_S
"""How long a node goes on attesting something else before `on_straggler = "exclude"` takes it out. Chosen: two attests;
at half one lost message excludes a node that is restarting, at double the others stay unarmed for longer."""


class StepOpenStage(msgspec.Struct, frozen=True):
    """Ask `OpenStage`."""

    release: str
    stage: str


class StepExclude(msgspec.Struct, frozen=True):
    """Make a halt of `node:<node>`, record it, then ask `Exclude` with its id."""

    node: str
    reason: str


class StepFence(msgspec.Struct, frozen=True):
    """Make a fence of this scope and record it."""

    scope: str
    reason: str


class StepArm(msgspec.Struct, frozen=True):
    """Ask `Arm`."""

    release: str


Step = StepOpenStage | StepExclude | StepFence | StepArm


def next_steps(state: Fleet, now: Instant, live: Live) -> tuple[Step, ...]:
    """What the turn loop may do now for the newest complete release of each service."""
    services = dict.fromkeys(record.document.service for record in state.releases.values())
    return tuple(step for service in services for step in _find_steps(state, service, now, live))


def _find_steps(state: Fleet, service: str, now: Instant, live: Live) -> Iterator[Step]:
    record = next((record for record in find_service_records(state, service) if record.complete), None)
    if record is None:
        return
    try:
        yield _find_grant(state, record, now, live)
    except GateClosed:
        yield from _find_exclusions(state, record, now, live)
        yield from _find_early_fences(state, record, now, live)
    except FenceMissing:
        yield from _find_fences(state, record)
    except Refusal:
        return  # it waits for time or for people, or there is nothing left to do


def _find_grant(state: Fleet, record: ReleaseRecord, now: Instant, live: Live) -> Step:
    """The next grant of this release. Raises: Refusal: not now."""
    for stage in record.document.stages:
        if stage.name not in record.stages:
            decide_open_stage(state, OpenStage(record.release, stage.name), now, live)
            return StepOpenStage(record.release, stage.name)
    decide_arm(state, Arm(record.release), now, live)
    return StepArm(record.release)


def _find_exclusions(state: Fleet, record: ReleaseRecord, now: Instant, live: Live) -> Iterator[Step]:
    """The stragglers to take out: everyone else runs the release, and they went on without it for 2 s."""
    gate = compute_gate(state, record, now, live)
    if record.document.on_straggler != "exclude" or gate.silent or not gate.attesting:
        return
    # Counted from when the last of the others was answered for this release, which is after its stage opened.
    since = [live[name].accepted_ns for name in gate.attesting]
    since += [live[name].since_ns for name in gate.straggling]
    if any(ns is None or now.issuer_ns - ns < STRAGGLER_NS for ns in since):
        return
    if count_others(state, record.document.service, gate.straggling) < record.document.min_nodes:
        return  # a person decides: too few would be left
    for name in gate.straggling:
        yield StepExclude(name, f"it attests another artifact than release {short(record.release)}")


def _find_early_fences(state: Fleet, record: ReleaseRecord, now: Instant, live: Live) -> Iterator[Step]:
    """Fences that need not wait: the last gate is closed only by nodes whose exclusion runs out at the same pace."""
    gate = compute_gate(state, record, now, live)
    is_last = len(record.stages) == len(record.document.stages)
    if is_last and gate.attesting and not gate.straggling and not gate.silent:
        yield from _find_fences(state, record)


def _find_fences(state: Fleet, record: ReleaseRecord) -> Iterator[Step]:
    reason = f"it does not declare every flag that release {short(record.release)} arms"
    yield from (StepFence(scope, reason) for scope in plan_fences(state, record.release))
