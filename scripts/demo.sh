#!/usr/bin/env bash
# Two ptorrents on loopback: one seeds a generated file, the other downloads it through real sockets; compared at the
# end. Usage: scripts/demo.sh [PTORRENT [MIB]]; needs nothing but the binary.
set -euo pipefail

ptorrent=$(realpath "${1:-target/release/ptorrent}")
mib=${2:-64}
work=$(mktemp -d "${TMPDIR:-/tmp}/ptorrent-demo.XXXXXX")
seeder=

# Also after a failure and Ctrl-C: nothing is left running, nothing is left behind.
clean_up() {
    if [ -n "$seeder" ]; then
        kill "$seeder" 2>/dev/null || true
        wait "$seeder" 2>/dev/null || true
    fi
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

mkdir "$work/seed" "$work/leech"
echo "demo: a file of $mib MiB, and its .torrent"
head -c "${mib}M" /dev/urandom >"$work/seed/file.bin"
"$ptorrent" create -q -o "$work/file.torrent" "$work/seed/file.bin" >"$work/magnet" || fail "create failed"

: >"$work/none"
quiet="--no-dht --no-pex --no-lsd --encryption disabled --bind 127.0.0.1 --port 0 --state-dir $work/state --config $work/none"
# shellcheck disable=SC2086
"$ptorrent" --seed --json $quiet --dir "$work/seed" "$work/file.torrent" \
    >"$work/seeder.json" 2>"$work/seeder.err" &
seeder=$!

# The seeder says in JSON where it listens.
address=
for _ in $(seq 300); do
    address=$(sed -n 's/.*"event":"listening","addr":"\([^"]*\)".*/\1/p' "$work/seeder.json" | head -n 1)
    [ -n "$address" ] && break
    kill -0 "$seeder" 2>/dev/null || fail "the seeder ended"
    sleep 0.1
done
[ -n "$address" ] || fail "the seeder does not listen"
echo "demo: the seeder listens on $address"

# shellcheck disable=SC2086
"$ptorrent" --exit $quiet --dir "$work/leech" --peer "$address" "$work/file.torrent" 2>"$work/leech.err" ||
    fail "the download failed"
cmp "$work/seed/file.bin" "$work/leech/file.bin" || fail "the files differ"
"$ptorrent" verify -q --dir "$work/leech" "$work/file.torrent" || fail "verify found bad pieces"
echo "demo: the files are the same"

# A seeder that has everything ends well when it is told to stop.
kill -INT "$seeder"
status=0
wait "$seeder" || status=$?
seeder=
[ "$status" = 0 ] || fail "the seeder ended with status $status"
