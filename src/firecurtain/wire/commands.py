# SPDX-License-Identifier: Apache-2.0
"""What people ask of the control plane. Each command is signed by an operator and carries a single-use challenge.

The challenge, fetched beforehand, makes a recorded command worthless: a replay is refused. A halt is not a command but
a `Stop` message (of any scope, flag tokens included): stopping needs no challenge and no ledger. Opening stages,
fencing and arming are the rollout's own steps once k of n approved, so nobody orders them by hand.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from firecurtain.wire.messages import Id, Name, Text, Version

Envelope = Annotated[bytes, Meta(max_length=60_000)]
PublicKey = Annotated[bytes, Meta(min_length=32, max_length=32)]


class Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    """Base of every command body: tagged by its class name."""


class EnrolNode(Body, frozen=True):
    """Admit a node's public key. The reply carries its broker credentials."""

    node: Name
    service: Name
    public_key: PublicKey


class ExcludeNode(Body, frozen=True):
    """Take a node out of the roster: it gets no answer, and a stop covers it."""

    node: Name
    reason: Text


class ProposeRelease(Body, frozen=True):
    """A release envelope with its author's signature."""

    envelope: Envelope


class ApproveRelease(Body, frozen=True):
    """The same payload with an approver's signature; the k-th opens nothing by itself."""

    envelope: Envelope


class LiftStops(Body, frozen=True):
    """A lift envelope signed by k of n people that names stop ids."""

    envelope: Envelope


class Status(Body, frozen=True):
    """Report the fleet as the control plane sees it; the reply's detail is JSON."""


AnyBody = EnrolNode | ExcludeNode | ProposeRelease | ApproveRelease | LiftStops | Status


class Command(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A body bound to a fleet and to one challenge of the running control plane."""

    version: Version
    fleet: Name
    challenge: Id
    body: AnyBody
