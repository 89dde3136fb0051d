# SPDX-License-Identifier: Apache-2.0
"""The in-memory fake of the `Bus` port, with the faults that tests switch on by hand.

It passes the same conformance suite as the NATS adapter: compare-and-set and idempotence, gapless live reads,
wildcards, permissions told one call late, bounded listenings, silence. It is for tests within one process; nothing in
it is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from itertools import count

from firecurtain.bus.listening import Listening
from firecurtain.bus.port import (
    FLUSH_S,
    LISTEN_LIMIT,
    Conflict,
    Denied,
    Message,
    NoAnswer,
    Report,
    StoreFailed,
    Unavailable,
    check_append,
    check_size,
)
from firecurtain.bus.users import User, covers, inbox_prefix
from firecurtain.terms import LedgerDamaged


class MemoryBroker:
    """What the clients of one fake share, and the switches of a test.

    Attributes:
        records: the ledger; a test may change or cut it as a broken disk would. Call `wake` afterwards.
        is_down: every call raises Unavailable; readers and listenings wait.
        store_fails: appends raise StoreFailed, as with a full disk.
        lose_acks: this many of the next appends are stored, but their caller is told Unavailable(ambiguous).
        drops: called with each message cast or asked; True loses it.
    """

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.is_down = False
        self.store_fails = False
        self.lose_acks = 0
        self.drops: Callable[[Message], bool] = lambda _message: False
        self.ids: dict[int, str] = {}
        self.listenings: dict[Listening[Message], str] = {}
        self.inbox_numbers = count(1)
        self._changed = asyncio.Event()

    def connect(self, user: User, report: Report) -> MemoryBus:
        """Open one client with this user's permissions."""
        return MemoryBus(self, user, report)

    def wake(self) -> None:
        """Let readers look at `records` again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_changed(self) -> None:
        """Wait for the next `wake`."""
        await self._changed.wait()

    def deliver(self, message: Message) -> int:
        """Put a message into every matching mailbox; returns how many that were."""
        if self.drops(message):
            return 1  # lost on the way: its sender cannot tell
        takers = [taker for taker, pattern in self.listenings.items() if covers(pattern, message.subject)]
        for taker in takers:
            taker.put(message, message.subject)
        return len(takers)


class MemoryBus:
    """A `Bus` over a MemoryBroker; made by `MemoryBroker.connect`."""

    def __init__(self, broker: MemoryBroker, user: User, report: Report) -> None:
        self._broker = broker
        self._user = user
        self._report = report
        self._denied: Denied | None = None
        self._closed = False
        self._mine: set[Listening[Message]] = set()

    async def append(self, event: bytes, *, expect: int, id: str) -> int:  # noqa: A002 - the architecture's word
        """As `Bus.append`."""
        check_append(event, expect, id)
        self._check()
        broker = self._broker
        if broker.store_fails:
            raise StoreFailed(f"the fake's store fails; the event after sequence {expect} is not stored.")
        if len(broker.records) != expect:
            if self._is_stored(event, expect, id):
                return expect + 1
            raise Conflict(expect, len(broker.records))
        broker.records.append(event)
        broker.ids[expect + 1] = id
        broker.wake()
        if broker.lose_acks:
            broker.lose_acks -= 1
            raise Unavailable(f"the acknowledgement of record {expect + 1} was lost.", ambiguous=True)
        return expect + 1

    async def last(self) -> int:
        """As `Bus.last`."""
        self._check()
        return len(self._broker.records)

    async def read(self, after: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """As `Bus.read`."""
        self._check()
        known: bytes | None = None
        while not self._closed:
            records = self._broker.records
            if not self._broker.is_down:
                if len(records) < after:
                    raise LedgerDamaged(f"the ledger ends at {len(records)}, but record {after} was already read.")
                if known is not None and records[after - 1] != known:
                    raise LedgerDamaged(f"record {after} changed: it is not what was read before.")
                if after < len(records):
                    after, known = after + 1, records[after]
                    yield after, known
                    continue
            await self._broker.wait_changed()

    async def cast(self, subject: str, message: bytes) -> None:
        """As `Bus.cast`."""
        check_size(message, f"the message to {subject}")
        self._check()
        if self._may_publish(subject):
            self._broker.deliver(Message(subject, message))

    async def flush(self, timeout_s: float = FLUSH_S) -> None:  # noqa: ARG002 - the port's parameter; nothing takes time here
        """As `Bus.flush`."""
        self._check()

    async def listen(self, subject: str, limit: int = LISTEN_LIMIT) -> Listening[Message]:
        """As `Bus.listen`."""
        self._check()
        if not any(covers(pattern, subject) for pattern in self._user.subscribe):
            self._deny(f"subscription to {subject!r} by {self._user.name!r}")
            self._check()

        async def unsubscribe() -> None:
            self._broker.listenings.pop(listening, None)
            self._mine.discard(listening)

        listening: Listening[Message] = Listening(subject, limit, self._report, unsubscribe)
        self._broker.listenings[listening] = subject
        self._mine.add(listening)
        return listening

    async def ask(self, subject: str, message: bytes, timeout_s: float) -> bytes:
        """As `Bus.ask`."""
        check_size(message, f"the question to {subject}")
        reply = f"{inbox_prefix(self._user.name)}.{next(self._broker.inbox_numbers)}"
        async with await self.listen(reply) as answers:
            if self._may_publish(subject) and not self._broker.deliver(Message(subject, message, reply)):
                raise NoAnswer(f"nobody listens on {subject!r}.", nobody_listens=True)
            self._check()
            try:
                async with asyncio.timeout(timeout_s):
                    return (await anext(answers)).data
            except TimeoutError as error:
                raise NoAnswer(f"no answer on {subject!r} within {timeout_s} s.") from error

    async def close(self) -> None:
        """As `Bus.close`."""
        self._closed = True
        for listening in tuple(self._mine):
            await listening.close()
        self._broker.wake()

    def _check(self) -> None:
        denied, self._denied = self._denied, None
        if denied is not None:
            raise denied
        if self._closed:
            raise Unavailable("this client of the fake is closed. Connect again.")
        if self._broker.is_down:
            raise Unavailable("the fake is down. Nothing was sent; try again.")

    def _may_publish(self, subject: str) -> bool:
        if any(covers(pattern, subject) for pattern in self._user.publish):
            return True
        self._deny(f"publish to {subject!r} by {self._user.name!r}")
        return False

    def _deny(self, what: str) -> None:
        self._denied = Denied(f"the fake refuses: {what}. Give this user the subject.")
        self._report(self._denied)

    def _is_stored(self, event: bytes, expect: int, id: str) -> bool:  # noqa: A002 - the architecture's word
        if not 0 <= expect < len(self._broker.records):
            return False
        return self._broker.ids.get(expect + 1) == id and self._broker.records[expect] == event
