# SPDX-License-Identifier: Apache-2.0
"""Agent's writer and guard's reader over one real mapped page: what is permitted, when, and what never is."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firecurtain.permit import (
    Closed,
    PageReader,
    PageWriter,
    View,
    boottime_ns,
    compute_slots_directory,
)
from firecurtain.permit.page import EXPIRY_WORD, PAGE_SIZE
from firecurtain.permit.reader import REMAP_INTERVAL_NS
from firecurtain.terms import InvariantError, PermitError, Reason, TermError, mint_token
from support.mutants import load_mutant

MAX_AGE_NS = 1_500_000_000
NOW_NS = 7_000_000_000_000_000


class Clock:
    """A clock that stands until a test moves it."""

    def __init__(self):
        self.now_ns = NOW_NS

    def __call__(self):
        return self.now_ns


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reader(writer, clock):
    return PageReader(writer.path, "payouts", clock)


def read_reason(reader):
    found = reader.read()
    return Reason.OK if isinstance(found, View) else found.reason


def test_a_page_starts_closed_whatever_stood_in_it(page_path, header, grant):
    with PageWriter(page_path, header) as writer:
        writer.grant(grant, 2**63)
        survivor = Path(page_path).read_bytes()
    Path(page_path).write_bytes(survivor)  # same size, same inode: as after a crash of the agent
    with PageWriter(page_path, header):
        assert Path(page_path).read_bytes()[256:264] == bytes(8)
        assert read_reason(PageReader(page_path, "payouts")) is Reason.EXPIRED


def test_a_restarting_agent_shuts_the_page_before_it_touches_anything_else(page_path, header, grant, monkeypatch):
    """Method: look into the file when the writer reads the clock, which is after the header and before the body."""
    with PageWriter(page_path, header) as writer:
        writer.grant(grant, 2**63)
        survivor = Path(page_path).read_bytes()
    Path(page_path).write_bytes(survivor)
    seen = []

    def look():
        seen.append(Path(page_path).read_bytes())
        return NOW_NS

    monkeypatch.setattr("firecurtain.permit.writer.boottime_ns", look)
    PageWriter(page_path, header).release()
    assert seen[0][256:264] == bytes(8)
    assert seen[0][1024:] == survivor[1024:]


@pytest.mark.parametrize("started_ns", [NOW_NS, NOW_NS + 1])
@pytest.mark.parametrize("flips", [1, 2])
def test_a_restarting_agent_leaves_the_body_in_use_alone(page_path, header, grant, monkeypatch, started_ns, flips):
    """Goal: a guard that reads while the agent starts never sees half a body, and no generation comes twice."""
    with PageWriter(page_path, header) as writer:
        for seq in range(flips):
            writer.grant(replace(grant, ledger_seq=seq), NOW_NS)
        before = Path(page_path).read_bytes()
    Path(page_path).write_bytes(before)
    monkeypatch.setattr("firecurtain.permit.writer.boottime_ns", lambda: started_ns)
    with PageWriter(page_path, header):
        after = Path(page_path).read_bytes()
    generations = [int.from_bytes(page[320:328], "little") for page in (before, after)]
    in_use = 1024 + 1024 * (generations[0] & 1)
    assert after[in_use : in_use + 1024] == before[in_use : in_use + 1024]
    assert generations[0] & 1 != generations[1] & 1
    assert generations[1] - started_ns in (0, 1, 2)


def test_a_deadline_over_a_closed_body_permits_nothing(reader, writer, grant):
    """Check in pairs: the writer never leaves a page so, the reader does not rely on it."""
    writer.grant(grant, NOW_NS + 1)
    writer.close(Reason.STOP_IN_FORCE, "halted")
    writer._words[EXPIRY_WORD] = NOW_NS + 1
    assert read_reason(reader) is Reason.STOP_IN_FORCE


def test_a_path_that_goes_up_again_is_refused(writer, grant):
    writer.grant(grant, boottime_ns() + MAX_AGE_NS)
    parent, name = writer.path.rsplit("/", 1)
    assert read_reason(PageReader(writer.path, "payouts")) is Reason.OK
    closed = PageReader(f"{parent}/../permit/{name}", "payouts").read()
    assert closed.reason is Reason.PAGE_UNSAFE
    assert "without '..'" in closed.detail


def test_a_granted_page_shows_the_grant(reader, writer, grant):
    writer.grant(grant, NOW_NS + MAX_AGE_NS)
    view = reader.read()
    assert isinstance(view, View)
    assert view.grant == grant
    assert view.node == "host-8"


@pytest.mark.parametrize(
    ("ahead_ns", "expected"),
    [
        (1, Reason.OK),
        (0, Reason.EXPIRED),
        (-1, Reason.EXPIRED),
        (MAX_AGE_NS, Reason.OK),
        (MAX_AGE_NS + 1, Reason.NOT_YET),
    ],
)
def test_one_nanosecond_late_or_early(reader, writer, grant, ahead_ns, expected):
    writer.grant(grant, NOW_NS + ahead_ns)
    assert read_reason(reader) is expected


def test_a_mutant_without_the_window_check_would_permit_a_page_of_a_clock_that_stood_still(writer, grant, clock):
    mutant = load_mutant(
        "firecurtain.permit.reader",
        "0 < expiry_ns - now_ns <= view.window_ns",
        "0 < expiry_ns - now_ns and view.window_ns",
    )
    writer.grant(grant, NOW_NS + MAX_AGE_NS + 1)
    assert isinstance(mutant.PageReader(writer.path, "payouts", clock).read(), mutant.View)


def test_a_closed_page_tells_why(reader, writer, grant):
    writer.grant(grant, NOW_NS + 1)
    writer.close(Reason.STOP_IN_FORCE, "halted by ops-1: wrong prices. Do: firecurtain resume")
    closed = reader.read()
    assert closed == Closed(Reason.STOP_IN_FORCE, "halted by ops-1: wrong prices. Do: firecurtain resume", grant)


def test_a_closed_page_can_name_the_limits_before_the_first_permit(reader, writer, grant):
    writer.close(Reason.NOT_ENROLLED, "no answer yet", grant)
    assert reader.read().grant == grant


def test_an_expired_permit_says_how_old_it_is(reader, writer, grant, clock):
    writer.grant(grant, NOW_NS + 5)
    clock.now_ns += 1_000_005
    closed = reader.read()
    assert closed.age_ns == 1_000_000
    assert "ended 1.000 ms ago" in closed.detail
    assert str(NOW_NS + 5) in closed.detail
    assert str(clock.now_ns) in closed.detail


def test_renewing_a_closed_page_is_refused(writer, grant):
    writer.grant(grant, NOW_NS + 1)
    writer.close(Reason.STOP_IN_FORCE, "halted")
    with pytest.raises(InvariantError, match="only grant"):
        writer.renew(NOW_NS + 1)


@pytest.mark.parametrize("deadline_ns", [0, -1, 2**64])
def test_a_deadline_that_is_no_time_is_refused(writer, grant, deadline_ns):
    writer.grant(grant, NOW_NS + 1)
    with pytest.raises(InvariantError, match="deadline_ns"):
        writer.renew(deadline_ns)


def test_close_without_a_reason_closes_and_complains(reader, writer, grant):
    writer.grant(grant, NOW_NS + 1)
    with pytest.raises(InvariantError, match="reason other than OK"):
        writer.close(Reason.OK, "")
    assert read_reason(reader) is Reason.EXPIRED


class Stores:
    """Stands for the writer's words and notes every store, in order."""

    def __init__(self, words):
        self.words, self.seen = words, []

    def __setitem__(self, index, value):
        self.seen.append((index, value))
        self.words[index] = value

    def __getitem__(self, index):
        return self.words[index]

    def release(self):
        self.words.release()


def list_stores(writer, act):
    stores = writer._words = Stores(writer._words)
    act()
    writer._words = stores.words
    return [("expiry" if index == EXPIRY_WORD else "flip", value and 1) for index, value in stores.seen]


ZERO, FLIP, DEADLINE = ("expiry", 0), ("flip", 1), ("expiry", 1)


def test_only_what_takes_away_goes_through_zero(writer, grant):
    def store(change):
        return list_stores(writer, lambda: writer.grant(change, NOW_NS))

    wider = replace(grant, armed=grant.armed | {mint_token(1)})
    assert store(grant) == [ZERO, FLIP, DEADLINE]
    assert list_stores(writer, lambda: writer.renew(NOW_NS)) == [DEADLINE]
    assert store(replace(grant, ledger_seq=4712)) == [FLIP, DEADLINE]
    assert store(wider) == [FLIP, DEADLINE]
    assert store(grant) == [ZERO, FLIP, DEADLINE]
    assert store(replace(grant, armed=frozenset())) == [ZERO, FLIP, DEADLINE]
    for name in ("artifact", "release", "limits"):
        assert store(replace(grant, **{name: "dd" * 32})) == [ZERO, FLIP, DEADLINE]
    assert list_stores(writer, lambda: writer.close(Reason.STOP_IN_FORCE, "")) == [ZERO, FLIP]


def test_a_mutant_that_narrows_without_zero_is_seen(page_path, header, grant):
    mutant = load_mutant(
        "firecurtain.permit.writer", "if not (self._is_open and self._grant.is_within(grant)):", "if not self._is_open:"
    )
    with mutant.PageWriter(page_path, header) as writer:
        writer.grant(grant, NOW_NS)
        narrower = replace(grant, armed=frozenset())
        assert list_stores(writer, lambda: writer.grant(narrower, NOW_NS)) != [ZERO, FLIP, DEADLINE]


def test_a_second_agent_on_the_same_page_is_refused(writer, header):
    with pytest.raises(PermitError, match="another agent holds"):
        PageWriter(writer.path, header)


@pytest.mark.parametrize("size", [1, 4095, 4097, 8192])
def test_a_page_of_another_size_is_refused_and_not_touched(page_path, header, size):
    Path(page_path).parent.mkdir(mode=0o700)
    Path(page_path).write_bytes(b"x" * size)
    with pytest.raises(PermitError, match=f"has {size} bytes, a permit page has 4096"):
        PageWriter(page_path, header)
    assert Path(page_path).read_bytes() == b"x" * size
    assert read_reason(PageReader(page_path, "payouts")) is Reason.PAGE_MALFORMED


def test_the_file_is_reused_so_a_guard_of_before_goes_on(page_path, header, grant):
    with PageWriter(page_path, header) as writer:
        reader = PageReader(page_path, "payouts", lambda: NOW_NS)
        writer.grant(grant, NOW_NS + 1)
        assert read_reason(reader) is Reason.OK
        inode = Path(page_path).stat().st_ino
    assert read_reason(reader) is Reason.NO_AGENT
    with PageWriter(page_path, header) as writer:
        assert Path(page_path).stat().st_ino == inode
        assert read_reason(reader) is Reason.EXPIRED
        writer.grant(replace(grant, ledger_seq=9), NOW_NS + 1)
        assert reader.read().grant.ledger_seq == 9


def test_modes_keep_others_out(writer):
    directory = Path(writer.path).parent
    is_root = os.geteuid() == 0
    modes = [
        stat.S_IMODE(Path(path).stat().st_mode)
        for path in (directory, writer.path, compute_slots_directory(writer.path))
    ]
    assert modes == ([0o755, 0o644, 0o1777] if is_root else [0o700, 0o600, 0o700])


def test_an_agent_that_comes_later_is_found_without_a_restart(page_path, header, grant, clock):
    reader = PageReader(page_path, "payouts", clock)
    closed = reader.read()
    assert closed.reason is Reason.NO_AGENT
    assert "firecurtain agent" in closed.detail
    with PageWriter(page_path, header) as writer:
        writer.grant(grant, NOW_NS + MAX_AGE_NS)
        clock.now_ns += REMAP_INTERVAL_NS - 1
        assert read_reason(reader) is Reason.NO_AGENT
        clock.now_ns += 1
        assert read_reason(reader) is Reason.OK


def test_a_page_put_in_another_file_is_found_after_the_old_permit_ran_out(writer, header, grant, clock, page_path):
    reader = PageReader(page_path, "payouts", clock)
    writer.grant(grant, NOW_NS + 1)
    assert read_reason(reader) is Reason.OK
    Path(page_path).rename(page_path + ".old")
    with PageWriter(page_path, header) as successor:
        successor.grant(grant, NOW_NS + MAX_AGE_NS)
        assert read_reason(reader) is Reason.OK
        clock.now_ns += REMAP_INTERVAL_NS
        assert read_reason(reader) is Reason.OK
        assert reader.read().generation == successor._generation


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"service": "refunds"}, "of service refunds, this process is of payouts"),
        ({"boot_id": bytes(16)}, "of boot id 00000000000000000000000000000000, this process is of"),
        ({"time_namespace": 4}, "of time namespace 4, this process is of"),
    ],
)
def test_a_foreign_page_is_refused_with_both_values(page_path, header, grant, change, text):
    with PageWriter(page_path, replace(header, **change)) as writer:
        writer.grant(grant, boottime_ns() + MAX_AGE_NS)
        closed = PageReader(page_path, "payouts").read()
    assert closed.reason is Reason.PAGE_FOREIGN
    assert text in closed.detail


def test_an_agent_that_restarts_for_another_service_is_seen_by_a_guard_of_before(writer, header, grant, clock):
    reader = PageReader(writer.path, "payouts", clock)
    writer.grant(grant, NOW_NS + 1)
    assert read_reason(reader) is Reason.OK
    writer.release()
    with PageWriter(writer.path, replace(header, service="refunds")) as successor:
        successor.grant(grant, NOW_NS + 1)
        assert read_reason(reader) is Reason.PAGE_FOREIGN


def make_directory_instead(path):
    path.mkdir()


def make_pipe_instead(path):
    os.mkfifo(path)


def make_symlink_instead(path):
    path.with_name("real").write_bytes(bytes(PAGE_SIZE))
    path.symlink_to("real")


def make_writable_by_others(path):
    path.write_bytes(bytes(PAGE_SIZE))
    path.chmod(0o666)


def make_directory_writable_by_others(path):
    path.write_bytes(bytes(PAGE_SIZE))
    path.parent.chmod(0o777)


@pytest.mark.parametrize(
    "arrange",
    [
        make_directory_instead,
        make_pipe_instead,
        make_symlink_instead,
        make_writable_by_others,
        make_directory_writable_by_others,
    ],
)
def test_an_unsafe_page_is_a_denial_and_the_writer_refuses_it(page_path, header, arrange):
    path = Path(page_path)
    path.parent.mkdir(mode=0o700)
    arrange(path)
    closed = PageReader(page_path, "payouts").read()
    assert closed.reason is Reason.PAGE_UNSAFE
    assert "Do: " in closed.detail
    with pytest.raises(PermitError):
        PageWriter(page_path, header)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_page_of_another_user_is_refused(writer):
    os.chown(writer.path, 4242, 0)
    closed = PageReader(writer.path, "payouts").read()
    assert closed.reason is Reason.PAGE_UNSAFE
    assert "belongs to uid 4242" in closed.detail


def test_a_symbolic_link_anywhere_in_the_path_is_refused(writer, tmp_path):
    (tmp_path / "link").symlink_to(Path(writer.path).parent)
    closed = PageReader(f"{tmp_path}/link/permit.page", "payouts").read()
    assert closed.reason is Reason.PAGE_UNSAFE
    assert "symbolic link" in closed.detail


@pytest.mark.parametrize("path", ["", "permit.page", "/", "/tmp/../etc/passwd", "/proc/self/\0"])
def test_a_path_that_is_no_path_is_a_denial(path):
    assert isinstance(PageReader(path, "payouts").read(), Closed)


@pytest.fixture
def raw_page(page_path):
    path = Path(page_path)
    path.parent.mkdir(mode=0o700)
    path.write_bytes(bytes(PAGE_SIZE))
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=PAGE_SIZE + 8) | st.binary(min_size=PAGE_SIZE, max_size=PAGE_SIZE))
def test_random_pages_only_ever_deny(raw_page, data):
    raw_page.write_bytes(data)
    closed = PageReader(str(raw_page), "payouts").read()
    assert isinstance(closed, Closed)
    assert closed.reason is not Reason.OK


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, PAGE_SIZE - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_live_page_with_changed_bytes_is_a_permit_or_a_denial(writer, header, grant, changes):
    writer.grant(grant, boottime_ns() + MAX_AGE_NS)
    for offset, value in changes:
        writer._page[offset] = value
    assert isinstance(PageReader(writer.path, "payouts").read(), (View, Closed))
    writer._page[:] = bytes(PAGE_SIZE)
    assert read_reason(PageReader(writer.path, "payouts")) is Reason.PAGE_MALFORMED


def test_a_page_that_is_zeroed_under_a_reader_denies(reader, writer, grant):
    writer.grant(grant, NOW_NS + 1)
    assert read_reason(reader) is Reason.OK
    writer._page[:] = bytes(PAGE_SIZE)
    assert read_reason(reader) is Reason.PAGE_MALFORMED


class TornWords:
    """A page that changes between any two loads."""

    def __init__(self):
        self.loads = 0

    def __getitem__(self, index):
        self.loads += 1
        return self.loads


def test_three_torn_reads_deny(reader):
    reader._mapping.words = words = TornWords()
    closed = reader.read()
    assert closed.reason is Reason.PAGE_MALFORMED
    assert "each of 3 reads" in closed.detail
    assert words.loads == 9


def test_a_stop_between_the_loads_is_seen(writer, grant):
    """Goal: what is stored during a read decides. Method: the clock, read between the loads, closes the page."""
    stops = []

    def stop_once():
        if stops:
            writer.close(Reason.STOP_IN_FORCE, stops.pop())
        return NOW_NS

    reader = PageReader(writer.path, "payouts", stop_once)
    writer.grant(grant, NOW_NS + 1)
    assert read_reason(reader) is Reason.OK
    stops.append("halted")
    assert read_reason(reader) is Reason.STOP_IN_FORCE


WRITER_PROCESS = """
import sys
from dataclasses import replace
from firecurtain.permit import *
from firecurtain.terms import *
header = PageHeader("theatre", "payouts", "host-8", 10**9, read_boot_id(), read_time_namespace())
grants = [
    Grant(seq, seq, Digest(f"{seq:02x}" * 32), Digest(f"{seq:02x}" * 32), Digest(f"{seq:02x}" * 32),
          frozenset(mint_token(seq * 1000 + index) for index in range(seq % 64)))
    for seq in range(1, 200)
]
with PageWriter(sys.argv[1], header) as writer:
    print("ready", flush=True)
    rounds = 0
    while True:
        for grant in grants:
            writer.grant(grant, boottime_ns() + 10**9)
            writer.renew(boottime_ns() + 10**9)
            writer.grant(replace(grant, ledger_epoch=0), boottime_ns() + 10**9)
        writer.close(Reason.STOP_IN_FORCE, "halted", grants[rounds % len(grants)])
        rounds += 1
"""


def is_whole(grant):
    """Every field of a grant that the writer process writes follows from its seq."""
    seq = grant.ledger_seq
    tokens = frozenset(mint_token(seq * 1000 + index) for index in range(seq % 64))
    return (
        grant.ledger_epoch in (0, seq)
        and grant.artifact == grant.release == grant.limits == f"{seq:02x}" * 32
        and grant.armed == tokens
    )


def test_no_torn_body_ever_beside_a_real_writer_process(page_path):
    """Goal: a view is always one grant as written. Method: read while another process flips without a pause."""
    process = subprocess.Popen([sys.executable, "-c", WRITER_PROCESS, page_path], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"ready\n"
        reader = PageReader(page_path, "payouts")
        views = set()
        reasons = {Reason.OK: 0}
        deadline_s = time.monotonic() + 60
        while len(views) < 200 and time.monotonic() < deadline_s:
            found = reader.read()
            if isinstance(found, View):
                assert is_whole(found.grant)
                views.add(found.generation)
                reasons[Reason.OK] += 1
            else:
                reasons[found.reason] = reasons.get(found.reason, 0) + 1
        assert len(views) >= 200, reasons
        assert set(reasons) <= {Reason.OK, Reason.EXPIRED, Reason.STOP_IN_FORCE, Reason.PAGE_MALFORMED}
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        process.stdout.close()


def test_a_mutant_that_trusts_the_first_generation_load_reads_torn_bodies(page_path, header, grant, clock):
    """Method: a decode that is overtaken by two grants; only the second load of the generation can see that."""
    mutant = load_mutant(
        "firecurtain.permit.reader",
        "if words[GENERATION_WORD] == generation and words[EXPIRY_WORD] == expiry_ns:",
        "if True:",
    )
    from firecurtain.permit import reader as real

    for module, is_caught in ((real, False), (mutant, True)):
        with PageWriter(page_path, header) as writer:
            reader = module.PageReader(page_path, "payouts", clock)
            writer.grant(grant, NOW_NS + 1)
            decode = reader._mapping.decode

            def overtaken(generation, writer=writer, decode=decode):
                view = decode(generation)
                if view.grant.ledger_seq == grant.ledger_seq:
                    writer.grant(replace(grant, ledger_seq=1, armed=frozenset()), NOW_NS + 1)
                return view

            reader._mapping = type("Overtaken", (), {"words": reader._mapping.words, "view": reader._mapping.view})()
            reader._mapping.decode = overtaken
            assert (reader.read().grant.ledger_seq == grant.ledger_seq) is is_caught


FULL_DISK = """
mount -t tmpfs -o size=16k,mode=700 none "$1" && head -c 16384 /dev/zero > "$1/ballast"
exec "$2" -c '
import sys
from firecurtain.permit import *
from firecurtain.terms import PermitError
header = PageHeader("theatre", "payouts", "host-8", 10**9, read_boot_id(), read_time_namespace())
try:
    PageWriter(sys.argv[1] + "/permit.page", header)
except PermitError as error:
    print(error)
' "$1"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small tmpfs")
def test_a_full_file_system_is_an_error_by_name_and_no_sigbus(tmp_path):
    tmp_path.chmod(0o700)
    command = ["unshare", "-m", "sh", "-c", FULL_DISK, "sh", str(tmp_path), sys.executable]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stderr
    assert "No space left on device" in result.stdout
    assert "Do: free space" in result.stdout


def test_a_directory_that_cannot_be_made_is_an_error_by_name(header):
    with pytest.raises(PermitError, match="cannot be made"):
        PageWriter("/proc/nowhere/permit.page", header)


def test_a_service_that_is_no_name_is_a_programmers_error(page_path, header):
    with pytest.raises(TermError):
        PageWriter(page_path, replace(header, service="../x"))


def test_letting_go_twice_does_nothing(writer):
    writer.release()
    writer.release()
