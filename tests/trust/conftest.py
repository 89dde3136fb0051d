# SPDX-License-Identifier: Apache-2.0
"""A fleet whose keys come from fixed seeds, so that every signature here is the same on every machine."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from firecurtain.trust.dev_init import DevelopmentKeys, make_development_keys
from firecurtain.trust.release import Limit, Release, Stage
from firecurtain.trust.root import Root

TOKEN = "fc1-0123456789AB"  # noqa: S105 - a flag token, not a password


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> DevelopmentKeys:
    """author, approver-1..3, operator, issuer; 2 of 3 approve."""
    numbers = itertools.count(1)

    def draw_bytes(count: int) -> bytes:
        return hashlib.sha256(b"firecurtain test key %d" % next(numbers)).digest()[:count]

    return make_development_keys(tmp_path_factory.mktemp("fleet") / "keys", "knight", draw_bytes)


@pytest.fixture(scope="session")
def root(keys: DevelopmentKeys) -> Root:
    return keys.root


@pytest.fixture(scope="session")
def release(keys: DevelopmentKeys) -> Release:
    return Release(
        fleet="knight",
        service="smars",
        version=2,
        predecessor="a" * 64,
        artifact="b" * 64,
        entrypoint=("lib/main.py", "--port", "0"),
        interpreter="c" * 64,
        modes={"start.sh": "0755"},
        tokens=(TOKEN, "fc1-123456789ABC"),
        arms=(TOKEN,),
        limits={"send-order": Limit(3, 2_000_000), "cancel": Limit(1, 1)},
        stages=(Stage("first", ("host-1",)), Stage("rest", "*")),
        on_straggler="hold",
        min_nodes=7,
        lifts_fences=("0" * 32,),
        author=keys.signers["author"].keyid.hex(),
    )


@pytest.fixture(scope="session")
def vary() -> Callable[..., Any]:
    """A frozen document with some fields changed."""
    return msgspec.structs.replace
