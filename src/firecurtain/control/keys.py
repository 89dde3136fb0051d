# SPDX-License-Identifier: Apache-2.0
"""Who may sign what towards the control plane, as key id -> raw public key, read from the fleet's own root and roster.

Thresholds and envelopes are judged by the domain; this only says which single signatures are looked at at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from firecurtain.domain.state import Fleet, Node
from firecurtain.wire.keys import compute_keyid


def index_hex_keys(public_keys: Iterable[str]) -> dict[bytes, bytes]:
    """Key id -> raw key, of keys written in hexadecimal as the root lists them.

    >>> {keyid.hex(): len(key) for keyid, key in index_hex_keys(["00" * 32]).items()}
    {'66687aadf862bd77': 32}
    """
    return {compute_keyid(raw): raw for raw in map(bytes.fromhex, public_keys)}


class NodeKeys:
    """The roster by key id, indexed anew only when the roster changed: an attest a second and node asks for it."""

    def __init__(self, get_fleet: Callable[[], Fleet]) -> None:
        self._get_fleet = get_fleet
        self._nodes: Mapping[str, Node] = {}
        self._by_keyid: dict[bytes, Node] = {}
        self._public: dict[bytes, bytes] = {}

    @property
    def public(self) -> Mapping[bytes, bytes]:
        """Key id -> raw key of every node, excluded ones too."""
        self._refresh()
        return self._public

    def find(self, keyid: bytes) -> Node | None:
        """The node that this key belongs to."""
        self._refresh()
        return self._by_keyid.get(keyid)

    def _refresh(self) -> None:
        nodes = self._get_fleet().nodes
        if nodes is self._nodes:
            return
        self._nodes = nodes
        self._by_keyid = {compute_keyid(node.public_key): node for node in nodes.values()}
        self._public = {keyid: node.public_key for keyid, node in self._by_keyid.items()}


def index_people_who_stop(fleet: Fleet) -> dict[bytes, bytes]:
    """Who may stop every scope: stop keys and issuers."""
    return index_hex_keys((*fleet.root.stop_keys, *fleet.root.issuers))
