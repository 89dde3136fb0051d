# SPDX-License-Identifier: Apache-2.0
"""A permit page of this very host in a private directory, with its writer and a reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from firecurtain.permit import (
    Grant,
    PageHeader,
    PageWriter,
    read_boot_id,
    read_time_namespace,
)
from firecurtain.terms import Digest, FlagToken

MAX_AGE_NS = 1_500_000_000


@pytest.fixture
def header() -> PageHeader:
    return PageHeader("theatre", "payouts", "host-8", MAX_AGE_NS, read_boot_id(), read_time_namespace())


@pytest.fixture
def grant() -> Grant:
    token = FlagToken("fc1-00000000000Z")
    return Grant(7, 4711, Digest("a1" * 32), Digest("b2" * 32), Digest("c3" * 32), frozenset([token]))


@pytest.fixture
def page_path(tmp_path: Path) -> str:
    tmp_path.chmod(0o700)
    return f"{tmp_path}/permit/permit.page"


@pytest.fixture
def writer(page_path: str, header: PageHeader) -> Iterator[PageWriter]:
    with PageWriter(page_path, header) as opened:
        yield opened
