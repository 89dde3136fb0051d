# SPDX-License-Identifier: Apache-2.0
"""Proposing and approving: how a release comes to have k of n signatures over one payload.

Approval opens nothing: the rollout does, step by step. What a release document may say (limits present, armed tokens
declared) is checked where it is read, in `trust.release`.
"""

from __future__ import annotations

from firecurtain.domain.binding import check_armed_declared, find_service_records
from firecurtain.domain.events import Event, ReleaseApproved, ReleaseProposed
from firecurtain.domain.evolve import evolve
from firecurtain.domain.lifts import compute_lifted
from firecurtain.domain.refusals import (
    Duplicate,
    LedgerBound,
    NotAFence,
    ThresholdMissing,
    UnknownRelease,
    UnknownStop,
    VersionNotNewer,
    refusing_documents,
)
from firecurtain.domain.state import Fleet, Instant, ReleaseRecord
from firecurtain.domain.stops import check_bound, widen_scope
from firecurtain.terms import short
from firecurtain.trust.release import Release
from firecurtain.trust.verify import compute_release_digest, merge_approval, verify_proposal, verify_release
from firecurtain.wire.commands import ApproveRelease, ProposeRelease

RELEASES_MAX = 10_000
"""Chosen: ten releases a day for three years; a release is a few kilobytes, so the state stays below 100 MB."""


def decide_propose(state: Fleet, body: ProposeRelease, now: Instant) -> tuple[Event, ...]:
    """Take up a release that its author signed; one that brings k approvals with it is complete at once.

    Raises: DocumentRefused, ThresholdMissing, Duplicate, VersionNotNewer, ArmedFlagNotDeclared, UnknownStop, NotAFence,
    LedgerBound, and what lifting raises.
    """
    check_bound(state)
    with refusing_documents():
        document = verify_proposal(body.envelope, state.root)
        digest = compute_release_digest(body.envelope)
    if digest in state.releases:
        raise Duplicate(f"release {short(digest)} is proposed already. Do: `firecurtain release approve {digest}`.")
    if len(state.releases) >= RELEASES_MAX:
        raise LedgerBound(f"{len(state.releases)} releases are known, the bound is {RELEASES_MAX}. Do: begin an epoch.")
    _check_version(state, document)
    _check_fences(state, document)
    check_armed_declared(state, ReleaseRecord(digest, document, body.envelope))
    proposed = ReleaseProposed(digest, body.envelope)
    if not _is_complete(state, body.envelope):
        return (proposed,)
    return (proposed, *_compute_approved(evolve(state, proposed), digest, body.envelope, now))


def decide_approve(state: Fleet, body: ApproveRelease, now: Instant) -> tuple[Event, ...]:
    """Add an approver's signature; the k-th makes the release complete and lifts the fences that it names.

    Raises: DocumentRefused, ThresholdMissing, UnknownRelease, Duplicate, VersionNotNewer, LedgerBound, and what
    lifting raises.
    """
    check_bound(state)
    with refusing_documents():
        digest = compute_release_digest(body.envelope)
    record = find_release(state, digest)
    if record.complete:
        # A crash between two appends may have left its lifts out: approving once more brings them.
        if lifts := _compute_lifts(state, record, record.envelope, now):
            return lifts
        raise Duplicate(f"release {short(digest)} has the approvals it needs already. Nothing to do.")
    with refusing_documents():
        merged = merge_approval(record.envelope, body.envelope, state.root)
    return _compute_approved(state, digest, merged, now)


def find_release(state: Fleet, release: str) -> ReleaseRecord:
    """A known release. Raises: UnknownRelease."""
    record = state.releases.get(release)
    if record is None:
        raise UnknownRelease(
            f"release {short(release)} is not among the {len(state.releases)} proposed. "
            "Do: `firecurtain release propose`; one changed byte of the document is another release."
        )
    return record


def _check_version(state: Fleet, document: Release) -> None:
    """A version is newer than every one that k of n approved; what one author proposes binds nobody.

    Raises: VersionNotNewer.
    """
    records = find_service_records(state, document.service)
    newest = next((record.document.version for record in records if record.complete), 0)
    if document.version <= newest:
        raise VersionNotNewer(
            f"version {document.version} of service {document.service} is not newer than {newest}, the newest "
            "approved. Do: sign it again with a higher version; going back is a new release too."
        )


def _check_fences(state: Fleet, document: Release) -> None:
    """A release takes back known fences and disarms. Raises: UnknownStop, NotAFence."""
    for text in document.lifts_fences:
        stop = state.stops.get(bytes.fromhex(text))
        if stop is None:
            raise UnknownStop(f"the release lifts stop {text}, not among the {len(state.stops)} in the ledger.")
        if widen_scope(stop.scope).kind not in ("release", "token"):
            raise NotAFence(
                f"the release lifts stop {text} of {stop.scope}; a release takes back stops of a release or a token "
                "only. Do: `firecurtain resume`."
            )


def _compute_approved(state: Fleet, digest: str, envelope: bytes, now: Instant) -> tuple[Event, ...]:
    """What more signatures bring about; a complete envelope proves the lifts that it names."""
    approved = ReleaseApproved(digest, envelope, _is_complete(state, envelope))
    if not approved.complete:
        return (approved,)
    after = evolve(state, approved)
    _check_version(state, after.releases[digest].document)  # another one may have been approved since it was proposed
    return (approved, *_compute_lifts(after, after.releases[digest], envelope, now))


def _compute_lifts(state: Fleet, record: ReleaseRecord, envelope: bytes, now: Instant) -> tuple[Event, ...]:
    named = (bytes.fromhex(text) for text in record.document.lifts_fences)
    ids = tuple(stop_id for stop_id in named if stop_id not in state.lifted)
    return compute_lifted(state, ids, envelope, now) if ids else ()


def _is_complete(state: Fleet, envelope: bytes) -> bool:
    try:
        with refusing_documents():
            verify_release(envelope, state.root)
    except ThresholdMissing:
        return False
    return True
