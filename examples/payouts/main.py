# SPDX-License-Identifier: Apache-2.0
"""A service that pays refunds, two a second, each only after its guard has let it: the smallest use of Firecurtain.

It keeps no books and knows no bank. Its agent starts it from the sealed copy in the store; started by hand it asks the
guard as well and hears why it may not act.
"""

from __future__ import annotations

import time
from itertools import count

import firecurtain

PAUSE_S = 0.5


def main() -> None:
    """Pay for ever, and say so whenever the answer of the guard changes."""
    refund = firecurtain.attach("payouts").action("refund")
    told = None
    for number in count(1):
        try:
            refund.acquire(cause=f"refund-{number}", usd=20)  # raises Denied: nothing is sent
            answer = "paying refunds"
        except firecurtain.Denied as denied:
            answer = f"NOT paying: {denied}"
        if answer != told:
            print(answer, flush=True)  # noqa: T201 - what it does for a person who watches
            told = answer
        time.sleep(PAUSE_S)  # what paces it: one refund after another


if __name__ == "__main__":
    main()
