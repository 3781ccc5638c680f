# What one does here. `make` alone lists the targets; each installs what it is missing itself.
# Needs Python 3.11 or newer and make; system packages come from apt, all others from their locks.

SHELL := /bin/bash
.DEFAULT_GOAL := help
# Debian's own first: it is built with profile-guided optimisation, which one built by hand or by pyenv often lacks (a hot
# answer then costs a fifth more of the interpreter). One that cannot make an environment only where there is no other.
PYTHON ?= $(shell for needed in ensurepip sys; do for p in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c "import sys, $$needed; sys.exit(sys.version_info < (3, 11))" 2>/dev/null && { echo $$p; exit; }; \
	done; done)
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
VENDOR := orchestrator/web/static/vendor
PORT ?= 8080
PRIVATE_PORT ?= 8081
WORKERS ?= 1
# A start costs half: compiled once here, for some environments forbid the interpreter to do so. The few
# files that do not compile are of no Python of ours.
COMPILE := $(BIN)/python -m compileall -q -j 0 $(BIN)/../lib orchestrator >/dev/null 2>&1 || true
PYTEST := $(BIN)/python -m pytest

.PHONY: help setup run test check bless soak bench load docs image clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready-run .venv/.ready-dev ## install everything: system packages, .venv from the locks, the page's viewer

run: .venv/.ready-run ## the whole product on this machine with a sample collection (PORT, PRIVATE_PORT, WORKERS, DATA)
	@$(BIN)/orchestrator samples "$${DATA:-$${XDG_DATA_HOME:-$$HOME/.local/share}/orchestrator}/samples"
	@exec $(BIN)/orchestrator serve "$${DATA:-$${XDG_DATA_HOME:-$$HOME/.local/share}/orchestrator}/samples" \
		--port $(PORT) --private-port $(PRIVATE_PORT) --workers $(WORKERS) $${DATA:+--data "$$DATA"}

check: setup ## format, lint, types, imports, documents, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --output-format concise .
	$(BIN)/mypy orchestrator
	$(BIN)/lint-imports
	$(PYTEST) -q -n 2 --dist loadfile tests/unit

test: check ## check and every test
	$(PYTEST) -n 2 --dist loadfile -m "not soak" tests --ignore=tests/unit --ignore=tests/e2e --ignore=tests/faults
	$(PYTEST) -n 2 --dist loadfile -m "not soak" tests/e2e
	$(PYTEST) -m "not soak" tests/faults

bless: setup ## write the golden files anew
	BLESS=1 $(PYTEST) tests/golden

soak: setup ## the long fault, fuzz and kill runs, of which test has short forms
	$(PYTEST) --timeout=3600 -m soak tests

bench: setup ## both sides of performance.md, one table and JSON under loadtests/results/
	$(BIN)/python -m loadtests.bench

load: setup ## locust scenarios against ADDRESS (default: the product on this machine)
	$(BIN)/locust -f loadtests/locustfile.py --headless --users $${USERS:-16} --run-time $${TIME:-60s} \
		--host $${ADDRESS:-http://127.0.0.1:$(PORT)}

docs: setup ## write config/default.toml and the tables of settings, commands and metrics
	$(BIN)/python scripts/write_docs.py

image: ## a container image
	docker build --tag orchestrator .

clean: ## remove what setup made in this folder
	rm -rf .venv node_modules $(VENDOR) build dist *.egg-info

# --- what setup is made of; a stamp each, so that a second run costs nothing ---

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: apt-get install python3"; exit 1; }
	@scripts/system-packages.sh venv $(PYTHON)
	$(PYTHON) -m venv .venv

.venv/.ready-run: requirements-page.lock package-lock.json pyproject.toml scripts/system-packages.sh | .venv/bin/python
	@scripts/system-packages.sh run
	$(PIP) install --require-hashes --requirement requirements-page.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@scripts/vendor.sh $(VENDOR)
	@$(COMPILE)
	@touch $@

.venv/.ready-dev: requirements-dev.lock .venv/.ready-run
	@scripts/system-packages.sh test
	$(PIP) install --require-hashes --requirement requirements-dev.lock
	@$(COMPILE)
	@touch $@
