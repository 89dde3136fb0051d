# SPDX-License-Identifier: Apache-2.0
"""Answers that grow with the fleet: as large as the rules let it become, no answer may end the control plane."""

from __future__ import annotations

from pathlib import Path

import msgspec

from firecurtain.control.commands import CommandDesk
from firecurtain.domain.roster import NODES_MAX
from firecurtain.domain.state import Fleet, Node
from firecurtain.wire.commands import Status
from firecurtain.wire.frame import encode_frame
from firecurtain.wire.messages import VERSION, Stop, StopEntry
from support.plane import FLEET, SERVICE, STOP, make_signer, read_detail, running_plane

STOPS = 45  # more than a status shows
REASON = "Останов учебный: " + "я" * 480  # every letter is six bytes once JSON has escaped it


def grow(fleet: Fleet) -> Fleet:
    """The same fleet with as many nodes as may be enrolled, each with the longest name."""
    public = make_signer("host").public
    names = [f"host-{number:05d}-".ljust(63, "x") for number in range(NODES_MAX)]
    return msgspec.structs.replace(fleet, nodes={name: Node(name, SERVICE.ljust(63, "x"), public) for name in names})


async def test_a_halt_of_the_largest_fleet_is_answered_with_who_is_missing_first(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        site.plane.turn.fleet = grow(site.plane.turn.fleet)
        confirmed = sorted(site.plane.turn.fleet.nodes)[:-1]
        stop_id = b"a" * 16
        site.plane.answers.latched = {name: frozenset([stop_id]) for name in confirmed}
        entry = StopEntry(stop_id, "halt", "fleet", REASON[:500])
        reply = await site.stop(encode_frame(Stop(VERSION, FLEET, entry, 0), STOP))
        detail = read_detail(reply)
        assert detail["nodes_total"] == NODES_MAX
        (missing,) = [name for name, is_latched in detail["nodes"].items() if not is_latched]
        assert missing not in confirmed


async def test_the_status_of_the_largest_fleet_with_many_stops_is_answered(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        for number in range(STOPS):
            entry = StopEntry(bytes([number]) * 16, "halt", f"node:{'h' * 60}{number}", REASON[:500])
            assert (await site.stop(encode_frame(Stop(VERSION, FLEET, entry, 0), STOP))).ok
        site.plane.turn.fleet = grow(site.plane.turn.fleet)
        reply = await site.command(Status())
        assert reply.ok, reply.text
        assert read_detail(reply)["nodes_total"] == NODES_MAX


async def test_an_answer_that_fits_no_frame_is_an_error_by_name_and_the_next_command_is_answered(
    tmp_path: Path,
) -> None:
    async with running_plane(tmp_path) as site:
        desk: CommandDesk = site.plane.commands
        honest, desk._compute_status = desk._compute_status, lambda: {"large": "x" * 70_000}
        reply = await site.command(Status())
        assert (reply.ok, reply.code) == (False, "wire")
        assert "a frame holds 65536" in reply.text
        desk._compute_status = honest
        assert (await site.command(Status())).ok
