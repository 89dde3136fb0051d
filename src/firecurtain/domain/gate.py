# SPDX-License-Identifier: Apache-2.0
"""The gate of a rollout: 100 % of the permit-capable nodes of the open stages attest the release's artifact.

Never N-1: a node leaves the count only when its permit has provably run out. The gate decides WHEN to go on; that an
old node never acts beside an armed token does not rest on it (see `binding`).
Source: 03-protocol, "Gate and arming".
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from firecurtain.domain.binding import find_service_records, is_open
from firecurtain.domain.refusals import GateClosed, MinNodes
from firecurtain.domain.state import Fleet, Instant, Live, Node, Presence, ReleaseRecord
from firecurtain.domain.stops import compute_age_ns
from firecurtain.domain.waits import compute_lapse_ns, compute_stop_wait_ns
from firecurtain.terms import short
from firecurtain.trust.release import EVERY_NODE

_NAMED_MAX = 5
"""Nodes a refusal names one by one; the status shows them all."""


class Gate(msgspec.Struct, frozen=True):
    """The permit-capable nodes of the open stages, each in one list.

    `attesting` run the release; `straggling` run another artifact; `silent` have not attested a running artifact since
    this issuer started; `leaving` were excluded too short a time ago for their permits to have run out.
    """

    attesting: tuple[str, ...]
    straggling: tuple[str, ...]
    silent: tuple[str, ...]
    leaving: tuple[str, ...]


def compute_gate(state: Fleet, record: ReleaseRecord, now: Instant, live: Live) -> Gate:
    """Sort the permit-capable nodes of the release's open stages."""
    attesting, straggling, silent, leaving = [], [], [], []
    for node in _find_capable(state, record, now, live):
        presence = live.get(node.name)
        if node.excluded_by is not None:
            leaving.append(node.name)
        elif presence is None or presence.artifact is None:
            silent.append(node.name)
        elif presence.artifact == record.document.artifact:
            attesting.append(node.name)
        else:
            straggling.append(node.name)
    return Gate(tuple(attesting), tuple(straggling), tuple(silent), tuple(leaving))


def check_gate(record: ReleaseRecord, gate: Gate, live: Live) -> None:
    """Refuse to go on while one permit-capable node does not attest the release.

    Raises: GateClosed, MinNodes.
    """
    missing = gate.straggling + gate.silent + gate.leaving
    if missing or not gate.attesting:
        total = len(gate.attesting) + len(missing)
        raise GateClosed(
            f"the gate of release {short(record.release)} is closed: {len(gate.attesting)} of {total} permit-capable "
            f"nodes attest artifact {short(record.document.artifact)}{_describe(gate, live)}. "
            "Do: start the artifact there, or take the node out (`firecurtain node exclude NODE --reason …`)."
        )
    # A first stage is smaller than the fleet by intention, so min_nodes counts once every stage is open.
    is_last = len(record.stages) == len(record.document.stages)
    if is_last and len(gate.attesting) < record.document.min_nodes:
        raise MinNodes(
            f"{len(gate.attesting)} nodes attest release {short(record.release)}, it demands "
            f"{record.document.min_nodes}. Do: enrol or start more nodes."
        )


def names_node(record: ReleaseRecord, node: str) -> bool:
    """Whether a stage of the release that is open has called this node."""
    stages = (stage for stage in record.document.stages if stage.name in record.stages)
    return any(stage.nodes == EVERY_NODE or node in stage.nodes for stage in stages)


def find_called(state: Fleet, node: Node) -> ReleaseRecord | None:
    """The newest release that has called this node; it may be fenced."""
    records = filter(is_open, find_service_records(state, node.service))
    return next((record for record in records if names_node(record, node.name)), None)


def find_newest_open(state: Fleet, service: str) -> ReleaseRecord | None:
    """The newest release of a service that has called nodes; it may be fenced."""
    return next(filter(is_open, find_service_records(state, service)), None)


def _find_capable(state: Fleet, record: ReleaseRecord, now: Instant, live: Live) -> Iterator[Node]:
    """Nodes that may hold a permit: those with a lapsed exclusion or a lapsed grant are left out."""
    for node in state.nodes.values():
        if node.service != record.document.service or not names_node(record, node.name):
            continue
        presence = live.get(node.name)
        attested_ns = presence.attested_ns if presence else now.started_ns
        if now.issuer_ns - attested_ns <= compute_lapse_ns(state.root) and not _is_gone(state, node, now, presence):
            yield node


def _is_gone(state: Fleet, node: Node, now: Instant, presence: Presence | None) -> bool:
    """Whether what an excluded node was permitted has run out: by its stop while that holds, else by silence.

    A stop that was lifted at once may never have reached the node, which acts on its last answer then.
    """
    stop = state.stops.get(node.excluded_by) if node.excluded_by else None
    if stop is None:
        return False
    if stop.id not in state.lifted:
        return compute_age_ns(stop, now) >= compute_stop_wait_ns(state.root)
    answered_ns = presence.answered_ns if presence else None
    last_ns = now.started_ns if answered_ns is None else answered_ns
    return now.issuer_ns - max(last_ns, now.started_ns) >= compute_lapse_ns(state.root)


def _describe(gate: Gate, live: Live) -> str:
    """The missing nodes for people, each with what it does instead."""
    words = [f"{name} attests {short(live[name].artifact or '')}" for name in gate.straggling]
    words += [f"{name} attests nothing running" for name in gate.silent]
    words += [f"{name} was excluded a moment ago" for name in gate.leaving]
    hidden = len(words) - _NAMED_MAX
    shown = words[:_NAMED_MAX] + ([f"and {hidden} more"] if hidden > 0 else [])
    return "".join(f"; {word}" for word in shown)
