#!/usr/bin/env bash
# Runs the loopback tests, program and all, under AddressSanitizer and LeakSanitizer: the code in src/sys and the
# mapped buffers, with real sockets, files and threads. It needs no nightly compiler.
#
#   scripts/asan.sh          all loopback tests
#   scripts/asan.sh quick    a few that move data, as CI runs it
#   scripts/asan.sh NAME...  the tests whose names contain one of these
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
quick)
    set -- ipv6_is_as_good a_killed_download_goes_on wrong_bytes_are_never two_that_require_it_speak_rc4 \
        a_file_cut_short_in_mid_download a_link_leads_to_the_files a_file_comes_over_one_connection
    ;;
esac

host=$(rustc -vV | sed -n 's/^host: //p')
# The sanitizer is unstable; RUSTC_BOOTSTRAP lets a stable compiler use it. With --target, build scripts go without.
export RUSTC_BOOTSTRAP=1 CARGO_PROFILE_TEST_DEBUG=line-tables-only CARGO_PROFILE_DEV_DEBUG=line-tables-only
RUSTFLAGS="-Zsanitizer=address" cargo test --no-default-features --target "$host" \
    --target-dir "${CARGO_TARGET_DIR:-target}/asan" --test loopback -- "$@"
