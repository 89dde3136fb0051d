# SPDX-License-Identifier: Apache-2.0
"""What people ask of the control plane. Each command is signed by an operator and carries a single-use challenge.

The challenge, fetched with `Hello`, makes a recorded command worthless: replaying `arm` after a disarm is refused.
A halt is not a command but a `Stop` message: stopping needs no challenge and no ledger.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from firecurtain.wire.messages import Hex, Id, Name, Text, Token, Version

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


class OpenStage(Body, frozen=True):
    """Call the nodes of a stage: from now on they get permits for this release only."""

    release: Hex
    stage: Name


class Arm(Body, frozen=True):
    """Arm the release's flags: fence what does not declare them, wait, then append."""

    release: Hex


class Disarm(Body, frozen=True):
    """Stop flag tokens."""

    tokens: Annotated[tuple[Token, ...], Meta(min_length=1, max_length=64)]
    reason: Text


class LiftStops(Body, frozen=True):
    """A lift envelope signed by k of n people that names stop ids."""

    envelope: Envelope


class Status(Body, frozen=True):
    """Report the fleet as the control plane sees it; the reply's detail is JSON."""


AnyBody = EnrolNode | ExcludeNode | ProposeRelease | ApproveRelease | OpenStage | Arm | Disarm | LiftStops | Status


class Command(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A body bound to a fleet and to one challenge of the running control plane."""

    version: Version
    fleet: Name
    challenge: Id
    body: AnyBody
