//! Every fuzz target in one program, driven by libFuzzer. `scripts/fuzz.sh` builds and runs it; the environment
//! variable `FUZZ_TARGET` names the target.

#![no_main]

#[path = "../targets.rs"]
mod targets;

use std::sync::LazyLock;
use targets::{DECODERS, MACHINES, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names the target");
    let target = DECODERS.iter().chain(MACHINES).find(|target| target.0 == name);
    target.unwrap_or_else(|| panic!("no target '{name}' in tests/fuzz/targets.rs")).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (*TARGET)(data));
