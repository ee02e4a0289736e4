#!/usr/bin/env bash
# Runs the unit tests of the parts without I/O under Miri, which finds undefined behaviour that no other test sees.
# Tests that would take Miri minutes are marked `cfg_attr(miri, ignore)` where they are written.
#
#   scripts/miri.sh          everything that Miri can run
#   scripts/miri.sh quick    the modules that read bytes from outside, as CI runs it
#   scripts/miri.sh NAME...  the tests whose names contain one of these
#
# Miri needs a nightly compiler, which rustup installs. Where that fails, this says so and succeeds, but fails with
# CI=true.
set -euo pipefail
cd "$(dirname "$0")/.."

without() {
    echo "miri: skipped: $1" >&2
    [ "${CI:-}" != true ] || exit 1
    exit 0
}

case ${1:-} in
quick) set -- base:: proto::bencode:: proto::compact:: proto::wire:: ;;
'')
    set -- base:: proto:: dht::calls:: dht::ident:: dht::pace:: dht::search:: dht::store:: dht::table:: \
        session::bitfields:: session::picker::
    ;;
esac

command -v rustup >/dev/null || without "there is no rustup to install a nightly compiler with"
if ! cargo +nightly miri --version >/dev/null 2>&1; then
    rustup component add --toolchain nightly miri rust-src ||
        rustup toolchain install nightly --profile minimal --component miri,rust-src ||
        without "rustup cannot install the nightly compiler with Miri"
fi
# Isolation is off because test harnesses read the environment and the clock.
MIRIFLAGS=${MIRIFLAGS:--Zmiri-disable-isolation} cargo +nightly miri test --no-default-features --lib \
    --target-dir "${CARGO_TARGET_DIR:-target}/miri" -- "$@"
