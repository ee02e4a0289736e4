#!/usr/bin/env bash
# Gets the real BitTorrent clients that `make interop` and `make bench` work with, from package registries only:
# aria2, Transmission, rtorrent, opentracker, mktorrent and nginx (for web seeds) from apt, libtorrent from PyPI into .peers/venv,
# bittorrent-tracker from npm into .peers/npm where there is a Node.js and, when asked, rqbit from crates.io into
# .peers/bin. Quick when all is there already; no daemon is left running.
set -u
export LC_ALL=C

usage() {
    cat <<'END'
Usage: scripts/setup-peers.sh [--with-rqbit] [--check]
  --with-rqbit  also build rqbit from crates.io (about 6 minutes on 2 cores)
  --check       install nothing, only print the table
Exits with 1 when a client that the tests need is missing at the end.
END
}

with_rqbit=no
check=no
for arg in "$@"; do
    case $arg in
    --with-rqbit) with_rqbit=yes ;;
    --check) check=yes ;;
    -h | --help) usage; exit 0 ;;
    *) echo "setup-peers: unknown option: $arg" >&2; usage >&2; exit 2 ;;
    esac
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
peers=$root/.peers
# Debian keeps servers in sbin, which is not on every user's PATH.
PATH=$PATH:/usr/sbin:/sbin

say() { echo "setup-peers: $*"; }

have() { command -v "$1" >/dev/null 2>&1; }

# The command that proves a package to be there, for each package.
apt_pairs="aria2:aria2c transmission-daemon:transmission-daemon transmission-cli:transmission-create
opentracker:opentracker mktorrent:mktorrent rtorrent:rtorrent nginx-light:nginx"

policy=/usr/sbin/policy-rc.d
our_policy=no
drop_policy() { if [ "$our_policy" = yes ]; then rm -f "$policy"; our_policy=no; fi; }
trap drop_policy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

install_apt() {
    local missing=() pair
    for pair in $apt_pairs; do
        have "${pair#*:}" || missing+=("${pair%%:*}")
    done
    # Debian splits the module that makes virtual environments from python3; another python3 may have it.
    if ! [ -x "$peers/venv/bin/python" ] && [ -z "$(venv_python)" ]; then missing+=(python3 python3-venv); fi
    [ ${#missing[@]} -eq 0 ] && { say "all apt packages are there"; return; }

    if ! have apt-get; then
        say "no apt-get here: install these by hand: ${missing[*]}"
        return
    fi
    if [ "$(id -u)" -ne 0 ]; then
        say "not root, so apt cannot install: ${missing[*]}"
        return
    fi
    # Without this, apt would start transmission-daemon, opentracker and nginx on all addresses.
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        our_policy=yes
    fi
    local candidate
    candidate=$(apt-cache policy "${missing[0]}" 2>/dev/null | sed -n 's/^ *Candidate: *//p')
    if [ -z "$candidate" ] || [ "$candidate" = "(none)" ]; then
        say "apt-get update"
        apt-get -qq update || say "apt-get update failed"
    fi
    say "apt-get install ${missing[*]}"
    if ! DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >"$peers/apt.log" 2>&1; then
        # The package lists may be older than the archive: once more with fresh ones, a package at a time,
        # so that one that is gone does not take the others along.
        say "failed; apt-get update and once more, each by itself"
        apt-get -qq update || say "apt-get update failed"
        local package
        for package in "${missing[@]}"; do
            DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$package" >>"$peers/apt.log" 2>&1 ||
                say "could not install $package (see .peers/apt.log)"
        done
    fi
    drop_policy
}

# The first python3 that can make a virtual environment with pip in it.
venv_python() {
    local python
    for python in python3 /usr/bin/python3; do
        if have "$python" && "$python" -c 'import venv, ensurepip' 2>/dev/null; then echo "$python"; return; fi
    done
}

libtorrent_version() {
    "$peers/venv/bin/python" -c 'import libtorrent; print(libtorrent.__version__)' 2>/dev/null
}

install_libtorrent() {
    if [ -n "$(libtorrent_version)" ]; then say "libtorrent is there"; return; fi
    local python
    python=$(venv_python)
    if [ -n "$python" ]; then
        say "$python -m venv .peers/venv"
        "$python" -m venv --clear "$peers/venv" || return
    elif have virtualenv; then
        say "virtualenv .peers/venv"
        virtualenv -q --clear "$peers/venv" || return
    else
        say "python3 has no venv module: install python3-venv (apt) or virtualenv"
        return
    fi
    say "pip install libtorrent"
    "$peers/venv/bin/python" -m pip install -q --disable-pip-version-check libtorrent ||
        say "could not install libtorrent"
}

tracker_path() { if [ -e "$peers/npm/node_modules/bittorrent-tracker/server.js" ]; then echo "$peers/npm"; fi; }

# Nothing in it is compiled or run while it is installed; a second tracker to test against, so not needed.
install_tracker() {
    if [ -n "$(tracker_path)" ]; then say "bittorrent-tracker is there"; return; fi
    if ! have node || ! have npm; then say "no node and npm: no bittorrent-tracker"; return; fi
    say "npm install bittorrent-tracker"
    npm install --silent --no-save --no-audit --no-fund --ignore-scripts --prefix "$peers/npm" bittorrent-tracker ||
        say "could not install bittorrent-tracker"
}

rqbit_path() {
    if [ -x "$peers/bin/rqbit" ]; then echo "$peers/bin/rqbit"; else command -v rqbit; fi
}

install_rqbit() {
    if [ -n "$(rqbit_path)" ]; then say "rqbit is there"; return; fi
    if ! have cargo; then say "no cargo: cannot build rqbit"; return; fi
    say "cargo install rqbit (this takes minutes)"
    cargo install --quiet --locked --no-default-features --features default-tls --root "$peers" rqbit ||
        say "could not build rqbit"
}

if [ "$check" = no ]; then
    mkdir -p "$peers" || exit 1
    peers=$(cd "$peers" && pwd -P) # a virtual environment holds its own path: not one through a link
    install_apt
    install_libtorrent
    install_tracker
    [ "$with_rqbit" = yes ] && install_rqbit
fi

lost=0
# row NAME needed|optional VERSION PATH
row() {
    if [ -n "$4" ]; then
        printf '%-22s %-22s %s\n' "$1" "${3:-?}" "$4"
    elif [ "$2" = needed ]; then
        printf '%-22s %s\n' "$1" "MISSING"
        lost=1
    else
        printf '%-22s %s\n' "$1" "missing (optional)"
    fi
}
number() { grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1; }
package_version() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null; }

echo
printf '%-22s %-22s %s\n' client version path
row aria2 needed "$(aria2c --version 2>/dev/null | number)" "$(command -v aria2c)"
row transmission-daemon needed "$(transmission-daemon --version 2>&1 | number)" "$(command -v transmission-daemon)"
row transmission-create needed "$(transmission-create --version 2>&1 | number)" "$(command -v transmission-create)"
row opentracker needed "$(package_version opentracker)" "$(command -v opentracker)"
row nginx needed "$(nginx -v 2>&1 | number)" "$(command -v nginx)"
row mktorrent needed "$(mktorrent -h 2>/dev/null </dev/null | number)" "$(command -v mktorrent)"
version=$(libtorrent_version)
row libtorrent needed "$version" "${version:+$peers/venv/bin/python}"
row rtorrent optional "$(rtorrent -h 2>/dev/null | number)" "$(command -v rtorrent)"
path=$(tracker_path)
row bittorrent-tracker optional "$(grep -s '"version"' "$path/node_modules/bittorrent-tracker/package.json" | number)" "$path"
path=$(rqbit_path)
kind=optional
[ "$with_rqbit" = yes ] && kind=needed
row rqbit "$kind" "$([ -n "$path" ] && "$path" --version 2>/dev/null | number)" "$path"
exit $lost
