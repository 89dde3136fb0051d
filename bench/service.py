# SPDX-License-Identifier: Apache-2.0
"""The service under measurement: asks its guard before every action and sends each one at once to the venue.

It is sealed as the one file of an artifact, so it imports the standard library and the guard only. It keeps its pace
while it is denied, and remembers no permission: the next action asks anew. argv: NODE VENUE ACTIONS_PER_S.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

import firecurtain

SERVICE, ACTION = "orders", "send-order"

RECORD = struct.Struct("<QII")
"""What the venue receives: CLOCK_BOOTTIME after the acquire, node, number."""


def main(argv: list[str]) -> None:
    """Act for ever."""
    node, period_s = int(argv[1]), 1 / float(argv[3])
    acquire = firecurtain.attach(SERVICE).action(ACTION).acquire
    number, due_s = 0, time.monotonic() + node * period_s / 8  # the nodes do not act in step
    with socket.socket(socket.AF_UNIX) as venue:
        venue.connect(argv[2])
        while True:
            time.sleep(max(0.0, due_s - time.monotonic()))  # the load: so many actions a second
            due_s += period_s
            try:
                acquire(usd=0, cause="bench")
            except firecurtain.Denied:
                continue
            number += 1
            venue.sendall(RECORD.pack(time.clock_gettime_ns(time.CLOCK_BOOTTIME), node, number))


if __name__ == "__main__":
    main(sys.argv)
