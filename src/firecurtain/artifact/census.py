# SPDX-License-Identifier: Apache-2.0
"""Which flag tokens stand in a tree: a search over the raw bytes of every file, whatever language wrote it.

Finding too much is safe, finding too little is not: no word boundary is asked for, because in compiled files any byte
may follow. Archives are searched as they lie; nothing is unpacked here.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from pathlib import Path

from firecurtain.artifact.layout import Problem, raise_for_problems
from firecurtain.artifact.tree import read_chunks, walk_tree
from firecurtain.terms import ArtifactError, FlagToken

TOKENS_MAX = 1024
_TOKEN = re.compile(rb"fc1-[0-9A-HJKMNP-TV-Z]{12}")
_TOKEN_BYTES = 16


def compute_census(directory: Path) -> tuple[FlagToken, ...]:
    """List the distinct flag tokens in all files of a strictly laid out tree, sorted.

    Raises: LayoutError; ArtifactError: it cannot be read, or holds more than 1,024 tokens.
    """
    problems: list[Problem] = []
    tokens: set[FlagToken] = set()
    for found in walk_tree(directory, problems):
        if not stat.S_ISREG(found.status.st_mode):
            continue
        tokens |= find_tokens(read_chunks(found))
        if len(tokens) > TOKENS_MAX:
            raise ArtifactError(f"{directory} holds over {TOKENS_MAX} flag tokens, up to {found.path!r}. Retire some.")
    raise_for_problems(str(directory), problems)
    return tuple(sorted(tokens))


def find_tokens(chunks: Iterable[bytes]) -> set[FlagToken]:
    """The tokens in one file's bytes, also those that lie across two chunks.

    >>> sorted(find_tokens([b"if fc1-0000", b"0000000Z: pass"]))
    ['fc1-00000000000Z']
    """
    tokens: set[FlagToken] = set()
    carried = b""
    for chunk in chunks:
        window = carried + chunk
        tokens.update(FlagToken(match.decode("ascii")) for match in _TOKEN.findall(window))
        carried = window[-(_TOKEN_BYTES - 1) :]
    return tokens
