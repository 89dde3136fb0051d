# SPDX-License-Identifier: Apache-2.0
"""`firecurtain halt`: cast first, everything else afterwards.

Until the cast has left, only cli, wire and bus are imported. The stop goes to the agents themselves and to the control
plane at once, so it works while the control plane hangs. Then it is sent again until the issuer and every node in scope
have confirmed, and the command prints DURABLE, or the names that are missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path

from firecurtain.bus.nats import NatsBus
from firecurtain.bus.port import NoAnswer, Unavailable
from firecurtain.cli.access import connect_operator, read_signer
from firecurtain.cli.clock import read_age_ms, read_monotonic_s, read_utc_ms
from firecurtain.cli.config import Config, read_config
from firecurtain.cli.outcome import OK, REFUSED, UNDECIDED, fail, show
from firecurtain.terms import (
    SCOPE_KINDS,
    BusError,
    FirecurtainError,
    Scope,
    TermError,
    WireError,
    parse_name,
    parse_scope,
)
from firecurtain.wire import subjects
from firecurtain.wire.frame import decode_frame, encode_frame
from firecurtain.wire.messages import VERSION, Reply, Stop, StopEntry

WAIT_S = 10.0
"""Chosen: a node confirms in its next attestation, at most a second away; ten forgive a broker that restarts."""

RESEND_S = 0.2
"""Between two sendings of the same stop, whose id makes all but the first do nothing."""

REASON_CHARACTERS_MAX = 500
"""What a stop carries (`wire.messages.Text`). A longer reason is cut: nobody should count letters during a fire."""


class NotCastError(BusError):
    """The stop could not be sent to anybody."""

    code = "halt-not-cast"


class InterruptedHaltError(FirecurtainError):
    """The person ended the command before it knew who had confirmed."""

    code = "halt-interrupted"


INTERRUPTED = (
    "ended before everybody had confirmed. What was cast stands; nobody took it back, and nobody said DURABLE. "
    "Do: look at `firecurtain status`, or give the same halt again."
)


@dataclass(slots=True)
class Confirmation:
    """Who has confirmed so far. `nodes` maps enrolled nodes in scope to whether they latched the stop, the missing
    first and at most as many as a reply lists; `nodes_total` counts them all. `refusal` is why nobody will take it.
    """

    durable_ns: int | None = None
    ledger_seq: int = 0
    nodes: dict[str, bool] = field(default_factory=dict)
    nodes_total: int = 0
    refusal: str = ""
    trouble: str = "the control plane did not answer"

    @property
    def missing(self) -> list[str]:
        issuer = [] if self.durable_ns is not None else ["issuer"]
        return issuer + sorted(name for name, is_latched in self.nodes.items() if not is_latched)


def main(arguments: list[str]) -> int:
    """Parse, cast, confirm. Returns the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        return asyncio.run(halt(read_config(options.config), read_halt_scope(options.scope), options))
    except FirecurtainError as error:
        return fail(error, options.json)
    except KeyboardInterrupt:
        return fail(InterruptedHaltError(INTERRUPTED), options.json)


def make_parser() -> argparse.ArgumentParser:
    """The command line of `halt`, which `app` shows too."""
    parser = argparse.ArgumentParser("firecurtain halt", description="Stop a scope now. Needs no ledger, no approval.")
    parser.add_argument("scope", help="fleet, service:NAME (or NAME), node:NAME, release:DIGEST, token:TOKEN")
    parser.add_argument("--reason", required=True, help="why, for everybody who will read it")
    parser.add_argument("--key", help="name of the stop key (default: `stop` in firecurtain.toml)")
    parser.add_argument("--wait", type=float, default=WAIT_S, metavar="S", help="seconds to wait for confirmations")
    parser.add_argument("--config", type=Path, help="firecurtain.toml to use")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def read_halt_scope(text: str) -> Scope:
    """A scope, where a bare name means a service: nobody should look up syntax during a fire.

    >>> str(read_halt_scope("payouts")), str(read_halt_scope("node:host-8"))
    ('service:payouts', 'node:host-8')
    """
    if text in SCOPE_KINDS[1:]:
        raise TermError(f"scope {text!r} lacks a name. Write e.g. `{text}:NAME`.")
    if ":" in text or text == "fleet":
        return parse_scope(text)
    return Scope("service", parse_name(text))


async def halt(config: Config, scope: Scope, options: argparse.Namespace) -> int:
    """Cast at once, then send again until everybody confirmed or the time is over."""
    entry = StopEntry(secrets.token_bytes(16), "halt", str(scope), cut_reason(options.reason))
    signer = read_signer(config, options.key or config.stop)
    frame = encode_frame(Stop(VERSION, config.fleet, entry, read_utc_ms()), signer)
    try:
        bus = await connect_operator(config)
    except Unavailable as error:
        raise NotCastError(
            f"{error} Nothing was cast. If the broker is down for the nodes too, no beacon reaches them and every "
            "permit runs out within max_age by itself. Do: give the same halt again until it says DURABLE."
        ) from error
    try:
        await bus.cast(subjects.stop(config.fleet), frame)
        await bus.flush()
        enter_to_cast_ms = read_age_ms()
        if not options.json:
            sys.stdout.write(f"{describe(scope)}\ncast {entry.id.hex()} after {enter_to_cast_ms:.0f} ms\n")
            sys.stdout.flush()
        confirmation = await confirm(bus, config, entry.id, frame, options.wait)
    finally:
        await bus.close()
    return report(scope, entry, confirmation, enter_to_cast_ms, options.json)


def cut_reason(text: str) -> str:
    """A reason that a stop can carry, whatever was typed.

    >>> len(cut_reason("x" * 900)), cut_reason("")
    (500, 'no reason given')
    """
    text = text.encode("utf-8", "replace").decode("utf-8")  # the shell may hand over bytes that are no text
    if len(text) > REASON_CHARACTERS_MAX:
        text = text[: REASON_CHARACTERS_MAX - 1] + "…"
    return text or "no reason given"


def describe(scope: Scope) -> str:
    """What this stop leaves, in the words every stop uses.

    >>> describe(Scope("service", "payouts"))
    'blocks: every guarded action of service payouts; still allows: nothing there, everything elsewhere'
    """
    what = {
        "fleet": "in the fleet",
        "service": f"of service {scope.name}",
        "node": f"on node {scope.name}",
        "release": f"of release {scope.name[:12]}",
        "token": f"behind flag {scope.name}",
    }[scope.kind]
    rest = "nothing" if scope.kind == "fleet" else "nothing there, everything elsewhere"
    return f"blocks: every guarded action {what}; still allows: {rest}"


async def confirm(bus: NatsBus, config: Config, stop_id: bytes, frame: bytes, wait_s: float) -> Confirmation:
    """Send the same stop again until the issuer and every node in scope have confirmed, or `wait_s` is over."""
    # Imported here: the cast has left, and verifying what comes back is trust's work.
    from firecurtain.cli.operator import read_issuer_keys

    confirmation = Confirmation()
    keys = read_issuer_keys(config)
    end_s = read_monotonic_s() + wait_s
    while confirmation.missing and not confirmation.refusal and (left_s := end_s - read_monotonic_s()) > 0:
        try:
            answer = await bus.ask(subjects.stop(config.fleet), frame, min(left_s, 1.0))
            note_reply(confirmation, decode_frame(Reply, answer, keys).message, stop_id)
        except (NoAnswer, Unavailable, WireError) as error:
            confirmation.trouble = str(error)
        if confirmation.missing:
            await asyncio.sleep(min(left_s, RESEND_S))
    return confirmation


def note_reply(confirmation: Confirmation, reply: Reply, stop_id: bytes) -> None:
    """Take over what the control plane says about this stop. What it cannot read it refuses under the id zero."""
    if not reply.ok and reply.challenge in (stop_id, bytes(16)):
        confirmation.refusal = f"{reply.code}: {reply.text}"
        return
    if reply.challenge != stop_id:
        confirmation.trouble = f"the control plane answered about stop {reply.challenge.hex()}, not {stop_id.hex()}"
        return
    detail = json.loads(reply.detail)
    confirmation.durable_ns = detail["durable_ns"]
    confirmation.ledger_seq = reply.ledger_seq
    confirmation.nodes = detail["nodes"]
    confirmation.nodes_total = detail["nodes_total"]


def report(scope: Scope, entry: StopEntry, confirmation: Confirmation, enter_to_cast_ms: float, as_json: bool) -> int:
    """Print DURABLE with every node's confirmation, or who is missing, or that nobody takes this stop."""
    is_durable = not confirmation.missing and not confirmation.refusal
    # A name that nobody has is a typing mistake until proven otherwise: the fire goes on elsewhere.
    is_empty = scope.kind in ("service", "node") and not confirmation.nodes_total
    result: dict[str, object] = {
        "ok": is_durable and not is_empty,
        "stop": entry.id.hex(),
        "scope": str(scope),
        "effect": describe(scope),
        "enter_to_cast_ms": round(enter_to_cast_ms, 1),
        "durable_ns": confirmation.durable_ns,
        "ledger_seq": confirmation.ledger_seq,
        "nodes": confirmation.nodes,
        "nodes_total": confirmation.nodes_total,
        "missing": confirmation.missing,
        "refusal": confirmation.refusal,
    }
    if confirmation.refusal:
        text = (
            f"REFUSED {confirmation.refusal}\nAgents judge by the same rules: take nothing as stopped. "
            "Do: mend what is named, then halt again; `firecurtain halt --help` lists key and scope."
        )
        show(result, text, as_json)
        return REFUSED
    show(result, _describe_confirmed(scope, entry, confirmation, is_durable, is_empty), as_json)
    return OK if is_durable and not is_empty else UNDECIDED


def _describe_confirmed(
    scope: Scope, entry: StopEntry, confirmation: Confirmation, is_durable: bool, is_empty: bool
) -> str:
    """What a person reads about a stop that was cast and not refused."""
    hidden = confirmation.nodes_total - len(confirmation.nodes)
    more = f" and {hidden} more" if hidden > 0 else ""
    if is_durable and is_empty:
        return (
            f"DURABLE {entry.id.hex()}\nNOBODY is stopped by it: no enrolled node is in {scope}. "
            "Do: compare the name with `firecurtain node list`, then halt again."
        )
    if is_durable:
        names = ", ".join(sorted(confirmation.nodes)) or "no node is enrolled"
        return f"DURABLE {entry.id.hex()}\nconfirmed: issuer, {names}{more}"
    trouble = f" ({confirmation.trouble})" if confirmation.durable_ns is None else ""
    return (
        f"NOT CONFIRMED by {', '.join(confirmation.missing)}{trouble}\n"
        "The stop was cast to every agent and stands. Who hears no beacon loses its permit within max_age by itself. "
        "Do: look at the missing, then give the same halt again."
    )
