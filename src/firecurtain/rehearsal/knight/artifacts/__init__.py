# SPDX-License-Identifier: Apache-2.0
"""Sources of the router artifacts. `assemble` copies them into directories; nothing here runs inside the package."""
