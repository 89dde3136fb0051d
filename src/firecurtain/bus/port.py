# SPDX-License-Identifier: Apache-2.0
"""The `Bus` port: what every other room may ask of a message bus, and the errors it may answer with.

Two halves. The journal half (`append`, `last`, `read`) is durable, ordered and guarded by compare-and-set. The cast
half (`cast`, `listen`, `ask`) is at most once: a message may be lost, late or repeated, and the protocol holds anyway.
This module does no I/O, knows no NATS and signs nothing.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

from firecurtain.bus.listening import Listening
from firecurtain.terms import BusError, InvariantError

MESSAGE_BYTES_MAX = 512 * 1024
"""Largest event or message. Chosen: eight times the cap of a signed message, so that an envelope fits."""

LISTEN_LIMIT = 1024
"""Messages that may wait in one listening. Chosen: 0.1 s of a thousand nodes' counters."""

FLUSH_S = 2.0
"""How long `flush` waits for the broker. Chosen: two missed pings, after which the connection counts as lost."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

Report = Callable[[BusError], None]
"""Told at once of everything that no call can raise: a lost connection, a denied publish, dropped messages."""


class Conflict(BusError):  # noqa: N818 - the design's word: a result of compare-and-set, not a failure
    """The ledger is not where the caller thought. `last` is the sequence of its newest record."""

    code = "bus-conflict"

    def __init__(self, expect: int, last: int) -> None:
        super().__init__(
            f"append expected the ledger at sequence {expect}, but it stands at {last}. "
            "Read the records in between and decide again."
        )
        self.expect = expect
        self.last = last


class Unavailable(BusError):  # noqa: N818 - the design's word
    """The broker cannot be reached. `ambiguous` says whether an append may nevertheless have been stored."""

    code = "bus-unavailable"

    def __init__(self, text: str, *, ambiguous: bool = False) -> None:
        super().__init__(text)
        self.ambiguous = ambiguous


class StoreFailed(BusError):  # noqa: N818 - says what failed: the broker's disk, not the connection
    """The broker answers but cannot store. After a full disk it stays so until it is restarted."""

    code = "bus-store-failed"


class RecordMissing(StoreFailed):
    """The stream counts record `seq` and does not give it. Harmless if nobody ever saw it, else it is lost.

    A broker whose disk was full counts a record it could not write, until it is restarted. Whoever holds a copy of the
    ledger knows whether the record ever was.
    """

    code = "bus-record-missing"

    def __init__(self, seq: int, last: int) -> None:
        super().__init__(
            f"the stream says it ends at {last} and does not give record {seq}: its disk is full or broken. "
            "Free space on the control host and restart the broker; then run `firecurtain ledger verify`."
        )
        self.seq = seq


class NoAnswer(BusError):  # noqa: N818 - in this protocol no answer is an answer
    """Nobody answered an `ask` in time. Silence is how the control plane refuses a node, so expect it."""

    code = "bus-no-answer"

    def __init__(self, text: str, *, nobody_listens: bool = False) -> None:
        super().__init__(text)
        self.nobody_listens = nobody_listens


class Denied(BusError):  # noqa: N818 - the broker's word for it
    """The broker refuses this user this subject, or this user altogether."""

    code = "bus-denied"


class TooLarge(BusError):  # noqa: N818 - reads as the sentence it raises
    """A message or event exceeds MESSAGE_BYTES_MAX."""

    code = "bus-too-large"


@dataclass(frozen=True, slots=True)
class Message:
    """One message as received. To answer it, cast to `reply` (empty when no answer is wanted)."""

    subject: str
    data: bytes
    reply: str = ""


class Bus(Protocol):
    """What control, agent and command line need of a message bus; `nats` and `memory` pass one conformance suite.

    Every call raises Denied when an earlier publish of this connection turned out to be refused: the broker tells that
    only afterwards, and a silent loss would look like a slow network. After `close` every call raises Unavailable.
    """

    async def append(self, event: bytes, *, expect: int, id: str) -> int:  # noqa: A002 - the architecture's word
        """Append one record after sequence `expect`; durable on disk when this returns.

        The same event with the same `expect` and `id` may be sent again, at any time: it is stored once and every call
        returns its sequence, `expect + 1`.
        Raises: Conflict, Unavailable (ambiguous: append again, or read back), StoreFailed, Denied, TooLarge.
        """
        ...

    async def last(self) -> int:
        """Sequence of the newest record, 0 for an empty ledger. Raises: Unavailable, StoreFailed."""
        ...

    def read(self, after: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """Yield (sequence, event) from `after + 1` on, without a gap, then live for as long as the bus is open.

        A broker restart in between is survived. Leave the loop early only inside `contextlib.aclosing`.
        It ends when this client closes. Raises: LedgerDamaged: a record in between is missing, one changed, or the
        ledger ends before `after`. RecordMissing: the newest are counted but not given. StoreFailed. Unavailable: the
        first request failed, or the broker closed the connection for good.
        """
        ...

    async def cast(self, subject: str, message: bytes) -> None:
        """Send to whoever listens now; at most once. Raises: Unavailable, Denied, TooLarge."""
        ...

    async def flush(self, timeout_s: float = FLUSH_S) -> None:
        """Return when the broker has taken everything cast so far. Raises: Unavailable, Denied."""
        ...

    async def listen(self, subject: str, limit: int = LISTEN_LIMIT) -> Listening[Message]:
        """Subscribe; when this returns no message cast from now on is missed (unless `limit` are waiting already).

        `*` stands for one word of the subject and a trailing `>` for one or more. Close the result, or use it in
        `async with`. Raises: Unavailable, Denied.
        """
        ...

    async def ask(self, subject: str, message: bytes, timeout_s: float) -> bytes:
        """Send and wait for the first answer. Raises: NoAnswer, Unavailable, Denied, TooLarge."""
        ...

    async def close(self) -> None:
        """Flush what is pending and end every listening and reading. Safe to call twice."""
        ...


def check_append(event: bytes, expect: int, id: str) -> None:  # noqa: A002 - the architecture's word
    """Refuse an append that no adapter could do. Raises: TooLarge, InvariantError."""
    check_size(event, "the event")
    if not _ID.fullmatch(id) or expect < 0:
        raise InvariantError(f"append needs an id of letters, digits, '_' or '-' and expect >= 0: {id!r}, {expect}")


def check_size(message: bytes, what: str) -> None:
    """Refuse a message that no adapter would carry. Raises: TooLarge."""
    if len(message) > MESSAGE_BYTES_MAX:
        raise TooLarge(
            f"{what} has {len(message)} bytes, the bus carries at most {MESSAGE_BYTES_MAX}. "
            "Put the bulk into an artifact and send its digest."
        )
