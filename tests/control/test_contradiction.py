# SPDX-License-Identifier: Apache-2.0
"""A ledger that was rolled back is noticed by the nodes that saw the newer one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from firecurtain.control.contradiction import CONTRADICTED_NS, Contradictions, find_contradiction
from firecurtain.control.issuer import Content, IssuerSilentError
from firecurtain.wire.commands import ExcludeNode
from firecurtain.wire.messages import Attest
from support.plane import running_plane

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


@pytest.mark.parametrize(("age_ns", "is_silenced"), [(CONTRADICTED_NS - 1, False), (CONTRADICTED_NS, True)])
def test_a_node_must_say_so_for_fifteen_seconds(age_ns: int, is_silenced: bool) -> None:
    heard = Contradictions()
    heard.note(make_attest(10), OURS, 1_000)
    heard.note(make_attest(10), OURS, 1_000 + age_ns)
    assert bool(heard.find({"host-8"})) is is_silenced
    assert not heard.find({"host-7"}), "a node that left the roster has no say"
    heard.note(make_attest(6, "d" * 64), OURS, 1_000 + age_ns)
    assert not heard.find({"host-8"}), "it has come round"


async def test_a_rolled_back_ledger_silences_the_issuer_until_it_is_restored_or_the_node_is_excluded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firecurtain.control.contradiction.CONTRADICTED_NS", 1)
    async with running_plane(tmp_path) as site:
        host_8, host_7 = await site.enrol("host-8"), await site.enrol("host-7")
        for _ in range(2):
            ahead = msgspec.structs.replace(site.make_attest(), ledger_seq=99)
            await site.cast_attest(ahead, host_8)
        with pytest.raises(IssuerSilentError, match="rolled back"):
            site.plane.issuer.compute_beacon("smars")
        assert (await site.command(ExcludeNode("host-8", "wrong"))).ok
        await site.cast_attest(site.make_attest("host-7", b"t" * 16), host_7)
        assert not site.plane.issuer.silence


async def test_a_ledger_that_grew_past_the_node_after_the_restore_is_noticed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused commands count as events and change no grant: they lift the end of the ledger, not what is signed."""
    monkeypatch.setattr("firecurtain.control.contradiction.CONTRADICTED_NS", 1)
    async with running_plane(tmp_path) as site:
        host_8 = await site.enrol("host-8")
        ahead = site.plane.turn.fleet.seq + 2
        while site.plane.turn.fleet.seq <= ahead:
            assert not (await site.command(ExcludeNode("nobody", "grows the ledger"))).ok
        for _ in range(2):
            await site.cast_attest(msgspec.structs.replace(site.make_attest(), ledger_seq=ahead), host_8)
        assert "rolled back" in site.plane.issuer.silence
