# SPDX-License-Identifier: Apache-2.0
"""Which trees may become an artifact: the strict layout as rules over names and file types, and its hard caps.

Strict, because whatever two tools could read differently (links, case, composed letters, escapes) would let the digest
that was approved and the code that runs part ways. The rules are values only; `tree` applies them to a directory.
"""

from __future__ import annotations

import re
import stat
import unicodedata
from dataclasses import dataclass
from typing import ClassVar

from firecurtain.terms import ArtifactError

ENTRIES_MAX = 20_000  # chosen: looking at an unchanged tree costs 9 us a file (measured), 0.2 s of each second at most
SIZE_BYTES_MAX = 2 * 1024**3  # chosen: hashing it once takes seconds; more belongs into data, not into a release
PATH_BYTES_MAX = 1024
DEPTH_MAX = 32  # one open descriptor per level
PROBLEMS_SHOWN_MAX = 50

_DIGEST_LIKE = re.compile(r"[0-9a-f]{64}")
_INVISIBLE = {
    "Cc": "a control character",
    "Cf": "an invisible formatting character",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}
_KINDS = (
    (stat.S_ISLNK, "is a symbolic link", "replace it by a copy of the file it points at"),
    (stat.S_ISFIFO, "is a named pipe", "create it at run time, outside the artifact"),
    (stat.S_ISSOCK, "is a socket", "create it at run time, outside the artifact"),
    (stat.S_ISBLK, "is a block device", "remove it; an artifact holds files only"),
    (stat.S_ISCHR, "is a character device", "remove it; an artifact holds files only"),
)


class LayoutError(ArtifactError):
    """The directory breaks the strict layout; the text names each refused path with its fix."""

    code: ClassVar[str] = "artifact-layout"


@dataclass(frozen=True, slots=True)
class Problem:
    """One refused path, why, and what to do about it."""

    path: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path!r} {self.what}. Do: {self.fix}."


def find_name_problem(path: str, name: str) -> Problem | None:
    r"""Say why `name`, the last part of `path`, may not stand in an artifact; None when it may.

    >>> print(find_name_problem("lib/a\nb", "a\nb"))
    'lib/a\nb' has a control character in its name. Do: rename it without U+000A.
    >>> find_name_problem("lib/router.py", "router.py")
    """
    if "\\" in name:
        # sha256sum writes an escaped name for it, so the manifest would no longer say what find says.
        return Problem(path, "has a backslash in its name", "rename it without the backslash")
    if not (name.isascii() and name.isprintable()):
        problem = _find_letter_problem(path, name)
        if problem:
            return problem
    if path.startswith("-"):
        return Problem(path, "starts with '-', which sha256sum would read as an option", "rename it")
    if len(path.encode()) > PATH_BYTES_MAX:
        return Problem(path, f"is longer than {PATH_BYTES_MAX} bytes", "shorten the directory or file names")
    return _find_kept_name_problem(path, name)


def _find_letter_problem(path: str, name: str) -> Problem | None:
    for character in name:
        kind = _INVISIBLE.get(unicodedata.category(character))
        if kind:
            return Problem(path, f"has {kind} in its name", f"rename it without U+{ord(character):04X}")
    composed = unicodedata.normalize("NFC", name)
    if composed != name:
        return Problem(path, "is not in Unicode normal form C", f"rename it to {composed!r} (composed letters)")
    return None


def _find_kept_name_problem(path: str, name: str) -> Problem | None:
    if name == "__pycache__" or name.endswith((".pyc", ".pyo")):
        # Compiled code would run instead of the source that people reviewed.
        return Problem(path, "is compiled Python", "delete it and run Python with -B so that it does not come back")
    if _DIGEST_LIKE.fullmatch(name):
        return Problem(path, "looks like the store's own directory of an artifact", "rename it")
    return None


def find_kind_problem(path: str, mode: int) -> Problem | None:
    """Say why a file of this `st_mode` is neither directory nor regular file; None when it is one of both."""
    if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
        return None
    for is_kind, what, fix in _KINDS:
        if is_kind(mode):
            return Problem(path, what, fix)
    return Problem(path, f"has the unknown file type {stat.S_IFMT(mode):#o}", "remove it; an artifact holds files only")


def raise_for_problems(directory: str, problems: list[Problem]) -> None:
    """Raise one LayoutError that names every refused path, at most 50 of them in words. Raises: LayoutError."""
    if not problems:
        return
    shown = "\n".join(f"  {problem}" for problem in problems[:PROBLEMS_SHOWN_MAX])
    rest = len(problems) - PROBLEMS_SHOWN_MAX
    more = f"\n  and {rest} more." if rest > 0 else ""
    raise LayoutError(f"{directory} cannot be an artifact, {len(problems)} refused:\n{shown}{more}")
