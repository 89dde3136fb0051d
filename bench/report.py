# SPDX-License-Identifier: Apache-2.0
"""What was found: figures beside their targets, as a table for people and as a file that can be compared later.

A figure without a target is shown and judges nothing. The file holds the raw samples, the machine, the commit and the
command, so that somebody else can measure again and disagree.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.clock import read_date

RESULTS = Path(__file__).parent / "results"
NO_TARGET, OK, MISSED = "-", "ok", "MISSED"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `at_most` and `at_least` are its target, if it has one."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the target was met; a value that is no number meets none."""
        if self.at_most is None and self.at_least is None:
            return NO_TARGET
        is_low_enough = self.at_most is None or self.value <= self.at_most
        is_high_enough = self.at_least is None or self.value >= self.at_least
        return OK if is_low_enough and is_high_enough else MISSED

    @property
    def target(self) -> str:
        """The target in words."""
        words = [f"<= {self.at_most:g}"] if self.at_most is not None else []
        words += [f">= {self.at_least:g}"] if self.at_least is not None else []
        return " and ".join(words) or NO_TARGET


@dataclass(frozen=True, slots=True)
class Found:
    """What one measurement found. `raw` are the samples behind the figures, `notes` how they were taken."""

    name: str
    figures: Sequence[Figure]
    notes: Sequence[str]
    raw: dict[str, object] = field(default_factory=dict)

    @property
    def is_met(self) -> bool:
        """No target was missed."""
        return all(figure.verdict != MISSED for figure in self.figures)


def compute_percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest rank: a sample that was really seen. Of 50 samples the 99th percentile is the largest.

    >>> compute_percentile([3.0, 1.0, 2.0], 50), compute_percentile([3.0, 1.0, 2.0], 99)
    (2.0, 3.0)
    """
    return sorted(samples)[max(0, math.ceil(len(samples) * percent / 100) - 1)]


def format_table(found: Found) -> str:
    """One line a figure, and below it how it was taken."""
    width = max(len(figure.name) for figure in found.figures)
    lines = [
        f"  {figure.name:<{width}}  {figure.value:>10,.2f} {figure.unit:<9} {figure.target:>14}  {figure.verdict}"
        for figure in found.figures
    ]
    return "\n".join([found.name, *lines, *(f"    {note}" for note in found.notes)])


def write_result(found: Found) -> Path:
    """Write `results/<name>.json`; returns where."""
    document = {
        "name": found.name,
        "date_utc": read_date(),
        "command": f"python -m bench {found.name}",
        "commit": _read_commit(),
        "machine": {
            "cores": os.cpu_count(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "load_average_1_min": round(os.getloadavg()[0], 2),
        },
        "figures": [
            {
                "name": figure.name,
                "value": round(figure.value, 3),
                "unit": figure.unit,
                "target": figure.target,
                "verdict": figure.verdict,
            }
            for figure in found.figures
        ],
        "notes": list(found.notes),
        "raw": found.raw,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{found.name}.json"
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return path


def _read_commit() -> str:
    """The commit that was measured; `+` says that the tree had changes, empty that there is no git here."""
    words = ["git", "describe", "--always", "--abbrev=40", "--dirty=+"]
    done = subprocess.run(words, cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()
