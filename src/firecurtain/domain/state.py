# SPDX-License-Identifier: Apache-2.0
"""The fleet as the ledger tells it, the moment a decision is made, and the live attestations it is made with.

All values are frozen; mappings are replaced, never changed in place. `Fleet` is a fold over events and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from firecurtain.trust.release import Release
from firecurtain.trust.root import Root


class Instant(msgspec.Struct, frozen=True):
    """One reading of the control plane's clocks per turn.

    `issuer_ns` runs on the clock named `clock_id`; `started_ns` is when this issuer started on it, the earliest moment
    that a stop of an unknown clock may be counted from. `utc_ms` is for records only.
    """

    clock_id: bytes
    issuer_ns: int
    started_ns: int
    utc_ms: int


class Presence(msgspec.Struct, frozen=True):
    """What one node last attested, on the issuer clock; a value passed to `decide`, never an event.

    `answered_ns` outlives the session: it bounds the grant that an earlier session may still hold. `digest` names the
    whole attest. `since_ns` is when this session began to attest this artifact without a break, and `accepted_ns` when
    it was first answered for it, None until then.
    """

    session: bytes
    number: int
    artifact: str | None
    ledger_seq: int
    attested_ns: int
    answered_ns: int | None
    digest: str = ""
    since_ns: int = 0
    accepted_ns: int | None = None


Live = Mapping[str, Presence]


class Node(msgspec.Struct, frozen=True):
    """An enrolled node; `excluded_by` is the id of the stop that took it out."""

    name: str
    service: str
    public_key: bytes
    session: bytes | None = None
    excluded_by: bytes | None = None


class StopRecord(msgspec.Struct, frozen=True):
    """A stop of the set H as recorded; `lifted` when its id is in L. `seq` is the fencing floor of its scope."""

    id: bytes
    kind: str
    scope: str
    reason: str
    author: bytes
    clock_id: bytes
    durable_ns: int
    seq: int
    lifted: bool = False


class ReleaseRecord(msgspec.Struct, frozen=True):
    """A proposed release: its envelope so far, whether k signed, the stages opened and the tokens armed."""

    release: str
    document: Release
    envelope: bytes
    complete: bool = False
    stages: tuple[str, ...] = ()
    armed: tuple[str, ...] = ()


class Fleet(msgspec.Struct, frozen=True):
    """Everything the ledger says. `content_seq` names, per service, the last event that changed its grants.

    `lifts` are the envelopes as they came; `lifted` is the set L: each lifted id and its envelope's place in `lifts`.
    """

    fleet: str
    epoch: int
    root: Root
    seq: int
    nodes: Mapping[str, Node]
    releases: Mapping[str, ReleaseRecord]
    stops: Mapping[bytes, StopRecord]
    lifts: tuple[bytes, ...]
    content_seq: Mapping[str, int]
    lifted: Mapping[bytes, int] = {}
