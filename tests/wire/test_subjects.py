# SPDX-License-Identifier: Apache-2.0
"""A node's permission is one prefix: everything it publishes lies below it, nothing the control plane says does."""

from __future__ import annotations

from firecurtain.wire import subjects


def test_what_a_node_publishes_lies_below_its_own_subject_and_nothing_else_does() -> None:
    own = "fc.knight.up.host-8."
    for published in (subjects.attest, subjects.counters, subjects.node_stop, subjects.release):
        assert published("knight", "host-8").startswith(own)
        assert not published("knight", "host-7").startswith(own)
    for spoken in (subjects.beacon("knight", "smars"), subjects.stop_down("knight"), subjects.lift("knight")):
        assert spoken.startswith("fc.knight.down.")
    for asked in (subjects.hello("knight"), subjects.command("knight")):
        assert asked.startswith("fc.knight.cmd.")
    assert subjects.stop("knight") == "fc.knight.stop"
