# SPDX-License-Identifier: Apache-2.0
"""The one service process of this node: started from the artifact's real path, seen through /proc, ended for certain.

It dies with its agent (parent-death signal) and holds an inherited lock: while any process that inherited it lives, no
second one is started, whatever became of the agent. It is started with `-B`, because bytecode written into its own
artifact would be an extra file, and an extra file is a refusal. When to start what is `service`'s business.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

from firecurtain.artifact.check import ArtifactCheck
from firecurtain.artifact.digest import compute_file_digest
from firecurtain.bus.child import PR_SET_PDEATHSIG, Child
from firecurtain.permit import PERMIT_VARIABLE, ProcessKey, read_process_key
from firecurtain.terms import FirecurtainError, short
from firecurtain.trust.release import Release
from firecurtain.wire.messages import Running

LEVEL: Literal[0] = 0
"""Self-report: it protects against mistakes, not against whoever may write this host's memory and files."""

_libc = ctypes.CDLL(None, use_errno=True)


class ProcessError(FirecurtainError):
    """The service process cannot be started, or is not what it was started as."""

    code: ClassVar[str] = "agent-process"


class ServiceProcess:
    """A running service and what it was started from. Made by `start_service`."""

    def __init__(self, child: Child, release: Release, directory: Path, interpreter: Path, argv: list[str]) -> None:
        self.child, self.release = child, release
        self.key: ProcessKey = read_process_key(child.pid)
        self._check = ArtifactCheck(directory, release.modes)
        self._interpreter, self._argv = interpreter, argv

    def read_running(self, now_utc_ns: int) -> Running:
        """What runs, with the artifact's digest from its files as they are now.

        Raises: ProcessError, ArtifactError, PermitError: it is not what was started, or no longer there.
        """
        pid = self.child.pid
        if read_process_key(pid) != self.key:
            raise ProcessError(f"process {pid} is another one than was started. Do: restart the agent.")
        self._verify_identity(pid)
        digest = self._check.compute_digest(now_utc_ns)
        if digest != self.release.artifact:
            raise ProcessError(
                f"process {pid} was started from artifact {short(self.release.artifact)}, whose files are now "
                f"{short(digest)}. Do: find out who changed them, remove it from the store, seal or fetch it again."
            )
        return Running(pid, self.key.start_time_ticks, digest, LEVEL)

    def _verify_identity(self, pid: int) -> None:
        try:
            executable = str(Path(f"/proc/{pid}/exe").readlink())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        except OSError as error:
            raise ProcessError(
                f"process {pid} cannot be seen: {error}. Do: mount /proc where the agent runs."
            ) from error
        if executable != str(self._interpreter):
            raise ProcessError(
                f"process {pid} runs {executable}, it was started with {self._interpreter}. Do: restart."
            )
        if words != [os.fsencode(word) for word in self._argv]:
            raise ProcessError(f"process {pid} no longer names {self._argv[2]} as its code. Do: restart the service.")


def start_service(
    release: Release, store: Path, interpreter: Path, extra: tuple[str, ...], page_path: str, lock_path: Path
) -> ServiceProcess:
    """Start the artifact of `release`. Call it in the main thread, whose end ends the process.

    Raises: ProcessError: not in the store, another interpreter, an older process still runs, or it cannot be started.
    """
    directory = Path(os.path.realpath(store)) / release.artifact
    _verify_place(directory, interpreter, release)
    argv = [str(interpreter), "-B", str(directory / release.entrypoint[0]), *release.entrypoint[1:], *extra]
    lock = _take_lock(lock_path)
    try:
        # A session of its own: the Ctrl-C of a terminal goes to the agent, which ends the service in order.
        process = subprocess.Popen(
            argv,
            cwd=directory,
            env={**os.environ, PERMIT_VARIABLE: page_path},
            stdin=subprocess.DEVNULL,
            pass_fds=(lock,),
            start_new_session=True,
            preexec_fn=_make_die_with_parent(os.getpid()),  # two system calls: no lock is taken, nothing is imported
        )
    except OSError as error:
        raise ProcessError(f"{argv[0]} cannot be started: {error}. Correct `interpreter`.") from error
    finally:
        os.close(lock)
    return ServiceProcess(Child(process), release, directory, Path(os.path.realpath(interpreter)), argv)


def read_uids(pid: int) -> frozenset[int]:
    """The user ids that a process has now: real, effective, saved, and that of its files. None when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(int(word) for line in lines if line.startswith("Uid:") for word in line.split()[1:])


def list_stored(store: Path) -> frozenset[str]:
    """The digests of the artifacts in the store; links do not count. Raises: ProcessError."""
    try:
        return frozenset(entry.name for entry in os.scandir(store) if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        raise ProcessError(f"store {store} cannot be listed: {error}. Seal the artifact into it.") from error


def _verify_place(directory: Path, interpreter: Path, release: Release) -> None:
    if not directory.is_dir() or directory.is_symlink():
        raise ProcessError(f"{directory} is not in the store. Seal or fetch artifact {release.artifact}.")
    found = compute_file_digest(interpreter)
    if found != release.interpreter:
        raise ProcessError(
            f"{interpreter} has digest {short(found)}, the release was signed for {short(release.interpreter)}. "
            "Install that interpreter, or propose a release for this one."
        )


def _take_lock(path: Path) -> int:
    """An flocked descriptor of its own, for the service alone: the agent closes its copy."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ProcessError(f"{path} cannot be opened: {error}. Give the agent its state directory back.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise ProcessError(
            f"a process that inherited {path} still runs; two of one service must not act. Do: end it (`fuser {path}`)."
        ) from error
    return lock


def _make_die_with_parent(parent: int) -> Callable[[], None]:
    def die_with_parent() -> None:
        # The parent may have died between fork and prctl, and then no signal will ever come.
        if _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0 or os.getppid() != parent:
            os._exit(127)

    return die_with_parent
