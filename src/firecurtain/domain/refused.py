# SPDX-License-Identifier: Apache-2.0
"""A refused command as an event that can be quoted by its ledger_seq, and how many of them the ledger takes.

The refusal itself always goes back to the person; only its record is bounded. This module does not decide anything.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from firecurtain.domain.commands import Command, compute_author, compute_name
from firecurtain.domain.events import CommandRefused
from firecurtain.domain.state import Instant
from firecurtain.terms import NS_PER_S, Refusal

RECORDED_PER_MINUTE_MAX = 60
"""Chosen: one a second is more than a person types; ten times as many would let one key fill 10 MB a day."""

OPERATORS_MAX = 256
"""Keys counted within a minute; what comes from further ones is refused without a record."""

_MINUTE_NS = 60 * NS_PER_S


class RefusalBudget(msgspec.Struct, frozen=True):
    """How many refusals of each key were recorded in the running minute of issuer time."""

    minute: int = -1
    recorded: Mapping[bytes, int] = {}


def spend_refusal(budget: RefusalBudget, by: bytes, now: Instant) -> tuple[bool, RefusalBudget]:
    """Whether one more refusal of `by` is recorded, and the budget after it.

    >>> spend_refusal(RefusalBudget(), b"operator", Instant(b"clock", 0, 0, 0))[0]
    True
    """
    minute = now.issuer_ns // _MINUTE_NS
    recorded = budget.recorded if minute == budget.minute else {}
    spent = recorded.get(by, 0)
    if spent >= RECORDED_PER_MINUTE_MAX or (spent == 0 and len(recorded) >= OPERATORS_MAX):
        return False, RefusalBudget(minute, recorded)
    return True, RefusalBudget(minute, {**recorded, by: spent + 1})


def refusal_event(command: Command, refusal: Refusal) -> CommandRefused:
    """What the ledger keeps of a refusal: who asked for what, the code and the text."""
    return CommandRefused(compute_name(command), compute_author(command), refusal.code, str(refusal))
