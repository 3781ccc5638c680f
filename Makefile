# Targets for development. `make` lists them; each target installs what it needs.
# Needs Python 3.11 or newer and make. System packages come from apt, all other packages from the lock files.

SHELL := /bin/bash
.DEFAULT_GOAL := help
# Debian's Python is preferred: it is built with profile-guided optimisation. Without it, as in many builds by hand or by
# pyenv, a response from the hot tier costs a fifth more. A Python without ensurepip is used only if there is no other.
PYTHON ?= $(shell for needed in ensurepip sys; do for p in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c "import sys, $$needed; sys.exit(sys.version_info < (3, 11))" 2>/dev/null && { echo $$p; exit; }; \
	done; done)
BIN := .venv/bin
# pip would compile in one process; COMPILE uses all processors.
INSTALL := $(BIN)/pip --disable-pip-version-check --quiet install --no-compile
VENDOR := orchestrator/web/static/vendor
PORT ?= 8080
PRIVATE_PORT ?= 8081
WORKERS ?= 1
# Compile once here, because some environments do not let the interpreter write .pyc files: a start then takes half
# the time. The few files that do not compile are for other versions of Python.
COMPILE := $(BIN)/python -m compileall -q -j 0 $(BIN)/../lib orchestrator >/dev/null 2>&1 || true
PYTEST := $(BIN)/python -m pytest

# `make corpus FOLDER=pictures` and `make corpus pictures`
ifeq (corpus,$(firstword $(MAKECMDGOALS)))
FOLDER ?= $(word 2,$(MAKECMDGOALS))
endif

.PHONY: help setup run test test-debian13 check bless soak audit corpus bench load docs image image-test clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready-run .venv/.ready-dev ## install everything: system packages, .venv from the lock files, the viewers

run: .venv/.ready-run ## run the product on this machine with a sample collection (PORT, PRIVATE_PORT, WORKERS, DATA)
	@$(BIN)/orchestrator samples "$${DATA:-$${XDG_DATA_HOME:-$$HOME/.local/share}/orchestrator}/samples"
	@exec $(BIN)/orchestrator serve "$${DATA:-$${XDG_DATA_HOME:-$$HOME/.local/share}/orchestrator}/samples" \
		--port $(PORT) --private-port $(PRIVATE_PORT) --workers $(WORKERS) $${DATA:+--data "$$DATA"}

check: setup ## check format, lint, types, imports and documents; run the unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --output-format concise .
	$(BIN)/mypy orchestrator
	$(BIN)/lint-imports
	$(PYTEST) -q -n 2 --dist loadfile -m "not soak" tests/unit

# By default the files with the fewest tests come last. Of the faults these take longest, so that two processors would wait.
test: check ## run check and all tests
	$(PYTEST) -n 4 --dist loadfile -m "not soak" tests --ignore=tests/unit --ignore=tests/e2e --ignore=tests/faults
	$(PYTEST) -n 3 --dist loadfile -m "not soak" tests/e2e
	$(PYTEST) -n 3 --dist loadfile --no-loadscope-reorder -m "not soak" tests/faults

test-debian13: ## run all tests in a system of Debian 13 that it makes (ARGUMENTS for pytest, SUITE=bookworm for Debian 12)
	scripts/test-on-debian.sh $${SUITE:-trixie} $(ARGUMENTS)

bless: setup ## write the golden files again
	BLESS=1 $(PYTEST) tests/golden

soak: setup ## run the long fault, fuzz and kill tests (test runs short forms), and property tests with new examples
	$(PYTEST) --timeout=3600 --hypothesis-profile=search -m "soak or hypothesis" tests

audit: setup ## look for known vulnerabilities in the packages of the lock files (needs the registries)
	$(BIN)/python scripts/audit.py

corpus: setup ## serve every file of FOLDER and compare with other programs (POLICY, ARGUMENTS)
	@test -n "$(FOLDER)" || { echo "usage: make corpus FOLDER=pictures [POLICY=use-original] [ARGUMENTS=...]"; exit 2; }
	$(BIN)/python -m tests.corpus.run "$(FOLDER)" --policy $${POLICY:-fastest} $(ARGUMENTS)

bench: setup ## run the benchmarks; print one table, write JSON to loadtests/results/ and docs/performance.md
	$(BIN)/python -m loadtests.bench
	$(BIN)/python -m loadtests.report

load: setup ## run the locust scenarios against ADDRESS (default: the product on this machine)
	$(BIN)/locust -f loadtests/locustfile.py --headless --users $${USERS:-16} --run-time $${TIME:-60s} \
		--host $${ADDRESS:-http://127.0.0.1:$(PORT)}

docs: setup ## write config/default.toml and the generated pages; build the documentation in build/site
	$(BIN)/python scripts/write_docs.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/site/index.html"

image: ## build a container image
	docker build --tag orchestrator .

image-test: setup ## build the container image without Docker and a registry of images, and try it (root, 5 minutes)
	$(PYTEST) -s --timeout=3600 -m soak tests/image

clean: ## remove everything that setup made in this folder
	rm -rf .venv node_modules tests/viewers/node_modules $(VENDOR) build dist *.egg-info

# --- the steps of setup; each has a stamp file, so that a second run does nothing ---

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is missing. Run: apt-get install python3"; exit 1; }
	@scripts/system-packages.sh venv $(PYTHON)
	$(PYTHON) -m venv .venv

.venv/.ready-run: requirements-page.lock package-lock.json pyproject.toml scripts/system-packages.sh scripts/vendor.sh | .venv/bin/python
	@scripts/system-packages.sh run
	$(INSTALL) --require-hashes --requirement requirements-page.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@scripts/vendor.sh $(VENDOR)
	@$(COMPILE)
	@touch $@

.venv/.ready-viewers: tests/viewers/package-lock.json scripts/vendor.sh .venv/.ready-run
	@scripts/vendor.sh tests
	@touch $@

.venv/.ready-dev: requirements-dev.lock .venv/.ready-run .venv/.ready-viewers
	@scripts/system-packages.sh test
	$(INSTALL) --require-hashes --requirement requirements-dev.lock
	@$(COMPILE)
	@touch $@
