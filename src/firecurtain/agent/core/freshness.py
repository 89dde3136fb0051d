# SPDX-License-Identifier: Apache-2.0
"""How long a beacon permits acting, counted from its signing, without synchronised clocks.

A deadline counted from reception has no bound: a queue that holds a beacon for an hour still buys a full lifetime. Here
the age is anchored at the agent's own request (Gray and Cheriton 1989): an answer pairs t0, the local time before the
attest was signed, with the issuer's clock when it answered; every later reading of that issuer clock is then bounded in
local time. All arithmetic is on integers and rounds to the earlier deadline. This module judges no content and reads no
clock. Source: 03-protocol "Freshness without synchronised clocks".
"""

from __future__ import annotations

import msgspec

from firecurtain.terms import NS_PER_S

ANSWERS_MAX = 3
ANSWER_LIFE_NS = 3 * NS_PER_S
TRACKS_PER_ISSUER_MAX = 2  # the running clock of an issuer and the one before its host was restarted
MILLION = 1_000_000
RHO_PPM = 1_000  # how far a clock may run from real time: 1e-3, twenty times a bad quartz
RHO_PPM_MAX = 100_000  # a host slewed faster than this gets no permit at all


class Calibration(msgspec.Struct, frozen=True):
    """One answer: the issuer's clock stood at `clock_ns` at some moment between `asked_ns` and `received_ns` here."""

    asked_ns: int
    received_ns: int
    clock_ns: int


class Track(msgspec.Struct, frozen=True):
    """What is known of one issuer on one of its clocks: its last answers and the deadline its beacons bought.

    It begins with an answer, never with a beacon: a beacon can be replayed, a single-use nonce cannot.
    """

    keyid: bytes
    clock_id: bytes
    answers: tuple[Calibration, ...]
    signed_ns: int = 0
    max_age_ns: int = 0
    deadline_ns: int = 0
    deadline_age_ns: int = 0


def compute_deadline(calibration: Calibration, signed_ns: int, max_age_ns: int, rho_ppm: int) -> int:
    """The local time until which a beacon signed at `signed_ns` on the issuer's clock permits, rounded down.

    D = t0 + (1-rho)(d + (k_n - k)/(1+rho)); for k_n < k the quotient is by (1-rho), so that both round to earlier.

    >>> compute_deadline(Calibration(0, 0, 50), 50, 1_500_000_000, 1000)
    1498500000
    >>> compute_deadline(Calibration(0, 0, 51), 50, 1_500_000_000, 1000)
    1498499999
    """
    elapsed_ns = signed_ns - calibration.clock_ns
    slow = MILLION - rho_ppm
    if elapsed_ns < 0:
        return calibration.asked_ns + elapsed_ns + slow * max_age_ns // MILLION
    fast = MILLION + rho_ppm
    return calibration.asked_ns + slow * (max_age_ns * fast + elapsed_ns * MILLION) // (MILLION * fast)


def find_track(tracks: tuple[Track, ...], keyid: bytes, clock_id: bytes) -> Track | None:
    """The track of exactly this issuer on exactly this clock: calibrations are never shared."""
    for track in tracks:
        if track.keyid == keyid and track.clock_id == clock_id:
            return track
    return None


def replace_track(tracks: tuple[Track, ...], track: Track) -> tuple[Track, ...]:
    """Put `track` first in place of its predecessor; of one issuer only the two latest clocks stay."""
    same = tuple(known for known in tracks if known.keyid == track.keyid and known.clock_id != track.clock_id)
    others = tuple(known for known in tracks if known.keyid != track.keyid)
    return (track, *same[: TRACKS_PER_ISSUER_MAX - 1], *others)


def note_beacon(track: Track, signed_ns: int, max_age_ns: int, now_ns: int, rho_ppm: int) -> Track:
    """Take a beacon into account: its latest bound over the unexpired answers, if that is later than the one held."""
    bound_ns = max(
        (compute_deadline(known, signed_ns, max_age_ns, rho_ppm) for known in _unexpired(track.answers, now_ns)),
        default=0,
    )
    if signed_ns > track.signed_ns:
        track = msgspec.structs.replace(track, signed_ns=signed_ns, max_age_ns=max_age_ns)
    if bound_ns > track.deadline_ns:
        track = msgspec.structs.replace(track, deadline_ns=bound_ns, deadline_age_ns=max_age_ns)
    return track


def note_answer(track: Track, answer: Calibration, rho_ppm: int) -> Track:
    """Keep the answer, and let it speak for the newest beacon too: each answer is a valid bound, the latest counts."""
    answers = (answer, *_unexpired(track.answers, answer.received_ns))[:ANSWERS_MAX]
    track = msgspec.structs.replace(track, answers=answers)
    if not track.max_age_ns:
        return track
    return note_beacon(track, track.signed_ns, track.max_age_ns, answer.received_ns, rho_ppm)


def recompute_deadline(track: Track, now_ns: int, rho_ppm: int) -> Track:
    """Forget the bound and compute it anew with a wider rho, from the newest beacon only: never later than before."""
    bare = msgspec.structs.replace(track, deadline_ns=0)
    renewed = note_beacon(bare, track.signed_ns, track.max_age_ns, now_ns, rho_ppm)
    return renewed if renewed.deadline_ns < track.deadline_ns else track


def forget_beacons(track: Track) -> Track:
    """Keep the answers and nothing that beacons bought: only one that comes from now on renews."""
    return Track(track.keyid, track.clock_id, track.answers)


def find_window_doubt(track: Track, now_ns: int) -> str:
    """Say why the bound cannot be true: a beacon cannot be younger than its arrival. Empty when it can.

    This is what catches a paused host, whose own clocks all stood still.
    """
    if track.deadline_ns <= now_ns + track.deadline_age_ns:
        return ""
    return (
        f"issuer {track.keyid.hex()} bought a permit until {track.deadline_ns}, but now is {now_ns} and its beacons "
        f"last {track.deadline_age_ns} ns: this host's clocks stood still. Asking again."
    )


def find_answer_doubt(track: Track, answer: Calibration, rho_ppm: int) -> str:
    """Say why two answers cannot both be true: more issuer time passed between them than local time allows."""
    for known in _unexpired(track.answers, answer.received_ns):
        earlier, later = sorted((known, answer), key=_clock_ns)
        issuer_ns, local_ns = later.clock_ns - earlier.clock_ns, later.received_ns - earlier.asked_ns
        if issuer_ns * MILLION > local_ns * (MILLION + 3 * rho_ppm):
            return (
                f"issuer {track.keyid.hex()} counted {issuer_ns} ns between two answers, this host only {local_ns}: "
                "one of the clocks stood still or jumped. Asking again."
            )
    return ""


def compute_fresh_until(tracks: tuple[Track, ...], issuers: tuple[bytes, ...], majority: int) -> int:
    """The m-th latest of the issuers' deadlines; 0 while fewer than m have bought one."""
    latest = sorted((_latest(tracks, keyid) for keyid in issuers), reverse=True)
    return latest[majority - 1]


def count_fresh(tracks: tuple[Track, ...], issuers: tuple[bytes, ...], now_ns: int) -> int:
    """How many issuers hold a deadline that has not passed."""
    return sum(_latest(tracks, keyid) > now_ns for keyid in issuers)


def has_answers(tracks: tuple[Track, ...], now_ns: int) -> bool:
    """Whether any issuer has answered lately."""
    return any(_unexpired(track.answers, now_ns) for track in tracks)


def _latest(tracks: tuple[Track, ...], keyid: bytes) -> int:
    return max((track.deadline_ns for track in tracks if track.keyid == keyid), default=0)


def _unexpired(answers: tuple[Calibration, ...], now_ns: int) -> tuple[Calibration, ...]:
    return tuple(known for known in answers if now_ns - known.asked_ns <= ANSWER_LIFE_NS)


def _clock_ns(answer: Calibration) -> int:
    return answer.clock_ns
