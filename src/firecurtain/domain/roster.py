# SPDX-License-Identifier: Apache-2.0
"""Who takes part: enrolling a node, opening its session, taking it out.

A name belongs to one key for ever. An excluded node comes back only after k of n lifted its stop. How a node's attests
are judged is `presence`.
"""

from __future__ import annotations

from collections.abc import Collection

from firecurtain.domain.commands import Exclude, OpenSession
from firecurtain.domain.content import check_entries_fit
from firecurtain.domain.events import Event, NodeEnrolled, NodeExcluded, SessionOpened
from firecurtain.domain.evolve import evolve
from firecurtain.domain.gate import find_newest_open
from firecurtain.domain.presence import compute_session_wait_left_ns
from firecurtain.domain.refusals import (
    Duplicate,
    LedgerBound,
    MinNodes,
    NameTaken,
    NodeExcludedAlready,
    SessionTooEarly,
    StopInForce,
    UnknownNode,
    UnknownStop,
)
from firecurtain.domain.state import Fleet, Instant, Live, Node
from firecurtain.domain.stops import check_bound, in_force
from firecurtain.domain.waits import format_s
from firecurtain.terms import short
from firecurtain.wire.commands import EnrolNode, ExcludeNode

NODES_MAX = 10_000
"""Chosen: one control plane answers one attest a node and second; the ledger's state stays below a few megabytes."""


def decide_enrol(state: Fleet, body: EnrolNode, by: bytes) -> tuple[Event, ...]:
    """Admit a node's key. Raises: NameTaken, StopInForce, Duplicate, LedgerBound, EntryBound."""
    check_bound(state)
    known = state.nodes.get(body.node)
    _check_name(state, body, known)
    if known is not None:
        _check_readmission(state, known)
    elif len(state.nodes) >= NODES_MAX:
        raise LedgerBound(f"{len(state.nodes)} nodes are enrolled, the bound is {NODES_MAX}. Do: found another fleet.")
    enrolled = NodeEnrolled(body.node, body.service, body.public_key, by)
    check_entries_fit(evolve(state, enrolled), body.service)
    return (enrolled,)


def decide_open_session(state: Fleet, command: OpenSession, now: Instant, live: Live) -> tuple[Event, ...]:
    """Accept a new agent start once the old session's grant has run out. Raises: UnknownNode, SessionTooEarly."""
    check_bound(state)
    node = find_node(state, command.node)
    if node.session == command.session:
        return ()
    left_ns = compute_session_wait_left_ns(state, live, node, now)
    if left_ns > 0:
        raise SessionTooEarly(
            f"session {command.session.hex()} of {node.name} comes while session {(node.session or b'').hex()} may "
            f"hold a grant for another {format_s(left_ns)}. Do: wait; the agent asks again by itself."
        )
    return (SessionOpened(command.node, command.session),)


def decide_exclude(state: Fleet, command: Exclude) -> tuple[Event, ...]:
    """Take a node out that a recorded stop covers. Raises: UnknownNode, UnknownStop, MinNodes."""
    stop = state.stops.get(command.stop_id)
    if stop is None or stop.scope != f"node:{command.node}":
        covered = stop.scope if stop else "nothing: it is not in the ledger"
        raise UnknownStop(
            f"stop {command.stop_id.hex()} covers {covered}, an exclusion needs one of node:{command.node}. "
            "Do: record that stop first."
        )
    check_may_exclude(state, command.node)
    return (NodeExcluded(command.node, command.stop_id, command.by),)


def decide_exclude_request(state: Fleet, body: ExcludeNode) -> tuple[Event, ...]:
    """Whether a person may take this node out. It gives no event: the shell makes the stop, then asks `Exclude`."""
    check_may_exclude(state, body.node)
    return ()


def check_may_exclude(state: Fleet, name: str) -> None:
    """Refuse to leave the newest open release fewer nodes than it demands. Raises: UnknownNode, MinNodes."""
    node = find_node(state, name)
    newest = find_newest_open(state, node.service)
    if newest is None:
        return
    left = count_others(state, node.service, (name,))
    if left < newest.document.min_nodes:
        raise MinNodes(
            f"without {name} service {node.service} has {left} nodes, release {short(newest.release)} demands "
            f"{newest.document.min_nodes}. Do: `firecurtain halt node:{name}` stops it at once and keeps it enrolled."
        )


def count_others(state: Fleet, service: str, names: Collection[str]) -> int:
    """How many nodes of a service stay on the roster without these."""
    nodes = (node for node in state.nodes.values() if node.service == service and node.excluded_by is None)
    return sum(node.name not in names for node in nodes)


def find_node(state: Fleet, name: str) -> Node:
    """A node on the roster. Raises: UnknownNode, NodeExcludedAlready."""
    node = state.nodes.get(name)
    if node is None:
        raise UnknownNode(
            f"node {name} is not among the {len(state.nodes)} enrolled. Do: `firecurtain node enrol {name} …`."
        )
    if node.excluded_by is not None:
        raise NodeExcludedAlready(
            f"node {name} was excluded by stop {node.excluded_by.hex()}. "
            "Do: lift it with k of n (`firecurtain resume`), then enrol the node again."
        )
    return node


def _check_name(state: Fleet, body: EnrolNode, known: Node | None) -> None:
    """A name, its key and its service stay together. Raises: NameTaken."""
    asked = (body.service, body.public_key.hex()[:16])
    if known is not None and (known.service, known.public_key) != (body.service, body.public_key):
        raise NameTaken(
            f"node {body.node} belongs to service {known.service} with key {known.public_key.hex()[:16]}…, asked for "
            f"{asked[0]} with {asked[1]}…. Do: choose another name for another host."
        )
    for other in state.nodes.values():
        if other.public_key == body.public_key and other.name != body.node:
            raise NameTaken(
                f"key {asked[1]}… belongs to node {other.name}, asked for {body.node}: two nodes with one key are "
                "clones. Do: make a key on each host."
            )


def _check_readmission(state: Fleet, node: Node) -> None:
    """Raises: Duplicate, StopInForce."""
    if node.excluded_by is None:
        raise Duplicate(f"node {node.name} is enrolled in {node.service} with this key already. Nothing to do.")
    for stop in in_force(state):
        if stop.id == node.excluded_by or stop.scope == f"node:{node.name}":
            raise StopInForce(
                f"node {node.name} is excluded and stop {stop.id.hex()} ({stop.reason}) is in force. "
                "Do: lift it with k of n (`firecurtain resume`), then enrol the node again."
            )
