# SPDX-License-Identifier: Apache-2.0
"""The guard of one process: attach once, ask before every effect.

`Guard` joins what an answer needs: the permit page, the digest of this process, the limits file, the counter slot. It
does I/O when it attaches and on denials (at most every 100 ms), so an application started before its agent begins to
work by itself; an allowed action touches memory only. It starts no thread, opens no socket and writes no log.

Everything missing or wrong is a denial with a reason. The exceptions are a programmer's own: a name that is no name, an
amount that is no number, and acquiring again inside an acquire (from a signal handler).

Limits hold for one process, from zero. A child of fork is denied until it attaches for itself, and then has a slot and
totals of its own; that there is one process for each node is the agent's care. Nothing is carried from a process to the
next: a service that ended and was started again, which its agent does by itself, may reach its limits once more. So a
limit bounds what one process does before somebody looks, not what a node does in a day.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from firecurtain.guard.action import Action, Standing
from firecurtain.guard.cause import Cause
from firecurtain.guard.identity import make_fork_canary, read_own_artifact
from firecurtain.guard.reserve import compute_bounds
from firecurtain.guard.tally import ACTIONS_MAX
from firecurtain.guard.verdict import Acquired, Denied, Verdict
from firecurtain.permit import (
    NO_DIGEST,
    ActionLimits,
    Closed,
    Grant,
    PageReader,
    ProcessKey,
    SlotWriter,
    View,
    boottime_ns,
    compute_page_path,
    normalise_path,
    parse_action_name,
    read_limits,
    read_process_key,
)
from firecurtain.terms import NS_PER_MS, Digest, FlagToken, LimitError, PermitError, Reason, short

GUARDS_MAX = 64
"""Chosen: a process serves one page, a test process some dozens."""
_LOOK_INTERVAL_NS = 100 * NS_PER_MS

_guards: dict[tuple[str, str, ProcessKey], Guard] = {}


def attach(service: str, path: str | None = None, *, artifact_descriptor: int | None = None) -> Guard:
    """The guard of this process for a service. Attaching again gives the same one, with the same totals.

    Args:
        service: the name the release is signed for.
        path: where the permit page is; otherwise FIRECURTAIN_PERMIT, otherwise the runtime directory.
        artifact_descriptor: an inherited descriptor inside the artifact; otherwise the file of `__main__` counts.
    Returns: a guard, always. Without an agent everything is denied, and the denial says how to start one.
    Raises: TermError: `service` is not a name. PermitError: 64 guards in one process, or no /proc.
    """
    # Spelt another way the same page would give a second guard, and limits from zero.
    where = normalise_path(compute_page_path(service, os.environ, os.geteuid()) if path is None else path)
    # The process is part of the key, so a child of fork never meets a guard of its parent's here.
    key = (service, where, read_process_key(os.getpid()))
    if key not in _guards:
        for stale in [known for known, guard in list(_guards.items()) if guard.is_forked()]:
            _guards.pop(stale, None)
        if len(_guards) >= GUARDS_MAX:
            raise PermitError(f"{GUARDS_MAX} guards in one process. Do: attach once for each service, keep the guard.")
        artifact, source = read_own_artifact(artifact_descriptor)
        # Two threads that attach at once get one guard: limits that exist twice would be doubled.
        return _guards.setdefault(key, Guard(service, where, artifact, source))
    return _guards[key]


class Guard:
    """Answers for one service from one permit page. Make it with `attach`."""

    def __init__(
        self,
        service: str,
        path: str,
        artifact: Digest | None,
        source: str = "",
        clock: Callable[[], int] = boottime_ns,
    ) -> None:
        self.service = service
        self.path = path
        self.artifact = artifact
        self._source = source
        self._clock = clock
        self._actions: dict[str, Action] = {}
        # Digest and content in one tuple, replaced as a whole: threads never see one without the other.
        self._limits: tuple[Digest, dict[str, ActionLimits]] = (NO_DIGEST, {})
        self._limits_refused = ""
        self._slot: SlotWriter | None = None
        self._slot_refused = ""
        self._look_ns = 0
        self._canary = _make_canary()
        self._reader = PageReader(path, service, clock)
        self._look(self._reader.read().grant)

    def action(self, name: str) -> Action:
        """The action of this name; the same object every time, for its totals are one.

        Raises: LimitError: not a name of at most 30 characters, or more than 16 actions.
        """
        known = self._actions.get(name)
        if known is not None:
            return known
        if len(self._actions) >= ACTIONS_MAX:
            raise LimitError(f"{ACTIONS_MAX} actions in one process, {name!r} is one too many. Do: name fewer kinds.")
        return self._actions.setdefault(parse_action_name(name), Action(name, self, self._reader, self._canary))

    def cause(self, cause_id: str) -> Cause:
        """`with guard.cause("p-17"):` names the cause of every acquire inside. Raises: LimitError: no such text."""
        return Cause(cause_id)

    def on(self, token: FlagToken | str) -> bool:
        """Whether the flag is armed for exactly this artifact, now. Anything unclear is off; it never raises."""
        view = self._reader.read()
        if isinstance(view, Closed) or view.grant.artifact != self.artifact:
            return False
        return token in view.grant.armed and self._canary[0] == 1

    def is_forked(self) -> bool:
        """True in a child of fork, which must attach for itself."""
        return self._canary[0] != 1

    def admit(self, action: str, view: View | Closed) -> Standing:
        """What a view means for an action of this process. Raises: Denied."""
        self._look(view.grant)
        if isinstance(view, Closed):
            raise self._deny(action, view.reason, view.detail, view.grant, view.age_ns)
        grant = view.grant
        if grant.artifact != self.artifact:
            raise self._deny(action, Reason.RELEASE_MISMATCH, self._explain_mismatch(grant), grant)
        digest, limits = self._limits
        if grant.limits != digest:
            raise self._deny(action, Reason.LIMITS_MISMATCH, self._limits_refused or _NOT_LOOKED, grant)
        if action not in limits:
            text = (
                f"release {short(grant.release)} declares limits for {', '.join(sorted(limits)) or 'no action'}, "
                f"not for {action}. Do: add a [limit.{action}] block to the release and have it signed."
            )
            raise self._deny(action, Reason.NO_LIMIT, text, grant)
        if self._slot is None:
            raise self._deny(action, Reason.NO_SLOT, self._slot_refused or _NOT_LOOKED, grant)
        token = Acquired(grant.ledger_epoch, grant.ledger_seq)
        return Standing(view, token, compute_bounds(limits[action]), self._slot)

    def deny(self, action: str, reason: Reason, text: str) -> Denied:
        """A denial by something other than the page."""
        return self._deny(action, reason, text, self._reader.read_latest().grant)

    @property
    def slot(self) -> SlotWriter | None:
        """The counters of this process, once there is a place for them."""
        return self._slot

    def _deny(self, action: str, reason: Reason, text: str, grant: Grant, age_ns: int = 0) -> Denied:
        whole = f"{reason.text}: action {action} of service {self.service} is denied: {text}"
        return Denied(Verdict(reason.text, whole, f"service:{self.service}", grant.ledger_epoch, age_ns))

    def _look(self, grant: Grant) -> None:
        """The I/O of a guard: at attach, and while something is missing at most every 100 ms."""
        is_own = self.artifact is not None and grant.artifact == self.artifact
        needs_limits = is_own and grant.limits != self._limits[0]
        if not needs_limits and self._slot is not None:
            return
        now_ns = self._clock()
        if now_ns < self._look_ns:
            return
        self._look_ns = now_ns + _LOOK_INTERVAL_NS
        if needs_limits:
            self._look_for_limits(grant.limits)
        if self._slot is None:
            self._look_for_slot()

    def _look_for_limits(self, digest: Digest) -> None:
        try:
            self._limits = digest, read_limits(self.path.rpartition("/")[0], digest)
        except (PermitError, LimitError) as error:
            self._limits_refused = str(error)

    def _look_for_slot(self) -> None:
        try:
            self._slot = SlotWriter(self.path)
        except PermitError as error:
            self._slot_refused = str(error)

    def _explain_mismatch(self, grant: Grant) -> str:
        if self.artifact is None:
            return (
                f"this process was started from {self._source or 'no file'}, which is in no artifact store (or was "
                f"reached through a symbolic link); the page permits artifact {short(grant.artifact)}. Do: "
                "`firecurtain seal` the code and let the agent start it from its real path in the store."
            )
        return (
            f"this process was started from artifact {short(self.artifact)}, the page permits {short(grant.artifact)} "
            f"of release {short(grant.release)}. Do: restart the service on that release, or approve a release of the "
            "running artifact."
        )


_NOT_LOOKED = "what the page names was not looked for yet. Do: ask again in 100 ms."


def _make_canary() -> memoryview:
    try:
        return make_fork_canary()
    except OSError:
        # A kernel that cannot wipe the page cannot tell us about forks: 0 reads as "forked", so all is denied.
        return memoryview(bytes(8)).cast("Q")
