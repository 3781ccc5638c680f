#!/usr/bin/env bash
# Installs the missing Debian or Ubuntu packages for `venv PYTHON`, `run` or `test`. Prints nothing if none is missing.
# A name with ? is installed where apt has it, and else left out.
# Names with | are alternatives: one that is installed is enough, else the first one that apt can install is installed.
set -euo pipefail

case "${1:?venv, run or test}" in
venv)
    # Debian has venv in a package of its own; other builds of Python include it.
    "${2:-python3}" -c 'import ensurepip, venv' 2>/dev/null && exit 0
    version=$("${2:-python3}" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    needed=("$version-venv|python3-venv")
    ;;
run)
    # From Debian 13 on, each coding of HEIF and AVIF has a package; libdav1d6 and libde265-0 come with the libheif1 before it.
    needed=("libvips42|libvips42t64" "libvips-tools" "libopenjp2-7" "libseccomp2" "fonts-dejavu-core"
        "libheif-plugin-aomenc|libdav1d6" "libheif-plugin-dav1d|libheif-plugin-aomdec|libdav1d6" "libheif-plugin-libde265|libde265-0")
    ;;
test) needed=("libmagic1|libmagic1t64" "libopenjp2-tools" "libtiff-tools" "iipimage-server" "nginx|nginx-light" "haproxy" "prometheus" "wrk" "chromium|chromium-browser" "fonts-dejavu-core" "curl" "jq" "valgrind" "e2fsprogs" "openssl" "rsync" "grokj2k-tools?") ;;
*) echo "usage: $0 venv PYTHON | run | test" >&2; exit 2 ;;
esac

installed() { [ "$(dpkg-query --show --showformat='${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]; }

any_installed() {
    local name
    for name in ${1//|/ }; do installed "$name" && return 0; done
    return 1
}

# A virtual or removed package has no candidate.
has_candidate() { apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [^(]'; }

missing=()
optional=()
for entry in "${needed[@]}"; do
    any_installed "${entry%\?}" && continue
    case $entry in *\?) optional+=("${entry%\?}") ;; *) missing+=("$entry") ;; esac
done
if [ "${#missing[@]}" -eq 0 ]; then
    [ "${#optional[@]}" -gt 0 ] && has_candidate "${optional[0]}" || exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "apt-get is missing. Install these packages: ${missing[*]}" >&2
    exit 1
fi
root=()
[ "$(id -u)" = 0 ] || root=(sudo)
echo "installing system packages: ${missing[*]} ${optional[*]}"
"${root[@]}" apt-get update -qq
names=()
for entry in "${missing[@]}"; do
    chosen=${entry%%|*}
    for name in ${entry//|/ }; do
        if has_candidate "$name"; then chosen=$name; break; fi
    done
    names+=("$chosen")
done
for name in "${optional[@]}"; do
    if has_candidate "$name"; then names+=("$name"); fi
done
# Installing nginx or the image server must not start a service: the tests start their own on free ports.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod +x "$policy"
    trap '"${root[@]}" rm -f "$policy"' EXIT
fi
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${names[@]}" >/dev/null
