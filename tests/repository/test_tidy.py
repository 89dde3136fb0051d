# SPDX-License-Identifier: Apache-2.0
"""Every rule of the tidy test is seen to catch its fault, with file and line, and to leave clean code alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.tidy import dead, order, prose, purity, rooms

if TYPE_CHECKING:
    from conftest import Plant

HEAD = '# SPDX-License-Identifier: Apache-2.0\n"""A module."""\n'
DOMAIN = "src/firecurtain/domain/fault.py"


def test_a_clean_tree_has_no_findings(plant: Plant) -> None:
    finished = plant.run()
    assert (finished.returncode, finished.stdout) == (0, "tidy: 6 source files, 0 findings\n")


def test_an_import_broken_on_purpose_is_named_with_its_line(plant: Plant) -> None:
    plant.module("domain/state.py", "STATE = 1\nfrom firecurtain.cli import main\nprint(main)\n")
    finished = plant.run()
    assert finished.returncode == 1
    expected = "src/firecurtain/domain/state.py:4: domain may not import firecurtain.cli.main (tools/tidy/rooms.py)\n"
    assert expected in finished.stdout


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("agent", "from firecurtain.control import turns"),
        ("control", "import firecurtain.agent.core"),
        ("guard", "from firecurtain.wire import messages"),
        ("domain", "from firecurtain.trust import signers"),
        ("domain", "from firecurtain.trust.signers import Signer"),
        ("domain", "from ..bus import port"),
        ("domain", "from firecurtain import attach"),
        ("canary", "from firecurtain import domain"),
        ("permit", "def late():\n    from firecurtain.artifact import seal"),
    ],
)
def test_an_edge_that_the_table_does_not_name_is_refused(plant: Plant, room: str, line: str) -> None:
    plant.module(f"{room}/fault.py", f"{line}\n")
    number = 3 + line.count("\n")
    (finding,) = plant.ask(rooms.find_forbidden_edges)
    assert finding.startswith(f"src/firecurtain/{room}/fault.py:{number}: {room} may not import firecurtain.")


def test_no_room_below_imports_the_package_itself(plant: Plant) -> None:
    # `import firecurtain` brings the guard, so it would join two rooms that never meet.
    plant.module("domain/fault.py", "import firecurtain\n")
    plant.module("cli/fine.py", "import firecurtain\n")
    (finding,) = plant.ask(rooms.find_forbidden_edges)
    assert finding == f"{DOMAIN}:3: domain may not import firecurtain (tools/tidy/rooms.py)"


def test_an_edge_that_the_table_names_is_open(plant: Plant) -> None:
    plant.module(
        "domain/fine.py", "from firecurtain.trust.verify import verify_release\nfrom firecurtain import terms\n"
    )
    plant.module("guard/fine.py", "from firecurtain.permit import page\nfrom . import other\n")
    assert plant.ask(rooms.find_forbidden_edges) == []


def test_a_room_that_is_not_in_the_table_may_not_exist(plant: Plant) -> None:
    plant.module("utils/helpers.py", "")
    assert any("room 'utils' is not in the table" in finding for finding in plant.ask(rooms.find_forbidden_edges))


def test_a_folder_that_is_no_package_cannot_hide_from_the_rules(plant: Plant) -> None:
    plant.write("src/firecurtain/domain/hidden/fault.py", f"{HEAD}import time\n")
    (finding,) = plant.ask(rooms.find_files_outside_rooms)
    assert finding.startswith("src/firecurtain/domain/hidden/fault.py:1: stands in no package of ours")


@pytest.mark.parametrize(
    ("room", "line", "package"),
    [
        ("guard", "import msgspec", "msgspec"),
        ("permit", "from structlog import get_logger", "structlog"),
        ("domain", "import nats.aio.client", "nats"),
        ("cli", "import httpx", "httpx"),
    ],
)
def test_an_outside_package_stays_in_the_rooms_that_need_it(plant: Plant, room: str, line: str, package: str) -> None:
    plant.module(f"{room}/fault.py", f"{line}\n")
    (finding,) = plant.ask(rooms.find_forbidden_packages)
    assert finding.startswith(f"src/firecurtain/{room}/fault.py:3: ")
    assert f"not {package}" in finding


@pytest.mark.parametrize(
    "line",
    [
        "import time",
        "from random import random",
        "from os import environ",
        "import asyncio.queues",
        "import sqlite3",
        "import socket, threading",
        "def late():\n    import subprocess",
        "TEXT = open('x').read()",
        "import datetime\nNOW = datetime.datetime.now()",
        "from datetime import date\nTODAY = date.today()",
    ],
)
def test_a_pure_room_may_not_touch_the_world(plant: Plant, line: str) -> None:
    for name in ("domain/fault.py", "canary/watch.py", "trust/verify.py", "agent/core.py", "sweep/judge.py"):
        plant.module(name, f"{line}\n")
    findings = plant.ask(purity.find_impurity)
    assert {finding.split(":")[0].removeprefix("src/firecurtain/") for finding in findings} == {
        "domain/fault.py",
        "canary/watch.py",
        "trust/verify.py",
        "agent/core.py",
        "sweep/judge.py",
    }
    assert all(f".py:{3 + line.count(chr(10))}: a pure module may not" in finding for finding in findings)


def test_the_shells_may_touch_the_world(plant: Plant) -> None:
    plant.module("agent/shell.py", "import asyncio, os\nTEXT = open('x')\n")
    plant.module("trust/store.py", "import os\n")
    plant.module("trust/release.py", "from pathlib import PurePosixPath\n")
    assert plant.ask(purity.find_impurity) == []


@pytest.mark.parametrize(
    "line",
    [
        "import time\nNOW = time.monotonic_ns()",
        "import time\nREAD = time.clock_gettime_ns",
        "import time\nfrom time import perf_counter",
        "import datetime\nNOW = datetime.datetime.now(datetime.UTC)",
        "def tick(loop):\n    return loop.time()",
        "import asyncio\nNOW = asyncio.get_running_loop().time()",
    ],
)
def test_only_a_module_named_clock_reads_a_clock(plant: Plant, line: str) -> None:
    plant.module("agent/shell.py", f"{line}\n")
    plant.module("agent/clock.py", f"{line}\n")
    (finding,) = plant.ask(purity.find_clocks)
    assert finding.startswith("src/firecurtain/agent/shell.py:4: reads a clock")


def test_sleeping_and_converting_is_not_reading_a_clock(plant: Plant) -> None:
    plant.module("agent/shell.py", "import time\ntime.sleep(0.1)\nUTC = time.gmtime(0)\n")
    assert plant.ask(purity.find_clocks) == []


@pytest.mark.parametrize(
    "line",
    [
        "for name in {'a', 'b'}: print(name)",
        "NAMES = list(set(['a']))",
        "NAMES = [name for name in frozenset('ab')]",
        "NAMES = tuple({'a'} | {'b'})",
        "NAMES = ','.join({'a'}.union('b'))",
        "NAMES = [*{name for name in 'ab'}]",
        "FIRST = next(iter({'a'}))",
        "ANY = {'a', 'b'}.pop()",
        "LONGEST = max({'aa', 'bb'}, key=len)",
        "def walk(names: frozenset[str]): return {name: 1 for name in names}",
        "def walk(state): return [stop for stop in state.stops]",
        "def walk(names):\n    found = set(names)\n    return tuple(found)",
    ],
)
def test_a_pure_room_never_depends_on_the_order_of_a_set(plant: Plant, line: str) -> None:
    plant.module("wire/messages.py", "class Beacon:\n    stops: frozenset[str]\n")
    plant.module("domain/fault.py", f"{line}\n")
    (finding, *_) = plant.ask(order.find_unordered_iteration)
    assert finding.startswith(f"{DOMAIN}:{3 + line.count(chr(10))}: iterates over a set")


@pytest.mark.parametrize(
    "line",
    [
        "for name in sorted({'a', 'b'}): print(name)",
        "NAMES = frozenset(name.upper() for name in {'a', 'b'})",
        "KNOWN = 'a' in {'a', 'b'} and len({'a'}) == 1",
        "HAS = any(name == 'a' for name in {'a', 'b'})",
        "LARGEST = max({1, 2})",
        "def walk(names: list[str]): return [name for name in names]",
        "def walk(names: frozenset[str]):\n    ordered = sorted(names)\n    return list(ordered)",
    ],
)
def test_sorted_sets_and_questions_blind_to_order_are_fine(plant: Plant, line: str) -> None:
    plant.module("domain/fault.py", f"{line}\n")
    assert plant.ask(order.find_unordered_iteration) == []


def test_a_file_that_nobody_imports_is_found(plant: Plant) -> None:
    plant.module("domain/power_peg.py", "def buy(): return 1\n")
    assert plant.ask(dead.find_dead_files) == [
        "src/firecurtain/domain/power_peg.py:1: nobody imports this module and no command starts it: delete it"
    ]


def test_a_file_that_only_its_test_imports_is_found(plant: Plant) -> None:
    plant.module("domain/power_peg.py", "def buy(): return 1\n")
    plant.write("tests/domain/test_power_peg.py", "from firecurtain.domain.power_peg import buy\nbuy()\n")
    assert len(plant.ask(dead.find_dead_files)) == 1


def test_a_module_started_or_copied_by_its_name_is_alive(plant: Plant) -> None:
    plant.module("rehearsal/venue.py", "def main(): return 1\n")
    plant.module("rehearsal/artifacts/start_old.py", "def main(): return 1\n")
    plant.module("rehearsal/artifacts/exit_guarded.py", "class Exit: pass\nclass Dead: pass\n")
    plant.module("rehearsal/artifacts/router.py", "from .exit import Exit\nprint(Exit)\n")
    started = "['-m', 'firecurtain.rehearsal.venue']"
    copied = "['artifacts/start_old.py', 'artifacts/exit_guarded.py', 'artifacts/router.py']"
    plant.module(
        "cli/main.py", f"from firecurtain.domain import state\ndef main(): return {started}, {copied}, state\n"
    )
    assert plant.ask(dead.find_dead_files) == []
    (finding,) = [finding for finding in plant.ask(dead.find_unused_names) if "rehearsal" in finding]
    assert finding.endswith("nothing but tests uses Dead: delete it")


@pytest.mark.parametrize(
    "body",
    [
        "def unused(): return unused()\n",
        "class Unused: pass\n",
        "UNUSED = 1\n",
        "_unused: int = 1\n",
        "import functools\n@functools.lru_cache(1)\ndef unused(): return 1\n",
    ],
)
def test_a_name_that_nothing_uses_is_found(plant: Plant, body: str) -> None:
    plant.module("domain/state.py", f"{body}STATE = 1\n")
    plant.write("tests/domain/test_it.py", "from firecurtain.domain.state import unused\nunused()\n")
    (finding,) = plant.ask(dead.find_unused_names)
    assert "nothing but tests uses" in finding


def test_names_are_followed_through_imports_aliases_and_re_exports(plant: Plant) -> None:
    plant.module("domain/state.py", "STATE = 1\ndef grow(): return 1\ndef shrink(): return 1\n")
    plant.module("domain/__init__.py", "from firecurtain.domain.state import grow, shrink\n")
    plant.module(
        "cli/main.py",
        "from firecurtain import domain\nimport firecurtain.domain.state as core\nfrom firecurtain.cli.app import app\n"
        "@app.command()\ndef halt(): return core.STATE, domain.grow()\ndef main(): app()\n",
    )
    plant.module("cli/app.py", "app = print\n")
    findings = plant.ask(dead.find_unused_names)
    assert [finding.split(": ")[1] for finding in findings if "LIMIT" not in finding] == [
        "nothing but tests uses shrink"
    ]


def test_what_the_package_offers_its_users_is_not_dead(plant: Plant) -> None:
    plant.module("guard/attach.py", "def attach(): return 1\ndef detach(): return 1\n")
    plant.module("guard/__init__.py", "from firecurtain.guard.attach import attach, detach\n__all__ = ['attach']\n")
    findings = plant.ask(dead.find_unused_names)
    assert findings == ["src/firecurtain/guard/attach.py:4: nothing but tests uses detach: delete it"]


def test_every_source_file_says_its_licence_and_its_purpose(plant: Plant) -> None:
    plant.write("src/firecurtain/domain/bare.py", "X = 1\n")
    plant.write("src/firecurtain/guard/twin.c", "int x;\n")
    plant.write("tools/run.sh", "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n")
    found = plant.ask(prose.find_missing_licence)
    expected = ["src/firecurtain/domain/bare.py", "src/firecurtain/guard/twin.c"]
    assert sorted(finding.split(":")[0] for finding in found) == expected
    (finding,) = plant.ask(prose.find_missing_docstring)
    assert finding.startswith("src/firecurtain/domain/bare.py:1: has no module docstring")


def test_shipped_code_does_not_assert(plant: Plant) -> None:
    plant.module("domain/fault.py", "def check(x):\n    assert x\n")
    plant.write("tests/test_fine.py", "assert True\n")
    (finding,) = plant.ask(prose.find_assert)
    assert finding.startswith(f"{DOMAIN}:4: python -O strips assert")


@pytest.mark.parametrize(
    "text",
    [
        "see /" + "home/ada/notes",
        "cd /" + "work/tree && make",
        "'/" + "root/.cache'",
        "https://py" + "pi.org/project/x",
        "--index" + "-url https://mirror.example/x",
        "https://mirror.example/root" + "/simple/",
    ],
)
def test_nothing_names_the_machine_it_was_written_on(plant: Plant, text: str) -> None:
    plant.write("docs/NOTES.md", f"# Notes\n{text}\n")
    (finding,) = plant.ask(prose.find_machine_paths)
    assert finding.startswith("docs/NOTES.md:2: names ")


def test_ordinary_paths_and_addresses_are_fine(plant: Plant) -> None:
    plant.write("docs/NOTES.md", "/proc/self/ns/time, src/" + "work/x, https://example.org/simple-things, ~/home\n")
    assert plant.ask(prose.find_machine_paths) == []
