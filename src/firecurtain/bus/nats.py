# SPDX-License-Identifier: Apache-2.0
"""The NATS adapter of the `Bus` port: one connection, its listenings, its questions and its troubles.

nats-py is quiet where we must not be: a denied publish only reaches its error callback, a full reader drops messages,
a lost connection buffers publishes for later. Here each of these becomes an error of the next call or of `report`.
The ledger half is in `journal`. This module keeps no message, retries no cast and imports only what `halt` needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from firecurtain.bus.journal import Journal
from firecurtain.bus.listening import Listening, Overflow
from firecurtain.bus.port import (
    FLUSH_S,
    LISTEN_LIMIT,
    Denied,
    Message,
    NoAnswer,
    Report,
    Unavailable,
    check_size,
)
from firecurtain.bus.users import inbox_prefix
from firecurtain.terms import InvariantError

CONNECT_S = 2.0
"""How long `connect` tries. Chosen: a supervised broker restarts in well under a second; an agent tries again."""

# The client settings of the architecture: a silent broker counts as lost after 2 to 3 s.
RECONNECT_WAIT_S = 0.05
PING_INTERVAL_S = 1
PINGS_OUTSTANDING_MAX = 2
# Messages nats-py may hold before our mailbox sees them: it drops the newest, so that must never be the place where it
# happens. It reads at most 96 KiB in one go, which is fewer than this many of the smallest messages.
BURST_MAX = 8192
CANCEL_AGAIN_S = 0.05
REFUSALS_BELIEVED = 4
"""Refusals in a row that mean it. nats-server 2.15.1 refuses whoever is still shaking hands while it reloads its users:
386 of 9,865 connects under constant reloads. A user who is not in the file is refused each time."""
TRIP_S = 60  # nobody waits this long: `flush` gives up earlier, but may not cancel (see `_Link.flush`)


async def connect(
    url: str, *, user: str, password: str, report: Report, inbox: str = "", timeout_s: float = CONNECT_S
) -> NatsBus:
    """Open one connection.

    Args:
        url: `nats://host:port`.
        report: called from the event loop with each trouble no call can raise; keep it short.
        inbox: where answers go; the default is this user's own prefix, as its permissions say.
    Raises: Unavailable: nobody answers there within `timeout_s`. Denied: the broker does not know this user.
    """
    for _ in range(REFUSALS_BELIEVED - 1):
        with suppress(Denied):
            return await _open(url, user, password, inbox, report, timeout_s)
    return await _open(url, user, password, inbox, report, timeout_s)


async def _open(url: str, user: str, password: str, inbox: str, report: Report, timeout_s: float) -> NatsBus:
    link = _Link(url, report)
    await link.open(user, password, inbox or inbox_prefix(user), timeout_s)
    return NatsBus(link)


class NatsBus:
    """A `Bus` over one NATS connection; made by `connect`. Not for use from two event loops."""

    def __init__(self, link: _Link) -> None:
        self._link = link
        self._journal = Journal(link)

    async def create_ledger(self, bytes_max: int) -> None:
        """Create the ledger stream, or find it as it should be. Raises: StoreFailed, Unavailable, Denied."""
        await self._journal.create(bytes_max)

    async def append(self, event: bytes, *, expect: int, id: str) -> int:  # noqa: A002 - the architecture's word
        """As `Bus.append`."""
        return await self._journal.append(event, expect, id)

    async def last(self) -> int:
        """As `Bus.last`."""
        return await self._journal.last()

    def read(self, after: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """As `Bus.read`."""
        return self._journal.read(after)

    async def cast(self, subject: str, message: bytes) -> None:
        """As `Bus.cast`."""
        check_size(message, f"the message to {subject}")
        await self._link.publish(subject, message)

    async def flush(self, timeout_s: float = FLUSH_S) -> None:
        """As `Bus.flush`."""
        await self._link.flush(timeout_s)

    async def listen(self, subject: str, limit: int = LISTEN_LIMIT) -> Listening[Message]:
        """As `Bus.listen`."""
        return await self._link.listen(subject, limit, lambda raw: Message(raw.subject, raw.data, raw.reply))

    async def ask(self, subject: str, message: bytes, timeout_s: float) -> bytes:
        """As `Bus.ask`."""
        check_size(message, f"the question to {subject}")
        return (await self._link.request(subject, message, timeout_s)).data

    async def close(self) -> None:
        """As `Bus.close`."""
        await self._link.close()


class _Link:
    """The connection: opens, notices every trouble, and turns nats-py's errors into ours. Shared with the journal."""

    def __init__(self, url: str, report: Report) -> None:
        self.report = report
        self.wakers: set[Callable[[], None]] = set()
        self._url = url
        self._client = Client()
        self._refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._connected = asyncio.Event()
        self._last_trouble = "no connection was made yet"
        self._denied: Denied | None = None
        self._is_open = False
        self._ending: asyncio.Task[None] | None = None
        self._closing = False
        self._listenings: set[Listening[Any]] = set()
        self._trips: set[asyncio.Task[None]] = set()

    @property
    def is_closed(self) -> bool:
        """Did we close it?"""
        return self._closing

    @property
    def is_over(self) -> bool:
        """Is it closed for good, by us or by the broker?"""
        return self._closing or self._client.is_closed

    async def open(self, user: str, password: str, inbox: str, timeout_s: float) -> None:
        """Connect, telling apart a broker that is not there from one that does not want us."""
        attempt = asyncio.ensure_future(
            self._client.connect(
                self._url,
                user=user,
                password=password,
                inbox_prefix=inbox,
                name=user,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_reconnected,
                closed_cb=self._on_closed,
                connect_timeout=CONNECT_S,  # type: ignore[arg-type]  # annotated int, used as seconds in wait_for
                reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # annotated int, used in sleep
                max_reconnect_attempts=-1,
                ping_interval=PING_INTERVAL_S,
                max_outstanding_pings=PINGS_OUTSTANDING_MAX,
            )
        )
        try:
            either: set[asyncio.Future[Any]] = {attempt, self._refused}
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not attempt.done():
                attempt.cancel()
                await asyncio.wait({attempt})
        if attempt.cancelled() or attempt.exception():
            await self._give_up(user, timeout_s, attempt)
        self._is_open = True
        self._connected.set()

    async def _give_up(self, user: str, timeout_s: float, attempt: asyncio.Task[None]) -> None:
        self._closing = True
        await self._client.close()
        if self._refused.done():
            raise Denied(
                f"the broker at {self._url} refuses user {user!r}: {self._refused.result()}. "
                "Enrol the node (`firecurtain node enrol`) or use the password the control plane wrote for it."
            )
        trouble = self._last_trouble if attempt.cancelled() else str(attempt.exception())
        raise Unavailable(
            f"no broker answered at {self._url} within {timeout_s} s ({trouble}). "
            "Start the control plane with `firecurtain up`, or correct the address."
        )

    def check(self) -> None:
        """Refuse the call when an earlier publish was denied or the connection is down."""
        self.raise_denied()
        if self.is_over:
            raise Unavailable(f"the connection to {self._url} is closed ({self._last_trouble}). Connect again.")
        if not self._client.is_connected:
            raise self._describe_lost()

    def raise_denied(self) -> None:
        """Raise, once, what the broker has refused since the last call."""
        denied, self._denied = self._denied, None
        if denied is not None:
            raise denied

    async def wait_connected(self, timeout_s: float) -> bool:
        """Is the connection up, now or within `timeout_s`?"""
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        except TimeoutError:
            return False
        return True

    async def publish(self, subject: str, message: bytes, reply: str = "") -> None:
        """Hand one message to the client, which writes it in the next turn of the event loop."""
        self.check()
        try:
            await self._client.publish(subject, message, reply=reply)
        except errors.Error as error:
            raise self._translate(error, subject) from error

    async def request(
        self, subject: str, message: bytes, timeout_s: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Publish and wait for the first answer."""
        self.check()
        try:
            return await self._client.request(subject, message, timeout=timeout_s, headers=headers)
        except errors.NoRespondersError as error:
            text = f"nobody listens on {subject!r} at {self._url}. Is the control plane up?"
            raise NoAnswer(text, nobody_listens=True) from error
        except errors.TimeoutError as error:
            self.raise_denied()
            raise NoAnswer(f"no answer on {subject!r} within {timeout_s} s from {self._url}.") from error
        except errors.Error as error:
            raise self._translate(error, subject) from error

    def new_inbox(self) -> str:
        """A fresh private subject for answers."""
        return self._client.new_inbox()

    async def flush(self, timeout_s: float) -> None:
        """Wait until the broker has answered everything sent before."""
        self.check()
        # nats-py stops reading for good when a PONG finds its waiter cancelled, so the round trip runs in a task of its
        # own that is never cancelled while the connection lives.
        trip = asyncio.ensure_future(self._client.flush(timeout=TRIP_S))
        self._trips.add(trip)
        trip.add_done_callback(self._forget_trip)
        await asyncio.wait({trip}, timeout=timeout_s)
        self.raise_denied()
        if not trip.done():
            raise Unavailable(f"the broker at {self._url} did not answer within {timeout_s} s. Try again.")
        if trip.exception() is not None:
            raise Unavailable(f"the broker at {self._url} was lost: {trip.exception()}. Try again.")

    async def listen(self, subject: str, limit: int, convert: Callable[[Msg], Any]) -> Listening[Any]:
        """Subscribe and confirm with a round trip, so that nothing cast from now on is missed."""
        self.check()

        async def take(raw: Msg) -> None:
            listening.put(convert(raw), raw.subject)

        try:
            subscription = await self._client.subscribe(subject, cb=take, pending_msgs_limit=BURST_MAX)
        except errors.Error as error:
            raise self._translate(error, subject) from error

        async def unsubscribe() -> None:
            self._listenings.discard(listening)
            if not self._client.is_closed:
                await subscription.unsubscribe()

        listening: Listening[Any] = Listening(subject, limit, self.report, unsubscribe)
        self._listenings.add(listening)
        try:
            await self.flush(FLUSH_S)
        except BaseException:
            await listening.close()
            raise
        return listening

    async def close(self) -> None:
        """Flush what is pending, close, and end every listening."""
        if self._closing:
            return
        self._closing = True
        for listening in tuple(self._listenings):
            await listening.close()
        await self._client.close()
        await self._end_reconnecting()
        for trip in tuple(self._trips):
            trip.cancel()
        if self._ending is not None:
            await asyncio.wait({self._ending})
        self._connected.set()  # nobody waits for a closed connection; the next check tells why

    async def _end_reconnecting(self) -> None:
        """Cancel nats-py's reconnecting until it has ended: in Python 3.11 its wait_for may swallow a cancellation, and
        it would knock for ever, also through the end of the event loop, which waits for it."""
        task = self._client._reconnection_task  # noqa: SLF001 - there is no public way to wait for it
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)

    async def _on_error(self, error: Exception) -> None:
        text = str(error)
        if "permissions violation" in text:
            self._denied = Denied(
                f"the broker at {self._url} refuses: {text.removeprefix('nats: ')}. "
                "Use a subject below this user's own, or ask the control plane to reload its permissions."
            )
            self.report(self._denied)
        elif isinstance(error, errors.SlowConsumerError):
            self.report(Overflow(f"a message on {error.subject!r} was dropped before it was read: reader too slow."))
        elif "authorization violation" in text.lower() and not self._connected.is_set():
            self._refuse(text.removeprefix("nats: "))
        if not self._refused.done():  # what follows a refusal are its consequences
            self._last_trouble = text or repr(error)

    def _refuse(self, reason: str) -> None:
        """The broker no longer knows this user: nats-py would knock twenty times a second for ever."""
        if not self._refused.done():
            self._refused.set_result(reason)
            self._last_trouble = reason
        if self._is_open and self._ending is None:
            self._ending = asyncio.create_task(self._client.close())

    async def _on_disconnected(self) -> None:
        if self._connected.is_set() and not self._closing:
            self._connected.clear()
            self.report(self._describe_lost())

    async def _on_reconnected(self) -> None:
        self._connected.set()
        for wake in tuple(self.wakers):
            wake()

    async def _on_closed(self) -> None:
        """The broker closed for good (a removed user, a protocol error): nats-py will not reconnect."""
        if self._closing:
            return
        end = Unavailable(f"the broker at {self._url} closed the connection ({self._last_trouble}). Connect again.")
        for listening in tuple(self._listenings):
            listening.fail(end)
        self._connected.set()
        for wake in tuple(self.wakers):
            wake()
        self.report(end)

    def _describe_lost(self) -> Unavailable:
        return Unavailable(
            f"the connection to the broker at {self._url} is lost ({self._last_trouble}); reconnecting. "
            "Nothing was sent; try again."
        )

    def _translate(self, error: errors.Error, subject: str) -> InvariantError | Unavailable:
        if isinstance(error, errors.BadSubjectError | errors.BadHeaderError):
            return InvariantError(f"{subject!r} cannot be used as a subject: {error}")
        return Unavailable(f"the broker at {self._url} took nothing on {subject!r}: {error}. Try again.")

    def _forget_trip(self, trip: asyncio.Task[None]) -> None:
        self._trips.discard(trip)
        if not trip.cancelled():
            trip.exception()  # read once, so that a late failure nobody waits for is not logged as lost
