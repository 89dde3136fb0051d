# SPDX-License-Identifier: Apache-2.0
"""The fleet as the control plane sees it, as one JSON value that fits into a reply.

A projection for people and tools; nothing decides on it. Long lists are cut and say how long they are, texts are cut
by their bytes in JSON.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from itertools import accumulate

from firecurtain.control.answers import Answers
from firecurtain.control.issuer import Issuer
from firecurtain.domain.content import compute_floor
from firecurtain.domain.state import Fleet, Instant, Node, ReleaseRecord, StopRecord
from firecurtain.domain.stops import in_force
from firecurtain.terms import NS_PER_MS, Scope

NODES_SHOWN_MAX = 100
RELEASES_SHOWN_MAX = 10
STOPS_SHOWN_MAX = 40
FLOORS_SHOWN_MAX = 50
STAGES_SHOWN_MAX = 4
ARMED_SHOWN_MAX = 8
TEXT_BYTES = 120
"""Chosen so that all of it, with longest names, stays below a frame's 64 KiB."""

TROUBLE_BYTES = 1000
"""Of the two sentences that say what to do: they stand there once and are not to be cut."""


def compute_status(fleet: Fleet, answers: Answers, issuer: Issuer, now: Instant, trouble: str) -> dict[str, object]:
    """`trouble` says why grants are refused now, empty when they are not."""
    stops = in_force(fleet)
    return {
        "fleet": fleet.fleet,
        "ledger_epoch": fleet.epoch,
        "ledger_seq": fleet.seq,
        "silence": _cut(issuer.silence, TROUBLE_BYTES),
        "grants_refused": _cut(trouble, TROUBLE_BYTES),
        "max_age_ms": fleet.root.max_age_ms,
        # A sink refuses fencing tokens below its service's floor: they were permitted before the newest stop.
        "fencing_floors_total": len(fleet.content_seq),
        "fencing_floors": {
            name: compute_floor(fleet, Scope("service", name)) for name in sorted(fleet.content_seq)[:FLOORS_SHOWN_MAX]
        },
        "nodes_total": len(fleet.nodes),
        "nodes": [_describe_node(node, answers, now) for node in list(fleet.nodes.values())[:NODES_SHOWN_MAX]],
        "releases_total": len(fleet.releases),
        "releases": [
            _describe_release(record, fleet) for record in list(fleet.releases.values())[-RELEASES_SHOWN_MAX:]
        ],
        "stops_total": len(issuer.in_force()),
        "stops_unrecorded": len([key for key in issuer.in_force() if key not in fleet.stops]),
        "stops": [_describe_stop(stop) for stop in stops[-STOPS_SHOWN_MAX:]],
    }


def _describe_node(node: Node, answers: Answers, now: Instant) -> dict[str, object]:
    presence = answers.live.get(node.name)
    return {
        "name": node.name,
        "service": node.service,
        "excluded": node.excluded_by is not None,
        "artifact": presence.artifact if presence else None,
        "attested_ms_ago": (now.issuer_ns - presence.attested_ns) // NS_PER_MS if presence else None,
        "verdict": answers.verdicts.get(node.name, "silent"),
    }


def _describe_release(record: ReleaseRecord, fleet: Fleet) -> dict[str, object]:
    document = record.document
    return {
        "release": record.release,
        "service": document.service,
        "version": document.version,
        "artifact": document.artifact,
        "complete": record.complete,
        "stages_total": len(record.stages),
        "stages": list(record.stages[-STAGES_SHOWN_MAX:]),
        "armed_total": len(record.armed),
        "armed": list(record.armed[:ARMED_SHOWN_MAX]),
        "bill_usd": compute_bill_usd(record, fleet),
    }


def compute_bill_usd(record: ReleaseRecord, fleet: Fleet) -> int:
    """What approvers sign: one process of every node of the service spends every gross limit before it stops.

    Not the worst case: a process that is started again begins at zero.
    """
    nodes = [node for node in fleet.nodes.values() if node.service == record.document.service]
    return sum(limit.gross_usd for limit in record.document.limits.values()) * len(nodes)


def _describe_stop(stop: StopRecord) -> dict[str, object]:
    return {
        "id": stop.id.hex(),
        "kind": stop.kind,
        "scope": _cut(stop.scope, TEXT_BYTES),
        "reason": _cut(stop.reason, TEXT_BYTES),
        "ledger_seq": stop.seq,
    }


def _cut(text: str, bytes_max: int) -> str:
    """The beginning of a text, as much as takes so many bytes in JSON, where a character takes one to six."""
    sizes = accumulate(len(json.dumps(character, ensure_ascii=False).encode()) - 2 for character in text[:bytes_max])
    return text[: bisect_right(list(sizes), bytes_max)]
