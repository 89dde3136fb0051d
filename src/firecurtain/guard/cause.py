# SPDX-License-Identifier: Apache-2.0
"""The cause of an effect: the parent order, request or job on whose behalf an action is done.

A cause is named once, where the work enters, and travels in a context variable: through calls and awaits, not into
threads that are started later (there it must be named again; without one a limited action is denied).
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import TracebackType

from firecurtain.terms import LimitError

CAUSE_SIZE_MAX = 128
"""Chosen: any order id or UUID fits; with 65,536 causes remembered the memory stays below some 20 MB."""

present_cause: ContextVar[str | None] = ContextVar("firecurtain_cause", default=None)


class Cause:
    """`with guard.cause("p-17"):` every acquire inside counts for p-17, unless it names another cause."""

    __slots__ = ("_outer", "id")

    def __init__(self, cause_id: str) -> None:
        self.id = parse_cause(cause_id)
        self._outer: list[Token[str | None]] = []

    def __enter__(self) -> Cause:
        self._outer.append(present_cause.set(self.id))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        present_cause.reset(self._outer.pop())


def parse_cause(cause_id: str) -> str:
    """Read a cause. Raises: LimitError: it is no text, empty, or longer than 128 characters.

    >>> parse_cause("p-17")
    'p-17'
    """
    if not isinstance(cause_id, str) or not 0 < len(cause_id) <= CAUSE_SIZE_MAX:
        raise LimitError(
            f"a cause is a text of 1 to {CAUSE_SIZE_MAX} characters, got {str(cause_id)[:CAUSE_SIZE_MAX]!r} of type "
            f"{type(cause_id).__name__}. Do: name the parent order or request, e.g. cause='p-17'."
        )
    return cause_id
