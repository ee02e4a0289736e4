#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ptorrent::proto::mse::fuzz_mse(data));
