# SPDX-License-Identifier: Apache-2.0
"""The repository's own tools: they run from the root as `python -m tools.<name>` and ship in no wheel."""
