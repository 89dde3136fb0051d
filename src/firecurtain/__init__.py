# SPDX-License-Identifier: Apache-2.0
"""Firecurtain: a process may act only while it holds a fresh permit for exactly the code and flags it runs."""
