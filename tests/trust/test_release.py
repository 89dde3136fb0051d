# SPDX-License-Identifier: Apache-2.0
"""A release says everything that approvers agree to, once, and in a form that other tools read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from firecurtain.permit.limits import ActionLimits, parse_limits
from firecurtain.trust.envelope import DocumentError
from firecurtain.trust.lift import make_lift
from firecurtain.trust.release import (
    Limit,
    Release,
    Stage,
    compute_limits_digest,
    decode_release,
    encode_limits,
    encode_release,
)


def test_release_is_an_in_toto_statement_and_reads_back(release: Release) -> None:
    payload = encode_release(release)
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "urn:firecurtain:release:1"
    assert statement["subject"] == [{"name": "smars", "digest": {"dirHash1": "b" * 64}}]
    assert statement["predicate"]["limits"]["send-order"] == {"effects_per_cause": 3, "gross_usd": 2_000_000}
    assert decode_release(payload) == release


def edit(release: Release, change: Callable[[dict[str, Any]], object]) -> bytes:
    statement = json.loads(encode_release(release))
    change(statement)
    return json.dumps(statement).encode()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s["subject"][0].update(name="other"), "statement is about other"),
        (lambda s: s["subject"][0]["digest"].update(dirHash1="d" * 64), f"statement is about smars {'d' * 64}"),
        (lambda s: s["subject"][0]["digest"].update(sha1="d" * 40), "unknown field `sha1`"),
        (lambda s: s["subject"].append(s["subject"][0]), "Expected `array` of length 1"),
        (lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"), "Invalid enum value"),
        (lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"), "Invalid enum value"),
        (lambda s: s["predicate"].update(off=True), "unknown field `off`"),
        (lambda s: s["predicate"].pop("limits"), "missing required field `limits`"),
        (lambda s: s["predicate"].pop("on_straggler"), "missing required field `on_straggler`"),
        (lambda s: s["predicate"]["limits"]["cancel"].update(rate=1), "unknown field `rate`"),
        (lambda s: s["predicate"]["limits"]["cancel"].pop("gross_usd"), "missing required field `gross_usd`"),
        (lambda s: s["predicate"]["limits"]["cancel"].update(gross_usd=True), "Expected `int`, got `bool`"),
    ],
)
def test_statement_about_anything_else_is_refused(
    release: Release, change: Callable[[dict[str, Any]], object], text: str
) -> None:
    with pytest.raises(DocumentError, match=text):
        decode_release(edit(release, change))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"limits": {}}, "length >= 1"),
        ({"limits": {"send-order": Limit(0, 1)}}, ">= 1"),
        ({"limits": {"send-order": Limit(1, 0)}}, ">= 1"),
        ({"limits": {"send-order": Limit(1, 10**12 + 1)}}, "<= 1000000000000"),
        ({"limits": {"a" * 31: Limit(1, 1)}}, "matching regex"),
        ({"stages": ()}, "length >= 1"),
        ({"stages": (Stage("all", ()),)}, "length >= 1"),
        ({"stages": (Stage("a", "*"), Stage("b", ("n",)))}, "only the last stage can have it"),
        ({"stages": (Stage("a", ("n",)), Stage("a", "*"))}, "a name stands twice"),
        ({"stages": (Stage("a", ("n", "m")), Stage("b", ("n",)))}, r"call \['n'\] more than once"),
        ({"arms": ("fc1-ZZZZZZZZZZZZ",)}, "Arm only what it holds"),
        ({"tokens": ("fc1-123456789ABC", "fc1-0123456789AB")}, "must be sorted, each once"),
        ({"tokens": ("fc1-0123456789AB",) * 2}, "must be sorted, each once"),
        ({"tokens": ("fc1-0123456789AB\n",), "arms": ()}, "matching regex"),
        ({"lifts_fences": ("0" * 32, "0" * 32)}, "must be sorted, each once"),
        ({"lifts_fences": ("0" * 31,)}, "matching regex"),
        ({"entrypoint": ()}, "must begin with a file inside the artifact"),
        ({"entrypoint": ("/bin/sh",)}, "must begin with a file inside the artifact"),
        ({"entrypoint": ("../other/main.py",)}, "must begin with a file inside the artifact"),
        ({"entrypoint": ("-c", "print()")}, "must begin with a file inside the artifact"),
        ({"entrypoint": ("lib//main.py",)}, "must begin with a file inside the artifact"),
        ({"entrypoint": ("main.py", "a\0b")}, "matching regex"),
        ({"modes": {"start.sh": "4755"}}, "matching regex"),
        ({"version": 0}, ">= 1"),
        ({"version": 2**53}, "<= 9007199254740991"),
        ({"min_nodes": 0}, ">= 1"),
        ({"on_straggler": "ignore"}, "Invalid enum value 'ignore'"),
        ({"predecessor": "B" * 64}, "matching regex"),
        ({"service": "smars\n"}, "matching regex"),
    ],
)
def test_release_that_breaks_a_rule_is_never_written(
    release: Release, vary: Callable[..., Any], changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(DocumentError, match=text):
        encode_release(vary(release, **changes))


def test_first_release_has_no_predecessor(release: Release, vary: Callable[..., Any]) -> None:
    first = vary(release, predecessor=None, version=1)
    assert decode_release(encode_release(first)) == first


def test_limits_file_is_what_the_guard_reads_and_its_order_is_one(release: Release, vary: Callable[..., Any]) -> None:
    data = encode_limits(release)
    assert data == (
        b'{"cancel":{"effects_per_cause":1,"gross_usd":1},"send-order":{"effects_per_cause":3,"gross_usd":2000000}}'
    )
    assert parse_limits(data)["send-order"] == ActionLimits(3, 2_000_000)
    assert compute_limits_digest(release) == hashlib.sha256(data).hexdigest()
    turned = vary(release, limits=dict(reversed(release.limits.items())))
    assert compute_limits_digest(turned) == compute_limits_digest(release)
    wider = vary(release, limits={**release.limits, "cancel": Limit(1, 2)})
    assert compute_limits_digest(wider) != compute_limits_digest(release)


@pytest.mark.parametrize(
    ("stop_ids", "reason", "statement", "text"),
    [
        ([], "why", bytes(16), "length >= 1"),
        ([bytes(15)], "why", bytes(16), "matching regex"),
        ([bytes(16)], "", bytes(16), "length >= 1"),
        ([bytes(16)], "x" * 501, bytes(16), "length <= 500"),
        ([bytes(16)], "why", b"", "matching regex"),
    ],
)
def test_lift_without_stops_reason_or_statement_is_never_written(
    stop_ids: list[bytes], reason: str, statement: bytes, text: str
) -> None:
    with pytest.raises(DocumentError, match=text):
        make_lift("knight", stop_ids, reason, statement)


def test_lift_names_each_stop_once(release: Release) -> None:
    assert make_lift("knight", [bytes(16)] * 2, "why", bytes(16)) == make_lift("knight", [bytes(16)], "why", bytes(16))
