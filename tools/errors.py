# SPDX-License-Identifier: Apache-2.0
"""Write docs/ERRORS.md from the error tree: `python -m tools.errors`. With `--check` only say whether it is stale.

Every class below FirecurtainError in every module of the package is listed with its code, so that a code in a log can
be looked up. It refuses two classes with one code: a code that means two things means nothing.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import firecurtain
from firecurtain.terms import FirecurtainError

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ERRORS.md"
HEAD = """\
# Errors

Made by `python -m tools.errors` from the error tree; a test says when it is stale. A code never changes once released.
The text of an error says what happened, both values and what to do next; this page says what kind it is.

| code | class | a kind of | where | meaning |
|---|---|---|---|---|
"""


def main() -> None:
    """Write the page, or with --check exit 1 when the page is not what would be written."""
    page = compute_page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page)
    elif not PAGE.is_file() or PAGE.read_text() != page:
        raise SystemExit("docs/ERRORS.md is stale. Run `python -m tools.errors` and commit the page.")


def compute_page() -> str:
    """The whole page, sorted by code."""
    import_everything()
    errors = sorted(set(find_errors(FirecurtainError)), key=lambda error: (error.code, error.__qualname__))
    twice = [code for code, count in Counter(error.code for error in errors).items() if count > 1]
    if twice:
        raise SystemExit(f"more than one error class has the code {', '.join(twice)}: give each its own.")
    return HEAD + "".join(compute_row(error) for error in errors)


def import_everything() -> None:
    """Load every module of the package, so that no subclass is missing."""
    for module in pkgutil.walk_packages(firecurtain.__path__, f"{firecurtain.__name__}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def find_errors(root: type[FirecurtainError]) -> Iterator[type[FirecurtainError]]:
    yield root
    for child in root.__subclasses__():
        yield from find_errors(child)


def compute_row(error: type[FirecurtainError]) -> str:
    parents = ", ".join(f"`{base.__name__}`" for base in error.__bases__ if issubclass(base, FirecurtainError))
    where = error.__module__.removeprefix("firecurtain.")
    meaning = " ".join((inspect.getdoc(error) or "").partition("\n\n")[0].split()).replace("|", r"\|")
    return f"| `{error.code}` | `{error.__name__}` | {parents or '-'} | {where} | {meaning} |\n"


if __name__ == "__main__":
    main()
