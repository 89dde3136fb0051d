# SPDX-License-Identifier: Apache-2.0
"""The bytes of a DSSE envelope, and the strict reading of the JSON document inside.

Strict means: bounded, no unknown field, no key twice, standard base64. It checks no signature: see `verify`.
Source: DSSE v1 envelope and protocol ("PAE"); in-toto attestation v1 for releases.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import ClassVar, TypeVar

import msgspec

from firecurtain.terms import TrustError

RELEASE_TYPE = "application/vnd.in-toto+json"
ROOT_TYPE = "application/vnd.firecurtain.root+json"
LIFT_TYPE = "application/vnd.firecurtain.lift+json"

ENVELOPE_BYTES_MAX = 60_000  # derived: it travels inside a 64 KiB frame together with the command around it
SIGNATURES_MAX = 64


class EnvelopeError(TrustError):
    """An envelope is too large, malformed, of another payload type or signed by an unknown algorithm."""

    code: ClassVar[str] = "trust-envelope"


class DocumentError(TrustError, ValueError):
    """A signed document contradicts itself or breaks its own rules."""

    code: ClassVar[str] = "trust-document"


class EnvelopeSignature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One signature, base64; `keyid` only says where to look and proves nothing."""

    keyid: str
    sig: str


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A payload, base64, its type and the signatures over both."""

    payload: str
    payload_type: str
    signatures: tuple[EnvelopeSignature, ...]


def read_envelope(data: bytes, payload_type: str) -> tuple[bytes, Sequence[tuple[str, bytes]]]:
    """Take an envelope apart into its payload and its (keyid, signature) pairs.

    Raises: EnvelopeError: size, JSON, unknown field, other payload type, a key id twice, a base64 that is none.
    """
    if len(data) > ENVELOPE_BYTES_MAX:
        raise EnvelopeError(
            f"envelope of {len(data)} bytes refused, at most {ENVELOPE_BYTES_MAX}. Shorten its document."
        )
    envelope = read_document(data, Envelope, EnvelopeError)
    if envelope.payload_type != payload_type:
        raise EnvelopeError(
            f"envelope holds {envelope.payload_type!r}, expected {payload_type!r}. Was another file meant?"
        )
    if len(envelope.signatures) > SIGNATURES_MAX:
        raise EnvelopeError(
            f"{len(envelope.signatures)} signatures, at most {SIGNATURES_MAX}. Remove those not needed."
        )
    pairs = [(signature.keyid, _decode_base64(signature.sig)) for signature in envelope.signatures]
    if len({keyid for keyid, _ in pairs}) != len(pairs):
        raise EnvelopeError(f"{len(pairs)} signatures, but a key id stands twice. Keep one signature of each key.")
    return _decode_base64(envelope.payload), pairs


def encode_envelope(payload: bytes, payload_type: str, signatures: Sequence[tuple[str, bytes]]) -> bytes:
    """Write an envelope, signatures in the order of their key ids. Raises: EnvelopeError: larger than 60,000 bytes."""
    encoded = tuple(EnvelopeSignature(keyid, _encode_base64(signature)) for keyid, signature in sorted(signatures))
    data = msgspec.json.encode(Envelope(_encode_base64(payload), payload_type, encoded))
    if len(data) > ENVELOPE_BYTES_MAX:
        raise EnvelopeError(f"envelope of {len(data)} bytes, at most {ENVELOPE_BYTES_MAX}. Shorten its document.")
    return data


def compute_pre_authentication(payload: bytes, payload_type: str) -> bytes:
    """What is signed: the payload together with its type, so that no document can pass for one of another type.

    >>> compute_pre_authentication(b"hello", "t")
    b'DSSEv1 1 t 5 hello'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


T = TypeVar("T")


def read_document(data: bytes, kind: type[T], error: type[TrustError] = DocumentError) -> T:
    """Decode JSON into `kind`, refusing unknown fields, wrong types and a key that stands twice.

    Raises: `error`.
    """
    try:
        document = msgspec.json.decode(data, type=kind)
        # A second value under the same key would let two readers of one signed text see two documents.
        json.loads(data, object_pairs_hook=_refuse_twins)
    except (msgspec.DecodeError, ValueError) as problem:
        raise error(
            f"{kind.__name__.strip('_').lower()} cannot be read: {problem}. Nothing of it is used."
        ) from problem
    return document


def write_document(document: msgspec.Struct) -> bytes:
    """The JSON to sign, proven to read back as the same document. Raises: DocumentError: a field breaks its rule."""
    data = msgspec.json.encode(document)
    if read_document(data, type(document)) != document:
        raise DocumentError(f"{document!r} does not read back as written. Use only the types its fields name.")
    return data


def _refuse_twins(pairs: list[tuple[str, object]]) -> None:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError(f"a key stands twice among {keys}")


def _encode_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnvelopeError(f"{text[:20]!r}.. is not standard base64: {error}. The envelope is damaged.") from error
