# SPDX-License-Identifier: Apache-2.0
"""The agent's side of the permit page: the order of the stores is the safety argument.

- Renewing is ONE aligned 8-byte store. (`struct.pack_into` clears its target first: a concurrent reader saw zero in
  2.5 of 28.8 million reads.)
- Widening fills the body nobody reads, then flips the generation in one store, then renews: no reader ever sees zero.
- Taking anything away (closing, fewer tokens, another artifact, release or limits) stores zero in the expiry word
  FIRST. So the page is shut before anything else can fail, and if the agent dies between two stores it stays shut.
  A reader that loads expiry, generation, body, generation, expiry therefore never pairs the old body with a deadline
  written for the new one: generations only grow, and the new deadline is stored last.

Generations start at the boot clock, so no value comes back within a boot, and a reader may keep a body it decoded as
long as the generation is the same. The file is reused under flock; it is never replaced, shortened or removed, because
a guard that has it mapped would die of SIGBUS. This class decides nothing: when to grant and to close is the agent's
pure core's business.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from types import TracebackType

from firecurtain.permit.clock import boottime_ns
from firecurtain.permit.page import (
    BODY_OFFSETS,
    BODY_SIZE,
    EXPIRY_WORD,
    GENERATION_WORD,
    HEADER_SIZE,
    NO_GRANT,
    PAGE_SIZE,
    Body,
    Grant,
    PageHeader,
    encode_body,
    encode_header,
)
from firecurtain.permit.place import make_directory, open_directory, open_file
from firecurtain.permit.slots import compute_slots_directory
from firecurtain.terms import InvariantError, PermitError, Reason

_WORD_MAX = 2**64 - 1
_STARTED = "the agent has started and holds no permit yet. Do: wait for its first answer, see `firecurtain status`."
_STOPPED = "the agent has stopped. Do: start it again with `firecurtain agent`."


class PageWriter:
    """The one writer of one permit page. It starts closed: what an earlier boot or agent wrote permits nothing.

    Raises: PermitError: another agent holds the page, or a file of another size lies there.
    """

    def __init__(self, path: str, header: PageHeader) -> None:
        encoded_header = encode_header(header)
        self.path = path
        self._grant = NO_GRANT
        self._is_open = False
        self._file = _open_page(path)
        try:
            self._page = mmap.mmap(self._file, PAGE_SIZE)
        except OSError:
            os.close(self._file)
            raise
        self._words = memoryview(self._page).cast("Q")
        self._words[EXPIRY_WORD] = 0
        self._page[:HEADER_SIZE] = encoded_header
        self._page[HEADER_SIZE + 8 : GENERATION_WORD * 8] = bytes(56)
        self._page[GENERATION_WORD * 8 + 8 : BODY_OFFSETS[0]] = bytes(BODY_OFFSETS[0] - GENERATION_WORD * 8 - 8)
        # Even, plus the old lowest bit: the first flip then leads to the body nobody reads.
        self._generation = (boottime_ns() & ~1) + (self._words[GENERATION_WORD] & 1)
        self.close(Reason.EXPIRED, _STARTED)

    def renew(self, deadline_ns: int) -> None:
        """Move the deadline of the open grant: one aligned store.

        Raises: InvariantError: the page is closed (only `grant` opens it) or the deadline is not a time.
        """
        if not self._is_open:
            raise InvariantError("renew() of a closed permit page; only grant() opens one")
        if not 0 < deadline_ns <= _WORD_MAX:
            raise InvariantError(f"deadline_ns must be 1 to 2**64-1, got {deadline_ns}; close() is what stops")
        self._words[EXPIRY_WORD] = deadline_ns

    def grant(self, grant: Grant, deadline_ns: int) -> None:
        """Permit `grant` until the deadline. What narrows the present grant goes through zero."""
        body = encode_body(Body(grant, Reason.OK))
        if not (self._is_open and self._grant.is_within(grant)):
            self._words[EXPIRY_WORD] = 0
        self._flip(body)
        self._grant, self._is_open = grant, True
        self.renew(deadline_ns)

    def close(self, reason: Reason, detail: str, grant: Grant | None = None) -> None:
        """Stop: zero first, then the body that says why.

        Args:
            reason: anything but OK. detail: what happened, both values, what to do; cut at 255 bytes.
            grant: what would be permitted (so that a guard can read its limits before the first permit); without it
                the content of the last grant stays named.
        Raises: InvariantError: reason is OK, or the grant does not fit; the page is closed all the same.
        """
        self._words[EXPIRY_WORD] = 0
        self._is_open = False
        if reason is Reason.OK:
            raise InvariantError("close() needs a reason other than OK")
        if grant is not None:
            self._grant = grant
        self._flip(encode_body(Body(self._grant, reason, detail)))

    def release(self) -> None:
        """Close the page, then let go of the file and its lock. Calling it again does nothing."""
        if self._page.closed:
            return
        self.close(Reason.NO_AGENT, _STOPPED)
        self._words.release()
        self._page.close()
        os.close(self._file)

    def __enter__(self) -> PageWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _flip(self, body: bytes) -> None:
        """Fill the spare body, then make it the valid one in one store."""
        generation = self._generation + 1
        offset = BODY_OFFSETS[generation & 1]
        self._page[offset : offset + BODY_SIZE] = body
        self._words[GENERATION_WORD] = generation
        self._generation = generation


def _open_page(path: str) -> int:
    """Make or reuse the page's file and hold its lock. Everything beside it (directory, slots) is made here too."""
    is_root = os.geteuid() == 0
    parent, _, name = path.rpartition("/")
    make_directory(parent, 0o755 if is_root else 0o700)
    directory = open_directory(parent)
    try:
        file = open_file(directory, name, os.O_RDWR | os.O_CREAT)
    finally:
        os.close(directory)
    # A guard may run as another user than a root agent and makes its slot file itself; the sticky bit keeps each
    # user to his own files, as in /tmp.
    make_directory(compute_slots_directory(path), 0o1777 if is_root else 0o700)
    try:
        _lock_and_size(file, path, 0o644 if is_root else 0o600)
    except PermitError:
        os.close(file)
        raise
    return file


def _lock_and_size(file: int, path: str, mode: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PermitError(
            f"another agent holds the permit page {path}. Do: stop it, or give this agent a page of its own."
        ) from error
    size = os.fstat(file).st_size
    if size not in (0, PAGE_SIZE):
        raise PermitError(
            f"{path} has {size} bytes, a permit page has {PAGE_SIZE}. It is not touched, for a guard may have it "
            "mapped. Do: stop the service, remove the file, start the agent again."
        )
    try:
        # Reserved now, so that a full tmpfs is an error here and not a SIGBUS at the first store.
        os.posix_fallocate(file, 0, PAGE_SIZE)
        os.fchmod(file, mode)
    except OSError as error:
        raise PermitError(
            f"the permit page {path} cannot be made ready: {error}. Do: free space there, or remove a file of "
            "another owner."
        ) from error
