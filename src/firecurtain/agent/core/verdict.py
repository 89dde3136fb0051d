# SPDX-License-Identifier: Apache-2.0
"""May this node act now, and if not, why? The one place where a permit is decided; everything not permitted is denied.

A denial names what is most worth knowing first: a stop before a mismatch, a mismatch before silence. Each text says
both values and what to do, in the 255 bytes that the permit page holds.
"""

from __future__ import annotations

from firecurtain.agent.core import freshness, stops
from firecurtain.agent.core.state import NO_CONTENT, AgentState, Denied, Permitted, ReleaseFacts, Verdict
from firecurtain.permit.page import Grant
from firecurtain.terms import FLEET, NS_PER_MS, Digest, FlagToken, Reason, Scope, short
from firecurtain.wire.messages import AllowedRelease, StopEntry


def decide_permit(state: AgentState, now_ns: int) -> Verdict:
    """Judge everything the state knows at `now_ns`."""
    denied = _judge_host(state) or _judge_stops(state)
    if denied is not None:
        return denied
    if state.content == NO_CONTENT:
        return _deny_silence(state, None, now_ns)
    verdict = _judge_content(state)
    if isinstance(verdict, Denied):
        return verdict
    deadline_ns = freshness.compute_fresh_until(state.tracks, state.identity.issuers, state.identity.majority)
    if deadline_ns <= now_ns:
        return _deny_silence(state, verdict, now_ns)
    return Permitted(verdict, deadline_ns)


def find_facts(state: AgentState, release: str) -> ReleaseFacts | None:
    """What this agent has verified of a release, if it has."""
    return next((facts for facts in state.releases if facts.release == release), None)


def find_scopes(state: AgentState) -> frozenset[str]:
    """Every scope in which a stop takes something from what runs here, as far as the adopted content knows."""
    artifact = state.running.artifact if state.running is not None else ""
    entries = [entry for entry in state.content.allowed if entry.artifact == artifact]
    releases = (str(Scope("release", entry.release)) for entry in entries)
    tokens = (str(Scope("token", token)) for entry in entries for token in entry.armed)
    return frozenset((*_list_own_scopes(state), *releases, *tokens))


def _judge_host(state: AgentState) -> Denied | None:
    if state.latch_failure:
        return Denied(Reason.STOP_IN_FORCE, f"a stop could not be made durable here: {state.latch_failure}")
    if state.running is None:
        return Denied(Reason.NOT_ATTESTED, state.running_doubt)
    if state.clock_doubt:
        return Denied(Reason.CLOCK_DOUBT, state.clock_doubt)
    return None


def _judge_stops(state: AgentState) -> Denied | None:
    if state.sets.is_full:
        text = f"this node holds {stops.STOPS_MAX} stops or lifts, the bound: it permits nothing. Do: enrol a new node."
        return Denied(Reason.STOP_IN_FORCE, text)
    entry = stops.find_cover(state.sets, _list_own_scopes(state))
    return None if entry is None else _deny_stop(entry)


def _list_own_scopes(state: AgentState) -> tuple[str, ...]:
    identity = state.identity
    return str(FLEET), str(Scope("service", identity.service)), str(Scope("node", identity.node))


def _judge_content(state: AgentState) -> Grant | Denied:
    """The newest allowed release of the running artifact that holds; else why the newest one does not."""
    if state.running is None:
        return Denied(Reason.NOT_ATTESTED, state.running_doubt)
    artifact = state.running.artifact
    entries = [entry for entry in state.content.allowed if entry.artifact == artifact]
    judged = [_judge_entry(state, entry) for entry in sorted(entries, key=lambda entry: -_version_of(state, entry))]
    for verdict in judged:
        if isinstance(verdict, Grant):
            return verdict
    return judged[0] if judged else _deny_artifact(state, artifact)


def _judge_entry(state: AgentState, entry: AllowedRelease) -> Grant | Denied:
    node = state.identity.node
    if entry.nodes and node not in entry.nodes:
        text = f"release {short(entry.release)} is open for stage {entry.stage}, {len(entry.nodes)} nodes, not {node}. "
        return Denied(Reason.RELEASE_MISMATCH, text + "Do: wait for its stage, or `firecurtain release show`.")
    cover = stops.find_cover(state.sets, (str(Scope("release", entry.release)),))
    if cover is not None:
        return _deny_stop(cover)
    facts = find_facts(state, entry.release)
    if facts is None:
        text = f"{node} has no envelope of release {short(entry.release)} that k of n signed. "
        return Denied(Reason.NO_RELEASE, text + "Do: `firecurtain release show`.")
    signed = (facts.service, facts.artifact, facts.limits)
    named = (state.identity.service, entry.artifact, entry.limits)
    if signed != named:
        text = f"release {short(entry.release)} signs {_describe(signed)}, the ledger {_describe(named)}. "
        return Denied(Reason.NO_RELEASE, text + "Do: propose the release anew.")
    return _build_grant(state, entry, facts)


def _build_grant(state: AgentState, entry: AllowedRelease, facts: ReleaseFacts) -> Grant:
    """Arm what the ledger armed, the release declares and no stop disarms: what it does not declare it cannot hear."""
    armed = frozenset(
        FlagToken(token)
        for token in entry.armed
        if token in facts.tokens and stops.find_cover(state.sets, (str(Scope("token", token)),)) is None
    )
    return Grant(
        ledger_epoch=state.content.ledger_epoch,
        ledger_seq=state.content.ledger_seq,
        artifact=Digest(entry.artifact),
        release=Digest(entry.release),
        limits=Digest(entry.limits),
        armed=armed,
    )


def _deny_stop(entry: StopEntry) -> Denied:
    text = f"{entry.kind} {entry.id.hex()[:12]} on {entry.scope}: {entry.reason[:100]}. "
    return Denied(Reason.STOP_IN_FORCE, text + "Do: `firecurtain resume`, signed by k of n.")


def _deny_artifact(state: AgentState, artifact: str) -> Denied:
    allowed = ", ".join(short(entry.artifact) for entry in state.content.allowed[:4])
    text = f"{state.identity.node} runs {short(artifact)}, the ledger allows {allowed or 'nothing'}. "
    return Denied(Reason.RELEASE_MISMATCH, text + "Do: restart it on an allowed release, or approve this one.")


def _deny_silence(state: AgentState, grant: Grant | None, now_ns: int) -> Denied:
    identity = state.identity
    is_heard = state.heard_ns >= 0 and now_ns - state.heard_ns <= identity.max_age_ns
    if is_heard and not freshness.has_answers(state.tracks, now_ns):
        text = (
            f"beacons arrive, but no issuer answers {identity.node}: unknown, excluded, straggling or started twice. "
        )
        return Denied(Reason.NOT_ENROLLED, text + "Do: `firecurtain node list`.", grant)
    fresh = freshness.count_fresh(state.tracks, identity.issuers, now_ns)
    text = (
        f"{fresh} of {len(identity.issuers)} issuers affirmed in the last {identity.max_age_ns // NS_PER_MS} ms, "
        f"{identity.majority} needed. Do: look whether the control plane runs and is reached."
    )
    return Denied(Reason.EXPIRED, text, grant)


def _version_of(state: AgentState, entry: AllowedRelease) -> int:
    facts = find_facts(state, entry.release)
    return -1 if facts is None else facts.version


def _describe(values: tuple[str, str, str]) -> str:
    service, artifact, limits = values
    return f"{service} artifact {short(artifact)} limits {short(limits)}"
