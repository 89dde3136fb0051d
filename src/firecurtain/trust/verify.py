# SPDX-License-Identifier: Apache-2.0
"""Does an envelope hold: did enough distinct people sign exactly these bytes, and may they?

Pure: no clock, no I/O; the root and the bytes come as arguments. What is counted are public keys, never key ids, which
anyone may write. It does NOT say that a document is the newest or was not seen before: versions are kept by `domain`
and by the agent.
Source: 03-protocol "Attestation levels", release envelope; DSSE v1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

from firecurtain.terms import Digest, TrustError
from firecurtain.trust.envelope import (
    LIFT_TYPE,
    RELEASE_TYPE,
    ROOT_TYPE,
    EnvelopeError,
    compute_pre_authentication,
    encode_envelope,
    read_document,
    read_envelope,
)
from firecurtain.trust.fields import index_keys
from firecurtain.trust.lift import Lift
from firecurtain.trust.release import Release, decode_release
from firecurtain.trust.root import Root
from firecurtain.wire.keys import SIGNATURE_BYTES, compute_keyid, is_signature


class ThresholdError(TrustError):
    """Not enough distinct people signed, or one of them may not."""

    code: ClassVar[str] = "trust-threshold"


@dataclass(frozen=True, slots=True)
class _Signed:
    """A payload, the signatures over it that hold by the raw public key that made each, and what did not count."""

    payload: bytes
    holding: Mapping[bytes, bytes]
    remarks: str


def verify_envelope(envelope: bytes, payload_type: str, keys: Collection[bytes], threshold: int) -> bytes:
    """Return the payload when at least `threshold` distinct `keys` (32 raw public bytes each) signed it.

    Raises: EnvelopeError: malformed, oversized, other type, unknown algorithm. ThresholdError: too few keys.
    """
    signed = _read_signed(envelope, payload_type, keys)
    _raise_unless_enough(signed, set(keys), threshold)
    return signed.payload


def verify_root(envelope: bytes) -> Root:
    """Read a root that its own approvers signed. Whether it is OUR root only the hand that gave it can say.

    Raises: EnvelopeError, DocumentError, ThresholdError.
    """
    payload, _ = read_envelope(envelope, ROOT_TYPE)
    root = read_document(payload, Root)
    verify_envelope(envelope, ROOT_TYPE, _read_keys(root.approvers), root.approve_threshold)
    return root


def verify_proposal(envelope: bytes, root: Root) -> Release:
    """Read a release whose author signed it, approved or not.

    Raises: EnvelopeError, DocumentError; ThresholdError: the author is unknown or did not sign.
    """
    return _read_release(envelope, root)[0]


def verify_release(envelope: bytes, root: Root) -> Release:
    """Read a release that its author signed and enough approvers besides the author.

    Raises: EnvelopeError, DocumentError; ThresholdError: author missing, or too few approvers.
    """
    release, author, signed = _read_release(envelope, root)
    needed = compute_approvals_needed(release, root)
    _raise_unless_enough(signed, set(_read_keys(root.approvers)) - {author}, needed)
    return release


def compute_approvals_needed(release: Release, root: Root) -> int:
    """How many approvers a release needs: one that takes back fences is a lift too, and needs as many as a lift."""
    return max(root.approve_threshold, root.lift_threshold) if release.lifts_fences else root.approve_threshold


def count_approvals_missing(envelope: bytes, root: Root) -> int:
    """How many more approvers a proposed release needs. Raises: what `verify_proposal` raises."""
    release, author, signed = _read_release(envelope, root)
    counted = {raw for raw in _read_keys(root.approvers) if raw in signed.holding and raw != author}
    return max(0, compute_approvals_needed(release, root) - len(counted))


def compute_release_digest(envelope: bytes) -> Digest:
    """What names a release everywhere: the sha256 of the payload as signed, never of a re-encoding. Verifies nothing.

    Raises: EnvelopeError.
    """
    return Digest(hashlib.sha256(read_envelope(envelope, RELEASE_TYPE)[0]).hexdigest())


def verify_lift(envelope: bytes, root: Root) -> Lift:
    """Read a lift that enough approvers of this fleet signed.

    Raises: EnvelopeError, DocumentError, ThresholdError: too few, or of another fleet.
    """
    payload = verify_envelope(envelope, LIFT_TYPE, _read_keys(root.approvers), root.lift_threshold)
    lift = read_document(payload, Lift)
    _raise_unless_fleet(lift.fleet, root)
    return lift


def merge_approval(envelope: bytes, approval: bytes, root: Root) -> bytes:
    """Add to a proposed release the signatures of an approver who signed the very same payload.

    Only signatures that hold are taken over, so that nobody can spoil an envelope with a bad one.

    Raises: EnvelopeError, DocumentError; ThresholdError: author missing, or `approval` brings no new signature.
    """
    _, _, signed = _read_release(envelope, root)
    _, _, brought = _read_release(approval, root)
    if signed.payload != brought.payload:
        raise EnvelopeError(
            f"the approval is for another release, {len(brought.payload)} instead of {len(signed.payload)} bytes or "
            "other content. Fetch the proposed one and sign that."
        )
    if brought.holding.keys() <= signed.holding.keys():
        raise ThresholdError(f"the approval brings no new signature ({brought.remarks}). Sign with an approver's key.")
    merged = {**brought.holding, **signed.holding}
    pairs = [(compute_keyid(raw).hex(), signature) for raw, signature in merged.items()]
    return encode_envelope(signed.payload, RELEASE_TYPE, pairs)


def _read_release(envelope: bytes, root: Root) -> tuple[Release, bytes, _Signed]:
    authors = index_keys(root.authors)
    signed = _read_signed(envelope, RELEASE_TYPE, {*authors.values(), *_read_keys(root.approvers)})
    release = decode_release(signed.payload)
    _raise_unless_fleet(release.fleet, root)
    author = authors.get(bytes.fromhex(release.author))
    if author is None:
        raise ThresholdError(
            f"author {release.author} is none of the root's {len(authors)} authors. Let one of them sign."
        )
    if author not in signed.holding:
        raise ThresholdError(
            f"author {release.author} did not sign this release ({signed.remarks}). Sign it as author."
        )
    return release, author, signed


def _read_signed(envelope: bytes, payload_type: str, keys: Collection[bytes]) -> _Signed:
    payload, pairs = read_envelope(envelope, payload_type)
    indexed = {keyid.hex(): raw for keyid, raw in index_keys(sorted({raw.hex() for raw in keys})).items()}
    message = compute_pre_authentication(payload, payload_type)
    holding: dict[bytes, bytes] = {}
    remarks: list[str] = []
    for keyid, signature in pairs:
        raw = indexed.get(keyid)
        if len(signature) != SIGNATURE_BYTES:
            raise EnvelopeError(
                f"signature of key {keyid[:20]!r} has {len(signature)} bytes, an Ed25519 signature {SIGNATURE_BYTES}: "
                "its algorithm is unknown here. Sign with an Ed25519 key."
            )
        if raw is None:
            remarks.append(f"key {keyid[:20]!r} has no say in this")
        elif is_signature(raw, signature, message):
            holding[raw] = signature
        else:
            remarks.append(f"the signature of key {keyid} does not hold")
    return _Signed(payload, holding, "; ".join(remarks) or "no other signature in it")


def _raise_unless_enough(signed: _Signed, allowed: set[bytes], threshold: int) -> None:
    if threshold < 1:
        raise ThresholdError(f"threshold {threshold} would accept what nobody signed. Set it to 1 or more.")
    counted = sorted(compute_keyid(raw).hex() for raw in signed.holding if raw in allowed)
    if len(counted) < threshold:
        raise ThresholdError(
            f"{threshold} of {len(allowed)} approver keys needed, {len(counted)} distinct valid: "
            f"{', '.join(counted) or 'none'} ({signed.remarks}). Ask for the missing signatures."
        )


def _raise_unless_fleet(fleet: str, root: Root) -> None:
    # Without this an approval given for a test fleet would let the same release run in every fleet of these approvers.
    if fleet != root.fleet:
        raise ThresholdError(
            f"signed for fleet {fleet}, this is fleet {root.fleet}. Ask for signatures for this fleet."
        )


def _read_keys(public_keys: Collection[str]) -> list[bytes]:
    return list(index_keys(public_keys).values())
