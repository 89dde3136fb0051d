# SPDX-License-Identifier: Apache-2.0
"""One command of a person to the control plane: fetch a challenge, sign, send, and check who answers.

A reply counts only with the issuer's signature and our own challenge in it. Nothing is retried: whoever gave the
command decides whether to give it again.
"""

from __future__ import annotations

import json
from typing import Any

from firecurtain.bus.nats import NatsBus
from firecurtain.bus.port import NoAnswer
from firecurtain.cli.access import connect_operator, read_signer
from firecurtain.cli.config import Config
from firecurtain.cli.outcome import CommandRefused
from firecurtain.terms import ConfigError, WireError
from firecurtain.trust.fields import index_keys
from firecurtain.trust.root import Root
from firecurtain.trust.verify import verify_root
from firecurtain.wire import subjects
from firecurtain.wire.commands import AnyBody, Command
from firecurtain.wire.frame import decode_frame, encode_frame
from firecurtain.wire.messages import VERSION, Reply

ANSWER_S = 10.0
"""Chosen: an append takes a millisecond, a broker that restarts a few seconds; a person waits no longer."""


async def send_command(config: Config, body: AnyBody, key: str | None = None) -> tuple[int, dict[str, Any]]:
    """Have the control plane carry out `body`; returns the ledger_seq and the reply's detail.

    Raises: CommandRefused; ConfigError, BusError, WireError: nothing is known of what became of it.
    """
    bus = await connect_operator(config)
    try:
        return await _ask(bus, config, body, key or config.operator)
    finally:
        await bus.close()


async def read_envelope_of(config: Config, release: str) -> bytes:
    """A release's envelope with its signatures so far, not yet verified; empty when there is none."""
    bus = await connect_operator(config)
    try:
        return await bus.ask(subjects.release_for_people(config.fleet), release.encode(), ANSWER_S)
    finally:
        await bus.close()


def read_root(config: Config) -> Root:
    """The root that this configuration trusts. Raises: ConfigError: unreadable or of another fleet. TrustError."""
    try:
        root = verify_root(config.root.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"root {config.root} cannot be read: {error.strerror}. Correct `root` in the config."
        ) from error
    if root.fleet != config.fleet:
        raise ConfigError(
            f"{config.root} is the root of fleet {root.fleet}, configured is {config.fleet}. Correct one."
        )
    return root


def read_issuer_keys(config: Config) -> dict[bytes, bytes]:
    """Who may sign a reply: key id -> public key."""
    return index_keys(read_root(config).issuers)


async def _ask(bus: NatsBus, config: Config, body: AnyBody, key: str) -> tuple[int, dict[str, Any]]:
    challenge = await _ask_control(bus, subjects.hello(config.fleet), b"", "Nothing was done.")
    frame = encode_frame(Command(VERSION, config.fleet, challenge, body), read_signer(config, key))
    unknown = "Whether it was done is not known: look before you give it again."
    answer = await _ask_control(bus, subjects.command(config.fleet), frame, unknown)
    reply = decode_frame(Reply, answer, read_issuer_keys(config)).message
    # All zeros: the control plane could not read who asked, and so not what for.
    if reply.challenge not in (challenge, bytes(16)):
        raise WireError(f"the reply answers {reply.challenge.hex()}, we asked {challenge.hex()}. Look at `status`.")
    if not reply.ok:
        raise CommandRefused(reply.code, reply.text, reply.ledger_seq)
    return reply.ledger_seq, json.loads(reply.detail)


async def _ask_control(bus: NatsBus, subject: str, message: bytes, outcome: str) -> bytes:
    """Raises: NoAnswer: with what that means for the person who waits."""
    try:
        return await bus.ask(subject, message, ANSWER_S)
    except NoAnswer as error:
        raise NoAnswer(
            f"{error} The broker is there and the control plane is silent. {outcome} Do: look at the log of "
            "`firecurtain up` and start it again; `firecurtain halt` works without it.",
            nobody_listens=error.nobody_listens,
        ) from error
