# SPDX-License-Identifier: Apache-2.0
"""A whole fleet as values: real keys, real envelopes, the real `decide` and `evolve`, and a clock that tests move.

`World` does what the control plane's shell does and nothing else: it fsyncs nothing, but it keeps the order of a turn
(stop, record, decide, fold). Every event it appends goes through its bytes, so that what a test sees can be replayed.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence

import msgspec

from firecurtain.domain import decide as decide_module
from firecurtain.domain import presence as presence_module
from firecurtain.domain.commands import Arm, Command, Exclude, FoundFleet, OpenSession, OpenStage, RecordStop, Request
from firecurtain.domain.events import Event, decode_event, encode_event
from firecurtain.domain.evolve import evolve, initial
from firecurtain.domain.presence import Verdict
from firecurtain.domain.rollout import Step, StepArm, StepExclude, StepFence, StepOpenStage, next_steps
from firecurtain.domain.state import Fleet, Instant, Live
from firecurtain.terms import NS_PER_S, Digest, FlagToken, mint_token
from firecurtain.trust.envelope import LIFT_TYPE, RELEASE_TYPE, ROOT_TYPE, write_document
from firecurtain.trust.lift import make_lift
from firecurtain.trust.release import Limit, Release, Stage, encode_release
from firecurtain.trust.root import Root
from firecurtain.trust.sign import add_signature, sign_envelope
from firecurtain.trust.verify import compute_release_digest
from firecurtain.wire.commands import ApproveRelease, EnrolNode, LiftStops, ProposeRelease
from firecurtain.wire.keys import Ed25519Signer
from firecurtain.wire.messages import VERSION, Attest, Running, StopEntry, StopKind

FLEET_NAME = "knight"
SERVICE = "smars"
CLOCK_ID = b"issuer-clock-001"
EVERY_NODE = "*"


@functools.cache
def make_signer(name: str) -> Ed25519Signer:
    """The key of a person or machine, the same in every run."""
    return Ed25519Signer(hashlib.sha256(name.encode()).digest())


def make_artifact(name: str) -> Digest:
    """The digest of an artifact that exists only as a name."""
    return Digest(hashlib.sha256(f"artifact {name}".encode()).hexdigest())


def make_id(name: str) -> bytes:
    """16 bytes that stand for random ones."""
    return hashlib.sha256(f"id {name}".encode()).digest()[:16]


def make_token(number: int) -> FlagToken:
    """A flag token with a readable end."""
    return mint_token(number)


@functools.cache
def make_root_envelope(fleet: str = FLEET_NAME, lift_threshold: int = 2) -> bytes:
    """A root with one author, three approvers of whom two must agree, one operator and one issuer."""
    public = {name: make_signer(name).public.hex() for name in ("author", "ann", "bob", "cid", "operator", "issuer")}
    root = Root(
        fleet=fleet,
        version=1,
        issuers=(public["issuer"],),
        stop_keys=(public["operator"],),
        operators=(public["operator"],),
        approvers=(public["ann"], public["bob"], public["cid"]),
        approve_threshold=2,
        lift_threshold=lift_threshold,
        authors=(public["author"],),
    )
    return sign_envelope(write_document(root), ROOT_TYPE, [make_signer("ann"), make_signer("bob")])


def replay(events: Iterable[Event]) -> Fleet:
    """The fleet after these events."""
    return functools.reduce(evolve, events, initial())


class World:
    """A control plane without a shell: state, attestations, a clock, and the log of what was appended."""

    def __init__(self, nodes: int = 8, start_ns: int = 977 * NS_PER_S, lift_threshold: int = 2) -> None:
        self.state: Fleet = initial()
        self.live: Live = {}
        self.now = Instant(CLOCK_ID, start_ns, start_ns, 1_343_808_000_000)
        self.events: list[Event] = []
        self.watchers: list[Callable[[World, Event], None]] = []
        self.numbers: dict[tuple[str, bytes], int] = {}
        self.do(FoundFleet(FLEET_NAME, 1, make_root_envelope(lift_threshold=lift_threshold)))
        for number in range(1, nodes + 1):
            self.enrol(f"host-{number}")

    # The turn

    def do(self, command: Command) -> tuple[Event, ...]:
        """Decide, append, fold. Raises: Refusal."""
        events = decide_module.decide(self.state, command, self.now, self.live)
        for event in events:
            self.state = evolve(self.state, decode_event(encode_event(event)))
            self.events.append(event)
            for watcher in self.watchers:
                watcher(self, event)
        return events

    def ask(self, body: object, by: str = "operator") -> tuple[Event, ...]:
        """What a person signed."""
        return self.do(Request(make_signer(by).keyid, body))  # type: ignore[arg-type]  # any body, wrong ones too

    def wait(self, seconds: float) -> None:
        """Let issuer time pass."""
        passed_ns = round(seconds * NS_PER_S)
        self.now = msgspec.structs.replace(
            self.now, issuer_ns=self.now.issuer_ns + passed_ns, utc_ms=self.now.utc_ms + passed_ns // 1_000_000
        )

    def restart_issuer(self, clock_id: bytes = CLOCK_ID) -> None:
        """A new control plane: the ledger is replayed, attestations are forgotten."""
        self.live = {}
        self.now = msgspec.structs.replace(self.now, clock_id=clock_id, started_ns=self.now.issuer_ns)

    def turn(self) -> tuple[Step, ...]:
        """Carry out what the rollout may do now by itself."""
        steps = next_steps(self.state, self.now, self.live)
        for step in steps:
            match step:
                case StepOpenStage(release, stage):
                    self.do(OpenStage(release, stage))
                case StepArm(release):
                    self.do(Arm(release))
                case StepFence(scope, reason):
                    self.stop(scope, "fence", reason, by="issuer")
                case StepExclude(node, reason):
                    stop_id = self.stop(f"node:{node}", "halt", reason, by="issuer")
                    self.do(Exclude(node, stop_id, make_signer("issuer").keyid))
        return steps

    # People

    def enrol(self, node: str, service: str = SERVICE) -> tuple[Event, ...]:
        return self.ask(EnrolNode(node, service, make_signer(node).public))

    def stop(self, scope: str, kind: StopKind = "halt", reason: str = "because", by: str = "operator") -> bytes:
        """A stop that became durable this moment, recorded."""
        stop_id = make_id(f"stop {len(self.state.stops)} {scope}")
        entry = StopEntry(stop_id, kind, scope, reason)
        self.do(RecordStop(entry, make_signer(by).keyid, self.now.clock_id, self.now.issuer_ns))
        return stop_id

    def exclude(self, node: str) -> bytes:
        """What `node exclude` does: the stop first, then the roster."""
        stop_id = self.stop(f"node:{node}")
        self.do(Exclude(node, stop_id, make_signer("operator").keyid))
        return stop_id

    def lift(self, *stop_ids: bytes, by: Sequence[str] = ("ann", "bob"), fleet: str = FLEET_NAME) -> tuple[Event, ...]:
        payload = make_lift(fleet, stop_ids, "checked", make_id("statement"))
        return self.ask(LiftStops(sign_envelope(payload, LIFT_TYPE, [make_signer(name) for name in by])))

    def propose(self, envelope: bytes) -> str:
        self.ask(ProposeRelease(envelope))
        return compute_release_digest(envelope)

    def approve(self, release: str, *approvers: str) -> None:
        for name in approvers or ("ann", "bob"):
            envelope = add_signature(self.state.releases[release].envelope, RELEASE_TYPE, make_signer(name))
            self.ask(ApproveRelease(envelope))

    def release(self, version: int, artifact: str, **changes: object) -> str:
        """Propose a release and have two people approve it."""
        release = self.propose(make_release(version, artifact, **changes))
        self.approve(release)
        return release

    # Nodes

    def attest(self, node: str, artifact: str | None, session: str = "first") -> Verdict:
        """One attest of a well-behaved agent, judged, observed and answered as the shell does it."""
        session_id = make_id(f"session {session}")
        number = self.numbers[node, session_id] = self.numbers.get((node, session_id), 0) + 1
        return self.send(make_attest(node, artifact, number, session_id))

    def send(self, attest: Attest) -> Verdict:
        rules = presence_module  # looked up at each call: a test may have planted a fault there
        verdict = rules.judge_attest(self.state, self.live, attest, self.now)
        if isinstance(verdict, rules.NewSession):
            self.do(OpenSession(verdict.node, verdict.session))
            verdict = rules.judge_attest(self.state, self.live, attest, self.now)
        self.live = rules.observe(self.state, self.live, attest, self.now)
        if isinstance(verdict, rules.Answer):
            self.live = rules.note_answer(self.live, attest.node, self.now)
        return verdict

    def attest_all(self, artifact: str, *but: str) -> dict[str, Verdict]:
        """Every node on the roster attests this artifact, except those named."""
        nodes = [node.name for node in self.state.nodes.values() if node.excluded_by is None and node.name not in but]
        return {name: self.attest(name, artifact) for name in nodes}

    def roll_out(self, artifact: str, *but: str, seconds: int = 10) -> None:
        """Turns and attests, one a second, until the rollout has nothing more to do or the time is over."""
        for _ in range(seconds):
            while self.turn():
                pass
            self.attest_all(artifact, *but)
            self.wait(1)


def make_release(version: int, artifact: str, **changes: object) -> bytes:
    """A release envelope signed by its author: all nodes in one stage, no flags, unless `changes` say otherwise."""
    fields: dict[str, object] = {
        "fleet": FLEET_NAME,
        "service": SERVICE,
        "version": version,
        "predecessor": None,
        "artifact": make_artifact(artifact),
        "entrypoint": ("router.py",),
        "interpreter": make_artifact("python"),
        "modes": {},
        "tokens": (),
        "arms": (),
        "limits": {"send-order": Limit(3, 2_000_000)},
        "stages": (Stage("all", EVERY_NODE),),
        "on_straggler": "hold",
        "min_nodes": 1,
        "lifts_fences": (),
        "author": make_signer("author").keyid.hex(),
    }
    release = Release(**{**fields, **changes})  # type: ignore[arg-type]  # a wrong field is a test's intention
    return sign_envelope(encode_release(release), RELEASE_TYPE, [make_signer("author")])


def make_attest(node: str, artifact: str | None, number: int, session: bytes) -> Attest:
    """An attest as an agent would sign it; the nonce is as single-use as its number."""
    return Attest(
        version=VERSION,
        fleet=FLEET_NAME,
        service=SERVICE,
        node=node,
        session=session,
        number=number,
        running=Running(100 + number, 1, make_artifact(artifact), 0) if artifact else None,
        ledger_epoch=1,
        ledger_seq=0,
        content="00" * 32,
        latched=(),
        totals=(),
        nonce=make_id(f"nonce {node} {session.hex()} {number}"),
    )
