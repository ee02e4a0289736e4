#!/usr/bin/env bash
# A swarm of ptorrents on loopback: a tracker, a seeder of a generated file, and a leecher that knows nothing but the
# tracker; compared at the end. Usage: scripts/demo.sh [PTORRENT [MIB]]; needs nothing but the binary.
set -euo pipefail

ptorrent=$(realpath "${1:-target/release/ptorrent}")
mib=${2:-64}
work=$(mktemp -d "${TMPDIR:-/tmp}/ptorrent-demo.XXXXXX")
tracker=
seeder=

# Also after a failure and Ctrl-C: nothing is left running, nothing is left behind.
clean_up() {
    for pid in $seeder $tracker; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    echo "demo: $*" >&2
    cat "$work"/*.err >&2 2>/dev/null || true
    exit 1
}

# Waits up to 30 s until a command succeeds, while a process of ours is there.
wait_for() {
    local what=$1 pid=$2
    shift 2
    for _ in $(seq 300); do
        if "$@"; then return; fi
        kill -0 "$pid" 2>/dev/null || fail "it ended before this: $what"
        sleep 0.1
    done
    fail "waited in vain for this: $what"
}

# Ends a process that has done all it had to, and expects status 0.
stop() {
    local status=0
    kill -INT "$2"
    wait "$2" || status=$?
    [ "$status" = 0 ] || fail "the $1 ended with status $status"
}

mkdir "$work/seed" "$work/leech"
"$ptorrent" tracker --bind 127.0.0.1 --port 0 >"$work/tracker.out" 2>"$work/tracker.err" &
tracker=$!
wait_for "the tracker listens" "$tracker" grep -q '^listening on ' "$work/tracker.out"
read -r _ _ url _ <"$work/tracker.out"
port=${url#http://127.0.0.1:}
port=${port%/announce}
echo "demo: the tracker is $url"

echo "demo: a file of $mib MiB, and its .torrent"
head -c "${mib}M" /dev/urandom >"$work/seed/file.bin"
"$ptorrent" create -q -a "$url" -o "$work/file.torrent" "$work/seed/file.bin" >"$work/magnet" ||
    fail "create failed"

: >"$work/none"
quiet="--no-dht --no-pex --no-lsd --encryption disabled --bind 127.0.0.1 --port 0 --state-dir $work/state --config $work/none"
# shellcheck disable=SC2086
"$ptorrent" --seed --json $quiet --dir "$work/seed" "$work/file.torrent" \
    >"$work/seeder.json" 2>"$work/seeder.err" &
seeder=$!

# Who asks before the seeder has announced itself hears of nobody for a while.
hash=$("$ptorrent" show --json "$work/file.torrent" | sed -n 's/.*"info_hash":"\([0-9a-f]*\)".*/\1/p' |
    sed 's/../%&/g')
seeds() {
    { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || return 1
    printf 'GET /scrape?info_hash=%s HTTP/1.0\r\n\r\n' "$hash" >&3
    tr -d '\0' <&3 >"$work/scrape"
    exec 3>&-
    grep -aq '8:completei1e' "$work/scrape"
}
wait_for "the seeder announces itself" "$seeder" seeds
echo "demo: the seeder has announced itself"

# shellcheck disable=SC2086
"$ptorrent" --exit $quiet --dir "$work/leech" "$work/file.torrent" 2>"$work/leech.err" ||
    fail "the download failed"
cmp "$work/seed/file.bin" "$work/leech/file.bin" || fail "the files differ"
"$ptorrent" verify -q --dir "$work/leech" "$work/file.torrent" || fail "verify found bad pieces"
echo "demo: the files are the same"

stop seeder "$seeder"
seeder=
stop tracker "$tracker"
tracker=
