# SPDX-License-Identifier: Apache-2.0
"""How every router artifact starts, old and new alike: same argv, same environment. What differs is `smars.start`."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    importlib.import_module("smars.start").main(sys.argv)
