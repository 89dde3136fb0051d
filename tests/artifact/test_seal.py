# SPDX-License-Identifier: Apache-2.0
"""Sealing is all or nothing, says what it holds, and twice is once."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from firecurtain.artifact import seal as seal_module
from firecurtain.artifact.census import TOKENS_MAX, compute_census, find_tokens
from firecurtain.artifact.digest import compute_file_digest
from firecurtain.artifact.layout import LayoutError
from firecurtain.artifact.seal import StoreError, read_sealed, seal
from firecurtain.artifact.tree import Found
from firecurtain.terms import ArtifactError, Digest, mint_token
from support.trees import compute_digest


def run_shell(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = ["bash", "-c", command]
    return subprocess.run(words, cwd=directory, check=False, capture_output=True, text=True)


def list_store(store: Path) -> set[str]:
    return {path.name for path in store.iterdir()} - {".lock"}


def test_sealed_artifact_lies_under_its_digest_beside_its_manifest(service: Path, store: Path) -> None:
    sealed = seal(service, store)
    assert sealed.digest == compute_digest(service) == compute_digest(sealed.path)
    assert sealed.path == store / sealed.digest
    assert list_store(store) == {sealed.digest, f"{sealed.digest}.MANIFEST"}


def test_manifest_is_checked_by_sha256sum_and_is_the_digest(service: Path, store: Path) -> None:
    (service / "lib" / "a b ü.txt").write_text("odd name\n")
    sealed = seal(service, store)
    assert run_shell(f"sha256sum -c ../{sealed.manifest.name}", sealed.path).returncode == 0
    assert run_shell(f"sha256sum < {sealed.manifest.name}", store).stdout.split()[0] == sealed.digest
    damaged = sealed.path / "router.py"
    damaged.chmod(0o644)
    damaged.write_text("other\n")
    assert run_shell(f"sha256sum -c ../{sealed.manifest.name}", sealed.path).returncode == 1


def test_facts_name_tokens_modes_files_and_interpreter(service: Path, store: Path) -> None:
    sealed = seal(service, store)
    assert sealed.tokens == ("fc1-0123456789AB",)
    assert sealed.modes == {"start.sh": "0755"}
    assert [entry.path for entry in sealed.files] == ["lib/empty.txt", "lib/orders.py", "router.py", "start.sh"]
    assert sealed.interpreter == compute_file_digest(Path(sys.executable))
    assert seal(service, store, interpreter=service / "start.sh").interpreter == sealed.files[3].digest


def test_modes_are_normalised_and_read_only(service: Path, store: Path) -> None:
    (service / "router.py").chmod(0o606)
    (service / "start.sh").chmod(0o4711)
    sealed = seal(service, store)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (sealed.path, *sealed.path.rglob("*"))}
    assert modes == {
        sealed.digest: 0o555,
        "lib": 0o555,
        "empty.txt": 0o444,
        "orders.py": 0o444,
        "router.py": 0o444,
        "start.sh": 0o555,
    }
    assert stat.S_IMODE(sealed.manifest.stat().st_mode) == 0o444


def test_sealing_twice_or_from_the_store_gives_the_same_artifact_once(service: Path, store: Path) -> None:
    sealed = seal(service, store)
    inode = sealed.path.stat().st_ino
    assert seal(service, store) == sealed
    assert seal(sealed.path, store) == sealed
    assert read_sealed(store, sealed.digest) == sealed
    assert sealed.path.stat().st_ino == inode
    assert len(list_store(store)) == 2


def test_same_bytes_with_other_modes_are_refused_not_mixed_up(service: Path, store: Path) -> None:
    seal(service, store)
    (service / "router.py").chmod(0o755)
    with pytest.raises(StoreError, match="one digest cannot have two sets of modes"):
        seal(service, store)


def test_refused_layout_leaves_the_store_untouched(service: Path, store: Path) -> None:
    (service / "link").symlink_to("router.py")
    with pytest.raises(LayoutError, match="is a symbolic link"):
        seal(service, store)
    assert not store.exists()


def test_store_inside_the_sealed_directory_is_refused(service: Path) -> None:
    with pytest.raises(StoreError, match="Put the store elsewhere"):
        seal(service, service / "store")
    with pytest.raises(StoreError, match="Put the store elsewhere"):
        seal(service, service)


@pytest.mark.parametrize("damage", ["byte", "extra", "missing", "writable", "manifest", "no manifest"])
def test_damaged_twin_in_the_store_is_refused_by_name(service: Path, store: Path, damage: str) -> None:
    sealed = seal(service, store)
    target = sealed.path / "router.py"
    if damage == "byte":
        target.chmod(0o644)
        target.write_bytes(target.read_bytes().replace(b"F", b"G", 1))
        target.chmod(0o444)
    elif damage == "extra":
        (sealed.path / "extra.py").touch(mode=0o444)
    elif damage == "missing":
        target.unlink()
    elif damage == "writable":
        target.chmod(0o644)
    elif damage == "manifest":
        sealed.manifest.chmod(0o644)
        sealed.manifest.write_text("nothing\n")
    else:
        sealed.manifest.unlink()
    with pytest.raises(ArtifactError, match=sealed.digest) as refusal:
        seal(service, store)
    assert "emove" in str(refusal.value)


def test_tree_and_manifest_changed_together_are_still_not_the_digest(service: Path, store: Path) -> None:
    sealed = seal(service, store)
    (service / "router.py").write_text("other\n")
    other = seal(service, store)
    for path in (sealed.path, sealed.manifest):
        path.rename(path.with_name("away" + path.suffix))
    other.path.rename(sealed.path)
    other.manifest.rename(sealed.manifest)
    with pytest.raises(StoreError, match=f"{sealed.digest} now has digest {other.digest}"):
        read_sealed(store, sealed.digest)


def test_source_that_changes_between_hashing_and_copying_is_not_sealed(
    service: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_file = seal_module._copy_file

    def change_then_copy(found: Found, target: Path) -> None:
        copy_file(found, target)
        (service / "start.sh").write_text("#!/bin/sh\nrm -rf /\n")

    monkeypatch.setattr(seal_module, "_copy_file", change_then_copy)
    with pytest.raises(ArtifactError, match="changed while it was"):
        seal(service, store)
    assert list_store(store) == set()


CRASH = """
import os, signal, sys
from pathlib import Path
from firecurtain.artifact import seal
deadly, calls = int(sys.argv[3]), 0
def lethal(real):
    def step(*arguments, **keywords):
        global calls
        calls += 1
        if calls == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **keywords)
    return step
for name in ("fsync", "fchmod"):
    setattr(os, name, lethal(getattr(os, name)))
for name in ("rename", "replace", "mkdir", "chmod"):
    setattr(Path, name, lethal(getattr(Path, name)))
seal.seal(Path(sys.argv[1]), Path(sys.argv[2]))
print(calls)
"""


def test_killed_at_any_step_it_leaves_a_whole_artifact_or_none(service: Path, tmp_path: Path) -> None:
    steps = -1
    for deadly in range(1, 100):
        store = tmp_path / f"store{deadly}"
        words = [sys.executable, "-c", CRASH, str(service), str(store), str(deadly)]
        run = subprocess.run(words, capture_output=True, text=True, check=False)
        if run.returncode == 0:
            steps = int(run.stdout)
            break
        assert run.returncode == -signal.SIGKILL, run.stderr
        if store.exists():
            for name in list_store(store):
                if len(name) == 64:
                    assert compute_digest(store / name) == read_sealed(store, Digest(name)).digest == name
        sealed = seal(service, store)  # the next run cleans up after the dead one and succeeds
        assert list_store(store) == {sealed.digest, sealed.manifest.name}
    assert steps > 15, "the tree has 4 files and 2 directories: more steps than that must have been tried"


FULL = """
set -e
mount -t tmpfs -o size=256k,mode=0755 tmpfs {place}
{python} - <<'EOF'
from pathlib import Path
from firecurtain.artifact.seal import StoreError, seal
place, service = Path("{place}"), Path("{service}")
try:
    seal(service, place / "store")
    print("SEALED")
except StoreError as error:
    print("REFUSED", error)
print("LEFT", sorted(path.name for path in (place / "store").iterdir()))
(service / "big.bin").unlink()
print("AGAIN", seal(service, place / "store").digest)
EOF
"""


def test_full_disk_leaves_no_half_artifact_and_sealing_works_again(service: Path, tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("needs root and unshare(1) to mount a small tmpfs in a namespace of its own")
    (service / "big.bin").write_bytes(os.urandom(400_000))
    place = tmp_path / "small"
    place.mkdir()
    script = FULL.format(place=place, service=service, python=sys.executable)
    words = [unshare, "--mount", "--propagation", "private", "bash", "-c", script]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "No space left on device" in run.stdout
    assert "bytes free" in run.stdout
    assert "LEFT ['.lock']" in run.stdout
    assert f"AGAIN {compute_digest(service)}" in run.stdout


def test_ordinary_user_seals_and_reseals(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("already run as an ordinary user by every other test here")
    code = (
        "import os, sys, tempfile; from pathlib import Path; from firecurtain.artifact.seal import seal\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "with tempfile.TemporaryDirectory() as place:\n"
        "    root = Path(place, 'service', 'lib'); root.mkdir(parents=True); (root / 'a.py').write_text('a')\n"
        "    sh = Path('/bin/sh')\n"
        "    first = seal(root.parent, Path(place, 'store'), sh); (root / 'b.py').write_text('b')\n"
        "    leftover = Path(place, 'store', '.sealing', 'lib'); leftover.mkdir(parents=True)\n"
        "    (leftover / 'x').touch(); leftover.chmod(0o555); leftover.parent.chmod(0o555)\n"
        "    second = seal(root.parent, Path(place, 'store'), sh)\n"
        "    print(sorted(p.name for p in Path(place, 'store').iterdir() if len(p.name) != 73) ==\n"
        "          sorted(['.lock', first.digest, second.digest]))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert run.stdout.strip() == "True", run.stderr


def test_census_finds_tokens_in_any_bytes_and_across_chunks(service: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = mint_token(7), mint_token(2**60 - 1)
    (service / "object.o").write_bytes(b"\x00\xffABC" + second.encode() + b"Zc")  # what follows may be a letter too
    (service / "lib" / "jar").write_bytes(b"x" * 9 + first.encode() + b"\x00")
    for chunk_bytes in (1, 2, 7, 16, 1000):
        monkeypatch.setattr("firecurtain.artifact.tree.CHUNK_BYTES", chunk_bytes)
        assert compute_census(service) == tuple(sorted({first, second, "fc1-0123456789AB"}))


def test_census_knows_a_token_from_what_only_looks_like_one() -> None:
    assert find_tokens([b"fc1-0123456789AI fc1-0123 FC1-0123456789AB fc2-0123456789AB fc1-0123456789a"]) == set()
    assert find_tokens([b"fc1-fc1-0123456789ABC"]) == {"fc1-0123456789AB"}


def test_census_has_a_bound(service: Path) -> None:
    (service / "many").write_text(" ".join(mint_token(number) for number in range(TOKENS_MAX)))
    with pytest.raises(ArtifactError, match="over 1024 flag tokens"):
        compute_census(service)
