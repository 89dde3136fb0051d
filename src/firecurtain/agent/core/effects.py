# SPDX-License-Identifier: Apache-2.0
"""What the core wants done, as small values. The shell carries them out in the order given, one after the other.

When one of them fails, the shell drops the rest and tells the core (`on_latch_failed`). So the order is the safety
rule: a page is closed or narrowed before a stop is written down, and a stop is written down before it is acknowledged.
"""

from __future__ import annotations

import msgspec

from firecurtain.permit.page import Grant
from firecurtain.terms import Reason
from firecurtain.wire.messages import Attest, StopEntry


class ClosePage(msgspec.Struct, frozen=True):
    """Zero the permit page. `grant` is what would be permitted, if that is known."""

    reason: Reason
    detail: str
    grant: Grant | None = None


class WriteGrant(msgspec.Struct, frozen=True):
    """Write another grant into the page. What narrows goes through zero: that is the writer's business."""

    grant: Grant
    deadline_ns: int


class Renew(msgspec.Struct, frozen=True):
    """Move the deadline of the grant in the page."""

    deadline_ns: int


class LatchStops(msgspec.Struct, frozen=True):
    """Append to the latch of H and fsync."""

    entries: tuple[StopEntry, ...]


class LatchLifts(msgspec.Struct, frozen=True):
    """Append to the latch of L and fsync."""

    stop_ids: tuple[bytes, ...]


class Acknowledge(msgspec.Struct, frozen=True):
    """These stops are durable here: tell the core so (`on_latched`), then attest at once."""

    stop_ids: tuple[bytes, ...]


class Challenge(msgspec.Struct, frozen=True):
    """Attest at once: what runs, the content or the clocks have changed."""


class SendAttest(msgspec.Struct, frozen=True):
    """Sign and send one attest; its answer goes to `on_answer`."""

    attest: Attest


class FetchRelease(msgspec.Struct, frozen=True):
    """Get this release's envelope, verify it, and tell the core (`on_release`)."""

    release: str


class VerifyLift(msgspec.Struct, frozen=True):
    """Verify a lift (`on_lift`) or a release that takes back fences (`on_taken_back`), and tell the core."""

    envelope: bytes


Effect = (
    ClosePage
    | WriteGrant
    | Renew
    | LatchStops
    | LatchLifts
    | Acknowledge
    | Challenge
    | SendAttest
    | FetchRelease
    | VerifyLift
)
