#!/usr/bin/env bash
# Crates, clean build time and binary size of the default and the minimal build, as the rows of the README's table.
# It builds in a folder of its own: a clean build of both, with nothing from the cache but the downloads.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(mktemp -d "${TMPDIR:-/tmp}/ptorrent-size.XXXXXX")
trap 'rm -rf "$target"' EXIT
cargo fetch --locked --quiet

row() {
    local name=$1
    shift
    # Our own crate is not counted.
    local crates
    crates=$(cargo tree --locked --edges normal,build --prefix none --no-dedupe "$@" | sed 's/ .*//' | sort -u | wc -l)
    rm -rf "$target"
    local start end
    start=$(date +%s)
    cargo build --locked --release --quiet --target-dir "$target" "$@"
    end=$(date +%s)
    strip -o "$target/stripped" "$target/release/ptorrent"
    local full stripped
    full=$(stat -c %s "$target/release/ptorrent")
    stripped=$(stat -c %s "$target/stripped")
    printf '| %s | %d | %d s | %s KiB | %s KiB |\n' \
        "$name" $((crates - 1)) $((end - start)) $((full / 1024)) $((stripped / 1024))
}

echo "| build | crates | clean build on $(nproc) cores | binary | stripped |"
echo "|---|---|---|---|---|"
row default
row minimal --no-default-features
