# SPDX-License-Identifier: Apache-2.0
"""A root that contradicts itself is refused before anyone can sign it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from firecurtain.terms import TrustError
from firecurtain.trust.envelope import DocumentError, read_document, write_document
from firecurtain.trust.fields import index_keys, parse_public_key
from firecurtain.trust.root import Root
from firecurtain.wire.keys import Ed25519Signer

OTHER = Ed25519Signer(b"o" * 32).public.hex()
IDENTITY = (1).to_bytes(32, "little")


def test_root_reads_back_as_written(root: Root) -> None:
    assert read_document(write_document(root), Root) == root
    assert (root.max_age_ms, root.beacon_period_ms, root.delta_max_ms) == (1500, 200, 250)


@pytest.mark.parametrize(("issuers_count", "majority"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_any_two_majorities_share_an_issuer(
    root: Root, vary: Callable[..., Any], issuers_count: int, majority: int
) -> None:
    issuers = tuple(Ed25519Signer(bytes([number + 1]) * 32).public.hex() for number in range(issuers_count))
    assert vary(root, issuers=issuers).majority == majority
    assert 2 * majority > issuers_count


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"approve_threshold": 0}, "approve_threshold is 0 of 3"),
        ({"approve_threshold": 4}, "approve_threshold is 4 of 3"),
        ({"lift_threshold": 4}, "lift_threshold is 4 of 3"),
        ({"lift_threshold": -1}, "lift_threshold is -1 of 3"),
        ({"beacon_period_ms": 501}, "beacon_period_ms 501 needs max_age_ms of at least three times"),
        ({"approvers": (OTHER, OTHER, OTHER)}, "List each key once"),
        ({"stop_keys": (OTHER, OTHER)}, "List each key once"),
        ({"approvers": (OTHER, IDENTITY.hex())}, "no Ed25519 public key to rely on"),
        ({"operators": ("ff" * 32,)}, "no Ed25519 public key to rely on"),
        ({"operators": (OTHER[:-2],)}, "no Ed25519 public key to rely on"),
    ],
)
def test_contradiction_is_refused_with_its_values(
    root: Root, vary: Callable[..., Any], changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(DocumentError, match=text):
        vary(root, **changes)


@pytest.mark.parametrize("role", ["approvers", "authors"])
def test_issuers_key_has_no_other_say(root: Root, vary: Callable[..., Any], role: str) -> None:
    with pytest.raises(DocumentError, match=f"is among issuers and {role}"):
        vary(root, **{role: (*getattr(root, role), root.issuers[0])})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"issuers": ()}, "length >= 1"),
        ({"authors": ()}, "length >= 1"),
        ({"version": 0}, ">= 1"),
        ({"max_age_ms": 600_001}, "<= 600000"),
        ({"delta_max_ms": -1}, ">= 0"),
        ({"fleet": "knight\n"}, "matching regex"),
        ({"fleet": ""}, "matching regex"),
    ],
)
def test_value_out_of_bounds_is_never_written(
    root: Root, vary: Callable[..., Any], changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(DocumentError, match=text):
        write_document(vary(root, **changes))


def test_unknown_or_missing_field_is_refused(root: Root) -> None:
    written = write_document(root)
    with pytest.raises(DocumentError, match="unknown field `grace_ms`"):
        read_document(written.replace(b'{"fleet"', b'{"grace_ms":5,"fleet"'), Root)
    with pytest.raises(DocumentError, match="missing required field `lift_threshold`"):
        read_document(written.replace(b'"lift_threshold":2,', b""), Root)


def test_anyone_could_sign_for_a_weak_key_so_none_is_taken() -> None:
    """Goal: know that the refusal is needed. Method: verify a signature that no private key made."""
    Ed25519PublicKey.from_public_bytes(IDENTITY).verify(IDENTITY + bytes(32), b"whatever I like")
    prime = 2**255 - 19
    for y in (0, 1, prime - 1, prime, prime + 1, 2**255 - 1):
        for sign in (0, 1 << 255):
            with pytest.raises(DocumentError, match="no Ed25519 public key to rely on"):
                parse_public_key((y | sign).to_bytes(32, "little").hex())


@pytest.mark.parametrize("text", ["", OTHER.upper(), OTHER + "\n", OTHER[:-1] + "g", " " + OTHER[1:], "0x" + OTHER[2:]])
def test_second_spelling_of_a_key_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="no Ed25519 public key to rely on"):
        parse_public_key(text)


def test_index_maps_key_ids_to_raw_keys() -> None:
    signer = Ed25519Signer(b"o" * 32)
    assert index_keys([OTHER]) == {signer.keyid: signer.public}
    with pytest.raises(TrustError, match="List each key once"):
        index_keys([OTHER, OTHER])
