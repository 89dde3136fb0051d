# SPDX-License-Identifier: Apache-2.0
"""Run every rule over the repository this file stands in (or the folder named) and print one line per finding."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.tidy import dead, order, prose, purity, rooms
from tools.tidy.tree import read_tree

RULES = (
    rooms.find_files_outside_rooms,
    rooms.find_forbidden_edges,
    rooms.find_forbidden_packages,
    purity.find_impurity,
    purity.find_clocks,
    order.find_unordered_iteration,
    dead.find_dead_files,
    dead.find_unused_names,
    prose.find_missing_licence,
    prose.find_missing_docstring,
    prose.find_assert,
    prose.find_machine_paths,
)


def main() -> None:
    """Exit 1 when any rule finds anything."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    tree = read_tree(root)
    findings = sorted(finding for rule in RULES for finding in rule(tree))
    for finding in findings:
        print(finding)
    print(f"tidy: {len(tree.sources)} source files, {len(findings)} findings")
    raise SystemExit(1 if findings else 0)


if __name__ == "__main__":
    main()
