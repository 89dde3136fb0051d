# SPDX-License-Identifier: Apache-2.0
"""The people of a measurement: they sign stops and lifts with the fleet's keys and send them as the commands do.

A stop goes one of two ways, both the product's own. `BOTH` is what `firecurtain halt` does: its cast reaches the agents
themselves and the issuer at once. `ISSUER` sends the same signed stop where only the control plane listens, so that no
agent knows of it before the issuer has fsynced and cast it.
"""

from __future__ import annotations

import contextlib
import enum
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

from bench.clock import now_ns, read_bridge
from bench.fleet import BenchError, Fleet
from bench.service import SERVICE
from firecurtain.agent import load_config
from firecurtain.bus.nats import NatsBus, connect
from firecurtain.bus.port import Report
from firecurtain.cli.access import read_access, read_signer, report_trouble
from firecurtain.cli.config import Config
from firecurtain.cli.operator import read_issuer_keys, send_command
from firecurtain.trust.envelope import LIFT_TYPE
from firecurtain.trust.lift import make_lift
from firecurtain.trust.sign import sign_envelope
from firecurtain.wire import subjects
from firecurtain.wire.commands import LiftStops
from firecurtain.wire.frame import decode_frame, encode_frame
from firecurtain.wire.messages import VERSION, Reply, Stop, StopEntry

ANSWER_S = 5.0
APPROVERS = ("approver-1", "approver-2")


class Way(enum.Enum):
    """Which way a stop goes."""

    ISSUER = "through the issuer"
    BOTH = "as halt sends it"


@dataclass(frozen=True, slots=True)
class Pull:
    """One stop. Times are CLOCK_BOOTTIME: `cast_ns` just before it was sent, `durable_ns` as the issuer signed it on a
    clock of its own, which then read `durable_clock_ns`.

    The issuer reads that clock before it writes and fsyncs: what is counted from `durable_ns` includes the fsync.
    """

    way: Way
    stop_id: bytes
    cast_ns: int
    durable_ns: int
    durable_clock_ns: int
    bridge_error_ns: int


class People:
    """An operator's connection and one with the credentials of host-1, and the public keys of the issuers."""

    def __init__(self, config: Config, operator: NatsBus, node: NatsBus) -> None:
        self.config = config
        self.operator = operator
        self._node = node
        self.issuers = read_issuer_keys(config)
        self.stopper = read_signer(config, config.stop)

    async def pull(self, way: Way) -> Pull:
        """Stop the service; returns when the issuer has answered that the stop is durable. Raises: BenchError."""
        entry = StopEntry(secrets.token_bytes(16), "halt", f"service:{SERVICE}", "bench")
        fleet = self.config.fleet
        frame = encode_frame(Stop(VERSION, fleet, entry, 0), self.stopper)
        cast_ns = now_ns()
        if way is Way.ISSUER:
            answer = await self._node.ask(subjects.node_stop(fleet, "host-1"), frame, ANSWER_S)
        else:
            answer = await self.operator.ask(subjects.stop(fleet), frame, ANSWER_S)
        bridge = read_bridge()
        reply = decode_frame(Reply, answer, self.issuers).message
        if not reply.ok:
            raise BenchError(f"the stop was not taken: {reply.code}: {reply.text}")
        clock_ns = int(json.loads(reply.detail)["durable_ns"])
        return Pull(way, entry.id, cast_ns, clock_ns + bridge.offset_ns, clock_ns, bridge.error_ns)

    async def lift(self, stop_id: bytes) -> None:
        """Lift a stop with two of three approvers; returns when it is recorded and cast."""
        payload = make_lift(self.config.fleet, [stop_id], "bench", secrets.token_bytes(16))
        signers = [read_signer(self.config, name) for name in APPROVERS]
        await send_command(self.config, LiftStops(sign_envelope(payload, LIFT_TYPE, signers)))


@contextlib.asynccontextmanager
async def meet_people(fleet: Fleet, report: Report = report_trouble) -> AsyncIterator[People]:
    """People connected to a running fleet. `report` hears of lost connections."""
    config, agent = fleet.config, load_config(fleet.get_agent_config(1)).bus
    url, user, password = read_access(config)
    operator = await connect(url, user=user, password=password, report=report)
    node = await connect(agent.url, user=agent.user, password=agent.password, report=report)
    try:
        yield People(config, operator, node)
    finally:
        await node.close()
        await operator.close()
