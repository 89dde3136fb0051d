# SPDX-License-Identifier: Apache-2.0
"""A bounded mailbox between an adapter and one reader, fair to all who send: when it is full the loudest one loses.

Oldest first, because here the newest beacon, answer or counter report is worth more than any older one, and because the
sets of stops travel again in every beacon: nothing that matters is carried by one message alone. A mailbox that blocked
instead would hold up every other listening of the same connection. A listening with a wildcard hears many nodes, each
on a subject of its own that the broker enforces: they are read in turn, and who sends most loses first, so that one
node's flood crowds out nobody else. This module does no I/O.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, TypeVar

from firecurtain.terms import BusError

Item = TypeVar("Item")


class Overflow(BusError):  # noqa: N818 - says what happened to the mailbox
    """A reader was too slow, and the oldest waiting messages were dropped."""

    code = "bus-overflow"


class Listening(Generic[Item]):
    """The messages of one subscription: of each subject in order of arrival. One reader; iterate with `async for`.

    The iteration ends after `close`; when the connection itself is gone it raises what ended it.
    """

    def __init__(
        self, subject: str, limit: int, report: Callable[[BusError], None], unsubscribe: Callable[[], Awaitable[None]]
    ) -> None:
        self.subject = subject
        self._limit = limit
        self._report = report
        self._unsubscribe = unsubscribe
        # By subject, whose turn it is first; no queue in it is empty, so there are at most `limit`.
        self._waiting: dict[str, deque[Item]] = {}
        self._size = 0
        self._arrived = asyncio.Event()
        self._end: BusError | None = None
        self._closed = False
        self._dropped_count = 0

    def put(self, item: Item, subject: str) -> None:
        """Called by the adapter: add one message, dropping the oldest of who has most when `limit` are waiting."""
        if self._closed:
            return
        if self._size >= self._limit:
            self._take(max(self._waiting, key=lambda sender: len(self._waiting[sender])))
            self._count_drop()
        self._waiting.setdefault(subject, deque()).append(item)
        self._size += 1
        self._arrived.set()

    def fail(self, error: BusError) -> None:
        """Called by the adapter: the connection is gone. What waits is still read, then `error` is raised."""
        self._end = error
        self._arrived.set()

    async def close(self) -> None:
        """Unsubscribe and end the iteration. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._waiting.clear()
        self._size = 0
        self._arrived.set()
        if self._end is None:
            await self._unsubscribe()

    def __aiter__(self) -> Listening[Item]:
        return self

    async def __anext__(self) -> Item:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            if self._end is not None:
                raise self._end
            self._arrived.clear()
            await self._arrived.wait()
        return self._take(next(iter(self._waiting)))

    async def __aenter__(self) -> Listening[Item]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _take(self, subject: str) -> Item:
        """The oldest message of this subject, which then has its next turn after the others."""
        queue = self._waiting.pop(subject)
        item = queue.popleft()
        self._size -= 1
        if queue:
            self._waiting[subject] = queue
        return item

    def _count_drop(self) -> None:
        self._dropped_count += 1
        # Reported at 1, 2, 4, 8 ...: a flood is told at once and as it grows, without becoming a flood of reports.
        if self._dropped_count & (self._dropped_count - 1) == 0:
            self._report(
                Overflow(
                    f"the reader of {self.subject!r} is too slow: {self._limit} messages wait and "
                    f"{self._dropped_count} older ones were dropped so far. Give the reader less work per message."
                )
            )
