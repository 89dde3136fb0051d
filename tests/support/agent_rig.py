# SPDX-License-Identifier: Apache-2.0
"""One real agent with a real service process, and a control plane small enough to be bent by hand.

The stand-in signs beacons and answers attests over any bus; a test silences it, changes what it names, makes it stop.
`Rig` seals artifacts, signs releases with development keys and reads the permit page as a guard would.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from firecurtain.agent.config import AgentConfig, BusConfig
from firecurtain.agent.exchange import Connect
from firecurtain.agent.shell import serve
from firecurtain.artifact.seal import Sealed, seal
from firecurtain.bus.memory import MemoryBroker
from firecurtain.bus.port import Bus, Message, Report
from firecurtain.bus.users import control_user, node_user
from firecurtain.permit import PageReader, View
from firecurtain.terms import FirecurtainError
from firecurtain.trust.dev_init import make_development_keys
from firecurtain.trust.envelope import LIFT_TYPE, RELEASE_TYPE
from firecurtain.trust.keys import save_private_key
from firecurtain.trust.lift import make_lift
from firecurtain.trust.release import Limit, Release, Stage, compute_limits_digest, encode_release
from firecurtain.trust.sign import sign_envelope
from firecurtain.trust.verify import compute_release_digest
from firecurtain.wire import subjects
from firecurtain.wire.frame import decode_frame, encode_frame
from firecurtain.wire.messages import (
    AllowedRelease,
    Answer,
    Attest,
    Beacon,
    Counters,
    Lift,
    Stop,
    StopEntry,
    compute_content_digest,
)

FLEET, SERVICE, NODE = "rig", "router", "host-1"
CONTROL = control_user(FLEET, "control", "control-password")
NODE_USER = node_user(FLEET, NODE, "node-password")
TOKEN = "fc1-0123456789AB"  # noqa: S105 - a flag token, not a password
PERIOD_S = 0.05
WAIT_S = 10.0

# A service as simple as can be: it lives until it is told to end.
SOURCE = f"""import signal
TOKEN = "{TOKEN}"
VERSION = {{version}}
signal.sigwait([signal.SIGTERM])
"""


async def until(condition: Callable[[], object], what: str, limit_s: float = WAIT_S) -> None:
    """Wait for a condition, with a bound."""
    end_ns = time.monotonic_ns() + int(limit_s * 1e9)
    while not condition():
        if time.monotonic_ns() > end_ns:
            raise AssertionError(f"waited {limit_s} s for: {what}")
        await asyncio.sleep(0.005)


class Control:
    """A control plane of one issuer that says what its attributes say."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.seq = 1
        self.allowed: tuple[AllowedRelease, ...] = ()
        self.stops: tuple[StopEntry, ...] = ()
        self.answers = True
        self.beacons = True
        self.attests: list[Attest] = []
        self.counters: list[Counters] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, bus: Bus) -> None:
        """Begin to beat and to listen."""
        self._bus = bus
        work = (
            (subjects.attest(FLEET, "*"), self._take_attest),
            (subjects.release(FLEET, "*"), self._take_release),
            (subjects.counters(FLEET, "*"), self._take_counters),
        )
        for subject, take in work:
            self._tasks.append(asyncio.create_task(self._listen(subject, take)))
        self._tasks.append(asyncio.create_task(self._beat()))

    async def stop(self) -> None:
        """Fall silent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def allow(self, *releases: str) -> None:
        """Name new content: these releases, all their tokens armed."""
        self.seq += 1
        self.allowed = tuple(
            AllowedRelease(
                digest,
                (document := self._rig.releases[digest]).artifact,
                "all",
                (),
                document.arms,
                compute_limits_digest(document),
            )
            for digest in releases
        )

    async def cast_stop(self, entry: StopEntry) -> None:
        """A stop from a person's key, to everybody."""
        frame = encode_frame(Stop(1, FLEET, entry, 0), self._rig.stop_signer)
        await self._bus.cast(subjects.stop_down(FLEET), frame)

    async def cast_lift(self, *stop_ids: bytes, approvers: int = 2) -> None:
        """A lift that this many approvers signed."""
        payload = make_lift(FLEET, stop_ids, "mended", secrets.token_bytes(16))
        signers = [self._rig.keys.signers[f"approver-{number + 1}"] for number in range(approvers)]
        await self.cast_proof(sign_envelope(payload, LIFT_TYPE, signers))

    async def cast_proof(self, envelope: bytes) -> None:
        """Any signed document as the proof of a lift."""
        await self._bus.cast(subjects.lift(FLEET), msgspec.msgpack.encode(Lift(1, FLEET, envelope)))

    async def _beat(self) -> None:
        while True:
            if self.beacons:
                with suppress(FirecurtainError):  # a broker that is down hears nothing
                    await self._bus.cast(subjects.beacon(FLEET, SERVICE), self._sign_beacon())
            await asyncio.sleep(PERIOD_S)

    def _sign_beacon(self) -> bytes:
        beacon = Beacon(
            version=1,
            fleet=FLEET,
            service=SERVICE,
            clock_id=b"the clock's id!!",
            signed_ns=time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW),
            issued_utc_ms=0,
            max_age_ms=1500,
            ledger_epoch=1,
            ledger_seq=self.seq,
            content=compute_content_digest(1, self.seq, SERVICE, self.allowed),
            allowed=self.allowed,
            stops=self.stops,
        )
        return encode_frame(beacon, self._rig.keys.signers["issuer"])

    async def _listen(self, subject: str, take: Callable[[Message], Awaitable[None]]) -> None:
        async with await self._bus.listen(subject) as messages:
            async for message in messages:
                await take(message)

    async def _take_attest(self, message: Message) -> None:
        signer = self._rig.node_signer
        attest = decode_frame(Attest, message.data, {signer.keyid: signer.public}).message
        self.attests.append(attest)
        allowed = {entry.artifact for entry in self.allowed}
        if not self.answers or attest.running is None or attest.running.artifact not in allowed:
            return
        answer = Answer(
            version=1,
            fleet=FLEET,
            node=attest.node,
            session=attest.session,
            nonce=attest.nonce,
            accepted=attest.running.artifact,
            clock_id=b"the clock's id!!",
            clock_ns=time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW),
            lifts=(),
        )
        await self._bus.cast(message.reply, encode_frame(answer, self._rig.keys.signers["issuer"]))

    async def _take_release(self, message: Message) -> None:
        await self._bus.cast(message.reply, self._rig.envelopes.get(message.data.decode(), b""))

    async def _take_counters(self, message: Message) -> None:
        self.counters.append(msgspec.msgpack.decode(message.data, type=Counters))


class Rig:
    """Keys, a store, an agent's configuration, and the agent while it runs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.keys = make_development_keys(directory / "keys", FLEET)
        root = self.keys.root
        signers = self.keys.signers.values()
        self.stop_signer = next(signer for signer in signers if signer.public.hex() in root.stop_keys)
        self.node_signer = save_private_key(directory / "node.pem", os.urandom(32))
        self.releases: dict[str, Release] = {}
        self.envelopes: dict[str, bytes] = {}
        self.broker = MemoryBroker()
        self.control = Control(self)
        self.config = AgentConfig(
            fleet=FLEET,
            service=SERVICE,
            node=NODE,
            root=self.keys.envelope_path,
            node_key=directory / "node.pem",
            bus=BusConfig("nats://127.0.0.1:1", NODE_USER.name, NODE_USER.password),
            state_dir=directory / "state",
            store=directory / "store",
            runtime_dir=directory / "run",
        )
        (directory / "store").mkdir()
        self._agent: asyncio.Task[None] | None = None
        self._reader: PageReader | None = None
        self.stopping = asyncio.Event()

    def make_release(
        self, version: int, source: str = SOURCE, lifts_fences: tuple[str, ...] = ()
    ) -> tuple[str, Sealed]:
        """Seal one more artifact and sign a release of it; returns the release's digest and the artifact."""
        build = self.directory / f"build-{version}"
        build.mkdir()
        (build / "main.py").write_text(source.replace("{version}", str(version)))
        sealed = seal(build, self.config.store)
        release = Release(
            fleet=FLEET,
            service=SERVICE,
            version=version,
            predecessor=None,
            artifact=sealed.digest,
            entrypoint=("main.py",),
            interpreter=sealed.interpreter,
            modes=sealed.modes,
            tokens=sealed.tokens,
            arms=sealed.tokens,
            limits={"send-order": Limit(10, 2_000_000)},
            stages=(Stage("all", "*"),),
            on_straggler="hold",
            min_nodes=1,
            lifts_fences=lifts_fences,
            author=self.keys.signers["author"].keyid.hex(),
        )
        signers = [self.keys.signers[name] for name in ("author", "approver-1", "approver-2")]
        envelope = sign_envelope(encode_release(release), RELEASE_TYPE, signers)
        digest = compute_release_digest(envelope)
        self.releases[digest], self.envelopes[digest] = release, envelope
        return digest, sealed

    async def connect(self, report: Report) -> Bus:
        """How the agent connects: to the fake, unless a test says otherwise. A fake that is down refuses at once."""
        bus = self.broker.connect(NODE_USER, report)
        await bus.flush()
        return bus

    async def start_agent(self, connect: Connect | None = None) -> None:
        """Start one agent; end it with `stop_agent`."""
        self.stopping = asyncio.Event()
        self._agent = asyncio.create_task(serve(self.config, connect or self.connect, self.stopping))
        await until(lambda: Path(self.config.page_path).exists() or self.is_over(), "a permit page")

    async def stop_agent(self) -> None:
        """Tell it to stop and wait for its end; what it raised is raised here."""
        self.stopping.set()
        agent, self._agent = self._agent, None
        if agent is not None:
            await agent

    def is_over(self) -> bool:
        """Has the agent ended by itself?"""
        return self._agent is not None and self._agent.done()

    async def start_control(self) -> None:
        """Start the stand-in control plane over the fake bus."""
        await self.control.start(self.broker.connect(CONTROL, print))

    async def close(self) -> None:
        """End everything, whatever state it is in."""
        await self.control.stop()
        try:
            await self.stop_agent()
        finally:
            for path in self.config.store.rglob("*"):
                path.chmod(0o755 if path.is_dir() else 0o644)
            shutil.rmtree(self.config.store)

    @property
    def permit(self) -> View | None:
        """The permit as a guard sees it now; None while the page is closed or expired."""
        seen = self._read()
        return seen if isinstance(seen, View) else None

    @property
    def denial(self) -> str:
        """Why there is no permit: the reason and the sentence, "" while there is one."""
        seen = self._read()
        return "" if isinstance(seen, View) else f"{seen.reason.text}: {seen.detail}"

    def _read(self) -> object:
        if self._reader is None:
            self._reader = PageReader(self.config.page_path, SERVICE)
        return self._reader.read()


def make_stop(scope: str, kind: str = "halt") -> StopEntry:
    """A stop with a fresh random id."""
    return msgspec.convert([secrets.token_bytes(16), kind, scope, "a test stops it"], StopEntry)
