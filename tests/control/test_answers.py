# SPDX-License-Identifier: Apache-2.0
"""Which node hears an answer: the one that proves who it is, in its one session, and nobody else."""

from __future__ import annotations

from pathlib import Path

from firecurtain.bus.port import NoAnswer
from firecurtain.domain.events import SessionOpened
from firecurtain.wire import subjects
from firecurtain.wire.commands import ExcludeNode, Status
from firecurtain.wire.keys import Ed25519Signer
from firecurtain.wire.messages import Attest
from support.fleet_world import make_signer
from support.plane import FLEET, Site, make_stop, read_detail, running_plane


async def is_answered(site: Site, attest: Attest, by: Ed25519Signer) -> bool:
    try:
        answer = await site.attest(attest, by, 0.2)
    except NoAnswer:
        return False
    assert (answer.node, answer.session, answer.nonce) == (attest.node, attest.session, attest.nonce)
    return True


async def read_verdict(site: Site) -> str:
    return read_detail(await site.command(Status()))["nodes"][0]["verdict"]


async def test_a_stranger_hears_nothing(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        assert not await is_answered(site, site.make_attest(), make_signer("host-8"))


async def test_a_new_session_is_recorded_before_anything_is_answered_in_it(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        key = await site.enrol()
        await is_answered(site, site.make_attest(), key)
        assert (await site.wait_for(SessionOpened)).session == b"s" * 16


async def test_a_node_whose_artifact_no_release_allows_hears_nothing(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        key = await site.enrol()
        await is_answered(site, site.make_attest(), key)
        await site.wait_for(SessionOpened)
        assert not await is_answered(site, site.make_attest(), key)
        assert await read_verdict(site) == "not-allowed"


async def test_a_node_cannot_attest_for_another_nor_with_its_key(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        host_8, host_7 = await site.enrol("host-8"), await site.enrol("host-7")
        for attest, key in ((site.make_attest("host-7"), host_7), (site.make_attest("host-8"), host_7)):
            assert not await is_answered(site, attest, key)
        assert host_8.keyid != host_7.keyid
        assert site.plane.answers.live == {}


async def test_an_excluded_node_hears_nothing_and_its_memory_silences_nobody(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        key = await site.enrol()
        assert (await site.command(ExcludeNode("host-8", "gone"))).ok
        assert not await is_answered(site, site.make_attest(latched=(b"x" * 16,)), key)
        assert not site.plane.issuer.silence


async def test_two_processes_that_speak_as_one_node_are_stopped(tmp_path: Path) -> None:
    async with running_plane(tmp_path) as site:
        key = await site.enrol()
        await is_answered(site, site.make_attest(), key)
        await site.wait_for(SessionOpened)
        await is_answered(site, site.make_attest(), key)
        site.numbers.clear()  # the clone counts from the same saved state, with other content
        site.numbers[b"s" * 16] = 1
        await is_answered(site, site.make_attest(artifact="b" * 64), key)
        assert [entry.scope for entry in site.plane.issuer.in_force().values()] == ["node:host-8"]


async def test_a_copy_of_a_node_confirms_no_stop_for_it(tmp_path: Path) -> None:
    """DURABLE may name only nodes whose own session latched the stop."""
    async with running_plane(tmp_path) as site:
        key = await site.enrol()
        first = site.make_attest(latched=(b"a" * 16,))
        frame = make_stop("node:host-8", b"a" * 16)
        await site.stop(frame)
        await site.cast_attest(first, key)
        await site.wait_for(SessionOpened)
        await site.cast_attest(site.make_attest(), key)
        await site.cast_attest(site.make_attest(session=b"t" * 16, latched=(b"a" * 16,)), key)
        assert read_detail(await site.stop(frame))["nodes"] == {"host-8": False}
        await site.cast_attest(first, key)
        assert read_detail(await site.stop(frame))["nodes"] == {"host-8": False}
        await site.cast_attest(site.make_attest(latched=(b"a" * 16,)), key)
        assert read_detail(await site.stop(frame))["nodes"] == {"host-8": True}


async def test_counters_are_kept_for_the_node_whose_subject_they_came_on(tmp_path: Path) -> None:
    import msgspec

    from firecurtain.wire.messages import VERSION, Counters

    async with running_plane(tmp_path) as site:
        await site.enrol()
        for node, total in (("host-8", 5), ("host-7", 9)):
            counters = Counters(VERSION, FLEET, "smars", node, b"s" * 16, 1, (("order.sent", total),))
            await site.host.cast(subjects.counters(FLEET, "host-8"), msgspec.msgpack.encode(counters))
        await site.host.flush()
        await site.command(Status())
        assert site.plane.answers.totals == {"host-8": (("order.sent", 5),)}
