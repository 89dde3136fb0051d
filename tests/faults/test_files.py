# SPDX-License-Identifier: Apache-2.0
"""Wrong files: configurations, keys, roots and permit pages. Each gets a sentence with both values and what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.operated import NODE, Fleet

AGENT = f"nodes/{NODE}/agent.toml"


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet with one enrolled node, a sealed artifact and nothing running: every file of it may be spoilt once."""
    fleet = Fleet(tmp_path_factory.mktemp("quiet") / "fleet")
    try:
        fleet.init()
        up = fleet.up()
        fleet.enrol()
        (fleet.directory / "digest").write_text(fleet.seal())
        assert up.end() == 0
        assert fleet.run("init", "other", "--fleet", "other").returncode == 0
        yield fleet
    finally:
        fleet.end()


@pytest.fixture
def spoil(quiet: Fleet) -> Iterator[Callable[[str, Callable[[bytes], bytes]], None]]:
    """Change a file of the quiet fleet until the test ends."""
    before: dict[Path, tuple[bytes, int]] = {}

    def change(name: str, how: Callable[[bytes], bytes]) -> None:
        path = quiet.directory / name
        before[path] = path.read_bytes(), path.stat().st_mode & 0o777
        path.write_bytes(how(path.read_bytes()))

    yield change
    for path, (data, mode) in before.items():
        path.write_bytes(data)
        path.chmod(mode)


Spoil = Callable[[str, Callable[[bytes], bytes]], None]


def refuse(quiet: Fleet, *words: str, says: tuple[str, ...]) -> str:
    """The command cannot be decided, and its sentence holds these words."""
    done = quiet.run(*words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for text in says:
        assert text in done.stderr, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"node_key =", b"nodekey =", ("`nodekey`", "`node_key`", AGENT)),
        (b"[bus]\nurl", b"[bus]\nurll", ("`urll`", "`url`", "$.bus")),
        (b'fleet = "knight"', b'fleet = "other"', ("root of fleet knight", "configured is other")),
        (b'service = "smars"', b"service = 7", ("Expected `str`, got `int`", "$.service")),
        (b"[bus]", b"[bus", ("is not TOML",)),
        (b'node_key = "node.pem"', b'node_key = "no.pem"', ("no.pem",)),
    ],
)
def test_a_wrong_agent_configuration_is_named_with_what_would_be_right(
    quiet: Fleet, spoil: Spoil, old: bytes, new: bytes, says: tuple[str, ...]
) -> None:
    spoil(AGENT, lambda data: data.replace(old, new, 1))
    refuse(quiet, "agent", "--config", AGENT, says=says)


def test_without_an_agent_configuration_it_says_which_file_is_missing(quiet: Fleet) -> None:
    refuse(quiet, "agent", "--config", "nowhere/agent.toml", says=("nowhere/agent.toml", "cannot be read"))


@pytest.mark.parametrize("name", [AGENT, f"nodes/{NODE}/node.pem"])
def test_a_secret_of_a_node_that_others_may_read_is_refused(quiet: Fleet, spoil: Spoil, name: str) -> None:
    spoil(name, lambda data: data)
    (quiet.directory / name).chmod(0o644)
    refuse(quiet, "agent", "--config", AGENT, says=("0644", "chmod 600"))


def test_an_agent_with_the_root_of_another_fleet_does_not_start(quiet: Fleet, spoil: Spoil) -> None:
    other = (quiet.directory / "other" / "keys" / "root.json").read_bytes()
    spoil(f"nodes/{NODE}/root.json", lambda _: other)
    refuse(quiet, "agent", "--config", AGENT, says=("root of fleet other", "configured is knight"))


def test_a_root_with_one_changed_byte_is_refused_by_everybody_who_reads_it(quiet: Fleet, spoil: Spoil) -> None:
    for name, words in (
        (f"nodes/{NODE}/root.json", ("agent", "--config", AGENT)),
        ("keys/root.json", ("up",)),
    ):
        spoil(name, lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:])
        refuse(quiet, *words, says=("trust",))


def test_a_control_plane_with_the_root_of_another_fleet_does_not_start(quiet: Fleet, spoil: Spoil) -> None:
    other = (quiet.directory / "other" / "keys" / "root.json").read_bytes()
    spoil("keys/root.json", lambda _: other)
    refuse(quiet, "up", says=("root of fleet other", "configured is knight"))


def test_a_control_plane_with_another_root_of_its_own_name_does_not_start(quiet: Fleet, spoil: Spoil) -> None:
    """Somebody made the fleet anew over the old ledger: nodes would believe nothing that is signed now."""
    twin = quiet.directory / "twin"
    assert quiet.run("init", twin, "--fleet", "knight").returncode == 0
    for name in ("root.json", "issuer.pem"):
        spoil(f"keys/{name}", lambda _, name=name: (twin / "keys" / name).read_bytes())
    refuse(quiet, "up", says=("the ledger was founded on version 1 of fleet knight", "Restore the root file"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("min_nodes", "min_node", ("`min_node`", "min_nodes")),
        ("gross_usd", "gross_eur", ("`gross_eur`", "gross_usd")),
        ('fleet = "knight"', 'fleet = "other"', ("fleet other", "configured is knight", "Nothing was signed")),
    ],
)
def test_a_wrong_release_file_is_refused_before_anybody_signs(
    quiet: Fleet, spoil: Spoil, old: str, new: str, says: tuple[str, ...]
) -> None:
    spoil("release.toml", lambda data: data.replace(old.encode(), new.encode(), 1))
    digest = (quiet.directory / "digest").read_text()
    refuse(quiet, "release", "propose", "release.toml", "--artifact", digest, "--store", "store", says=says)


PAGES = """import json, sys
import firecurtain
answers = {}
for name in sys.argv[2:]:
    action = firecurtain.attach("smars", f"{sys.argv[1]}/{name}/permit.page").action("order")
    try:
        action.acquire(cause="c", usd=1)
        answers[name] = ["allowed", ""]
    except firecurtain.Denied as denied:
        answers[name] = [denied.reason, str(denied)]
print(json.dumps(answers))
"""


def test_no_wrong_page_permits_or_crashes_and_each_denial_says_why(living: Any, tmp_path: Path) -> None:
    """Copies of a page that permits right now, each spoilt in one way, read by one real host application."""
    true_page = living.fleet.page.read_bytes()
    version_at = true_page.index(b"\x01", 4)
    spoilt = {
        "as-it-is": true_page,
        "version": true_page[:version_at] + b"\x63" + true_page[version_at + 1 :],
        "magic": b"NOTAPAGE"[:4] + true_page[4:],
        "short": true_page[:-1],
        "long": true_page + b"\0",
        "empty": b"",
        "zeroed": bytes(len(true_page)),
    }
    for name, data in spoilt.items():
        (tmp_path / name).mkdir(mode=0o700)
        (tmp_path / name / "permit.page").write_bytes(data)
        (tmp_path / name / "permit.page").chmod(0o600)
    (tmp_path / "missing").mkdir(mode=0o700)
    (tmp_path / "a-directory" / "permit.page").mkdir(parents=True)
    names = [*spoilt, "missing", "a-directory"]
    words = [sys.executable, "-c", PAGES, str(tmp_path), *names]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    # Started from no artifact: even the true page is for other code.
    assert {name: reason for name, (reason, _) in answers.items()} == {
        "as-it-is": "release-mismatch",
        "version": "page-malformed",
        "magic": "page-malformed",
        "short": "page-malformed",
        "long": "page-malformed",
        "empty": "page-malformed",
        "zeroed": "page-malformed",
        "missing": "no-agent",
        "a-directory": "page-unsafe",
    }
    assert all("Do: " in text for _, text in answers.values()), answers
    assert "version 99" in answers["version"][1]
    assert "version 1" in answers["version"][1]
    for name, size in (("short", 4095), ("long", 4097), ("empty", 0)):
        assert f"{size} bytes" in answers[name][1]
