# SPDX-License-Identifier: Apache-2.0
"""A flag is bound to the releases that declare it: no armed token beside a release that would give it another meaning.

Both directions of one law: before arming, every release that does not declare the tokens is fenced and waited out;
before a release runs (again), every token that it does not declare is disarmed and waited out. It reads no attestation:
a node restored from an old image, cloned or enrolled later is covered without being known.
Source: 03-protocol, "Gate and arming".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from firecurtain.domain.refusals import ArmedFlagNotDeclared, DisarmNotWaited, FenceMissing, FenceNotWaited
from firecurtain.domain.state import Fleet, Instant, ReleaseRecord
from firecurtain.domain.stops import compute_age_ns, compute_fence_ages, find_fenced, widen_scope
from firecurtain.domain.waits import compute_stop_wait_ns, format_s
from firecurtain.terms import short


def is_open(record: ReleaseRecord) -> bool:
    """Whether k of n approved and a stage has called nodes: from then on a node may have run it."""
    return record.complete and bool(record.stages)


def find_service_records(state: Fleet, service: str) -> tuple[ReleaseRecord, ...]:
    """Every known release of a service, newest version first."""
    records = (record for record in state.releases.values() if record.document.service == service)
    return tuple(sorted(records, key=lambda record: record.document.version, reverse=True))


def find_armed(state: Fleet, service: str) -> Mapping[str, str]:
    """The tokens armed in a service, each with the release it is armed for.

    A fence on that release does not disarm it: the fence may be lifted. Only a stop on the token disarms.
    """
    records = find_service_records(state, service)
    return {token: record.release for record in records for token in record.armed}


def check_armed_declared(state: Fleet, record: ReleaseRecord) -> None:
    """Refuse a release that does not declare a token armed in its service. Raises: ArmedFlagNotDeclared."""
    document = record.document
    for token, release in sorted(find_armed(state, document.service).items()):
        if token not in document.tokens:
            raise ArmedFlagNotDeclared(
                f"release {short(record.release)} (artifact {short(document.artifact)}) does not declare armed flag "
                f"{token}, armed for release {short(release)}: it would give it another meaning. "
                f"Do: disarm it first (`firecurtain halt token:{token}`), wait, then propose."
            )


def check_may_run(state: Fleet, record: ReleaseRecord, now: Instant) -> None:
    """Refuse to let a release run beside a token that it does not declare and that some node may still act with.

    Raises: ArmedFlagNotDeclared, DisarmNotWaited.
    """
    check_armed_declared(state, record)
    wait_ns = compute_stop_wait_ns(state.root)
    for stop in state.stops.values():
        scope = widen_scope(stop.scope)
        age_ns = compute_age_ns(stop, now)
        if scope.kind == "token" and scope.name not in record.document.tokens and age_ns < wait_ns:
            raise DisarmNotWaited(
                f"release {short(record.release)} does not declare flag {scope.name}, disarmed {format_s(age_ns)} ago: "
                f"a node may act with it for {format_s(wait_ns)}. Do: nothing; the rollout goes on by itself."
            )


def plan_fences(state: Fleet, release: str) -> tuple[str, ...]:
    """The scopes to fence before this release's tokens may be armed."""
    fenced = find_fenced(state)
    rivals = _find_rivals(state, state.releases[release])
    return tuple(f"release:{rival.release}" for rival in rivals if rival.release not in fenced)


def check_fences(state: Fleet, record: ReleaseRecord, now: Instant) -> None:
    """Refuse to arm before every release that does not declare the tokens is fenced and its permits ran out.

    Raises: FenceMissing, FenceNotWaited.
    """
    ages = compute_fence_ages(state, now)
    wait_ns = compute_stop_wait_ns(state.root)
    for rival in _find_rivals(state, record):
        tokens = ", ".join(_find_undeclared(rival, record))
        if rival.release not in ages:
            raise FenceMissing(
                f"release {short(rival.release)} (artifact {short(rival.document.artifact)}) may still run and does "
                f"not declare {tokens}, which release {short(record.release)} arms. "
                f"Do: `firecurtain halt release:{rival.release}`; a rollout does so by itself."
            )
        if ages[rival.release] < wait_ns:
            raise FenceNotWaited(
                f"the fence of release {short(rival.release)}, which does not declare {tokens}, has been durable for "
                f"{format_s(ages[rival.release])} of {format_s(wait_ns)}. Do: nothing; the rollout goes on by itself."
            )


def _find_rivals(state: Fleet, record: ReleaseRecord) -> Iterator[ReleaseRecord]:
    """Releases that some node may have run and that do not declare every token this one arms."""
    for other in find_service_records(state, record.document.service):
        if other.release != record.release and is_open(other) and _find_undeclared(other, record):
            yield other


def _find_undeclared(rival: ReleaseRecord, record: ReleaseRecord) -> tuple[str, ...]:
    return tuple(token for token in record.document.arms if token not in rival.document.tokens)
