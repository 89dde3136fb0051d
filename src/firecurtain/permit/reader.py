# SPDX-License-Identifier: Apache-2.0
"""The guard's side of the permit page: load expiry, generation, body, generation, expiry, or deny.

A decoded body is kept as long as the generation is the same: generations only grow, and the body of a generation never
changes while it is the present one. So the usual check costs five loads and one clock reading. The clock is read after
the first expiry load, so a thread that was held up in between sees itself late, never early.

Only a denial does I/O, and at most every 100 ms: the page is opened, checked and mapped anew, so that an application
started before its agent begins to work by itself. Nothing a page contains makes `read` raise. What remains: if someone
shortens the mapped file, the kernel kills the reader with SIGBUS; the agent never does, and others may not write there.
The loads rely on x86-64's order; on weaker machines a misordered pair would need a whole stop and grant (several stores
of an interpreter, microseconds apart) inside one reordering window of the processor, some hundred nanoseconds.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from firecurtain.permit.clock import boottime_ns, read_boot_id, read_time_namespace
from firecurtain.permit.page import (
    BODY_OFFSETS,
    BODY_SIZE,
    EXPIRY_WORD,
    GENERATION_WORD,
    NO_GRANT,
    PAGE_SIZE,
    Grant,
    PageHeader,
    PageRefused,
    decode_body,
    decode_header,
)
from firecurtain.permit.place import open_directory, open_file
from firecurtain.terms import NS_PER_MS, PermitError, Reason

READ_TRIES_MAX = 3
REMAP_INTERVAL_NS = 100 * NS_PER_MS


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What the page says in one generation. `read` returns it only while it permits; compare views with `is`."""

    generation: int
    window_ns: int
    """How far away a deadline may lie: max_age_ns of an open body, 0 of a closed one, which so is never in time."""
    grant: Grant
    reason: Reason
    detail: str
    node: str


@dataclass(frozen=True, slots=True)
class Closed:
    """Why nothing is permitted now. `age_ns`: how long ago the permit ended; 0 when it never ran or was closed."""

    reason: Reason
    detail: str
    grant: Grant
    age_ns: int = 0


class PageReader:
    """Reads one page for one service. Makes no promise beyond the moment of `read`."""

    def __init__(self, path: str, service: str, clock: Callable[[], int] = boottime_ns) -> None:
        self.path = path
        self.checked_ns = 0
        """The clock at the last read that found a permit; another thread's reading may stand here."""
        self._service = service
        self._clock = clock
        self._remap_ns = clock() + REMAP_INTERVAL_NS
        self._mapping = _read_mapping(path, service)

    def read(self) -> View | Closed:
        """The permit as it is now, or why there is none."""
        mapping = self._mapping
        words = mapping.words
        for _ in _TRIES:
            expiry_ns = words[EXPIRY_WORD]
            generation = words[GENERATION_WORD]
            view = mapping.view
            if view.generation != generation:
                view = mapping.decode(generation)
            now_ns = self._clock()
            if words[GENERATION_WORD] == generation and words[EXPIRY_WORD] == expiry_ns:
                mapping.view = view
                if 0 < expiry_ns - now_ns <= view.window_ns:
                    self.checked_ns = now_ns
                    return view
                return self._deny(explain(view, expiry_ns, now_ns), now_ns)
        return self._deny(_TORN, self._clock())

    def read_latest(self) -> View:
        """The last consistent body, open or closed. Loads nothing."""
        return self._mapping.view

    def _deny(self, closed: Closed, now_ns: int) -> View | Closed:
        if now_ns < self._remap_ns:
            return closed
        self._remap_ns = now_ns + REMAP_INTERVAL_NS
        self._mapping = _read_mapping(self.path, self._service)
        return self.read()


# A tuple that is there already: making a range for each read would cost a fifth of it.
_TRIES = tuple(range(READ_TRIES_MAX))
_TORN = Closed(
    Reason.PAGE_MALFORMED,
    f"the permit page changed during each of {READ_TRIES_MAX} reads. Do: ask again; if it stays, look for a second "
    "writer of the page.",
    NO_GRANT,
)


def explain(view: View, expiry_ns: int, now_ns: int) -> Closed:
    """Why a view that is not in time denies. Pure."""
    if view.reason is not Reason.OK:
        return Closed(view.reason, view.detail, view.grant)
    if expiry_ns == 0:
        return Closed(
            Reason.EXPIRED, "the agent is just changing the permit. Do: ask again in a millisecond.", view.grant
        )
    if expiry_ns <= now_ns:
        age_ns = now_ns - expiry_ns
        text = (
            f"the permit ended {age_ns / NS_PER_MS:.3f} ms ago (deadline {expiry_ns}, now {now_ns}, CLOCK_BOOTTIME "
            "ns). Do: see `firecurtain status`; the agent or the control plane is silent."
        )
        return Closed(Reason.EXPIRED, text, view.grant, age_ns)
    text = (
        f"the permit's deadline is {expiry_ns - now_ns} ns away, a permit lasts at most {view.window_ns} ns: this "
        "clock stood still or jumped. Do: nothing; the agent asks again. If it stays, restart the agent."
    )
    return Closed(Reason.NOT_YET, text, view.grant)


class _Mapping:
    """One mapped page, or the stand-in for one that cannot be had: its words are zero, its view says why."""

    __slots__ = ("_data", "_decode_header", "view", "words")

    def __init__(self, data: mmap.mmap | bytes, view: View, decode: Callable[[bytes], PageHeader]) -> None:
        self._data = data
        self._decode_header = decode
        self.words = memoryview(data).cast("Q")
        self.view = view

    def decode(self, generation: int) -> View:
        """Copy and decode the body of a generation. The caller keeps it only if the generation is still there."""
        data = self._data[:PAGE_SIZE]
        offset = BODY_OFFSETS[generation & 1]
        try:
            header = self._decode_header(data)
            body = decode_body(data[offset : offset + BODY_SIZE])
        except PageRefused as refusal:
            return _refused_view(generation, refusal)
        window_ns = header.max_age_ns if body.reason is Reason.OK else 0
        return View(generation, window_ns, body.grant, body.reason, body.detail, header.node)


def _refused_view(generation: int, refusal: PageRefused) -> View:
    return View(generation, 0, NO_GRANT, refusal.reason, str(refusal), "")


def _read_mapping(path: str, service: str) -> _Mapping:
    """Open, check and map the page; every trouble becomes a mapping that denies and says what the trouble is."""
    try:
        verify = partial(_verify_header, service=service, boot_id=read_boot_id(), namespace=read_time_namespace())
        mapping = _Mapping(_map_page(path), _UNREAD, verify)
        mapping.view = mapping.decode(mapping.words[GENERATION_WORD])
    except PageRefused as refusal:
        return _refused_mapping(refusal)
    except (PermitError, OSError) as error:
        return _refused_mapping(PageRefused(Reason.PAGE_UNSAFE, f"the permit page {path} cannot be mapped: {error}"))
    return mapping


def _refused_mapping(refusal: PageRefused) -> _Mapping:
    return _Mapping(bytes(PAGE_SIZE), _refused_view(0, refusal), decode_header)


_UNREAD = _refused_view(0, PageRefused(Reason.PAGE_MALFORMED, "the permit page was not read yet"))


def _map_page(path: str) -> mmap.mmap:
    parent, _, name = path.rpartition("/")
    directory = open_directory(parent)
    try:
        file = open_file(directory, name, os.O_RDONLY)
    finally:
        os.close(directory)
    try:
        size = os.fstat(file).st_size
        if size != PAGE_SIZE:
            raise PageRefused(
                Reason.PAGE_MALFORMED,
                f"{path} has {size} bytes, a permit page has {PAGE_SIZE}. Do: stop the service, remove the file, start "
                "the agent again.",
            )
        return mmap.mmap(file, PAGE_SIZE, prot=mmap.PROT_READ)
    finally:
        os.close(file)


def _verify_header(data: bytes, service: str, boot_id: bytes, namespace: int) -> PageHeader:
    """Decode a header and refuse one of another service, boot or time namespace. Raises: PageRefused."""
    header = decode_header(data)
    for what, found, own in (
        ("service", header.service, service),
        ("boot id", header.boot_id.hex(), boot_id.hex()),
        ("time namespace", header.time_namespace, namespace),
    ):
        if found != own:
            raise PageRefused(
                Reason.PAGE_FOREIGN,
                f"the permit page is of {what} {found}, this process is of {own}. Do: give it the page of its own "
                "agent, and restart that agent on this host.",
            )
    return header
