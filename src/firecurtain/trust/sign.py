# SPDX-License-Identifier: Apache-2.0
"""Make a DSSE envelope and add signatures to it, with any signer that `wire.keys` knows.

The bytes that are signed come from securesystemslib, those that `verify` checks from our own few lines: two readings of
the specification must agree at every signature. Nothing here asks whether a signer may sign.
"""

from __future__ import annotations

from collections.abc import Iterable

from securesystemslib.dsse import Envelope

from firecurtain.trust.envelope import encode_envelope, read_envelope
from firecurtain.wire.keys import Signer


def sign_envelope(payload: bytes, payload_type: str, signers: Iterable[Signer]) -> bytes:
    """Put `payload` into an envelope with one signature of each signer.

    Raises: EnvelopeError: the envelope would exceed 60,000 bytes.
    """
    message = Envelope(payload, payload_type, {}).pae()
    signatures = {signer.keyid.hex(): signer.sign(message) for signer in signers}
    return encode_envelope(payload, payload_type, list(signatures.items()))


def add_signature(envelope: bytes, payload_type: str, signer: Signer) -> bytes:
    """The same envelope with one more signature; signing again replaces the signer's own.

    Raises: EnvelopeError: malformed, of another payload type, or too large with it.
    """
    payload, pairs = read_envelope(envelope, payload_type)
    keyid = signer.keyid.hex()
    message = Envelope(payload, payload_type, {}).pae()
    kept = [pair for pair in pairs if pair[0] != keyid]
    return encode_envelope(payload, payload_type, [*kept, (keyid, signer.sign(message))])
