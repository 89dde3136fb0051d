# SPDX-License-Identifier: Apache-2.0
r"""The spellings that signed documents use, as types a decoder checks, and the one rule for public keys.

Ends of text are marked `\Z`: with `$` a name would also match with a newline behind it. No role and no threshold here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

from firecurtain.trust.envelope import DocumentError
from firecurtain.wire.keys import compute_keyid

DigestText = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
PublicKeyText = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
IdText = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
KeyidText = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")]
TokenText = Annotated[str, Meta(pattern=r"^fc1-[0-9A-HJKMNP-TV-Z]{12}\Z")]
Text = Annotated[str, Meta(min_length=1, max_length=500)]

_PUBLIC_KEY = re.compile(r"[0-9a-f]{64}")
_PRIME = 2**255 - 19
# The y coordinates of the points of order 1, 2, 4 and 8: for a "key" there, anyone can make a signature that holds.
_WEAK_Y = frozenset(
    {
        0,
        1,
        _PRIME - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)


def parse_public_key(text: str) -> bytes:
    """Read an Ed25519 public key, 64 lower-case hexadecimal characters, as its 32 raw bytes.

    Raises: DocumentError: another length, a second spelling of some key, or a key for which anyone can sign.

    >>> len(parse_public_key("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))
    32
    """
    raw = bytes.fromhex(text) if _PUBLIC_KEY.fullmatch(text) else bytes(32)
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y >= _PRIME or y in _WEAK_Y:
        raise DocumentError(
            f"{text!r} is no Ed25519 public key to rely on. Make one with `firecurtain init`, copy it whole."
        )
    return raw


def index_keys(public_keys: Iterable[str]) -> dict[bytes, bytes]:
    """Key id -> 32 raw public bytes, as `wire.decode_frame` and `verify_envelope` take them.

    Raises: DocumentError: a key is listed twice, or two keys share an id.
    """
    indexed: dict[bytes, bytes] = {}
    for text in public_keys:
        raw = parse_public_key(text)
        keyid = compute_keyid(raw)
        if keyid in indexed:
            raise DocumentError(
                f"key {text} and key {indexed[keyid].hex()} share id {keyid.hex()}. List each key once."
            )
        indexed[keyid] = raw
    return indexed
