#!/usr/bin/env bash
# Runs `make test` on another release of Debian: makes a bare system of SUITE (trixie, bookworm) below the user's cache folder,
# brings the commit that is checked out here into it, and runs the tests there with chroot. The system, and what `make setup`
# installed in it, stay for the next run. With ARGUMENTS it runs pytest with them instead of the whole of `make test`.
# With --remove it deletes the system. Needs root, for chroot.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { echo "usage: $0 SUITE [PYTEST ARGUMENTS...] | $0 --remove SUITE" >&2; exit 2; }

remove=
if [ "${1-}" = --remove ]; then remove=yes; shift; fi
suite=${1-}
[[ $suite =~ ^[a-z]+$ ]] || usage
shift
if [ "$(id -u)" != 0 ]; then
    exec sudo --preserve-env "$0" ${remove:+--remove} "$suite" "$@"
fi
cache=${XDG_CACHE_HOME:-$HOME/.cache}/orchestrator-debian
system=$cache/$suite
mkdir -p "$cache"
exec 9>"$cache/$suite.lock"
flock 9

if [ -n "$remove" ]; then
    rm -rf --one-file-system "$system"
    exit 0
fi

if [ ! -e "$system/.complete" ]; then
    rm -rf --one-file-system "$system"
    command -v mmdebstrap >/dev/null || { apt-get update -qq; apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null; }
    # The mirror that this machine uses for its own Debian, else the default of mmdebstrap.
    mirror=$(apt-get indextargets --format '$(LABEL) $(SITE)' 2>/dev/null | awk '$1 == "Debian" {print $2; exit}')
    echo "making a system of Debian $suite in $system"
    # Python, make and certificates are what a newcomer has; git brings the commit in. `make` installs everything else.
    mmdebstrap --quiet --variant=minbase --include=python3,make,ca-certificates,git "$suite" "$system" ${mirror:+"$mirror"}
    touch "$system/.complete"
fi

# How this machine reaches the registries: certificates, and the configuration of apt, pip and npm.
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt /etc/pip.conf /etc/npmrc /root/.npmrc /root/.config/pip/pip.conf \
    /etc/apt/apt.conf.d/* /etc/apt/auth.conf.d/*; do
    [ ! -f "$file" ] || install -D --mode="$(stat --format=%a "$file")" "$file" "$system$file"
done
# An index of packages that is a folder of this machine.
for folder in ${PIP_FIND_LINKS-}; do
    [ ! -d "$folder" ] || { mkdir -p "$system$folder"; cp -r "$folder/." "$system$folder"; }
done

# Files that git ignores, .venv above all, stay from the run before.
source=$system/src/orchestrator
[ -d "$source/.git" ] || git init --quiet "$source"
git -C "$source" fetch --quiet --depth 1 "file://$PWD" HEAD
git -C "$source" checkout --quiet --force --detach FETCH_HEAD
git -C "$source" clean --quiet -ffd

# In namespaces of its own: the mounts, and every process that the tests leave running, end with the command, however it ends.
# This shell is process 1 of the namespace, so that orphans are reaped: it must not replace itself with the last command.
inside='
for folder in proc dev sys; do mount --rbind "/$folder" "$0/$folder"; done
mount -t proc proc "$0/proc"
mount -t tmpfs tmpfs "$0/dev/shm"
chroot "$0" /bin/bash -c "cd /src/orchestrator && exec \"\$@\"" bash "$@" || exit $?'
command=(make test)
[ $# = 0 ] || command=(bash -c 'make setup && exec .venv/bin/python -m pytest "$@"' bash "$@")
exec env --unset=VIRTUAL_ENV --unset=XDG_CACHE_HOME --unset=XDG_DATA_HOME --unset=TMPDIR \
    HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    unshare --mount --propagation private --ipc --pid --fork --kill-child bash -c "set -e; $inside" "$system" "${command[@]}"
