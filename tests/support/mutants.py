# SPDX-License-Identifier: Apache-2.0
"""Plant one named fault in a module's source text, so that a test can show that it would be caught.

A safety test that has never seen its fault proves nothing. This helper edits the text, never the file, and registers
the result under a name of its own: the real module and everything that imported it stay as they are.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType

_serial = itertools.count(1)


def load_mutant(module_name: str, old: str, new: str) -> ModuleType:
    """Execute the source of `module_name` with `old` replaced by `new` and return the faulty module.

    Raises: ValueError: `old` does not occur exactly once, so the mutant would not be the one the test means.
    """
    spec = importlib.util.find_spec(module_name)
    if spec is None or spec.origin is None:
        raise ValueError(f"no source file for module {module_name}")
    text = Path(spec.origin).read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{module_name}: {old!r} occurs {text.count(old)} times, a mutant needs exactly 1")
    mutant = ModuleType(f"{module_name}__mutant_{next(_serial)}")
    mutant.__file__ = spec.origin
    mutant.__package__ = spec.parent
    # dataclasses look their module up by name while the class body is being executed.
    sys.modules[mutant.__name__] = mutant
    exec(compile(text.replace(old, new), f"{spec.origin} (mutant)", "exec"), mutant.__dict__)  # noqa: S102 - its purpose
    return mutant
