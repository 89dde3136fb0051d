# SPDX-License-Identifier: Apache-2.0
"""People's commands over a real broker: who may, once, and where a refusal can be read again."""

from __future__ import annotations

from pathlib import Path

from firecurtain.domain.events import CommandRefused, NodeEnrolled, StopRecorded
from firecurtain.wire.commands import Command, EnrolNode, ExcludeNode, Status
from firecurtain.wire.frame import encode_frame
from firecurtain.wire.messages import VERSION
from support.fleet_world import make_signer
from support.plane import FLEET, OPERATORS, SERVICE, make_stop, read_detail, running_plane


async def test_two_operators_command_one_fleet(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        for number, operator in enumerate(OPERATORS, start=1):
            key = make_signer(f"host-{number}").public
            assert (await site.command(EnrolNode(f"host-{number}", SERVICE, key), operator)).ok
        enrolled = [event.by for event in await site.read_events() if isinstance(event, NodeEnrolled)]
        assert enrolled == [operator.keyid for operator in OPERATORS]


async def test_a_replayed_command_is_refused_and_the_refusal_stands_in_the_ledger(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        challenge, frame = await site.frame_command(EnrolNode("host-1", SERVICE, make_signer("host-1").public))
        first, again = await site.send(frame), await site.send(frame)
        assert (first.ok, first.challenge) == (True, challenge)
        assert (again.ok, again.code) == (False, "challenge-unknown")
        recorded = (await site.read_events())[again.ledger_seq - 1]
        assert recorded == CommandRefused("EnrolNode", OPERATORS[0].keyid, again.code, again.text)


async def test_a_key_that_is_no_operators_is_refused_and_leaves_no_record(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        before = len(await site.read_events())
        reply = await site.command(Status(), make_signer("stranger"))
        assert (reply.ok, reply.code, reply.ledger_seq) == (False, "wire", 0)
        assert make_signer("stranger").keyid.hex() in reply.text
        assert len(await site.read_events()) == before


async def test_a_challenge_nobody_gave_is_refused(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        frame = encode_frame(Command(VERSION, FLEET, b"guessed-16-bytes", Status()), OPERATORS[0])
        assert (await site.send(frame)).code == "challenge-unknown"


async def test_a_command_for_another_fleet_is_refused(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        challenge, _ = await site.frame_command(Status())
        reply = await site.send(encode_frame(Command(VERSION, "other", challenge, Status()), OPERATORS[0]))
        assert not reply.ok
        assert "other" in reply.text


async def test_what_the_domain_refuses_is_quoted_by_its_ledger_seq(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        reply = await site.command(ExcludeNode("host-9", "gone"))
        assert (reply.ok, reply.code) == (False, "unknown-node")
        recorded = (await site.read_events())[reply.ledger_seq - 1]
        assert isinstance(recorded, CommandRefused)
        assert (recorded.code, recorded.text) == (reply.code, reply.text)


async def test_an_excluded_node_is_stopped_before_it_is_struck_off(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        await site.enrol()
        assert (await site.command(ExcludeNode("host-8", "old disk"))).ok
        names = [type(event).__name__ for event in await site.read_events()]
        assert names[-2:] == ["StopRecorded", "NodeExcluded"]
        assert [stop.entry.scope for stop in site.latch.stops.values()] == ["node:host-8"]
        status = read_detail(await site.command(Status()))
        assert [(node["name"], node["excluded"]) for node in status["nodes"]] == [("host-8", True)]


async def test_below_the_disk_reserve_grants_are_refused_by_name_and_stops_are_recorded(tmp_path: Path) -> None:
    async with running_plane(tmp_path, reserve_bytes=1 << 62) as site:
        reply = await site.command(EnrolNode("host-1", SERVICE, make_signer("host-1").public))
        assert (reply.ok, reply.code) == (False, "disk-reserve")
        assert (await site.stop(make_stop())).ok
        assert (await site.wait_for(StopRecorded)).scope == "fleet"


async def test_a_node_whose_enrolment_was_answered_into_the_void_gets_its_credentials_with_the_next_one(
    tmp_path: Path,
) -> None:
    async with running_plane(tmp_path) as site:
        enrol = EnrolNode("host-8", SERVICE, make_signer("host-8").public)
        first, again = await site.command(enrol), await site.command(enrol)
        assert first.ok
        assert again.ok, again.text
        assert read_detail(again) == read_detail(first)
        assert len([event for event in await site.read_events() if isinstance(event, NodeEnrolled)]) == 1
        other = await site.command(EnrolNode("host-8", SERVICE, make_signer("host-9").public))
        assert (other.ok, other.code) == (False, "name-taken")
