# SPDX-License-Identifier: Apache-2.0
"""Everything one agent knows, as one frozen value. Every bound on what it remembers stands here or in `stops`.

Nothing in it is changed in place; `machine` makes the next state from this one and something that happened.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from firecurtain.agent.core.clocks import ClockMemory
from firecurtain.agent.core.freshness import Track
from firecurtain.agent.core.stops import StopSets
from firecurtain.permit.page import Grant
from firecurtain.terms import Reason
from firecurtain.wire.messages import AllowedRelease, Running

OUTSTANDING_MAX = 16  # three seconds of exchanges with five issuers; more would only be older
RELEASES_MAX = 64


class Identity(msgspec.Struct, frozen=True):
    """Who this agent is and whose word it takes. `session` is drawn anew at each start and bound to the boot."""

    fleet: str
    service: str
    node: str
    session: bytes
    issuers: tuple[bytes, ...]
    max_age_ns: int

    @property
    def majority(self) -> int:
        """m: any two sets of m issuers share one."""
        return len(self.issuers) // 2 + 1


class ReleaseFacts(msgspec.Struct, frozen=True):
    """What this agent has read itself in a release envelope whose k of n signatures it verified."""

    release: str
    version: int
    service: str
    artifact: str
    limits: str
    tokens: tuple[str, ...]


class Content(msgspec.Struct, frozen=True):
    """Grant content as an issuer names it: where in the ledger, its digest, the releases it allows."""

    ledger_epoch: int
    ledger_seq: int
    digest: str
    allowed: tuple[AllowedRelease, ...]


NO_CONTENT = Content(0, 0, "0" * 64, ())


class Naming(msgspec.Struct, frozen=True):
    """The newest content one issuer has named, and when on which of its clocks."""

    keyid: bytes
    clock_id: bytes
    signed_ns: int
    content: Content


class Question(msgspec.Struct, frozen=True):
    """An attest that waits for its answer."""

    nonce: bytes
    asked_ns: int
    artifact: str


class Denied(msgspec.Struct, frozen=True):
    """No permit, why, and what would be permitted otherwise."""

    reason: Reason
    detail: str
    grant: Grant | None = None


class Permitted(msgspec.Struct, frozen=True):
    """A permit and until when."""

    grant: Grant
    deadline_ns: int


Verdict = Denied | Permitted


class AgentState(msgspec.Struct, frozen=True):
    """The state of the core. `page` is what the permit page says when all effects so far have been carried out."""

    identity: Identity
    page: Verdict
    sets: StopSets = StopSets()
    latched: tuple[bytes, ...] = ()
    latch_failure: str = ""
    running: Running | None = None
    running_doubt: str = "the agent has started no process yet."
    clock: ClockMemory = ClockMemory()
    clock_doubt: str = ""
    tracks: tuple[Track, ...] = ()
    questions: tuple[Question, ...] = ()
    namings: tuple[Naming, ...] = ()
    content: Content = NO_CONTENT
    releases: tuple[ReleaseFacts, ...] = ()
    number: int = 0
    heard_ns: int = -1
    drops: Mapping[str, int] = {}
