# SPDX-License-Identifier: Apache-2.0
# Every verb does its own set-up: Python 3.11 or newer, pip, make and a C compiler are enough. All of it stays in .venv.

# The first interpreter that is new enough; name another with PYTHON=. set_up.py refuses an older one in words.
PYTHON ?= $(shell for name in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; exit; }; done; echo python3)
IN_VENV := .venv/bin/python
SEED ?= 1

# The one list of what `make check` tests: folders that need no broker and no second process of ours, so they are fast.
# `make test` runs the rest of tests/ afterwards.
FAST := $(wildcard $(addprefix tests/,terms wire permit artifact trust domain guard repository))

.PHONY: help rehearse test check bench sim lock FORCE

help:  # print the verbs
	@echo 'make rehearse    replay the morning of 1 August 2012 on real processes, about two minutes'
	@echo 'make test        run make check, then every other test: real broker, real processes, under five minutes'
	@echo 'make check       format, lint, types, import contracts, tidy test, doctests, fast tests, under a minute'
	@echo 'make bench       measure: what the guard costs, how fast a stop is'
	@echo 'make sim SEED=1  drive the agent core through 20,000 seeded schedules of faults'
	@echo 'make lock        resolve requirements/*.txt anew from requirements/*.in (needs pip-compile)'

rehearse: .venv/all.stamp
	.venv/bin/firecurtain rehearse knight

# Two at a time, a file always whole on one of them: these tests wait more than they compute.
test: check
	$(IN_VENV) -m pytest -q -n 2 --dist loadfile tests $(addprefix --ignore=,$(FAST))

check: .venv/dev.stamp
	$(IN_VENV) -m ruff format --check .
	$(IN_VENV) -m ruff check .
	$(IN_VENV) -m mypy
	.venv/bin/lint-imports --no-cache
	$(IN_VENV) -m tools.tidy
	$(IN_VENV) -m pytest -q --doctest-modules src tools bench $(FAST)

bench: .venv/dev.stamp
	$(IN_VENV) -m bench

sim: .venv/dev.stamp
	$(IN_VENV) -m pytest -q tests/simulation --schedules 20000 --seed $(SEED)

# Hashes of every platform's files and no address: who installs decides from where. Both locks agree through -c.
COMPILE := pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

lock:
	cd requirements && $(COMPILE) --output-file all.txt all.in && $(COMPILE) --output-file dev.txt dev.in

# The stamp's content decides, not its age, so set_up.py is asked every time; two at once wait for each other.
.venv/%.stamp: FORCE
	@$(PYTHON) tools/set_up.py $*
