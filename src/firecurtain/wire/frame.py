# SPDX-License-Identifier: Apache-2.0
"""The bytes of a message: `FCB1 | keyid[8] | signature[64] | msgpack array`, at most 64 KiB.

The signature covers the DSSE pre-authentication encoding of the payload with the message's own payload type, so that
a signed stop can never be read as a signed beacon. Received payloads are verified as they came and never re-encoded.
Source: 03-protocol "Messages"; DSSE v1 protocol, "PAE".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from firecurtain.terms import WireError
from firecurtain.wire.commands import Command
from firecurtain.wire.keys import KEYID_BYTES, SIGNATURE_BYTES, Signer, is_signature
from firecurtain.wire.messages import Answer, Attest, Beacon, Reply, Stop

MAGIC = b"FCB1"
FRAME_BYTES_MAX = 64 * 1024
_PAYLOAD = len(MAGIC) + KEYID_BYTES + SIGNATURE_BYTES

Signed = Answer | Attest | Beacon | Command | Reply | Stop
M = TypeVar("M", Answer, Attest, Beacon, Command, Reply, Stop)

_encoder = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class Verified(Generic[M]):
    """A message whose signature held, and the key that made it."""

    keyid: bytes
    message: M


def encode_frame(message: Signed, signer: Signer) -> bytes:
    """Sign `message` and frame it.

    Raises: WireError: the frame would exceed 64 KiB; widen the content, never drop a stop.
    """
    payload = _encoder.encode(message)
    if _PAYLOAD + len(payload) > FRAME_BYTES_MAX:
        size = _PAYLOAD + len(payload)
        raise WireError(
            f"{type(message).__name__} has {size} bytes, a frame holds {FRAME_BYTES_MAX}: widen its scopes."
        )
    signature = signer.sign(_pre_authenticate(type(message), payload))
    return b"".join((MAGIC, signer.keyid, signature, payload))


def decode_frame(kind: type[M], frame: bytes, keys: Mapping[bytes, bytes]) -> Verified[M]:
    """Verify `frame` as a `kind` signed by one of `keys` (key id -> 32 raw public bytes) and decode it.

    Raises: WireError: size, magic, unknown key, signature, malformed payload or unknown field.
    """
    if len(frame) > FRAME_BYTES_MAX:
        raise WireError(f"{kind.__name__} of {len(frame)} bytes refused: a frame holds at most {FRAME_BYTES_MAX}.")
    if len(frame) <= _PAYLOAD or frame[: len(MAGIC)] != MAGIC:
        raise WireError(f"{len(frame)} bytes starting {frame[:4]!r} are no frame: expected {MAGIC!r} and a payload.")
    keyid = frame[len(MAGIC) : len(MAGIC) + KEYID_BYTES]
    public = keys.get(keyid)
    if public is None:
        raise WireError(f"{kind.__name__} signed by unknown key {keyid.hex()}; {len(keys)} keys may sign it here.")
    payload = frame[_PAYLOAD:]
    if not is_signature(public, frame[len(MAGIC) + KEYID_BYTES : _PAYLOAD], _pre_authenticate(kind, payload)):
        raise WireError(f"signature of {kind.__name__} by key {keyid.hex()} does not hold: forged or damaged, dropped.")
    return Verified(keyid, decode_payload(kind, payload))


P = TypeVar("P")


def decode_payload(kind: type[P], payload: bytes) -> P:
    """Decode one msgpack array strictly: every field present, none unknown, all of their type. Raises: WireError."""
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"{kind.__name__} is malformed: {error}. Sender and receiver differ in version?") from error


def _pre_authenticate(kind: type[Signed], payload: bytes) -> bytes:
    payload_type = f"application/vnd.firecurtain.{kind.__name__.lower()}".encode()
    return b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type, len(payload), payload)
