# SPDX-License-Identifier: Apache-2.0
"""Who may sign what towards the control plane, as key id -> raw public key, read from the fleet's own root and roster.

Thresholds and envelopes are judged by the domain; this only says which single signatures are looked at at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from firecurtain.domain.state import Fleet, Node
from firecurtain.wire.keys import compute_keyid


def index_hex_keys(public_keys: Iterable[str]) -> dict[bytes, bytes]:
    """Key id -> raw key, of keys written in hexadecimal as the root lists them.

    >>> {keyid.hex(): len(key) for keyid, key in index_hex_keys(["00" * 32]).items()}
    {'66687aadf862bd77': 32}
    """
    return {compute_keyid(raw): raw for raw in map(bytes.fromhex, public_keys)}


def index_node_keys(nodes: Iterable[Node]) -> dict[bytes, bytes]:
    """Key id -> raw key of these nodes."""
    return {compute_keyid(node.public_key): node.public_key for node in nodes}


def find_node_by_key(fleet: Fleet, keyid: bytes) -> Node | None:
    """The node that this key belongs to."""
    return next((node for node in fleet.nodes.values() if compute_keyid(node.public_key) == keyid), None)


def index_stop_signers(fleet: Fleet) -> Mapping[bytes, bytes]:
    """Everybody who may stop something: stop keys and issuers for every scope, nodes for themselves."""
    people = index_hex_keys((*fleet.root.stop_keys, *fleet.root.issuers))
    return index_node_keys(fleet.nodes.values()) | people
