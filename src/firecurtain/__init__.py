# SPDX-License-Identifier: Apache-2.0
"""Firecurtain: a process may act only while it holds a fresh permit for exactly the code and flags it runs.

An application needs three lines of it:

    curtain = firecurtain.attach("payouts")
    refunds = curtain.action("refund")
    token = refunds.acquire(cause=request_id, usd=amount)    # raises firecurtain.Denied; send only after it

General layout, in the direction the data goes round:

- `terms`: the nouns everyone shares: digest, flag token, scope, reason, the error tree.
- `guard`: inside the application's process; asks the permit page, reserves limits, counts. The names below bring it.
- `permit`: the boundary on one host: permit page, counter slots, limits file, as bytes.
- `agent`: one for each host and service; starts and attests the process, writes the page, sums the counters.
- `wire`: the boundary on the network: signed messages between agent and control plane. `bus` carries them.
- `control`: the control plane; signs what the ledger says. `domain` decides, purely; `ledger` remembers.
- `trust`: signatures, thresholds, roots. `artifact`: what a release consists of, named by its digest.
- `rehearsal`: the Knight morning on real processes. `cli`: the `firecurtain` command, which joins everything.

Importing this package starts nothing and needs nothing but the standard library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from firecurtain.guard import Acquired, Action, Cause, Denied, Guard, Verdict, attach

__all__ = ["Acquired", "Action", "Cause", "Denied", "Guard", "Verdict", "attach"]


def __getattr__(name: str) -> object:
    """Bring the guard when one of its names is first asked for: `firecurtain halt` must not pay for it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from firecurtain import guard

    value: object = getattr(guard, name)
    globals()[name] = value  # asked once; from now on it is an ordinary name of this module
    return value
