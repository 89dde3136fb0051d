# SPDX-License-Identifier: Apache-2.0
"""Ed25519 keys as the frame needs them: a signer, a verifier and the eight-byte key id.

It knows no file, no role and no threshold: those are `trust`. It stands apart from `trust` so that `halt` signs its
stop without importing the release machinery.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from firecurtain.terms import WireError

KEYID_BYTES = 8
SIGNATURE_BYTES = 64


class Signer(Protocol):
    """Anything that signs for one public key: a file today, an HSM later."""

    @property
    def keyid(self) -> bytes: ...

    def sign(self, data: bytes) -> bytes: ...


class Ed25519Signer:
    """A signer over a raw 32-byte private seed held in memory."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 32:
            raise WireError(
                f"an Ed25519 seed has 32 bytes, got {len(seed)}. Write the key anew with `firecurtain init`."
            )
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()
        self.keyid = compute_keyid(self.public)

    def sign(self, data: bytes) -> bytes:
        """The 64-byte signature of `data`."""
        return self._key.sign(data)


def compute_keyid(public: bytes) -> bytes:
    """The first eight bytes of sha256(raw public key): names a key, proves nothing.

    >>> compute_keyid(bytes(32)).hex()
    '66687aadf862bd77'
    """
    return hashlib.sha256(public).digest()[:KEYID_BYTES]


def is_signature(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether `signature` over `data` was made by `public` (32 raw bytes)."""
    try:
        _load_public(public).verify(signature, data)
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=4096)
def _load_public(public: bytes) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(public)
    except ValueError as error:
        raise WireError(f"{public.hex()!r} is no Ed25519 public key: {error}") from error
