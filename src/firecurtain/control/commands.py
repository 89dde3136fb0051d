# SPDX-License-Identifier: Apache-2.0
"""People's commands: a challenge first, then one signed command, then one signed reply.

Verifies the operator's signature and spends the challenge; what is then allowed is decided by the domain through the
turn loop. A refusal of a signed command is recorded, so that the reply can quote its ledger_seq. One command at a time:
people's orders have an order.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable

import structlog

from firecurtain.bus.port import Bus, Message
from firecurtain.control.challenge import Challenges
from firecurtain.control.issuer import Issuer
from firecurtain.control.keys import index_hex_keys
from firecurtain.control.noise import Refused, is_inbox
from firecurtain.control.turn import Turn
from firecurtain.domain.commands import Request
from firecurtain.domain.refusals import Duplicate
from firecurtain.terms import BusError, FirecurtainError, WireError
from firecurtain.wire.commands import Command, EnrolNode, ExcludeNode, Status
from firecurtain.wire.frame import decode_frame
from firecurtain.wire.messages import VERSION, Reply

TEXT_CHARACTERS = 4000
"""Of a reply. Source: `wire.messages.Reply`."""

_log = structlog.get_logger("firecurtain.commands")


class CommandDesk:
    """Takes one message at a time. `draw` gives 16 random bytes; `admit` makes a node's broker credentials."""

    def __init__(
        self,
        issuer: Issuer,
        bus: Bus,
        turn: Turn,
        draw: Callable[[], bytes],
        admit: Callable[[str], Awaitable[dict[str, str]]],
        compute_status: Callable[[], dict[str, object]],
    ) -> None:
        self._issuer = issuer
        self._bus = bus
        self._turn = turn
        self._draw = draw
        self._admit = admit
        self._compute_status = compute_status
        self._challenges = Challenges()
        self._refused = Refused("command refused and not recorded")

    async def handle_hello(self, message: Message) -> None:
        """Give a challenge."""
        await self._send(message.reply, self._challenges.give(self._draw(), self._issuer.clock.read_ns()))

    async def handle_command(self, message: Message) -> None:
        """Carry out or refuse one command, and say which."""
        challenge, request = bytes(16), None
        try:
            command, by = self._verify(message.data)
            challenge, request = command.challenge, Request(by, command.body)
            self._challenges.redeem(challenge, self._issuer.clock.read_ns())
            detail = await self._obey(request)
        except FirecurtainError as error:
            # Only what an operator signed is recorded: a stranger's noise has no place in the ledger.
            seq = await self._turn.record_refusal(request, error) if request else 0
            if seq:
                _log.warning("command refused", code=error.code, error=str(error), ledger_seq=seq)
            else:
                self._refused.tell(error, message.subject)
            await self._reply(message.reply, challenge, seq, error, {})
        else:
            await self._reply(message.reply, challenge, self._turn.fleet.seq, None, detail)

    def _verify(self, frame: bytes) -> tuple[Command, bytes]:
        """The command and its operator's key id. Raises: WireError."""
        fleet = self._turn.fleet
        verified = decode_frame(Command, frame, index_hex_keys(fleet.root.operators))
        if verified.message.fleet != fleet.fleet:
            raise WireError(f"command for fleet {verified.message.fleet} came to {fleet.fleet}. Use its configuration.")
        return verified.message, verified.keyid

    async def _obey(self, request: Request) -> dict[str, object]:
        """Raises: Refusal by the domain, BusError or LedgerError when the ledger cannot take it."""
        match request.body:
            case Status():
                return self._compute_status()
            case ExcludeNode():
                await self._turn.exclude(request)
                return {"node": request.body.node}
            case EnrolNode():
                # The reply with the credentials may have been lost: who asks again for the same key gets them again.
                with contextlib.suppress(Duplicate):
                    await self._turn.submit(request)
                return {"node": request.body.node, **await self._admit(request.body.node)}
            case _:
                await self._turn.submit(request)
                return {}

    async def _reply(
        self, subject: str, challenge: bytes, seq: int, error: FirecurtainError | None, detail: dict[str, object]
    ) -> None:
        fleet = self._turn.fleet.fleet
        code, text = (error.code, str(error)[:TEXT_CHARACTERS]) if error else ("", "done")
        data = json.dumps(detail, ensure_ascii=False).encode()
        reply = Reply(VERSION, fleet, challenge, error is None, seq, code, text, data)
        try:
            frame = self._issuer.compute_reply(reply)
        except WireError as too_large:
            # Only `status` can grow so far, and it has done nothing that would have to be told.
            reply = Reply(VERSION, fleet, challenge, False, seq, too_large.code, str(too_large), b"{}")
            frame = self._issuer.compute_reply(reply)
        await self._send(subject, frame)

    async def _send(self, subject: str, data: bytes) -> None:
        if not is_inbox(subject):
            return
        try:
            await self._bus.cast(subject, data)
        except BusError as error:
            _log.error("command not answered", code=error.code, error=str(error))
