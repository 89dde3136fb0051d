# SPDX-License-Identifier: Apache-2.0
"""What a wrong command line, file or key gets: one sentence with what to do, and the right exit code."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    "words",
    [
        ("statsu",),
        ("status", "--no-such-option"),
        ("halt",),
        ("halt", "fleet"),
        ("halt", "service", "--reason", "x"),
        ("node", "enrol", "host-1"),
        ("resume", "00", "--reason", "x", "--key", "approver-1"),
        ("release", "approve", "not-a-digest", "--key", "approver-1"),
        ("rehearse", "knight", "--window", "1"),
        ("status",),
    ],
)
def test_what_cannot_be_decided_exits_2_without_a_traceback(site: Any, words: tuple[str, ...]) -> None:
    done = site.run(*words)
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_key_is_named_with_the_nearest_known_one(site: Any) -> None:
    with (site.directory / "firecurtain.toml").open("a") as file:
        file.write('satte_dir = "x"\n')
    answer = site.ask("status", code=2)
    assert answer["code"] == "config"
    assert "`satte_dir`" in answer["text"]
    assert "`state_dir`" in answer["text"]


def test_an_unknown_key_in_a_table_is_named_with_its_place(site: Any) -> None:
    with (site.directory / "firecurtain.toml").open("a") as file:
        file.write('[broker]\nurl = "nats://127.0.0.1:1"\nuser = "u"\npasword_file = "p"\n')
    text = site.ask("status", code=2)["text"]
    assert "`pasword_file` at $.broker" in text
    assert "`password_file`" in text


def test_without_any_configuration_it_says_how_to_make_a_fleet(site: Any, tmp_path: Path) -> None:
    done = site.run("status", cwd=tmp_path)
    assert done.returncode == 2
    assert "firecurtain init" in done.stderr


def test_another_configuration_may_be_named(site: Any, tmp_path: Path) -> None:
    site.up()
    done = site.run("status", "--config", site.directory / "firecurtain.toml", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["fleet"] == "knight"


def test_init_says_loudly_that_it_is_for_development_and_never_overwrites(site: Any, tmp_path: Path) -> None:
    done = site.run("init", tmp_path / "new", "--fleet", "other")
    assert done.returncode == 0
    assert "FOR DEVELOPMENT" in done.stderr
    for path in (tmp_path / "new" / "keys").glob("*.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new" / "state").stat().st_mode) == 0o700
    assert site.run("init", tmp_path / "new", "--fleet", "other").returncode == 2


def test_a_key_the_root_does_not_know_is_refused(site: Any) -> None:
    site.up()
    keys = site.directory / "keys"
    (keys / "operator.pem").write_bytes((keys / "author.pem").read_bytes())
    answer = site.ask("node", "exclude", "host-1", "--reason", "x", code=1)
    assert answer["code"] == "wire"
    assert "unknown key" in answer["text"]


def test_a_key_file_that_others_may_read_is_refused(site: Any) -> None:
    site.up()
    (site.directory / "keys" / "operator.pem").chmod(0o644)
    assert "chmod 600" in site.ask("status", code=2)["text"]
    assert "chmod 600" in site.run("halt", "fleet", "--reason", "x").stderr


def test_a_key_that_is_not_there_is_no_trouble_with_the_broker(site: Any) -> None:
    site.up()
    text = site.ask("resume", "ab" * 16, "--reason", "x", "--key", "nosuch", code=2)["text"]
    assert "nosuch.pem cannot be read" in text
    assert text.endswith("with --key.")


def test_a_node_of_a_service_without_a_name_gets_no_key(site: Any) -> None:
    assert site.ask("node", "enrol", "host-1", "--service", "", "--out", "host-1", code=2)["code"] == "term"
    assert not (site.directory / "host-1").exists()


@pytest.mark.parametrize("length", [0, 501])
def test_a_reason_that_no_message_holds_is_refused_before_anything_is_sent(site: Any, length: int) -> None:
    answer = site.ask("node", "exclude", "host-1", "--reason", "x" * length, code=2)
    assert answer["code"] == "config"
    assert f"{length} characters, it may have 1 to 500" in answer["text"]


def test_an_agent_given_the_configuration_of_people_is_told_which_file_is_its_own(site: Any) -> None:
    (site.directory / "firecurtain.toml").chmod(0o644)
    assert "Name the agent.toml" in site.ask("agent", "--config", "firecurtain.toml", code=2)["text"]


@pytest.mark.parametrize("word", ["up", "agent"])
def test_a_command_that_runs_on_promises_json_only_for_its_error(site: Any, word: str) -> None:
    assert "print an error as one JSON object" in " ".join(site.run(word, "--help").stdout.replace("│", " ").split())


def test_every_command_of_the_list_has_help(site: Any) -> None:
    for words in (
        ("status",),
        ("halt",),
        ("node", "enrol"),
        ("release", "propose"),
        ("rehearse", "knight"),
        ("ledger",),
    ):
        assert site.run(*words, "--help").returncode == 0
