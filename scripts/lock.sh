#!/usr/bin/env bash
# Writes the three lock files from pyproject.toml: every version with its hashes, no address of any registry.
# Needs the development environment (`make setup`). Pass --upgrade to move to the newest versions.
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
lock requirements-dev.lock --extra page --extra dev
# The smaller sets take their versions from the largest, so that tests run on what is shipped.
options=(--constraint requirements-dev.lock)
lock requirements-page.lock --extra page
lock requirements.lock
