# SPDX-License-Identifier: Apache-2.0
"""A lift: k of n people say that named stops of one fleet no longer hold.

Stop ids are random and never used again, so a lift that is replayed lifts nothing new. A value only: see `verify`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

import msgspec
from msgspec import Meta

from firecurtain.trust.envelope import DocumentError, write_document
from firecurtain.trust.fields import IdText, Name, Text


class Lift(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which stops, as 32 hexadecimal characters each, why, and the id of the operator's statement."""

    fleet: Name
    stops: Annotated[tuple[IdText, ...], Meta(min_length=1, max_length=1024)]
    reason: Text
    statement: IdText

    def __post_init__(self) -> None:
        if list(self.stops) != sorted(set(self.stops)):
            raise DocumentError(f"stops {self.stops} must be sorted, each once: {tuple(sorted(set(self.stops)))}.")

    @property
    def stop_ids(self) -> frozenset[bytes]:
        """The ids as the 16 raw bytes that stops carry."""
        return frozenset(map(bytes.fromhex, self.stops))


def make_lift(fleet: str, stop_ids: Collection[bytes], reason: str, statement: bytes) -> bytes:
    """The payload to sign.

    Args:
        stop_ids, statement: 16 raw bytes each; `statement` is drawn by the operator's client.
    Raises: DocumentError: no stop named, an id of another length, an empty reason.
    """
    stops = tuple(sorted({stop_id.hex() for stop_id in stop_ids}))
    return write_document(Lift(fleet=fleet, stops=stops, reason=reason, statement=statement.hex()))
