# SPDX-License-Identifier: Apache-2.0
"""A ledger that was rolled back is noticed by the nodes that saw the newer one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from firecurtain.control.contradiction import CONTRADICTED_NS, Contradictions, find_contradiction
from firecurtain.control.issuer import Content, IssuerSilentError
from firecurtain.domain.presence import Answer, NewSession, Verdict, judge_attest
from firecurtain.domain.state import Fleet, Instant, Live
from firecurtain.terms import NS_PER_S
from firecurtain.wire.commands import ExcludeNode
from firecurtain.wire.keys import Ed25519Signer
from firecurtain.wire.messages import Attest
from support.plane import Site, running_plane

OURS = Content(epoch=1, seq=7, digest="c" * 64, allowed=())


def make_attest(seq: int, content: str = "c" * 64, epoch: int = 1) -> Attest:
    return Attest(1, "knight", "smars", "host-8", b"s" * 16, 1, None, epoch, seq, content, (), (), b"n" * 16)


@pytest.mark.parametrize(
    ("attest", "is_contradiction"),
    [
        (make_attest(7), False),
        (make_attest(6, "d" * 64), False),
        (make_attest(7, "d" * 64), True),
        (make_attest(8, "d" * 64), True),
        (make_attest(0, "", epoch=0), False),
    ],
    ids=["the same", "not there yet", "other content", "ahead", "nothing adopted yet"],
)
def test_only_what_cannot_be_true_beside_our_ledger_contradicts_it(attest: Attest, is_contradiction: bool) -> None:
    assert bool(find_contradiction(attest, OURS)) is is_contradiction


def say_for(heard: Contradictions, node: str, age_ns: int) -> None:
    """This node says every second, for so long, that it holds newer content."""
    attest = msgspec.structs.replace(make_attest(10), node=node)
    for now_ns in [*range(0, age_ns, NS_PER_S), age_ns]:
        heard.note(attest, OURS, 1_000 + now_ns)


@pytest.mark.parametrize(("age_ns", "is_silenced"), [(CONTRADICTED_NS - 1, False), (CONTRADICTED_NS, True)])
def test_nodes_must_say_so_for_fifteen_seconds(age_ns: int, is_silenced: bool) -> None:
    heard = Contradictions()
    say_for(heard, "host-7", CONTRADICTED_NS)
    say_for(heard, "host-8", age_ns)
    assert bool(heard.find({"host-6", "host-7", "host-8"}, is_suspect=False)) is is_silenced
    assert not heard.find({"host-6", "host-8"}, is_suspect=False), "a node that left the roster has no say"
    heard.note(make_attest(6, "d" * 64), OURS, 1_000 + age_ns)
    assert not heard.find({"host-6", "host-7", "host-8"}, is_suspect=False), "it has come round"


@pytest.mark.parametrize(
    ("roster", "is_suspect", "is_silenced"),
    [({"host-8", "host-7"}, False, False), ({"host-8", "host-7"}, True, True), ({"host-8"}, False, True)],
    ids=["one of two", "one of two, and our memory is in doubt", "there is no other node that could say it"],
)
def test_one_node_silences_all_only_when_its_word_must_do(
    roster: set[str], is_suspect: bool, is_silenced: bool
) -> None:
    heard = Contradictions()
    say_for(heard, "host-8", CONTRADICTED_NS)
    assert bool(heard.find(roster, is_suspect=is_suspect)) is is_silenced
    assert "host-8 adopted content of ledger_seq 10" in heard.find_of("host-8")
    assert not heard.find_of("host-7")


def test_two_attests_an_hour_apart_are_not_an_hour_of_contradiction() -> None:
    heard = Contradictions()
    heard.note(make_attest(2**62), OURS, 0)
    heard.note(make_attest(2**62), OURS, 3600 * NS_PER_S)
    assert not heard.find({"host-8"}, is_suspect=False)


def test_what_was_said_for_long_enough_stands_through_a_gap() -> None:
    """A broker that restarts makes no rolled-back ledger whole."""
    heard = Contradictions()
    say_for(heard, "host-8", CONTRADICTED_NS)
    heard.note(make_attest(10), OURS, 3600 * NS_PER_S)
    assert heard.find({"host-8"}, is_suspect=False)


async def open_session(site: Site, node: str) -> Ed25519Signer:
    """Enrol a node and have its session recorded."""
    key = await site.enrol(node)
    await site.cast_attest(make_own_attest(site, node, 0), key)
    await site.plane.turn.take_turn()
    return key


def make_own_attest(site: Site, node: str, ledger_seq: int) -> Attest:
    """The node's next attest; at ledger_seq 0 it has adopted nothing yet and contradicts nobody."""
    attest = site.make_attest(node, node.encode().ljust(16, b"-"))
    return msgspec.structs.replace(attest, ledger_epoch=min(ledger_seq, 1), ledger_seq=ledger_seq)


async def say_twice(site: Site, node: str, ledger_seq: int, key: Ed25519Signer) -> None:
    for _ in range(2):
        await site.cast_attest(make_own_attest(site, node, ledger_seq), key)


async def test_a_rolled_back_ledger_silences_the_issuer_until_it_is_restored_or_the_nodes_are_excluded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firecurtain.control.contradiction.CONTRADICTED_NS", 1)
    async with running_plane(tmp_path) as site:
        host_8, host_7, host_6 = [await open_session(site, node) for node in ("host-8", "host-7", "host-6")]
        await say_twice(site, "host-8", 99, host_8)
        assert site.plane.issuer.compute_beacon("smars"), "one of three may be the one that is wrong"
        await say_twice(site, "host-7", 99, host_7)
        with pytest.raises(IssuerSilentError, match="rolled back"):
            site.plane.issuer.compute_beacon("smars")
        assert (await site.command(ExcludeNode("host-8", "wrong"))).ok
        await site.cast_attest(make_own_attest(site, "host-6", 0), host_6)
        assert not site.plane.issuer.silence


async def test_one_node_that_claims_a_later_ledger_gets_no_answer_and_the_others_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firecurtain.control.contradiction.CONTRADICTED_NS", 1)
    monkeypatch.setattr("firecurtain.control.answers.judge_attest", judge_to_answer)
    async with running_plane(tmp_path) as site:
        host_8, host_7 = [await open_session(site, node) for node in ("host-8", "host-7")]
        await say_twice(site, "host-8", 2**62, host_8)
        await site.cast_attest(make_own_attest(site, "host-7", 0), host_7)
        assert site.plane.answers.verdicts == {"host-8": "other-ledger", "host-7": "answer"}
        await site.cast_attest(make_own_attest(site, "host-8", 0), host_8)
        assert site.plane.answers.verdicts["host-8"] == "answer", "it has come round"


def judge_to_answer(fleet: Fleet, live: Live, attest: Attest, now: Instant) -> Verdict:
    """Every node with a session runs what it may."""
    verdict = judge_attest(fleet, live, attest, now)
    return verdict if isinstance(verdict, NewSession) else Answer("a" * 64)


async def test_an_attest_of_another_session_or_said_again_contradicts_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of a node, or whoever kept its old messages, must not speak for the node that runs."""
    monkeypatch.setattr("firecurtain.control.contradiction.CONTRADICTED_NS", 1)
    async with running_plane(tmp_path) as site:
        key = await open_session(site, "host-8")
        ahead = make_own_attest(site, "host-8", 99)
        for attest in (ahead, ahead, ahead):
            await site.cast_attest(attest, key)
        copy = site.make_attest("host-8", b"copied session--")
        for number in (1, 2):
            await site.cast_attest(msgspec.structs.replace(copy, number=number, ledger_seq=99), key)
        assert not site.plane.issuer.silence


async def test_a_ledger_that_grew_past_the_node_after_the_restore_is_noticed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused commands count as events and change no grant: they lift the end of the ledger, not what is signed."""
    monkeypatch.setattr("firecurtain.control.contradiction.CONTRADICTED_NS", 1)
    async with running_plane(tmp_path) as site:
        host_8 = await open_session(site, "host-8")
        ahead = site.plane.turn.fleet.seq + 2
        while site.plane.turn.fleet.seq <= ahead:
            assert not (await site.command(ExcludeNode("nobody", "grows the ledger"))).ok
        await say_twice(site, "host-8", ahead, host_8)
        assert "rolled back" in site.plane.issuer.silence
