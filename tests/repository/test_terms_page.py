# SPDX-License-Identifier: Apache-2.0
"""docs/TERMS.md defines each word once and in one sentence."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def rows(root: Path) -> list[tuple[str, str]]:
    """Every (word, meaning) of the page."""
    page = (root / "docs" / "TERMS.md").read_text()
    return [row for row in re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", page, flags=re.MULTILINE) if row[0] != "word"]


def test_each_word_is_defined_once(rows: list[tuple[str, str]]) -> None:
    assert len(rows) > 50
    assert [word for word, count in Counter(word for word, _ in rows).items() if count > 1] == []


def test_each_definition_is_one_sentence(rows: list[tuple[str, str]]) -> None:
    assert [word for word, meaning in rows if not meaning.endswith(".") or ". " in meaning] == []
