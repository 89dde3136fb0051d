# SPDX-License-Identifier: Apache-2.0
"""Make `.venv` from one lock file: `python3.11 tools/set_up.py all` (to run) or `dev` (to test and check).

Runs before anything is installed, so it uses the standard library only and starts by checking the interpreter.
A stamp `.venv/<lock>.stamp` names what was installed; it is removed first and written last, so an interrupted run
leaves none. Does nothing when the stamp still holds. Does not resolve versions: `make lock` does.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCKS = ("all", "dev")


def main() -> None:
    """Bring `.venv` up to the lock named on the command line."""
    if sys.version_info < (3, 11):  # noqa: UP036 - an older interpreter is exactly what this sentence is for
        raise SystemExit(
            f"Firecurtain needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. "
            "Install one, or name it: make PYTHON=python3.12"
        )
    if len(sys.argv) != 2 or sys.argv[1] not in LOCKS:
        raise SystemExit(f"usage: {sys.argv[0]} {'|'.join(LOCKS)}")
    # A lock on the directory leaves no lock file behind and ends with this process, however that ends.
    descriptor = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    set_up(sys.argv[1])


def set_up(lock: str) -> None:
    """Install one lock file and this project, unless the stamp says that it has been done."""
    stamp = VENV / f"{lock}.stamp"
    wanted = compute_stamp(lock)
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    print(f"setting up .venv from requirements/{lock}.txt (about a minute the first time)", flush=True)
    usable = any(is_of_this_tree(VENV / f"{name}.stamp", wanted) for name in LOCKS)
    stamp.unlink(missing_ok=True)
    if not usable:  # never finished, of another interpreter, or copied from another folder
        run(sys.executable, "-m", "venv", "--clear", str(VENV))
    pip("install", "--require-hashes", "-r", str(ROOT / "requirements" / f"{lock}.txt"))
    pip("install", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    partial = stamp.with_suffix(".partial")
    partial.write_text(wanted)
    partial.replace(stamp)


def compute_stamp(lock: str) -> str:
    """Where and with what the environment was made (first line), and from which bytes (second line)."""
    content = hashlib.sha256()
    for path in (ROOT / "requirements" / f"{lock}.txt", ROOT / "pyproject.toml"):
        content.update(path.read_bytes())
    return f"{VENV} {os.path.realpath(sys.executable)} {sys.version.split()[0]}\n{content.hexdigest()}\n"


def is_of_this_tree(stamp: Path, wanted: str) -> bool:
    """Whether a finished environment of this tree and interpreter left this stamp, whatever its content."""
    return stamp.is_file() and stamp.read_text().partition("\n")[0] == wanted.partition("\n")[0]


def pip(*arguments: str) -> None:
    """Run the environment's own pip, quietly."""
    run(str(VENV / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def run(*command: str) -> None:
    """Run a command; its own error output is the message when it fails."""
    code = subprocess.run(command, check=False).returncode
    if code:
        raise SystemExit(f"setting up .venv failed ({code}): {' '.join(command)}")


if __name__ == "__main__":
    main()
