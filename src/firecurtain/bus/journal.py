# SPDX-License-Identifier: Apache-2.0
"""The ledger half of the NATS adapter: a JetStream stream that only grows, compare-and-set appends, gapless reads.

Spoken directly in the JetStream API because every trap here is in the details: an append whose answer was lost is sent
again with the same id and the same expected sequence and then read back, never stored twice; JetStream may drop records
of a damaged file without a word, so a reader counts every sequence itself and looks at the stream's end while it waits.
This module knows no hash chain (that is `ledger`) and keeps no copy.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from itertools import count
from secrets import token_hex
from typing import Any, Protocol

from firecurtain.bus.listening import Listening
from firecurtain.bus.port import (
    MESSAGE_BYTES_MAX,
    Conflict,
    NoAnswer,
    RecordMissing,
    Report,
    StoreFailed,
    Unavailable,
    check_append,
)
from firecurtain.bus.users import LEDGER_STREAM, LEDGER_SUBJECT
from firecurtain.terms import LedgerDamaged

APPEND_ATTEMPTS = 3  # with the next: an append gives up after 4.5 s, inside JetStream's two minutes of duplicate memory
ATTEMPT_S = 1.5
CALL_S = 2.0  # one call of the JetStream API; measured 0.3 ms, so a call this late is lost
DUPLICATES_NS = 120_000_000_000
PULL_COUNT = 128  # messages asked for at a time: at most 64 MiB wait in a reader
PULL_NS = 30_000_000_000
HEARTBEAT_NS = 1_000_000_000
SILENCE_S = 2.5  # two heartbeats missed: the pull is lost and is made again
CONSUMER_IDLE_NS = 30_000_000_000  # the broker forgets a reader's place after this silence
RECORD_OVERHEAD_BYTES = 4096  # headers beside the event

_WRONG_SEQUENCE = (10071, 10164)
_NO_STREAM = 10059


class Link(Protocol):
    """What the journal needs of the connection."""

    report: Report
    wakers: set[Callable[[], None]]

    @property
    def is_closed(self) -> bool: ...
    @property
    def is_over(self) -> bool: ...
    async def publish(self, subject: str, message: bytes, reply: str = "") -> None: ...
    async def request(
        self, subject: str, message: bytes, timeout_s: float, headers: dict[str, str] | None = None
    ) -> Any: ...
    async def listen(self, subject: str, limit: int, convert: Callable[[Any], Any]) -> Listening[Any]: ...
    async def wait_connected(self, timeout_s: float) -> bool: ...
    def new_inbox(self) -> str: ...


class Journal:
    """Appends to and reads the stream FC_LEDGER over one connection."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._reader_numbers = count(1)

    async def create(self, bytes_max: int) -> None:
        """Create the stream, or find an identical one. A full stream refuses: it never drops its oldest records."""
        answer = await self._call(
            f"STREAM.CREATE.{LEDGER_STREAM}",
            name=LEDGER_STREAM,
            subjects=[LEDGER_SUBJECT],
            storage="file",
            retention="limits",
            discard="new",
            deny_delete=True,
            deny_purge=True,
            num_replicas=1,
            max_bytes=bytes_max,
            max_msg_size=MESSAGE_BYTES_MAX + RECORD_OVERHEAD_BYTES,
            duplicate_window=DUPLICATES_NS,
        )
        _refuse_error(answer, f"create the stream {LEDGER_STREAM} of {bytes_max} bytes")

    async def append(self, event: bytes, expect: int, id: str) -> int:  # noqa: A002 - the architecture's word
        """As `Bus.append`."""
        check_append(event, expect, id)
        headers = {"Nats-Expected-Last-Sequence": str(expect), "Nats-Msg-Id": _message_id(id, expect)}
        for attempt in range(APPEND_ATTEMPTS):
            if attempt:
                await self._link.wait_connected(ATTEMPT_S)
            try:
                raw = await self._link.request(LEDGER_SUBJECT, event, ATTEMPT_S, headers)
            except NoAnswer as error:
                if error.nobody_listens:
                    raise StoreFailed("JetStream takes no appends: disabled, or its stream is gone.") from error
                continue
            except Unavailable:
                if attempt == 0:
                    raise
                continue
            answer = json.loads(raw.data)
            if "error" not in answer and int(answer["seq"]) == expect + 1 and not answer.get("duplicate"):
                return expect + 1
            if "error" in answer and answer["error"].get("err_code") not in _WRONG_SEQUENCE:
                _refuse_error(answer, f"store the event after sequence {expect}")
            break
        # Our own earlier attempt, somebody else's record, or nothing at all: only the record itself can tell. With a
        # full disk JetStream leaves an append without any answer and still answers questions.
        return await self._settle(event, expect, id)

    async def last(self) -> int:
        """As `Bus.last`. A stream that is not there is an empty ledger: whoever has read more will say damaged."""
        answer = await self._call(f"STREAM.INFO.{LEDGER_STREAM}")
        if answer.get("error", {}).get("err_code") == _NO_STREAM:
            return 0
        _refuse_error(answer, f"read the state of the stream {LEDGER_STREAM}")
        return int(answer["state"]["last_seq"])

    async def read(self, after: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """As `Bus.read`."""
        place = _Place(after)
        is_first = True
        while not self._link.is_closed:
            try:
                async with aclosing(self._pull(place)) as records:
                    async for record in records:
                        is_first = False
                        yield record
                is_first = False
            except (NoAnswer, Unavailable) as trouble:
                if is_first or self._link.is_over:
                    raise
                self._link.report(trouble)
                await self._link.wait_connected(SILENCE_S)

    async def _pull(self, place: _Place) -> AsyncGenerator[tuple[int, bytes], None]:
        """Read until the connection or the broker's memory of this reader is lost; `place` says where to go on."""
        place.check_end(await self.last())
        inbox_name = self._link.new_inbox()
        async with await self._link.listen(inbox_name, 2 * PULL_COUNT, _keep) as inbox:
            wake = partial(inbox.put, None)
            self._link.wakers.add(wake)
            try:
                reader = await self._create_reader(place.start)
                async for sequence, event in self._pull_batches(reader, inbox_name, inbox, place):
                    yield sequence, event
            finally:
                self._link.wakers.discard(wake)

    async def _pull_batches(
        self, reader: str, inbox_name: str, inbox: Listening[Any], place: _Place
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        request = json.dumps({"batch": PULL_COUNT, "expires": PULL_NS, "idle_heartbeat": HEARTBEAT_NS}).encode()
        while True:
            await self._link.publish(f"$JS.API.CONSUMER.MSG.NEXT.{LEDGER_STREAM}.{reader}", request, inbox_name)
            asked = PULL_COUNT
            while asked:
                raw = await _take(inbox)
                if raw is None:
                    return
                status = (raw.headers or {}).get("Status") if not raw.data else None
                if status == "100":
                    place.check_owed(await self.last())
                elif status is None:
                    asked -= 1
                    if place.accept(sequence := _sequence_of(raw.reply), raw.data):
                        yield sequence, raw.data
                elif status == "408":  # the pull ran out quietly: ask again
                    break
                else:
                    return

    async def _create_reader(self, start: int) -> str:
        name = f"r{next(self._reader_numbers)}-{token_hex(8)}"
        config = {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": start,
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": True,
            "inactive_threshold": CONSUMER_IDLE_NS,
        }
        call = f"CONSUMER.CREATE.{LEDGER_STREAM}.{name}"
        answer = await self._call(call, stream_name=LEDGER_STREAM, config=config, action="create")
        _refuse_error(answer, f"read from sequence {start}")
        return name

    async def _settle(self, event: bytes, expect: int, id: str) -> int:  # noqa: A002 - as above
        """Look at what stands after `expect`: our event, another one, or nothing."""
        try:
            stored = await self._call(f"STREAM.MSG.GET.{LEDGER_STREAM}", seq=expect + 1)
            last = await self.last()
        except (StoreFailed, Unavailable) as lost:
            raise Unavailable(
                f"append after sequence {expect} was sent and not acknowledged ({lost}). "
                "It may be stored: append the same event again, or read from there.",
                ambiguous=True,
            ) from lost
        if _is_same(stored, event, _message_id(id, expect)):
            return expect + 1
        if "message" in stored or last < expect:
            raise Conflict(expect, last)
        if last > expect:
            raise RecordMissing(expect + 1, last)
        raise StoreFailed(
            f"JetStream answers but did not store the event after sequence {expect}, sent {APPEND_ATTEMPTS} times: "
            "its disk is full or broken. Free space on the control host and restart the broker."
        )

    async def _call(self, call: str, **body: object) -> dict[str, Any]:
        request = json.dumps(body).encode() if body else b""
        try:
            raw = await self._link.request(f"$JS.API.{call}", request, CALL_S)
        except NoAnswer as error:
            if error.nobody_listens:
                raise StoreFailed(f"JetStream does not answer {call}: it is disabled. Restart the broker.") from error
            raise Unavailable(f"JetStream did not answer {call} within {CALL_S} s. Try again.") from error
        answer: dict[str, Any] = json.loads(raw.data)
        return answer


class _Place:
    """Where a reader stands, and what it knows about the records that must follow."""

    def __init__(self, after: int) -> None:
        self._sequence = after
        self._event: bytes | None = None
        self._owed = after

    @property
    def start(self) -> int:
        # The newest record already read is asked for again, so that a stream rewritten behind our back is noticed.
        return self._sequence + 1 if self._event is None else self._sequence

    def accept(self, sequence: int, event: bytes) -> bool:
        """Is this the next record? The last one read again is checked and skipped. Raises: LedgerDamaged."""
        if sequence == self._sequence and self._event is not None:
            if event != self._event:
                raise LedgerDamaged(f"record {sequence} changed: it is not what was read before. {_DO}")
            return False
        if sequence != self._sequence + 1:
            raise LedgerDamaged(
                f"record {self._sequence + 1} is missing: the stream goes from {self._sequence} to {sequence}. {_DO}"
            )
        self._sequence, self._event = sequence, event
        return True

    def check_end(self, last: int) -> None:
        """Raises: LedgerDamaged when the stream ends before what was already read."""
        if last < self._sequence:
            raise LedgerDamaged(f"the stream ends at {last}, but record {self._sequence} was already read. {_DO}")

    def check_owed(self, last: int) -> None:
        """A heartbeat ago the stream ended at `_owed`: by now every record up to there must have arrived."""
        self.check_end(last)
        if self._sequence < self._owed:
            raise RecordMissing(self._sequence + 1, self._owed)
        self._owed = last


_DO = "Grants stay refused. Run `firecurtain ledger verify`, then restore the store directory from a backup."


def _keep(raw: Any) -> Any:
    return raw


async def _take(inbox: Listening[Any]) -> Any:
    """The next raw message, or None when it is time to start over."""
    try:
        async with asyncio.timeout(SILENCE_S):
            return await anext(inbox, None)
    except TimeoutError:
        return None


def _message_id(id: str, expect: int) -> str:  # noqa: A002 - the architecture's word
    # The expected sequence is part of the identity: JetStream would otherwise call a second event with the same id a
    # duplicate within its window and a new record after it.
    return f"{id}-{expect}"


def _sequence_of(reply: str) -> int:
    """The stream sequence from a delivery's reply subject.

    >>> _sequence_of("$JS.ACK.FC_LEDGER.r1.1.1000.7.1795359773195279238.2")
    1000
    """
    return int(reply.split(".")[-4])


def _is_same(stored: dict[str, Any], event: bytes, message_id: str) -> bool:
    message = stored.get("message")
    if message is None:
        return False
    header_lines = base64.b64decode(message.get("hdrs", "")).decode().split("\r\n")
    return f"Nats-Msg-Id: {message_id}" in header_lines and base64.b64decode(message.get("data", "")) == event


def _refuse_error(answer: dict[str, Any], doing: str) -> None:
    error = answer.get("error")
    if error is None:
        return
    raise StoreFailed(
        f"JetStream cannot {doing}: {error.get('description')} (error {error.get('err_code')}). "
        "Look at the broker's log in the state directory and restart the control plane."
    )
