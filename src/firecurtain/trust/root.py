# SPDX-License-Identifier: Apache-2.0
"""The root document: which keys play which role in a fleet, how many must agree, and how long a permit may live.

It is the one thing a node is given by hand; everything else follows from it. A value only: `verify` says whether its
envelope holds and whether it may follow another root.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from firecurtain.trust.envelope import DocumentError
from firecurtain.trust.fields import Name, PublicKeyText, index_keys

PublicKeys = Annotated[tuple[PublicKeyText, ...], Meta(min_length=1, max_length=64)]
Threshold = Annotated[int, Meta(ge=1)]

_ROLES = ("issuers", "stop_keys", "operators", "approvers", "authors")


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Roles as public keys in hexadecimal, thresholds, and times in ms.

    `issuers` sign beacons, `stop_keys` may stop, `operators` may command, `approve_threshold` of `approvers` let a
    release run, `lift_threshold` of them lift a stop, `authors` propose. `max_age_ms` caps a permit's life d,
    `delta_max_ms` bounds the time from check to effect.
    """

    fleet: Name
    version: Annotated[int, Meta(ge=1, lt=2**53)]
    max_age_ms: Annotated[int, Meta(ge=1, le=600_000)] = 1500
    beacon_period_ms: Annotated[int, Meta(ge=1)] = 200
    delta_max_ms: Annotated[int, Meta(ge=0, le=600_000)] = 250
    issuers: PublicKeys
    stop_keys: PublicKeys
    operators: PublicKeys
    approvers: PublicKeys
    approve_threshold: Threshold
    lift_threshold: Threshold
    authors: PublicKeys

    def __post_init__(self) -> None:
        for name in ("approve_threshold", "lift_threshold"):
            threshold = getattr(self, name)
            if not 1 <= threshold <= len(self.approvers):
                raise DocumentError(f"{name} is {threshold} of {len(self.approvers)} approvers. Set it from 1 to that.")
        # Chosen: with room for one lost beacon a permit outlives it; at two periods it would flicker.
        if self.beacon_period_ms * 3 > self.max_age_ms:
            raise DocumentError(
                f"beacon_period_ms {self.beacon_period_ms} needs max_age_ms of at least three times as much, "
                f"got {self.max_age_ms}. Shorten the period or lengthen the age."
            )
        _check_keys(self)

    @property
    def majority(self) -> int:
        """m: how many issuers must be heard; any two majorities share an issuer."""
        return len(self.issuers) // 2 + 1


def _check_keys(root: Root) -> None:
    for role in _ROLES:
        index_keys(getattr(root, role))  # refuses one key listed twice within a role
    index_keys(sorted({key for role in _ROLES for key in getattr(root, role)}))
    # An issuer's key is online: with it in another role one stolen key could bring in an artifact of its own.
    for role in ("approvers", "authors"):
        shared = sorted(set(root.issuers) & set(getattr(root, role)))
        if shared:
            raise DocumentError(f"key {shared[0]} is among issuers and {role}. Give the issuer a key of its own.")
