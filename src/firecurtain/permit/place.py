# SPDX-License-Identifier: Apache-2.0
"""Where the permit page lies, and opening it without being led elsewhere.

The environment may say WHERE the page is, never WHETHER one is needed. Every component of the path is opened without
following symbolic links, the directory and the file must belong to root or to this user, and nobody else may write
them: otherwise a neighbour could put a permit of his own there. The directories above are trusted as the system has
them. This module never reads what is inside the files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from firecurtain.permit.page import PageRefused
from firecurtain.terms import PermitError, Reason, parse_name

PERMIT_VARIABLE = "FIRECURTAIN_PERMIT"
"""The environment variable in which an agent tells the processes it starts where their page is."""

_BY_PATH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def compute_page_path(service: str, environment: Mapping[str, str], uid: int) -> str:
    """Where the page of `service` is: FIRECURTAIN_PERMIT, else a place in the runtime directory.

    Raises: TermError: `service` is not a name.

    >>> compute_page_path("payouts", {}, 0)
    '/run/firecurtain/payouts/permit.page'
    >>> compute_page_path("payouts", {"FIRECURTAIN_PERMIT": "/run/here/permit.page"}, 1000)
    '/run/here/permit.page'
    """
    parse_name(service)
    if PERMIT_VARIABLE in environment:
        return environment[PERMIT_VARIABLE]
    runtime = "/run" if uid == 0 else environment.get("XDG_RUNTIME_DIR", f"/run/user/{uid}")
    return f"{runtime}/firecurtain/{service}/permit.page"


def normalise_path(path: str) -> str:
    """One spelling for one absolute path. `..` stays in it, and is refused where the page is opened.

    >>> normalise_path("//run/./here//permit.page")
    '/run/here/permit.page'
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return f"/{'/'.join(parts)}" if path.startswith("/") else path


def make_directory(path: str, mode: int) -> None:
    """Make a directory with exactly this mode if there is none. An existing one is left for the checks to judge.

    Raises: PermitError: it cannot be made.
    """
    directory = Path(path)
    try:
        if not directory.exists():
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(mode)
    except OSError as error:
        raise PermitError(f"{path} cannot be made: {error}. Do: give a directory this user may make.") from error


def open_directory(path: str) -> int:
    """A descriptor of the directory, reached without following a symbolic link and private to its owner.

    Raises: PageRefused: NO_AGENT when a component is missing, PAGE_UNSAFE otherwise.
    """
    if not path.startswith("/") or ".." in path.split("/"):
        raise PageRefused(Reason.PAGE_UNSAFE, f"path {path!r} must be absolute and without '..'. Do: write it in full.")
    descriptor = os.open("/", _BY_PATH)
    walked = ""
    for name in filter(None, path.split("/")):
        walked += f"/{name}"
        try:
            below = os.open(name, _BY_PATH, dir_fd=descriptor)
        except (OSError, ValueError) as error:
            raise _refuse_open(error, walked) from error
        finally:
            os.close(descriptor)
        descriptor = below
    try:
        verify_private(os.fstat(descriptor), path)
    except PageRefused:
        os.close(descriptor)
        raise
    return descriptor


def open_file(directory: int, name: str, flags: int, mode: int = 0o600) -> int:
    """Open a regular, private file in an open directory.

    Raises: PageRefused: NO_AGENT when it is missing, PAGE_UNSAFE when it is not a private regular file.
    """
    try:
        # O_NONBLOCK: a pipe left in this place must not make the application wait for a writer.
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode, dir_fd=directory)
    except (OSError, ValueError) as error:
        raise _refuse_open(error, name) from error
    try:
        _verify_regular(os.fstat(descriptor), name)
    except PageRefused:
        os.close(descriptor)
        raise
    return descriptor


def verify_private(status: os.stat_result, name: str) -> None:
    """Owner root or this user, and writable by nobody else. Raises: PageRefused: PAGE_UNSAFE."""
    own = os.geteuid()
    if status.st_uid not in (0, own):
        raise PageRefused(
            Reason.PAGE_UNSAFE, f"{name} belongs to uid {status.st_uid}, allowed are 0 and {own}. Do: chown it."
        )
    if status.st_mode & _WRITABLE_BY_OTHERS:
        raise PageRefused(
            Reason.PAGE_UNSAFE,
            f"{name} has mode {stat.S_IMODE(status.st_mode):04o}, others may write it. Do: chmod go-w it.",
        )


def _verify_regular(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PageRefused(Reason.PAGE_UNSAFE, f"{name} is not a regular file. Do: remove it and restart the agent.")
    verify_private(status, name)


def _refuse_open(error: Exception, name: str) -> PageRefused:
    if isinstance(error, FileNotFoundError):
        return PageRefused(
            Reason.NO_AGENT,
            f"{name} does not exist. Do: start the host's agent with `firecurtain agent` and let it start the service, "
            f"or set {PERMIT_VARIABLE} to the path of the agent's page.",
        )
    return PageRefused(
        Reason.PAGE_UNSAFE,
        f"{name} cannot be opened: {error}. Do: give the real path, with no symbolic link in it, and make it readable.",
    )
