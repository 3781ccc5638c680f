#!/usr/bin/env bash
# Writes the three lock files from pyproject.toml: every version with its hashes, without the address of a registry.
# Needs the development environment (`make setup`). --upgrade selects the newest versions.
set -euo pipefail
cd "$(dirname "$0")/.."

lock() {
    local target=$1
    shift
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
        "${options[@]}" --output-file "$target" "$@" pyproject.toml
}

options=("$@")
lock requirements-dev.lock --extra page --extra tracing --extra dev
# The smaller sets use the versions of the largest one: the tests run with the versions that are shipped.
options=(--constraint requirements-dev.lock)
lock requirements-page.lock --extra page
# What the container image has: traces are only a setting there.
lock requirements.lock --extra tracing
