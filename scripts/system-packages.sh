#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that are missing for `venv PYTHON`, `run` or `test`; silent when none is.
# A name with | offers alternatives: the first one installed, else the first one apt knows.
set -euo pipefail

case "${1:?venv, run or test}" in
venv)
    # Debian splits venv off; a Python of one's own has it.
    "${2:-python3}" -c 'import ensurepip, venv' 2>/dev/null && exit 0
    version=$("${2:-python3}" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    wanted=("$version-venv|python3-venv")
    ;;
run) wanted=("libvips42|libvips42t64" "libvips-tools" "fonts-dejavu-core") ;;
test) wanted=("libmagic1|libmagic1t64" "libopenjp2-tools" "iipimage-server" "nginx|nginx-light" "wrk" "chromium|chromium-browser" "fonts-dejavu-core" "curl" "jq") ;;
*) echo "usage: $0 venv PYTHON | run | test" >&2; exit 2 ;;
esac

installed() { [ "$(dpkg-query --show --showformat='${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]; }

any_installed() {
    local name
    for name in ${1//|/ }; do installed "$name" && return 0; done
    return 1
}

missing=()
for entry in "${wanted[@]}"; do any_installed "$entry" || missing+=("$entry"); done
[ "${#missing[@]}" -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "These packages are needed and apt-get is not here to install them: ${missing[*]}" >&2
    exit 1
fi
root=()
[ "$(id -u)" = 0 ] || root=(sudo)
echo "installing system packages: ${missing[*]}"
"${root[@]}" apt-get update -qq
names=()
for entry in "${missing[@]}"; do
    chosen=${entry%%|*}
    for name in ${entry//|/ }; do
        # A name that apt only knows as virtual or removed has no candidate.
        if apt-cache policy "$name" | grep -q 'Candidate: [^(]'; then chosen=$name; break; fi
    done
    names+=("$chosen")
done
# No service is started by installing nginx or the image server: the tests start their own on free ports.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod +x "$policy"
    trap '"${root[@]}" rm -f "$policy"' EXIT
fi
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${names[@]}" >/dev/null
