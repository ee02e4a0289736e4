#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ptorrent::proto::compact::fuzz_compact(data));
