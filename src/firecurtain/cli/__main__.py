# SPDX-License-Identifier: Apache-2.0
"""`python -m firecurtain.cli`: the same command where its script is not on the path."""

from firecurtain.cli import main

main()
