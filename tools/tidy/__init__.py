# SPDX-License-Identifier: Apache-2.0
"""The tidy test: what no general linter can know about this repository. `python -m tools.tidy` runs every rule.

General layout
    tree      the files of a tree, parsed once, and what a finding looks like
    rooms     the table of rooms: who may import whom, and which outside packages
    purity    no clock, no randomness and no world in the pure rooms; clocks only in clock.py
    order     no iteration over a set in the pure rooms, because its order changes from run to run
    dead      files nobody imports and names nobody uses
    prose     licence lines, module docstrings, no assert in shipped code, no path or address of one machine

Each rule is a function from a tree to findings and knows nothing of the others. It does not fix anything.
"""
