#!/usr/bin/env bash
# Fuzzes the targets of tests/fuzz/targets.rs under libFuzzer, guided by coverage and checked by AddressSanitizer.
# It needs a C++ compiler and the Rust toolchain that builds ptorrent; libFuzzer comes from crates.io.
#
#   scripts/fuzz.sh                       every target for TIME seconds (60)
#   TARGET=wire scripts/fuzz.sh           one target
#   scripts/fuzz.sh quick                 every target for 3 seconds from a fixed seed, as CI runs it
#   TARGET=wire scripts/fuzz.sh FILE...   replay inputs, such as a crash
#
# New inputs are kept in target/fuzz/corpus/TARGET for the next run, crashes in target/fuzz/crashes.
set -euo pipefail
cd "$(dirname "$0")/.."

package=tests/fuzz/libfuzzer
export out=${CARGO_TARGET_DIR:-target}/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')

# The versions of our dependencies are the program's; only libFuzzer is added.
cp Cargo.lock "$package/Cargo.lock"
# The flags are those of cargo-fuzz. Sanitizers are unstable; RUSTC_BOOTSTRAP lets a stable compiler use them.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0"
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address $coverage" \
    cargo build --release --manifest-path "$package/Cargo.toml" --target "$host" --target-dir "$out"
export fuzzer=$out/$host/release/fuzz

# An input that takes 10 seconds or 1 GiB is a fault too.
export limits="-timeout=10 -rss_limit_mb=1024 -max_len=16384"

run() {
    local target=$1 log=$out/log/$1
    shift
    mkdir -p "$out/corpus/$target" "$out/crashes" "$out/log"
    # shellcheck disable=SC2086 # several options
    if FUZZ_TARGET=$target "$fuzzer" $limits -artifact_prefix="$out/crashes/$target-" "$@" \
        "$out/corpus/$target" "tests/data/corpus/$target" >"$log" 2>&1; then
        printf '%-10s %s\n' "$target" "$(grep -a '^Done' "$log")"
    else
        tail -n 60 "$log"
        echo "fuzz: $target failed on the input above; replay it: TARGET=$target scripts/fuzz.sh FILE" >&2
        return 1
    fi
}

mapfile -t targets < <(sed -n 's/^    ("\([a-z]*\)", .*/\1/p' tests/fuzz/targets.rs)
case ${1:-} in
quick)
    export -f run
    printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I {} bash -c 'run {} -max_total_time=3 -seed=1'
    ;;
'')
    for target in ${TARGET:-"${targets[@]}"}; do
        run "$target" -max_total_time="${TIME:-60}"
    done
    ;;
*)
    # shellcheck disable=SC2086 # several options
    FUZZ_TARGET=${TARGET:?names the target that the inputs are for} "$fuzzer" $limits "$@"
    ;;
esac
