# SPDX-License-Identifier: Apache-2.0
"""However a rehearsal ends, no process of it stays. Goal: a kill, an interrupt and a closing terminal leave nothing;
two rehearsals at once do not meet. Method: the real command, the process ids that it prints, looked up in /proc."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.rehearsals import Rehearsal, is_running, read_proc

Wait = Callable[[Callable[[], bool], float], None]
Start = Callable[..., Rehearsal]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start rehearsals that do not outlive the test."""
    started: list[Rehearsal] = []

    def make(name: str, *words: str) -> Rehearsal:
        started.append(Rehearsal(tmp_path, name, *words))
        return started[-1]

    yield make
    for rehearsal in started:
        rehearsal.clean_up()


@pytest.fixture
def two(start: Start, wait_until: Wait) -> tuple[Rehearsal, Rehearsal]:
    """Two rehearsals without controls in the middle of their windows."""
    both = tuple(start(name, "--arm", "none", "--window", "60") for name in "ab")
    wait_until(lambda: all(len(rehearsal.read_pids()) == 10 for rehearsal in both), 30)
    return both[0], both[1]


def test_a_killed_rehearsal_leaves_no_process_and_its_neighbour_plays_on(
    two: tuple[Rehearsal, Rehearsal], wait_until: Wait
):
    killed, neighbour = two
    pids, others = killed.read_pids().values(), neighbour.read_pids().values()
    assert not set(pids) & set(others)
    assert all(is_running(pid) for pid in pids)
    assert killed.end(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: not any(is_running(pid) for pid in pids), 10)
    assert all(is_running(pid) for pid in others)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_rehearsal_leaves_no_process_and_no_file(
    two: tuple[Rehearsal, Rehearsal], number: signal.Signals
):
    rehearsal, _ = two
    pids = rehearsal.read_pids().values()
    assert rehearsal.end(number) == 130
    assert not any(is_running(pid) for pid in pids)
    assert list(rehearsal.temporary.iterdir()) == []
    assert "every process of the rehearsal is ended" in rehearsal.read_words()


def read_environment(pid: int) -> dict[bytes, bytes]:
    words = [word.partition(b"=") for word in read_proc(pid, "environ").split(b"\0") if word]
    return {name: value for name, _, value in words}


def test_under_the_curtain_old_and_new_get_the_same_words_and_nothing_of_them_stays(start: Start, wait_until: Wait):
    """Two rehearsals at once; one is interrupted, the other killed, each with its control plane and its agents."""
    words = ("--arm", "straggler-excluded", "--window", "60", "--straggler", "3")
    interrupted, killed = both = (start("a", *words), start("b", *words))
    wait_until(lambda: all(len(rehearsal.read_pids()) == 20 for rehearsal in both), 60)
    pids = [rehearsal.read_pids() for rehearsal in both]
    assert len({pid for roles in pids for pid in roles.values()}) == 40
    assert_same_words(new=pids[0]["router-1"], old=pids[0]["router-3"])
    places = interrupted.find_directories()
    assert len(places) == 2

    assert interrupted.end(signal.SIGINT) == 130
    assert [pid for pid in pids[0].values() if is_running(pid)] == []
    assert interrupted.find_processes() == []
    assert list(interrupted.temporary.iterdir()) == []
    assert not any(place.exists() for place in places)
    assert all(is_running(pid) for pid in pids[1].values())

    assert killed.end(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: not any(is_running(pid) for pid in pids[1].values()), 10)
    wait_until(lambda: killed.find_processes() == [], 10)


def assert_same_words(*, new: int, old: int) -> None:
    """Both routers were started with the same words; they differ in where they lie and which server they are."""
    (*head_new, main_new, node_new, sockets_new), (*head_old, main_old, node_old, sockets_old) = (
        read_proc(pid, "cmdline").split(b"\0")[:-1] for pid in (new, old)
    )
    assert (head_new, sockets_new, node_new, node_old) == (head_old, sockets_old, b"1", b"3")
    place_new, place_old = Path(main_new.decode()), Path(main_old.decode())
    assert place_new.parent.name != place_old.parent.name  # the digest: it is other code
    assert (place_new.parts[:-4], place_new.name) == (place_old.parts[:-4], place_old.name)
    assert (place_new.parts[-4:-2], place_old.parts[-4:-2]) == (("node-1", "store"), ("node-3", "store"))
    environment_new, environment_old = read_environment(new), read_environment(old)
    page = environment_new.pop(b"FIRECURTAIN_PERMIT")
    assert environment_old.pop(b"FIRECURTAIN_PERMIT") == page.replace(b"/host-1/", b"/host-3/")
    assert environment_new == environment_old


def test_a_rehearsal_interrupted_while_people_type_leaves_no_command_behind(start: Start, wait_until: Wait):
    rehearsal = start("a", "--arm", "healthy")
    wait_until(lambda: any(rehearsal.temporary.glob("*/command-2.log")), 30)
    places = rehearsal.find_directories()
    assert len(rehearsal.find_processes()) >= 4
    assert rehearsal.end(signal.SIGINT) == 130
    assert rehearsal.find_processes() == []
    assert list(rehearsal.temporary.iterdir()) == []
    assert not any(place.exists() for place in places)
