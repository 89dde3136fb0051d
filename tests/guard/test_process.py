# SPDX-License-Identifier: Apache-2.0
"""The guard inside real processes: what an import brings, who a process is, forks, threads, and the planted faults."""

from __future__ import annotations

import _thread
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

import firecurtain
from firecurtain.guard import Denied, action, curtain
from firecurtain.permit import (
    ActionLimits,
    boottime_ns,
    compute_slots_directory,
    read_process_key,
    read_slots,
)
from firecurtain.terms import Digest, InvariantError, Reason
from support.mutants import load_mutant

MAX_AGE_NS = 1_500_000_000
FLAG = "fc1-00000000000Z"
OTHER = Digest("dd" * 32)

FORBIDDEN = ("asyncio", "ssl", "socket", "logging", "threading", "subprocess", "random", "msgspec", "nats")
LIST_MODULES = f"""
import sys
before = set(sys.modules)
import firecurtain.guard
print(sorted((set(sys.modules) - before) & set({FORBIDDEN!r})))
"""


def test_the_import_brings_no_thread_no_socket_and_no_log():
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {find_source()!r})\n{LIST_MODULES}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout == "[]\n"


def find_source():
    return str(Path(firecurtain.__file__).parent.parent)


ROUTER = """
import os, sys, firecurtain
arguments = {"artifact_descriptor": int(sys.argv[1])} if len(sys.argv) > 1 else {}
guard = firecurtain.attach("payouts", **arguments)
print(guard.action("send-order").check(cause="p-17").reason, guard.on("fc1-00000000000Z"))
"""


@pytest.fixture
def store(tmp_path):
    """A store with one artifact, whose page permits it; and the script that asks."""
    folder = tmp_path / "store" / ("a1" * 32)
    folder.mkdir(parents=True)
    (folder / "router.py").write_text(ROUTER)
    return folder


def run_router(stage, script, *arguments, **options):
    stage.now_ns = boottime_ns()
    stage.permit()
    environment = {"PYTHONPATH": find_source(), "FIRECURTAIN_PERMIT": stage.path}
    command = [sys.executable, "-B", str(script), *arguments]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=30, check=False, **options
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_a_process_started_from_the_store_is_permitted(stage, store):
    assert run_router(stage, store / "router.py") == ["ok", "True"]


def test_a_process_started_outside_the_store_is_denied(stage, store, tmp_path):
    (tmp_path / "router.py").write_text(ROUTER)
    assert run_router(stage, tmp_path / "router.py") == ["release-mismatch", "False"]


def test_a_process_started_through_a_link_is_denied_for_the_link_may_have_moved(stage, store, tmp_path):
    (tmp_path / "current").symlink_to(store)
    assert run_router(stage, tmp_path / "current" / "router.py") == ["release-mismatch", "False"]


def test_an_inherited_descriptor_can_say_who_a_process_is(stage, store, tmp_path):
    (tmp_path / "router.py").write_text(ROUTER)
    descriptor = os.open(store, os.O_RDONLY)
    try:
        script, number = tmp_path / "router.py", str(descriptor)
        assert run_router(stage, script, number, pass_fds=[descriptor]) == ["ok", "True"]
        assert run_router(stage, script, number) == ["release-mismatch", "False"]
    finally:
        os.close(descriptor)


def run_forked(act):
    """Run `act` in a child of fork and return what it printed. The child leaves by os._exit, as workers do."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writable, str(act()).encode())
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent prints it
            os.write(writable, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as stream:
        answer = stream.read().decode()
    assert os.waitpid(child, 0)[1] == 0
    return answer


def test_a_child_of_fork_is_denied_until_it_attaches_and_inherits_no_slot(stage, monkeypatch):
    """Goal: neither counts nor limits are used twice. Method: a real fork while the parent's permit is alive."""
    monkeypatch.setattr("firecurtain.guard.curtain._guards", {})
    monkeypatch.setattr("firecurtain.guard.curtain.read_own_artifact", lambda _: (Digest("a1" * 32), "router.py"))
    stage.now_ns = boottime_ns()
    stage.permit()
    guard = firecurtain.attach("payouts", stage.path)
    guard.action("send-order").acquire(cause="p-17", usd=5)
    before = read_slots(compute_slots_directory(stage.path)).totals

    def ask_the_inherited_guard():
        verdict = guard.action("send-order").check(cause="p-17")
        try:
            guard.action("send-order").acquire(cause="p-17", usd=5)
        except Denied as denied:
            return denied.reason, verdict.reason, guard.on(FLAG), guard.is_forked()

    assert run_forked(ask_the_inherited_guard) == "('forked', 'forked', False, True)"
    assert read_slots(compute_slots_directory(stage.path)).totals == before

    def attach_again():
        own = firecurtain.attach("payouts", stage.path)
        token = own.action("send-order").acquire(cause="p-17", usd=7)
        key = read_process_key(os.getpid())
        totals = read_slots(compute_slots_directory(stage.path)).totals[key]
        is_the_only_one = list(curtain._guards.values()) == [own] and firecurtain.attach("payouts", stage.path) is own
        return tuple(token), totals["send-order:usd_micro"], is_the_only_one

    assert run_forked(attach_again) == "((7, 4711), 7000000, True)"
    totals = read_slots(compute_slots_directory(stage.path)).totals
    assert totals[read_process_key(os.getpid())] == before[read_process_key(os.getpid())]
    assert guard.action("send-order").acquire(cause="p-17", usd=1) == (7, 4711)


def use_action_module(monkeypatch, module: ModuleType):
    """Let guards made from here on use another module's Action, such as a mutant's."""
    monkeypatch.setattr(curtain, "Action", module.Action)
    monkeypatch.setattr(curtain, "Standing", module.Standing)


def test_a_mutant_whose_child_keeps_the_slot_writes_in_the_parents_counters(stage, monkeypatch):
    mutant = load_mutant(
        "firecurtain.guard.action",
        "        # Before the lock: in a child of fork another thread of the parent may hold it for ever.\n"
        "        if self._canary[0] != 1:\n",
        "        if False:\n",
    )
    use_action_module(monkeypatch, mutant)
    stage.permit()
    guard = stage.attach()
    guard.action("send-order").acquire(cause="p-17", usd=5)
    run_forked(lambda: guard.action("send-order").acquire(cause="p-17", usd=5))
    assert stage.read_totals()["send-order:acquired"] == 2


class Interruption(str):
    """A cause that lets something happen at the n-th time it is hashed: in the middle of an acquire."""

    def arrange(self, countdown, act):
        self.countdown, self.act = countdown, act
        return self

    def __hash__(self):
        self.countdown -= 1
        if self.countdown == 0:
            self.act()
        return super().__hash__()

    def __eq__(self, other):
        return super().__eq__(other)


@pytest.mark.parametrize("is_mutant", [False, True])
def test_the_token_is_of_the_read_that_permitted(stage, monkeypatch, is_mutant):
    """Goal: no fencing token of a later permit. Method: a new grant arrives between the read and the return."""
    if is_mutant:
        mutant = load_mutant(
            "firecurtain.guard.action",
            "            return standing.token\n",
            "            return self._judge.admit(self.name, self._reader.read()).token\n",
        )
        use_action_module(monkeypatch, mutant)
    stage.permit()
    send_order = stage.attach().action("send-order")
    cause = Interruption("p-17").arrange(1, lambda: stage.permit(ledger_seq=4712))
    token = send_order.acquire(cause=cause, usd=1)
    assert token == ((7, 4712) if is_mutant else (7, 4711))


@pytest.mark.parametrize("is_mutant", [False, True])
def test_an_old_artifact_never_hears_the_flag_of_the_new_one(stage, monkeypatch, is_mutant):
    """Goal: a flag is a token of one artifact, no shared name. The mutant reads the bare flag, as in 2012."""
    guard_class = curtain.Guard
    if is_mutant:
        mutant = load_mutant("firecurtain.guard.curtain", "or view.grant.artifact != self.artifact:", "or False:")
        guard_class = mutant.Guard
    stage.permit()
    straggler = guard_class("payouts", stage.path, OTHER, "", stage.clock)
    assert straggler.on(FLAG) is is_mutant


@pytest.mark.parametrize("is_mutant", [False, True])
def test_a_page_for_another_artifact_permits_nothing(stage, monkeypatch, is_mutant):
    guard_class = curtain.Guard
    if is_mutant:
        mutant = load_mutant("firecurtain.guard.curtain", "if grant.artifact != self.artifact:", "if False:")
        guard_class = mutant.Guard
    stage.permit()
    straggler = guard_class("payouts", stage.path, OTHER, "", stage.clock)
    reason = straggler.action("send-order").check(cause="p-17").reason
    assert reason == ("limits-mismatch" if is_mutant else "release-mismatch")


@pytest.mark.parametrize("is_mutant", [False, True])
def test_two_threads_never_take_the_same_dollar(stage, monkeypatch, is_mutant):
    """Goal: no over-grant in a race. Method: hold one thread between its sum and its store until the other is done.

    With the lock the other cannot be done meanwhile: the wait is bounded and ends by its time limit.
    """
    if is_mutant:
        mutant = load_mutant(
            "firecurtain.guard.action", "self._lock = _thread.allocate_lock()", "self._lock = NoLock()"
        )
        mutant.NoLock = type("NoLock", (), {"acquire": lambda *_: True, "release": lambda _: None})
        use_action_module(monkeypatch, mutant)
    stage.permit()
    send_order = stage.attach().action("send-order")
    send_order.acquire(cause="p-17", usd=0)
    summed, other_done = threading.Event(), threading.Event()

    def wait_for_the_other():
        summed.set()
        other_done.wait(0.3)

    def take_as_the_other():
        summed.wait(10)
        send_order.acquire(cause="p-18", usd=400)
        other_done.set()

    other = threading.Thread(target=take_as_the_other)
    other.start()
    send_order.acquire(cause=Interruption("p-17").arrange(2, wait_for_the_other), usd=600)
    other.join(10)
    reserved_usd = send_order._reserve.usd_micro // 10**6
    assert reserved_usd == (600 if is_mutant else 1000), "the mutant has lost 400 dollars"


def test_many_threads_end_exactly_at_the_limit(stage):
    limits = {"send-order": ActionLimits(effects_per_cause=100, gross_usd=700)}
    stage.permit(limits=stage.write_limits(limits))
    send_order = stage.attach().action("send-order")
    acquired = []

    def take():
        for index in range(300):
            with suppress(Denied):
                send_order.acquire(cause=f"p-{index % 9}", usd=1)
                acquired.append(1)

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(interval_s)
    totals = stage.read_totals()
    assert len(acquired) == 700
    assert (totals["send-order:acquired"], totals["send-order:denied"]) == (700, 500)
    assert totals["send-order:usd_micro"] == 700_000_000


def test_acquiring_inside_an_acquire_is_an_error_not_a_hang(stage, monkeypatch):
    monkeypatch.setattr(action, "LOCK_WAIT_S", 0.02)
    stage.permit()
    send_order = stage.attach().action("send-order")
    cause = Interruption("p-17").arrange(1, lambda: send_order.acquire(cause="p-18", usd=1))
    with pytest.raises(InvariantError, match="none in signal handlers"):
        send_order.acquire(cause=cause, usd=1)
    send_order.acquire(cause="p-18", usd=1)


def test_a_kernel_that_cannot_tell_forks_gets_no_permit(stage, monkeypatch):
    def refuse():
        raise OSError("invalid argument")

    monkeypatch.setattr("firecurtain.guard.curtain.make_fork_canary", refuse)
    stage.permit()
    assert stage.attach().action("send-order").check(cause="p").reason == "forked"


def test_two_threads_that_attach_at_once_get_one_guard(stage, monkeypatch):
    monkeypatch.setattr("firecurtain.guard.curtain._guards", {})
    barrier, found = threading.Barrier(4, timeout=10), []

    def attach():
        barrier.wait()
        found.append(firecurtain.attach("payouts", stage.path))

    threads = [threading.Thread(target=attach) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 4
    assert len(set(map(id, found))) == 1


def test_a_stop_reaches_a_guard_in_another_process(stage, store):
    """Method: a real router process acquires without a pause; after the stop is stored it is denied.

    Between the zero and the body that says why, a denial can only say that the permit is gone.
    """
    (store / "router.py").write_text(
        "import firecurtain\n"
        "send_order = firecurtain.attach('payouts').action('send-order')\n"
        "send_order.acquire(cause='p-17', usd=1)\n"
        "print('acquired', flush=True)\n"
        "try:\n"
        "    while True:\n"
        "        send_order.acquire(cause='p-17', usd=0)\n"
        "except firecurtain.Denied as denied:\n"
        "    print(denied.reason, flush=True)\n"
        "input()\n"
        "print(send_order.check(cause='p-17').reason)\n"
    )
    limits = {"send-order": ActionLimits(effects_per_cause=10**9, gross_usd=5)}
    stage.now_ns = boottime_ns()
    stage.permit(limits=stage.write_limits(limits))
    environment = {"PYTHONPATH": find_source(), "FIRECURTAIN_PERMIT": stage.path}
    command = [sys.executable, "-B", str(store / "router.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as router:
        try:
            assert router.stdout.readline() == "acquired\n"
            stage.writer.renew(boottime_ns() + MAX_AGE_NS)
            stage.writer.close(Reason.STOP_IN_FORCE, "halted. Do: wait")
            assert router.stdout.readline() in ("stop-in-force\n", "expired\n")
            assert router.communicate("\n", timeout=10) == ("stop-in-force\n", None)
        finally:
            router.kill()


def test_the_lock_is_the_builtin_one(stage):
    assert isinstance(stage.attach().action("send-order")._lock, _thread.LockType)
