# SPDX-License-Identifier: Apache-2.0
"""Put the router artifacts together: (old | new) routing code x (bare | guarded) exit, everything else the same bytes.

The result is a plain directory that any deploy tool would copy. Sealing and stores are `firecurtain.artifact`.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

SOURCES = Path(__file__).parent / "artifacts"

SHARED = ("main.py", *(f"smars/{name}.py" for name in ("__init__", "clock", "link", "messages", "router", "stopping")))


class Code(Enum):
    """Which routing code an artifact carries: target path and source path of each file."""

    OLD = (("smars/start.py", "smars/start_old.py"), ("smars/power_peg.py", "smars/power_peg.py"))
    NEW = (("smars/start.py", "smars/start_new.py"), ("smars/retail_liquidity.py", "smars/retail_liquidity.py"))


class Exit(Enum):
    """How orders leave: as before Firecurtain was adopted, or through its guard."""

    BARE = "smars/order_exit.py"
    GUARDED = "smars/order_exit_guarded.py"


def assemble(code: Code, order_exit: Exit, directory: Path) -> None:
    """Write the artifact's files into `directory`, which must not exist yet."""
    files = [(path, path) for path in SHARED] + [*code.value, ("smars/order_exit.py", order_exit.value)]
    (directory / "smars").mkdir(parents=True)
    for target, source in files:
        (directory / target).write_bytes((SOURCES / source).read_bytes())
