# SPDX-License-Identifier: Apache-2.0
"""Clocks that run wrong within their tolerance, and a small model of an issuer. Integers only: nothing is blurred."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from firecurtain.wire.messages import AllowedRelease, Answer, Attest, Beacon, StopEntry, compute_content_digest
from support.drawn import MS, IssuerPlan

FLEET, SERVICE, NODE = "sim", "router", "host-1"
STOP_ID = bytes([9]) * 16
PPB = 1_000_000_000
ARTIFACT, RELEASE, LIMITS = "a" * 64, "b" * 64, "c" * 64
TOKEN, OTHER_TOKEN = "fc1-0000000000AB", "fc1-0000000000CD"
SCOPE_TEXTS = {
    "service": f"service:{SERVICE}",
    "node": f"node:{NODE}",
    "fleet": "fleet",
    "release": f"release:{RELEASE}",
    "token": f"token:{TOKEN}",
}


@dataclass(frozen=True)
class Clock:
    """A clock that runs at a constant wrong rate and stands still while its host is paused."""

    offset_ns: int
    rate_ppb: int
    pauses: tuple[tuple[int, int], ...] = ()

    def read(self, real_ns: int) -> int:
        """What it shows at a moment of real time, rounded down as a clock does."""
        lived_ns = real_ns - sum(min(real_ns, end) - start for start, end in self.pauses if start < real_ns)
        return self.offset_ns + lived_ns * (PPB + self.rate_ppb) // PPB

    def reach(self, local_ns: int) -> int:
        """The first moment of real time, not before 0, at which it shows at least `local_ns`."""
        lived_ns = max(0, -(-(local_ns - self.offset_ns) * PPB // (PPB + self.rate_ppb)))
        for start, end in self.pauses:
            if lived_ns > start:
                lived_ns += end - start
        return lived_ns

    def wake(self, real_ns: int) -> int:
        """The first moment from `real_ns` on at which the host runs."""
        return next((end for start, end in self.pauses if start < real_ns < end), real_ns)


@dataclass(frozen=True)
class Flaws:
    """Faults to plant in the issuer model, for the mutants that live on its side."""

    forgets_latch: bool = False
    reads_clock_after_snapshot: bool = False


def make_contents() -> tuple[tuple[int, str, tuple[AllowedRelease, ...]], ...]:
    """Two states of the ledger: the release allowed, and then its tokens armed too."""
    bare = AllowedRelease(RELEASE, ARTIFACT, "all", (), (), LIMITS)
    armed = AllowedRelease(RELEASE, ARTIFACT, "all", (NODE, "host-2"), (TOKEN, OTHER_TOKEN), LIMITS)
    return tuple(
        (seq, compute_content_digest(1, seq, SERVICE, (entry,)), (entry,)) for seq, entry in ((5, bare), (6, armed))
    )


CONTENTS = make_contents()
ARMED_AT_NS = 800 * MS


@dataclass
class Issuer:
    """Signs beacons and answers attests from its plan. It reads its clock first and its stops afterwards."""

    index: int
    plan: IssuerPlan
    flaws: Flaws
    cover_lifted_ns: int | None = None
    stops: list[tuple[int, StopEntry]] = field(default_factory=list)  # (latched at, entry)

    def __post_init__(self) -> None:
        self.keyid = bytes([self.index + 1]) * 8
        self._running = Clock(self.plan.offset_ns, self.plan.rate_ppb)
        moved_ns = self.plan.offset_ns + (self.plan.reboot_offset_ns or 0)
        self._rebooted = Clock(moved_ns, self.plan.rate_ppb)

    def is_up(self, real_ns: int) -> bool:
        restart_ns = self.plan.restart_ns
        return restart_ns is None or not restart_ns <= real_ns < restart_ns + self.plan.down_ns

    def find_clock(self, real_ns: int) -> tuple[bytes, Clock]:
        """A restarted issuer keeps its clock and its clock's name; a host booted anew has neither."""
        is_rebooted = self.plan.reboot_offset_ns is not None and real_ns >= (self.plan.restart_ns or 0)
        clock = self._rebooted if is_rebooted else self._running
        return sha256(b"%d %d" % (self.index, is_rebooted)).digest()[:16], clock

    def find_stops(self, real_ns: int) -> tuple[StopEntry, ...]:
        """The fsynced snapshot of H at this moment; it survives a restart unless that flaw is planted."""
        restart_ns = self.plan.restart_ns
        forgotten_ns = restart_ns if self.flaws.forgets_latch and restart_ns and real_ns >= restart_ns else -1
        held = tuple(entry for latched_ns, entry in self.stops if forgotten_ns < latched_ns <= real_ns)
        if self.cover_lifted_ns is None:
            return held
        return tuple(self.find_cover(real_ns) if entry.id == STOP_ID else entry for entry in held)

    def find_cover(self, real_ns: int) -> StopEntry:
        """The broader stop that stands for the one that fits no beacon; another one once the first is lifted here."""
        is_lifted = self.cover_lifted_ns is not None and real_ns >= self.cover_lifted_ns + self.plan.lag_ns
        return StopEntry(bytes([0xC0, is_lifted, self.index] + [0] * 13), "halt", f"service:{SERVICE}", "widened")

    def sign_beacon(self, real_ns: int) -> Beacon:
        """What a beacon signed now says."""
        clock_id, clock = self.find_clock(real_ns)
        read_ns = real_ns + 50 * MS if self.flaws.reads_clock_after_snapshot else real_ns
        seq, digest, allowed = CONTENTS[real_ns >= ARMED_AT_NS + self.plan.lag_ns]
        return Beacon(
            version=1,
            fleet=FLEET,
            service=SERVICE,
            clock_id=clock_id,
            signed_ns=clock.read(read_ns),
            issued_utc_ms=real_ns // MS,
            max_age_ms=1500,
            ledger_epoch=1,
            ledger_seq=seq,
            content=digest,
            allowed=allowed,
            stops=self.find_stops(real_ns),
        )

    def answer(self, attest: Attest, real_ns: int) -> Answer:
        """The answer to an attest that arrives now."""
        clock_id, clock = self.find_clock(real_ns)
        accepted = attest.running.artifact if attest.running is not None else "0" * 64
        return Answer(
            1, FLEET, attest.node, attest.session, attest.nonce, accepted, clock_id, clock.read(real_ns), lifts=()
        )
