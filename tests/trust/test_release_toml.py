# SPDX-License-Identifier: Apache-2.0
"""What an author writes is completed by what was sealed; what does not fit is refused with what would."""

from __future__ import annotations

from pathlib import Path

import pytest

from firecurtain.artifact.seal import Sealed, seal
from firecurtain.terms import ConfigError
from firecurtain.trust.release import Limit, Stage
from firecurtain.trust.release_toml import read_release_toml

AUTHOR = bytes(range(8))
WRITTEN = """
fleet = "knight"
service = "smars"
version = 2
entrypoint = ["main.py", "--port", "0"]
tokens = ["fc1-0123456789AB", "fc1-123456789ABC"]
arms = ["fc1-0123456789AB"]
on_straggler = "hold"
min_nodes = 7

[limits.send-order]
effects_per_cause = 3
gross_usd = 2_000_000

[[stages]]
name = "first"
nodes = ["host-1"]

[[stages]]
name = "rest"
nodes = "*"
"""


@pytest.fixture
def sealed(tmp_path: Path) -> Sealed:
    source = tmp_path / "source"
    source.mkdir()
    (source / "main.py").write_text("RLP = 'fc1-0123456789AB'\nPEG = 'fc1-123456789ABC'\n")
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    return seal(source, tmp_path / "store")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "release.toml"
    path.write_text(WRITTEN)
    return path


def test_file_is_completed_with_the_sealed_facts(file: Path, sealed: Sealed) -> None:
    release = read_release_toml(file, sealed, AUTHOR)
    assert (release.artifact, release.interpreter) == (sealed.digest, sealed.interpreter)
    assert release.modes == {"run.sh": "0755"}
    assert release.tokens == sealed.tokens == ("fc1-0123456789AB", "fc1-123456789ABC")
    assert release.limits == {"send-order": Limit(3, 2_000_000)}
    assert release.stages == (Stage("first", ("host-1",)), Stage("rest", "*"))
    assert (release.predecessor, release.lifts_fences, release.author) == (None, (), AUTHOR.hex())


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("min_nodes", "min_node", r"unknown key `min_node`\. The nearest known one is 'min_nodes'"),
        (
            "gross_usd",
            "gros_usd",
            r"unknown field `gros_usd` - at `\$\.limits\[\.\.\.\]`.* nearest known one is 'gross_usd'",
        ),
        ('nodes = "*"', 'node = "*"', r"unknown field `node`.*nearest known one is 'nodes'"),
        ("on_straggler", "zzz", r"unknown key `zzz`.*nearest known one is"),
        ('on_straggler = "hold"\n', "", "missing required field `on_straggler`"),
        ('"hold"', '"wait"', r"Invalid enum value 'wait' - at `\$\.on_straggler`"),
        ("[limits.send-order]\neffects_per_cause = 3\ngross_usd = 2_000_000\n", "", "missing required field `limits`"),
        ("effects_per_cause = 3", "effects_per_cause = 0", "effects_per_cause"),
        ("gross_usd = 2_000_000", "gross_usd = inf", "gross_usd"),
        ("version = 2", "version = 0", r"at `\$\.version`"),
        ('service = "smars"', 'service = "sm ars"', r"at `\$\.service`"),
        (
            '"main.py"',
            '"mian.py"',
            r"entrypoint 'mian\.py' is no file of.* nearest known one is 'main\.py'",
        ),
        ('["main.py", "--port", "0"]', "[]", r"length >= 1 - at `\$\.entrypoint`"),
        (', "fc1-123456789ABC"]', "]", r"which holds \['fc1-123456789ABC'\] besides and does not hold \[\]"),
        ('"fc1-123456789ABC"]', '"fc1-123456789ABC", "fc1-ZZZZZZZZZZZZ"]', r"does not hold \['fc1-ZZZZZZZZZZZZ'\]"),
        ('arms = ["fc1-0123456789AB"]', 'arms = ["fc1-ZZZZZZZZZZZZ"]', "Arm only what it holds"),
        ('fleet = "knight"', 'fleet = "knight', "is not TOML: .*line 2"),
        ('fleet = "knight"', 'fleet = "knight"\nfleet = "other"', "is not TOML: Cannot overwrite"),
        ('service = "smars"', 'service = "smars"\nartifact = "x"', "unknown key `artifact`"),
        ('tokens = ["fc1-0', 'tokens = ["fc1-ZZZZZZZZZZZZ", "fc1-0', "must be sorted, each once"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(file: Path, sealed: Sealed, old: str, new: str, text: str) -> None:
    assert old in WRITTEN
    file.write_text(WRITTEN.replace(old, new, 1))
    with pytest.raises(ConfigError, match=text) as refusal:
        read_release_toml(file, sealed, AUTHOR)
    assert str(file) in str(refusal.value)


def test_missing_binary_or_endless_file_is_refused(file: Path, sealed: Sealed) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_release_toml(file.with_name("absent.toml"), sealed, AUTHOR)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not TOML"):
        read_release_toml(file, sealed, AUTHOR)
    file.write_text("#" * 60_001)
    with pytest.raises(ConfigError, match="over 60000 bytes"):
        read_release_toml(file, sealed, AUTHOR)
