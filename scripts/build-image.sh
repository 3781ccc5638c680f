#!/usr/bin/env bash
# Builds the container image from the Dockerfile without a registry of images and without a daemon, as NAME (default:
# localhost/orchestrator): mmdebstrap makes the base from Debian's packages, buildah builds on it. Needs root. The base stays
# for the next build; --remove deletes it with everything that buildah stored here.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || exec sudo --preserve-env "$0" "$@"

name=${1:-localhost/orchestrator}
base=localhost/debian:trixie-slim
cache=${XDG_CACHE_HOME:-$HOME/.cache}/orchestrator-image
build() { buildah --root "$cache/root" --runroot "$cache/run" --storage-driver vfs "$@"; }
if [ "$name" = --remove ]; then rm -rf --one-file-system "$cache"; exit 0; fi
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9

missing=()
for tool in mmdebstrap buildah; do command -v "$tool" >/dev/null || missing+=("$tool"); done
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! build inspect --type image "$base" >/dev/null 2>&1; then
    echo "making $base"
    # The mirror that this machine uses for its own Debian, else the default of mmdebstrap.
    mirror=$(apt-get indextargets --format '$(LABEL) $(SITE)' 2>/dev/null | awk '$1 == "Debian" {print $2; exit}')
    # What the slim images of Debian leave out, too.
    slim=(--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*'
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright')
    mmdebstrap --quiet --variant=minbase "${slim[@]}" trixie "$cache/base.tar" ${mirror:+"$mirror"}
    empty=$(build from scratch)
    build add --quiet "$empty" "$cache/base.tar" / >/dev/null
    # How this machine reaches its mirror.
    for file in /etc/apt/apt.conf.d/* /etc/apt/auth.conf.d/*; do
        case $file in *docker*|*debconf|*autoremove*|*packagekit|*appstream) continue ;; esac
        [ ! -f "$file" ] || build copy --quiet "$empty" "$file" "$file" >/dev/null
    done
    build config --cmd bash "$empty"
    build commit --quiet "$empty" "$base" >/dev/null
    build rm "$empty" >/dev/null
    rm "$cache/base.tar"
fi

# How this machine reaches the registries of pip and npm. It is mounted, so that it does not enter the image. The package
# ca-certificates writes a bundle of its own, so that of the machine has another place.
mkdir -p "$cache/client"
{ cat /etc/pip.conf 2>/dev/null || echo "[global]"; echo; } | grep -v '^cert' >"$cache/client/pip.conf"
sed -i '0,/^\[global\]/s//[global]\ncert = \/run\/registries.crt/' "$cache/client/pip.conf"
{ cat ~/.npmrc 2>/dev/null; echo; echo cafile=/run/registries.crt; } >"$cache/client/npmrc"
# Docker's format has the health check.
build bud --format docker --isolation chroot --layers=false --quiet --build-arg "BASE=$base" \
    --volume /etc/ssl/certs/ca-certificates.crt:/run/registries.crt:ro --volume "$cache/client/pip.conf:/etc/pip.conf:ro" \
    --volume "$cache/client/npmrc:/root/.npmrc:ro" --tag "$name" --file Dockerfile . >/dev/null
build rmi --prune >/dev/null 2>&1 || true  # one that a container uses stays
