# SPDX-License-Identifier: Apache-2.0
"""k distinct people signed exactly these bytes, and they may: everything else is refused with both values."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as LibraryEnvelope
from securesystemslib.signer import SSlibKey

from firecurtain.terms import TrustError
from firecurtain.trust.dev_init import APPROVERS, DevelopmentKeys
from firecurtain.trust.envelope import (
    LIFT_TYPE,
    RELEASE_TYPE,
    ROOT_TYPE,
    DocumentError,
    EnvelopeError,
    encode_envelope,
    read_envelope,
    write_document,
)
from firecurtain.trust.lift import make_lift
from firecurtain.trust.release import Release, encode_release
from firecurtain.trust.root import Root
from firecurtain.trust.sign import add_signature, sign_envelope
from firecurtain.trust.verify import (
    ThresholdError,
    compute_release_digest,
    count_approvals_missing,
    merge_approval,
    verify_envelope,
    verify_lift,
    verify_proposal,
    verify_release,
    verify_root,
)
from firecurtain.wire.keys import Ed25519Signer
from support.mutants import load_mutant

GOLDEN = Path(__file__).parent / "golden"
# Made by these tests' own fixtures (fixed key seeds, fixed release) when the format was fixed; a change of these bytes
# means that envelopes signed before would no longer be the ones we make.


@pytest.fixture(scope="module")
def signed(keys: DevelopmentKeys, release: Release) -> Callable[..., bytes]:
    """An envelope of `release` (or another payload) signed by the named keys."""

    def sign(*names: str, payload: bytes | None = None, kind: str = RELEASE_TYPE) -> bytes:
        return sign_envelope(payload or encode_release(release), kind, [keys.signers[name] for name in names])

    return sign


@pytest.fixture(scope="module")
def approvers(keys: DevelopmentKeys) -> list[bytes]:
    return [keys.signers[name].public for name in APPROVERS]


def test_release_envelope_is_the_golden_one(signed: Callable[..., bytes], keys: DevelopmentKeys, root: Root) -> None:
    envelope = signed("author", "approver-1", "approver-3")
    assert envelope == (GOLDEN / "release.json").read_bytes()
    assert keys.envelope == (GOLDEN / "root.json").read_bytes()
    assert compute_release_digest(envelope) == "5c7663a2a9ce633a5ced89600a0ff0c48ecceba5b61a575bd592f66d0b35df9f"
    assert verify_root(keys.envelope) == root


def test_author_and_two_of_three_make_a_release(signed: Callable[..., bytes], root: Root, release: Release) -> None:
    for pair in itertools.combinations(APPROVERS, 2):
        assert verify_release(signed("author", *pair), root) == release
    assert verify_release(signed("author", *APPROVERS), root) == release


def test_proposal_needs_its_author_only(signed: Callable[..., bytes], root: Root, release: Release) -> None:
    assert verify_proposal(signed("author"), root) == release
    with pytest.raises(ThresholdError, match="did not sign this release"):
        verify_proposal(signed(*APPROVERS), root)


@pytest.mark.parametrize(
    "names", [(), ("approver-1",), ("approver-3",), ("operator", "issuer"), ("approver-2", "issuer")]
)
def test_every_smaller_set_is_refused_with_both_values(
    signed: Callable[..., bytes], root: Root, approvers: list[bytes], names: tuple[str, ...]
) -> None:
    counted = sum(name in APPROVERS for name in names)
    with pytest.raises(ThresholdError, match=f"2 of 3 approver keys needed, {counted} distinct valid"):
        verify_release(signed("author", *names), root)
    with pytest.raises(ThresholdError, match=f"2 of 3 approver keys needed, {counted} distinct valid"):
        verify_envelope(signed(*names), RELEASE_TYPE, approvers, 2)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), count=st.integers(1, 6))
def test_any_k_keys_in_any_order_suffice_and_any_k_minus_one_do_not(data: st.DataObject, count: int) -> None:
    signers = [Ed25519Signer(bytes([number + 1]) * 32) for number in range(count)]
    threshold = data.draw(st.integers(1, count))
    chosen = data.draw(st.permutations(signers))[:threshold]
    publics = data.draw(st.permutations([signer.public for signer in signers]))
    envelope = sign_envelope(b"payload", LIFT_TYPE, chosen)
    document = json.loads(envelope)
    document["signatures"] = data.draw(st.permutations(document["signatures"]))
    assert verify_envelope(json.dumps(document).encode(), LIFT_TYPE, publics, threshold) == b"payload"
    document["signatures"].pop()
    with pytest.raises(ThresholdError, match=f"{threshold} of {count} approver keys needed, {threshold - 1} distinct"):
        verify_envelope(json.dumps(document).encode(), LIFT_TYPE, publics, threshold)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_refused_or_changes_nothing(
    data: st.DataObject, keys: DevelopmentKeys, release: Release
) -> None:
    names = ("author", "approver-1", "approver-2")
    envelope = sign_envelope(encode_release(release), RELEASE_TYPE, [keys.signers[name] for name in names])
    position = data.draw(st.integers(0, len(envelope) - 1))
    changed = envelope[:position] + bytes([data.draw(st.integers(0, 255))]) + envelope[position + 1 :]
    try:
        assert verify_release(changed, keys.root) == release
        assert compute_release_digest(changed) == compute_release_digest(envelope)
    except TrustError:
        assert changed != envelope


@settings(max_examples=300, deadline=None)
@given(junk=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_junk_is_refused_and_nothing_else_happens(junk: bytes, root: Root) -> None:
    for refuse in (verify_release, verify_lift):
        with pytest.raises(EnvelopeError):
            refuse(junk, root)
    with pytest.raises(EnvelopeError):
        verify_root(junk)


def list_key_under_two_ids(keys: DevelopmentKeys, release: Release) -> bytes:
    """One approver's signature three times: under its own id, in capitals, and under another approver's id."""
    one, two = keys.signers["approver-1"], keys.signers["approver-2"]
    payload = encode_release(release)
    envelope = sign_envelope(payload, RELEASE_TYPE, [one, keys.signers["author"]])
    [(_, signature)] = read_envelope(sign_envelope(payload, RELEASE_TYPE, [one]), RELEASE_TYPE)[1]
    pairs = list(read_envelope(envelope, RELEASE_TYPE)[1])
    pairs += [(one.keyid.hex().upper(), signature), (two.keyid.hex(), signature), ("", signature)]
    return encode_envelope(payload, RELEASE_TYPE, pairs)


def test_one_public_key_under_two_key_ids_counts_once(
    keys: DevelopmentKeys, release: Release, approvers: list[bytes]
) -> None:
    envelope = list_key_under_two_ids(keys, release)
    with pytest.raises(ThresholdError, match="2 of 3 approver keys needed, 1 distinct valid"):
        verify_envelope(envelope, RELEASE_TYPE, approvers, 2)
    with pytest.raises(ThresholdError, match="2 of 3 approver keys needed, 1 distinct valid"):
        verify_release(envelope, keys.root)
    with pytest.raises(ThresholdError, match="2 of 1 approver keys needed, 1 distinct valid"):
        verify_envelope(envelope, RELEASE_TYPE, [approvers[0], approvers[0]], 2)


def test_the_library_alone_would_count_it_twice(keys: DevelopmentKeys) -> None:
    """Goal: know that the trap is real. Method: its own verify, one public key listed under two ids."""
    one = keys.signers["approver-1"]
    message = LibraryEnvelope(b"payload", RELEASE_TYPE, {}).pae()
    data = json.loads(encode_envelope(b"payload", RELEASE_TYPE, [(name, one.sign(message)) for name in ("a", "b")]))
    listed = [SSlibKey(name, "ed25519", "ed25519", {"public": one.public.hex()}) for name in ("a", "b")]
    assert len(LibraryEnvelope.from_dict(data).verify(listed, 2)) == 2
    assert "keyid" not in data["signatures"][0], "from_dict emptied its argument; bytes cannot be emptied"


def test_library_and_we_read_each_other(keys: DevelopmentKeys, signed: Callable[..., bytes]) -> None:
    envelope = signed("approver-1", "approver-2")
    listed = [
        SSlibKey(signer.keyid.hex(), "ed25519", "ed25519", {"public": signer.public.hex()})
        for signer in (keys.signers["approver-1"], keys.signers["approver-2"])
    ]
    library = LibraryEnvelope.from_dict(json.loads(envelope))
    assert len(library.verify(listed, 2)) == 2
    assert json.dumps(library.to_dict(), separators=(",", ":")).encode() == envelope


def test_planted_fault_counting_key_ids_is_caught(keys: DevelopmentKeys, release: Release) -> None:
    mutant = load_mutant(
        "firecurtain.trust.verify",
        "    _raise_unless_enough(signed, set(_read_keys(root.approvers)) - {author}, needed)\n",
        "    if len(read_envelope(envelope, RELEASE_TYPE)[1]) - 1 < root.approve_threshold:\n"
        "        raise ThresholdError('too few')\n",
    )
    assert mutant.verify_release(list_key_under_two_ids(keys, release), keys.root) == release


def test_author_never_approves_their_own_release(
    keys: DevelopmentKeys, release: Release, vary: Callable[..., Any]
) -> None:
    one = keys.signers["approver-1"]
    everyone = vary(keys.root, authors=(*keys.root.authors, one.public.hex()))
    own = encode_release(vary(release, author=one.keyid.hex()))
    alone = sign_envelope(own, RELEASE_TYPE, [one, keys.signers["approver-2"]])
    with pytest.raises(ThresholdError, match="2 of 2 approver keys needed, 1 distinct valid"):
        verify_release(alone, everyone)
    both = add_signature(alone, RELEASE_TYPE, keys.signers["approver-3"])
    assert verify_release(both, everyone).author == one.keyid.hex()
    assert [count_approvals_missing(envelope, everyone) for envelope in (alone, both)] == [1, 0]
    mutant = load_mutant("firecurtain.trust.verify", " - {author}", "")
    assert mutant.verify_release(alone, everyone), "the planted fault lets an author approve alone with one other"


def test_author_must_be_one_of_the_roots_authors(
    keys: DevelopmentKeys, release: Release, vary: Callable[..., Any]
) -> None:
    payload = encode_release(vary(release, author=keys.signers["operator"].keyid.hex()))
    envelope = sign_envelope(payload, RELEASE_TYPE, list(keys.signers.values()))
    with pytest.raises(ThresholdError, match="none of the root's 1 authors"):
        verify_release(envelope, keys.root)


def test_approval_for_another_fleet_is_worth_nothing_here(
    keys: DevelopmentKeys, release: Release, vary: Callable[..., Any]
) -> None:
    signers = list(keys.signers.values())
    elsewhere = sign_envelope(encode_release(vary(release, fleet="staging")), RELEASE_TYPE, signers)
    with pytest.raises(ThresholdError, match="signed for fleet staging, this is fleet knight"):
        verify_release(elsewhere, keys.root)
    lift = sign_envelope(make_lift("staging", [bytes(16)], "drill over", bytes(16)), LIFT_TYPE, signers)
    with pytest.raises(ThresholdError, match="signed for fleet staging, this is fleet knight"):
        verify_lift(lift, keys.root)
    mutant = load_mutant("firecurtain.trust.verify", "if fleet != root.fleet:", "if not fleet:")
    assert mutant.verify_release(elsewhere, keys.root)


def test_document_never_passes_for_one_of_another_type(signed: Callable[..., bytes], keys: DevelopmentKeys) -> None:
    lift = make_lift("knight", [bytes(16)], "drill over", bytes(16))
    for kind in (RELEASE_TYPE, ROOT_TYPE):
        with pytest.raises(EnvelopeError, match=r"holds .*, expected 'application/vnd\.firecurtain\.lift\+json'"):
            verify_lift(signed(*APPROVERS, payload=lift, kind=kind), keys.root)
    relabelled = signed(*APPROVERS, payload=lift, kind=ROOT_TYPE).replace(ROOT_TYPE.encode(), LIFT_TYPE.encode())
    with pytest.raises(ThresholdError, match=r"0 distinct valid: none .*does not hold"):
        verify_lift(relabelled, keys.root)


def change(envelope: bytes, edit: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(envelope)
    edit(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda d: d.update(extra=1), "unknown field `extra`"),
        (lambda d: d["signatures"][0].update(alg="rsa"), "unknown field `alg`"),
        (lambda d: d.pop("signatures"), "missing required field `signatures`"),
        (lambda d: d.update(payload=d["payload"] + "!"), "not standard base64"),
        (lambda d: d.update(payload="é"), "not standard base64"),
        (
            lambda d: d["signatures"][0].update(sig="AAAA"),
            "has 3 bytes, an Ed25519 signature 64: its algorithm is unknown",
        ),
        (lambda d: d["signatures"][0].update(sig=["x"]), "Expected `str`"),
        (lambda d: d["signatures"].append(d["signatures"][0]), "a key id stands twice"),
        (lambda d: d.update(signatures=d["signatures"][:1] * 65), "65 signatures, at most 64"),
        (lambda d: d.update(payload="A" * 60_000), "at most 60000"),
    ],
)
def test_malformed_envelope_is_refused_and_says_where(
    signed: Callable[..., bytes], root: Root, edit: Callable[[dict[str, Any]], object], text: str
) -> None:
    with pytest.raises(EnvelopeError, match=text):
        verify_release(change(signed("author", *APPROVERS), edit), root)


def test_key_that_stands_twice_in_json_is_refused(signed: Callable[..., bytes], root: Root) -> None:
    envelope = signed("author", *APPROVERS)
    twice = envelope.replace(b'{"payload":', b'{"payload":"AAAA","payload":', 1)
    with pytest.raises(EnvelopeError, match="a key stands twice"):
        verify_release(twice, root)
    payload = read_envelope(envelope, RELEASE_TYPE)[0].replace(b'"version":2', b'"version":1,"version":2')
    with pytest.raises(DocumentError, match="a key stands twice"):
        verify_release(signed("author", *APPROVERS, payload=payload), root)


def test_signature_of_a_stranger_neither_helps_nor_harms(
    signed: Callable[..., bytes], root: Root, release: Release
) -> None:
    stranger = Ed25519Signer(b"s" * 32)
    assert verify_release(add_signature(signed("author", *APPROVERS), RELEASE_TYPE, stranger), root) == release
    with pytest.raises(ThresholdError, match=f"key '{stranger.keyid.hex()}' has no say in this"):
        verify_release(add_signature(signed("author", "approver-1"), RELEASE_TYPE, stranger), root)


def test_threshold_of_zero_and_no_keys_accept_nothing(signed: Callable[..., bytes], approvers: list[bytes]) -> None:
    for threshold in (0, -1):
        with pytest.raises(ThresholdError, match="would accept what nobody signed"):
            verify_envelope(signed("author"), RELEASE_TYPE, approvers, threshold)
    with pytest.raises(ThresholdError, match="1 of 0 approver keys needed"):
        verify_envelope(signed("author"), RELEASE_TYPE, [], 1)


def test_larger_envelope_than_a_frame_carries_is_not_even_made(keys: DevelopmentKeys) -> None:
    with pytest.raises(EnvelopeError, match="at most 60000"):
        sign_envelope(b"x" * 60_000, LIFT_TYPE, [keys.signers["author"]])


def test_signing_twice_replaces_the_own_signature(signed: Callable[..., bytes], keys: DevelopmentKeys) -> None:
    envelope = signed("author", "approver-1")
    assert add_signature(envelope, RELEASE_TYPE, keys.signers["author"]) == envelope
    assert signed("author", "author", "approver-1") == envelope


def test_approvals_given_side_by_side_are_merged(
    signed: Callable[..., bytes], keys: DevelopmentKeys, root: Root, release: Release, vary: Callable[..., Any]
) -> None:
    proposed = signed("author")
    merged = merge_approval(signed("author", "approver-1"), signed("author", "approver-2"), root)
    assert merged == signed("author", "approver-1", "approver-2")
    assert verify_release(merged, root) == release
    with pytest.raises(ThresholdError, match="brings no new signature"):
        merge_approval(merged, signed("author", "approver-2"), root)
    other = encode_release(vary(release, version=3))
    with pytest.raises(EnvelopeError, match="the approval is for another release"):
        merge_approval(proposed, signed("author", "approver-1", payload=other), root)


def test_bad_signature_cannot_spoil_the_place_of_a_good_one(
    signed: Callable[..., bytes], keys: DevelopmentKeys, root: Root
) -> None:
    proposed, bad = signed("author"), "approver-2"
    pairs = [
        *read_envelope(signed("author", "approver-1"), RELEASE_TYPE)[1],
        (keys.signers[bad].keyid.hex(), bytes(64)),
    ]
    spoiling = encode_envelope(read_envelope(proposed, RELEASE_TYPE)[0], RELEASE_TYPE, pairs)
    merged = merge_approval(proposed, spoiling, root)
    assert merged == signed("author", "approver-1")
    assert merge_approval(merged, signed("author", bad), root) == signed("author", "approver-1", bad)


def test_lift_needs_its_own_threshold(
    keys: DevelopmentKeys, signed: Callable[..., bytes], vary: Callable[..., Any]
) -> None:
    stops = [bytes([number]) * 16 for number in (2, 1)]
    payload = make_lift("knight", stops, "false alarm", b"o" * 16)
    lift = verify_lift(signed("approver-1", "approver-3", payload=payload, kind=LIFT_TYPE), keys.root)
    assert lift.stop_ids == set(stops)
    assert lift.stops == ("01" * 16, "02" * 16)
    assert (lift.reason, lift.statement) == ("false alarm", "6f" * 16)
    for names in (("approver-1",), ("approver-1", "author"), ("operator", "issuer", "author")):
        with pytest.raises(ThresholdError, match="2 of 3 approver keys needed"):
            verify_lift(signed(*names, payload=payload, kind=LIFT_TYPE), keys.root)
    strict = vary(keys.root, lift_threshold=3)
    with pytest.raises(ThresholdError, match="3 of 3 approver keys needed, 2 distinct valid"):
        verify_lift(signed("approver-1", "approver-3", payload=payload, kind=LIFT_TYPE), strict)


def test_root_that_its_own_approvers_did_not_sign_is_none(signed: Callable[..., bytes], root: Root) -> None:
    payload = write_document(root)
    assert verify_root(signed("approver-2", "approver-3", payload=payload, kind=ROOT_TYPE)) == root
    for names in (("approver-2",), ("author", "operator", "issuer")):
        with pytest.raises(ThresholdError, match="2 of 3 approver keys needed"):
            verify_root(signed(*names, payload=payload, kind=ROOT_TYPE))


@pytest.mark.parametrize("lifts", [True, False])
def test_a_release_that_takes_back_fences_needs_as_many_approvers_as_a_lift(
    signed: Callable[..., bytes], release: Release, root: Root, vary: Callable[..., Any], lifts: bool
) -> None:
    """Else two people could take back by a release what three are needed to lift."""
    strict = vary(root, lift_threshold=3)
    payload = encode_release(vary(release, lifts_fences=release.lifts_fences if lifts else ()))
    by_two = signed("author", "approver-1", "approver-2", payload=payload)
    if lifts:
        with pytest.raises(ThresholdError, match="3 of 3"):
            verify_release(by_two, strict)
    else:
        verify_release(by_two, strict)
    verify_release(signed("author", "approver-1", "approver-2", "approver-3", payload=payload), strict)
