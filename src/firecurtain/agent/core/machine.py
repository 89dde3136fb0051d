# SPDX-License-Identifier: Apache-2.0
"""The agent's state machine: something happened -> the next state and what to do about it, in order.

Every function is pure: times, nonces and verified facts come in as arguments, effects go out as values. Each ends with
`_settle`, which compares what the page says with what it may say. Taking away never waits for anything; giving waits
for content that m issuers name, a release this agent verified, and m fresh issuers. Source: 03-protocol.
"""

from __future__ import annotations

import msgspec

from firecurtain.agent.core import clocks, freshness, stops, verdict
from firecurtain.agent.core.clocks import ClockSample
from firecurtain.agent.core.effects import (
    Acknowledge,
    Challenge,
    ClosePage,
    Effect,
    FetchRelease,
    LatchLifts,
    LatchStops,
    Renew,
    SendAttest,
    VerifyLift,
    WriteGrant,
)
from firecurtain.agent.core.freshness import ANSWER_LIFE_NS, Calibration, Track
from firecurtain.agent.core.state import (
    NO_CONTENT,
    OUTSTANDING_MAX,
    RELEASES_MAX,
    AgentState,
    Content,
    Denied,
    Identity,
    Naming,
    Permitted,
    Question,
    ReleaseFacts,
)
from firecurtain.agent.core.stops import StopSets
from firecurtain.terms import NS_PER_MS, Reason
from firecurtain.wire.messages import (
    LATCHED_PER_ATTEST_MAX,
    VERSION,
    Answer,
    Attest,
    Beacon,
    Running,
    StopEntry,
    compute_content_digest,
)

Step = tuple[AgentState, tuple[Effect, ...]]

replace = msgspec.structs.replace


def begin(identity: Identity, entries: tuple[StopEntry, ...] = (), lifted: tuple[bytes, ...] = ()) -> Step:
    """Start with what the latches hold. The page is closed first of all, whatever an earlier agent left in it."""
    sets = stops.add_lifts(stops.add_stops(StopSets(), entries), lifted)
    denied = Denied(Reason.EXPIRED, "the agent has started and nobody has affirmed yet. Do: see `firecurtain status`.")
    state = AgentState(identity=identity, page=denied, sets=sets)
    state = on_latched(state, tuple(entry.id for entry in entries))
    return state, (ClosePage(denied.reason, denied.detail),)


def on_beacon(state: AgentState, keyid: bytes, beacon: Beacon, now_ns: int) -> Step:
    """Take a beacon whose signature by `keyid` held: first its stops, then its content, then its age."""
    if keyid not in state.identity.issuers:
        return _drop(state, "beacon-unknown-issuer"), ()
    if (beacon.fleet, beacon.service) != (state.identity.fleet, state.identity.service):
        return _drop(state, "beacon-foreign"), ()
    state, effects = _take_stops(state, beacon.stops, now_ns)
    named = compute_content_digest(beacon.ledger_epoch, beacon.ledger_seq, beacon.service, beacon.allowed)
    if named != beacon.content:
        return _drop(state, "beacon-content-mismatch"), effects
    state = replace(state, heard_ns=now_ns)
    state, changed = _take_content(state, keyid, beacon)
    state, doubted = _take_freshness(state, keyid, beacon, now_ns)
    state, settled = _settle(state, now_ns)
    return state, effects + settled + doubted + changed


def on_answer(state: AgentState, keyid: bytes, answer: Answer, now_ns: int) -> Step:
    """Take an answer whose signature by `keyid` held. It counts once, for this session, and for what runs now."""
    identity = state.identity
    question = next((known for known in state.questions if known.nonce == answer.nonce), None)
    if keyid not in identity.issuers:
        return _drop(state, "answer-unknown-issuer"), ()
    if (answer.fleet, answer.node, answer.session) != (identity.fleet, identity.node, identity.session):
        return _drop(state, "answer-foreign"), ()
    if question is None or now_ns - question.asked_ns > ANSWER_LIFE_NS:
        return _drop(state, "answer-not-asked"), ()
    state = replace(state, questions=tuple(known for known in state.questions if known is not question))
    artifact = state.running.artifact if state.running is not None else None
    if not (answer.accepted == question.artifact == artifact):
        return _drop(state, "answer-other-artifact"), ()
    lifts = tuple(VerifyLift(envelope) for envelope in answer.lifts)
    calibration = Calibration(question.asked_ns, now_ns, answer.clock_ns)
    state, doubted = _take_calibration(state, keyid, answer.clock_id, calibration)
    state, settled = _settle(state, now_ns)
    return state, settled + doubted + lifts


def on_tick(state: AgentState, sample: ClockSample) -> Step:
    """Judge the clocks; let what has expired expire."""
    rho_ppm = state.clock.rho_ppm
    memory, doubt = clocks.judge_clocks(state.clock, sample)
    state = replace(state, clock=memory)
    if memory.rho_ppm > rho_ppm:
        tracks = tuple(freshness.recompute_deadline(track, sample.now_ns, memory.rho_ppm) for track in state.tracks)
        state = replace(state, tracks=tracks)
    for track in state.tracks:
        doubt = doubt or freshness.find_window_doubt(track, sample.now_ns)
    state, doubted = _doubt_clocks(state, doubt) if doubt else (state, ())
    state, settled = _settle(state, sample.now_ns)
    return state, settled + doubted


def on_stop(state: AgentState, entry: StopEntry, now_ns: int) -> Step:
    """Take a stop whose signature by any one enrolled key held."""
    return _take_stops(state, (entry,), now_ns)


def on_lift(state: AgentState, stop_ids: tuple[bytes, ...], now_ns: int) -> Step:
    """Take a lift that k of n signed: written down first, then given back by the next beacons, signed after it."""
    new = stops.find_new_lifts(state.sets, stop_ids)
    if not new:
        return state, ()
    sets = stops.add_lifts(state.sets, new)
    if verdict.find_scopes(state) & (state.sets.in_force.keys() - sets.in_force.keys()):
        # Under a broad stop a beacon may leave out narrower ones, and its content may be older than the stop: what was
        # affirmed under it must not count without it.
        state = replace(state, tracks=tuple(freshness.forget_beacons(track) for track in state.tracks))
    if not state.latch_failure:
        # Whatever H holds between two steps is on disk. Where newer ids leave the window, older ones must come back
        # into it: an issuer sends only lifts of what is attested.
        state = replace(state, latched=stops.find_unlifted(sets) + state.latched)
    state, settled = _settle(on_latched(replace(state, sets=sets), ()), now_ns)
    return state, (LatchLifts(new), *settled)


def on_taken_back(state: AgentState, stop_ids: tuple[bytes, ...], now_ns: int) -> Step:
    """Take what a signed release takes back: fences and disarms that are held here. Any other stop needs a lift.

    An id that is not held here yet lifts nothing: it could turn out to be the id of a halt. Once it is held and
    attested, the proof comes again with an answer.
    """
    return on_lift(state, stops.find_fences(state.sets, stop_ids), now_ns)


def on_latched(state: AgentState, stop_ids: tuple[bytes, ...]) -> AgentState:
    """These stops are on disk: until they are lifted each attest names them, the newest 1,024."""
    known = dict.fromkeys(state.latched + stop_ids)
    latched = tuple(stop_id for stop_id in known if stop_id not in state.sets.lifted)
    return replace(state, latched=latched[-LATCHED_PER_ATTEST_MAX:])


def on_latch_failed(state: AgentState, text: str) -> Step:
    """A latch could not be written: the page is zero and stays zero until the agent is started anew."""
    denied = Denied(Reason.STOP_IN_FORCE, f"a stop or lift could not be made durable here: {text}")
    return replace(state, latch_failure=text, page=denied), (ClosePage(denied.reason, denied.detail),)


def on_running(state: AgentState, running: Running | None, doubt: str, now_ns: int) -> Step:
    """Take what was seen of the process and its files. Answers for another artifact are worth nothing."""
    if running == state.running and (running is not None or doubt == state.running_doubt):
        return state, ()
    known = state.running.artifact if state.running is not None else None
    if running is None or running.artifact != known:
        state = replace(state, tracks=(), questions=())
    state, settled = _settle(replace(state, running=running, running_doubt=doubt), now_ns)
    return state, (*settled, Challenge())


def on_release(state: AgentState, facts: ReleaseFacts, now_ns: int) -> Step:
    """Take a release whose envelope was verified. When there are too many, the oldest version goes."""
    others = tuple(known for known in state.releases if known.release != facts.release)
    newest = sorted((*others, facts), key=lambda known: -known.version)[:RELEASES_MAX]
    return _settle(replace(state, releases=tuple(newest)), now_ns)


def begin_attest(state: AgentState, t0_ns: int, nonce: bytes, totals: tuple[tuple[str, int], ...] = ()) -> Step:
    """Ask: one attest with a fresh nonce, anchored at `t0_ns`, which was read before anything was signed.

    Args:
        nonce: 128 random bits that nobody can guess; it is answered at most once.
        totals: cumulative counters of the guards.
    """
    identity, content = state.identity, state.content
    number = state.number + 1
    attest = Attest(
        version=VERSION,
        fleet=identity.fleet,
        service=identity.service,
        node=identity.node,
        session=identity.session,
        number=number,
        running=state.running,
        ledger_epoch=content.ledger_epoch,
        ledger_seq=content.ledger_seq,
        content=content.digest,
        latched=state.latched,
        totals=totals,
        nonce=nonce,
    )
    question = Question(nonce, t0_ns, state.running.artifact if state.running is not None else "")
    alive = tuple(known for known in state.questions if t0_ns - known.asked_ns <= ANSWER_LIFE_NS)
    state = replace(state, number=number, questions=(*alive, question)[-OUTSTANDING_MAX:])
    return state, (SendAttest(attest), *_fetch_missing(state))


def _take_stops(state: AgentState, entries: tuple[StopEntry, ...], now_ns: int) -> Step:
    """Zero or narrow first, then write down and fsync, then acknowledge. Never wait for anything else."""
    new = stops.find_new_stops(state.sets, entries)
    if not new:
        # A full set permits nothing for good, so what it has no room for is obeyed and may be acknowledged.
        unheld = tuple(entry.id for entry in entries if entry.id not in state.latched) if state.sets.is_full else ()
        return state, (Acknowledge(unheld),) if unheld else ()
    state, settled = _settle(replace(state, sets=stops.add_stops(state.sets, new)), now_ns)
    return state, (*settled, LatchStops(new), Acknowledge(tuple(entry.id for entry in new)))


def _take_freshness(state: AgentState, keyid: bytes, beacon: Beacon, now_ns: int) -> Step:
    """Any valid beacon renews, whatever its ledger_seq; without an answer on the same clock it renews nothing.

    One that lists a stop lifted here was signed before the lift and may leave out what that stop covered: nothing too.
    """
    if stops.find_lifted_scopes(state.sets, beacon.stops) & verdict.find_scopes(state):
        return _drop(state, "beacon-before-lift"), ()
    track = freshness.find_track(state.tracks, keyid, beacon.clock_id)
    if track is None:
        return _drop(state, "beacon-uncalibrated"), ()
    max_age_ns = min(beacon.max_age_ms * NS_PER_MS, state.identity.max_age_ns)
    track = freshness.note_beacon(track, beacon.signed_ns, max_age_ns, now_ns, state.clock.rho_ppm)
    return _keep_track(state, track, freshness.find_window_doubt(track, now_ns))


def _take_calibration(state: AgentState, keyid: bytes, clock_id: bytes, calibration: Calibration) -> Step:
    track = freshness.find_track(state.tracks, keyid, clock_id) or Track(keyid, clock_id, ())
    doubt = freshness.find_answer_doubt(track, calibration, state.clock.rho_ppm)
    track = freshness.note_answer(track, calibration, state.clock.rho_ppm)
    doubt = doubt or freshness.find_window_doubt(track, calibration.received_ns)
    state = replace(state, clock_doubt=clocks.find_rate_doubt(state.clock))
    return _keep_track(state, track, doubt)


def _keep_track(state: AgentState, track: Track, doubt: str) -> Step:
    if doubt:
        return _doubt_clocks(state, doubt)
    return replace(state, tracks=freshness.replace_track(state.tracks, track)), ()


def _doubt_clocks(state: AgentState, doubt: str) -> Step:
    """Forget all calibrations, and the questions too: their t0 was read on a clock that is now in doubt."""
    is_news = bool(state.tracks or state.questions)
    state = replace(state, tracks=(), questions=(), clock_doubt=doubt)
    return state, (Challenge(),) if is_news else ()


def _take_content(state: AgentState, keyid: bytes, beacon: Beacon) -> Step:
    """Adopt content when m issuers name the same digest, and keep it until m name another of higher seq."""
    content = Content(beacon.ledger_epoch, beacon.ledger_seq, beacon.content, beacon.allowed)
    naming = Naming(keyid, beacon.clock_id, beacon.signed_ns, content)
    known = next((other for other in state.namings if other.keyid == keyid), None)
    if known is not None and known.clock_id == naming.clock_id and known.signed_ns >= naming.signed_ns:
        return state, ()
    others = tuple(other for other in state.namings if other.keyid != keyid)
    state = replace(state, namings=(*others, naming))
    if content.digest == state.content.digest:
        return state, ()
    named_count = sum(other.content.digest == content.digest for other in state.namings)
    if named_count < state.identity.majority or not _is_newer(content, state.content):
        return state, ()
    state = replace(state, content=content)
    return state, (*_fetch_missing(state), Challenge())


def _is_newer(content: Content, adopted: Content) -> bool:
    """Higher seq of the same epoch. A new epoch means a restored ledger: an issuer's word is not enough for that."""
    if adopted == NO_CONTENT:
        return True
    return content.ledger_epoch == adopted.ledger_epoch and content.ledger_seq > adopted.ledger_seq


def _fetch_missing(state: AgentState) -> tuple[FetchRelease, ...]:
    missing = (entry.release for entry in state.content.allowed if verdict.find_facts(state, entry.release) is None)
    return tuple(FetchRelease(release) for release in missing)


def _settle(state: AgentState, now_ns: int) -> Step:
    """Make the page say what may be said now; nothing when it says so already."""
    wanted, page = verdict.decide_permit(state, now_ns), state.page
    if wanted == page:
        return state, ()
    state = replace(state, page=wanted)
    if isinstance(wanted, Denied):
        return state, (ClosePage(wanted.reason, wanted.detail, wanted.grant),)
    if isinstance(page, Permitted) and page.grant == wanted.grant:
        return state, (Renew(wanted.deadline_ns),)
    return state, (WriteGrant(wanted.grant, wanted.deadline_ns),)


def _drop(state: AgentState, cause: str) -> AgentState:
    """Count what was refused; the causes are the few literals in this module."""
    return replace(state, drops={**state.drops, cause: state.drops.get(cause, 0) + 1})
