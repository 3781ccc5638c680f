#!/usr/bin/env bash
# Builds OpenJPEG with AddressSanitizer, from the Debian source of the installed version, into FOLDER, for the long tests. It
# checks the bounds of every access of the decoder. Prints what a process needs to load it: LD_PRELOAD=... LD_LIBRARY_PATH=...
# usage: scripts/build-checked-openjpeg.sh FOLDER
set -euo pipefail

folder=$(mkdir -p "${1:?usage: $0 FOLDER}" && cd "$1" && pwd)
exec 3>&1 >&2

missing=()
for tool in gcc cmake make dpkg-source; do command -v "$tool" >/dev/null || missing+=("$tool"); done
if [ ${#missing[@]} -gt 0 ]; then
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    "${root[@]}" apt-get update -qq
    "${root[@]}" apt-get install -y -qq --no-install-recommends gcc libc6-dev cmake make dpkg-dev
fi

version=$(dpkg-query --show --showformat='${source:Version}' libopenjp2-7)
# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
mkdir -p "$folder/apt/parts" "$folder/apt/lists/partial"
for place in "http://deb.debian.org/debian $suite" "http://deb.debian.org/debian $suite-updates" \
    "http://security.debian.org/debian-security $suite-security"; do
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $place main"
done >"$folder/apt/parts/sources.list"
apt=(-qq -o "Dir::Etc::sourcelist=$folder/apt/parts/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$folder/apt/lists" -o "Dir::Cache=$folder/apt" -o APT::Sandbox::User=)
apt-get "${apt[@]}" update
(cd "$folder" && rm -rf openjpeg2-* && apt-get "${apt[@]}" source "openjpeg2=$version")

cmake -S "$folder"/openjpeg2-*/ -B "$folder/build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_CODEC=OFF -DBUILD_STATIC_LIBS=OFF \
    -DCMAKE_C_FLAGS="-fsanitize=address -fno-omit-frame-pointer"
cmake --build "$folder/build" --parallel "$(nproc)"
echo "LD_PRELOAD=$(gcc -print-file-name=libasan.so) LD_LIBRARY_PATH=$folder/build/bin" >&3
