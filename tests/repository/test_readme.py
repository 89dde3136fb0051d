# SPDX-License-Identifier: Apache-2.0
"""README.md shows the code's own lines and figures that a script wrote, for the arms that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from firecurtain.rehearsal.knight.arms import ARMS
from tools import readme


def read_part(root: Path, name: str) -> str:
    page = (root / "README.md").read_text()
    found = re.search(rf"<!-- {name} -->\n(.*)\n<!-- /{name} -->", page, flags=re.DOTALL)
    assert found
    return found[1]


def test_the_loop_in_the_readme_is_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["readme", "--check"])
    readme.main()
    lines = [line for line in readme.compute_loop().splitlines() if line and not line.startswith("#")]
    assert 15 <= len(lines) <= 20


def test_a_changed_line_is_called_stale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(readme.PAGE.read_text().replace("t0_ns = boottime_ns()", "t0_ns = time.time_ns()"))
    monkeypatch.setattr(readme, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["readme", "--check"])
    with pytest.raises(SystemExit, match="stale"):
        readme.main()
    monkeypatch.setattr("sys.argv", ["readme", "--loop"])
    readme.main()
    assert page.read_text() == (readme.ROOT / "README.md").read_text()


def test_a_line_that_left_the_code_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme, "LOOP", (("somebody", "permit/reader.py", ("return everything",)),))
    with pytest.raises(SystemExit, match=r"permit/reader\.py has no line `return everything` any more"):
        readme.compute_loop()


def test_the_figures_tell_of_every_arm_in_its_words(root: Path) -> None:
    lines = read_part(root, "figures").splitlines()[2:-1]
    assert [line[:23].strip() for line in lines] == [arm.title for arm in ARMS.values()]
    assert [line[56:] for line in lines] == [arm.remark.format(straggler=8) for arm in ARMS.values()]
    controlled = [line for line in lines if "a second" not in line]
    assert len(controlled) == 4
    assert all(re.search(r" 0 +1,696 of 1,696 ", line) for line in controlled)
